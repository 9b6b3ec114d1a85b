#!/bin/sh
# The events of a session, one JSON a line, with nothing but redis-cli.
#
#     UNDERTONE_REDIS=redis://localhost:6379/0 ./subscribe.sh SESSION [POSITION_FILE]
#
# Goes on where it was when Redis was away; with POSITION_FILE also when it is started again. Ends after session.ended.
set -u
session=${1:?usage: subscribe.sh SESSION [POSITION_FILE]}
file=${2:-}
redis=${UNDERTONE_REDIS:-redis://localhost:6379/0}
position=0
[ -s "$file" ] && position=$(cat "$file")

while :; do
    # One line a value: the Stream's name, then for each entry its id, "id", …, "type", …, "event" and the JSON.
    answer=$(redis-cli -u "$redis" --raw XREAD COUNT 100 BLOCK 5000 STREAMS "undertone:{$session}:events" "$position")
    last=$(printf '%s\n' "$answer" | grep -E '^[0-9]+-[0-9]+$' | tail -n 1)
    if [ -z "$last" ]; then
        [ -z "$answer" ] || { printf '%s\n' "$answer" >&2; sleep 1; }
        redis-cli -u "$redis" PING > /dev/null 2>&1 || sleep 1
        continue
    fi
    printf '%s\n' "$answer" | sed -n '/^event$/{n;p;}'
    position=$last
    [ -z "$file" ] || printf '%s\n' "$position" > "$file"
    case $answer in *'
session.ended
'*) exit ;; esac
done
