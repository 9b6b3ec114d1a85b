#!/usr/bin/env bash
# Installs what pip cannot: a Redis server, PortAudio, and (with --all) what only the tests and `make demo-live` need.
set -euo pipefail

packages=(libportaudio2 redis-server)
if [[ "${1:-}" == "--all" ]]; then
    packages+=(pulseaudio pulseaudio-utils libasound2-plugins)
    packages+=(chromium prometheus systemd)  # the page's browser; promtool; systemd-analyze
    packages+=(gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi libnginx-mod-rtmp)  # RTSP, RTMP
fi

here=$(dirname "$0")
if ! command -v apt-get >/dev/null; then
    # Not Debian's kind of system: its user knows how to install, and what.
    command -v redis-server valkey-server >/dev/null || lacks="a Redis server (6.2 or later)"
    "$here/find-python.sh" >/dev/null || lacks="${lacks:+$lacks and }Python 3.11, 3.12 or 3.13"
    [[ -z "${lacks:-}" ]] && exit 0
    echo "undertone needs $lacks; macOS: brew install python@3.13 redis portaudio" >&2
    exit 1
fi

# Debian and Ubuntu split the part of Python that makes virtual environments into a package of its own.
if [[ ! -x "${VENV:-.venv}/bin/python" ]] && ! "$here/find-python.sh" >/dev/null; then
    if [[ -n "${PYTHON:-}" ]]; then
        name=$(basename "$PYTHON")
        command -v "$PYTHON" >/dev/null || packages+=("$name")
        packages+=("$name-venv")
    else
        packages+=(python3 python3-venv)
    fi
fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $EUID -eq 0 ]]; then
    as_root=()
elif command -v sudo >/dev/null; then
    as_root=(sudo)
else
    echo "undertone needs the system packages: ${missing[*]}" >&2
    echo "Neither root nor sudo is here to install them; ask an administrator for: apt-get install ${missing[*]}" >&2
    exit 1
fi
had_nginx=$(command -v /usr/sbin/nginx || true)
echo "Installing system packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
# Without this, Debian would start a Redis of its own on port 6379 (and a Prometheus) as a side effect.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
# nginx is here for its module, not to serve: otherwise it would start with the machine.
if [[ -z $had_nginx && -x /usr/sbin/nginx ]] && command -v systemctl >/dev/null; then
    "${as_root[@]}" systemctl disable --quiet nginx || true
fi
if [[ ! -x "${VENV:-.venv}/bin/python" ]] && ! "$here/find-python.sh" >/dev/null; then
    echo "undertone needs Python 3.11, 3.12 or 3.13 with venv, and this system's packages have none: make PYTHON=/path/to/python3.12" >&2
    exit 1
fi
