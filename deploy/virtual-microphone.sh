#!/usr/bin/env bash
# Runs a command with a private PulseAudio whose null sink is the default microphone.
# Usage: deploy/virtual-microphone.sh COMMAND…   ($PULSE_SERVER and ALSA's default then lead to it; play with paplay)
set -euo pipefail
command -v pulseaudio >/dev/null || { echo "install pulseaudio, pulseaudio-utils and libasound2-plugins" >&2; exit 1; }

home=$(mktemp -d)
export XDG_RUNTIME_DIR="$home" PULSE_RUNTIME_PATH="$home/pulse" PULSE_STATE_PATH="$home/state"
export ALSA_CONFIG_PATH="$home/asound.conf"
mkdir -p "$PULSE_RUNTIME_PATH" "$PULSE_STATE_PATH"
cat > "$ALSA_CONFIG_PATH" <<'CONF'
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
CONF
export PULSE_SERVER="unix:$home/native"
cat > "$home/start" <<START
#!/bin/sh
exec pulseaudio --daemonize=no --exit-idle-time=-1 -n \
    -L "module-native-protocol-unix socket=$home/native auth-anonymous=1" \
    -L "module-null-sink sink_name=virtual channels=2 rate=48000"
START
chmod +x "$home/start"
export RESTART="$home/start"  # for tests that kill the daemon
"$RESTART" >"$home/log" 2>&1 &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; rm -rf "$home"' EXIT
for _ in $(seq 100); do pactl info >/dev/null 2>&1 && break; sleep 0.1; done
pactl info >/dev/null || { cat "$home/log" >&2; exit 1; }
pactl set-default-source virtual.monitor
"$@"
