#!/usr/bin/env bash
# Tests of stream/ that need no server, model and other program, on every supported Python that is here but the environment's own; with
# "own", on that alone.
set -euo pipefail
cd "$(dirname "$0")/.."

own=$(.venv/bin/python -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null || true)
PYTHON="" deploy/find-python.sh all | while read -r python; do
    version=$("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')
    which=others
    [[ "$version" != "$own" ]] || which=own
    [[ "$which" == "${1:-others}" ]] || continue
    venv=.venv-$version
    echo "Python $version"
    if [[ requirements-light.lock -nt $venv/installed ]]; then
        "$python" -m venv --clear "$venv"
        "$venv/bin/pip" --disable-pip-version-check install -q --only-binary :all: --no-deps --require-hashes -r requirements-light.lock
        touch "$venv/installed"
    fi
    # pytest's own options, of a run that leaves tests out, are for that run.
    PYTEST_ADDOPTS="" "$venv/bin/python" -m pytest -m "unit and not data" -k "not silero" \
        tests/stream/sources tests/stream/speech tests/stream/test_*.py </dev/null
done
