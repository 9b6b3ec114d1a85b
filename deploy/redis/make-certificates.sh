#!/usr/bin/env bash
# Makes a certificate authority and a server certificate for Redis: make-certificates.sh FOLDER [NAME or ADDRESS]...
# The names are those under which clients reach Redis (default: redis localhost 127.0.0.1). An authority that is in the
# folder already goes on signing, so that running this again renews the server's certificate alone.
set -euo pipefail

if [[ $# -lt 1 || $1 == -* ]]; then
    echo "usage: ${0##*/} FOLDER [NAME or ADDRESS]..." >&2
    exit 2
fi
command -v openssl >/dev/null || { echo "${0##*/}: install openssl" >&2; exit 1; }
folder=$1
shift
[[ $# -gt 0 ]] || set -- redis localhost 127.0.0.1

alternatives=
for name in "$@"; do
    [[ $name =~ ^[0-9.]+$|: ]] && kind=IP || kind=DNS
    alternatives+=${alternatives:+,}$kind:$name
done

# The folder, not the files, keeps others out: containers mount the files and read them as another user.
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

if [[ ! -f ca.key ]]; then
    openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 3650 -subj "/CN=Undertone Redis CA" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.crt 2>/dev/null
    chmod 600 ca.key
fi
openssl req -newkey rsa:3072 -nodes -sha256 -subj "/CN=$1" -keyout redis.key -out redis.csr 2>/dev/null
openssl x509 -req -in redis.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 825 -out redis.crt 2>/dev/null \
    -extfile <(printf '%s\n' "basicConstraints=critical,CA:FALSE" "subjectAltName=$alternatives" \
        "keyUsage=critical,digitalSignature,keyEncipherment" "extendedKeyUsage=serverAuth")
rm redis.csr
chmod 644 ca.crt redis.crt redis.key
echo "made $folder/{ca.crt,redis.crt,redis.key} for $*; keep ca.key somewhere else" >&2
