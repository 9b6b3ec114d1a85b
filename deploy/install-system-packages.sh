#!/usr/bin/env bash
# Installs what pip cannot: a Redis server, PortAudio, and (with --all) what only the tests and `make demo-live` need.
set -euo pipefail

packages=(libportaudio2 redis-server)
if [[ "${1:-}" == "--all" ]]; then
    packages+=(pulseaudio pulseaudio-utils libasound2-plugins)
    packages+=(chromium prometheus systemd)  # the page's browser; promtool; systemd-analyze
    packages+=(gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi libnginx-mod-rtmp)  # RTSP, RTMP
fi

# Debian and Ubuntu split the part of Python that makes virtual environments into a package of its own.
python=${PYTHON:-python3.11}
if ! command -v "$python" >/dev/null; then
    packages+=("$python" "$python-venv")
elif ! "$python" -c "import ensurepip" 2>/dev/null; then
    packages+=("$(basename "$python")-venv")
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
