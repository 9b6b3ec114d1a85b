#!/usr/bin/env bash
# Makes the users of users.acl.example with new random passwords: make-users.sh FOLDER [HOST:PORT]
# Writes FOLDER/users.acl (hashes only) and FOLDER/USER.env (UNDERTONE_REDIS=... with the password) for each user.
set -euo pipefail

if [[ $# -lt 1 || $1 == -* ]]; then
    echo "usage: ${0##*/} FOLDER [HOST:PORT]" >&2
    exit 2
fi
command -v openssl >/dev/null || { echo "${0##*/}: install openssl" >&2; exit 1; }
folder=$1
server=${2:-redis:6379}
if [[ -e $folder/users.acl ]]; then
    echo "${0##*/}: $folder/users.acl is there already; remove it first to replace all passwords" >&2
    exit 1
fi

mkdir -p "$folder"
chmod 700 "$folder"
acl=$(<"$(dirname "$0")/users.acl.example")
for user in publisher reader worker operator; do
    password=$(openssl rand -hex 32)
    hash=$(printf %s "$password" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
    acl=${acl/${user^^}_SHA256/$hash}
    url="rediss://$user:$password@$server/0?ssl_ca_certs=/certs/ca.crt"
    (umask 077 && echo "UNDERTONE_REDIS=$url" >"$folder/$user.env")
done
echo "$acl" >"$folder/users.acl"
chmod 644 "$folder/users.acl"
echo "made $folder/users.acl and $folder/{publisher,reader,worker,operator}.env" >&2
