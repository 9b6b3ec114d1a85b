#!/usr/bin/env bash
# Prints the Python that the virtual environment is made with: $PYTHON, else the newest one here that runs and can make
# one. With "all", every one that runs, newest first. Prints nothing, and fails, where there is none.
set -euo pipefail

runs() {  # a name of pyenv's may stand for no Python, and another version may carry it
    "$1" -c "import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null
}

if [[ "${1:-}" != "all" && -n "${PYTHON:-}" ]]; then
    if runs "$PYTHON"; then echo "$PYTHON"; exit; fi
    exit 1
fi
found=()
for version in 3.13 3.12 3.11; do
    for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/"python$version"; do
        [[ "${1:-}" != "all" && "$python" != python* ]] && continue  # those that only pyenv knows are not chosen
        if runs "$python"; then found+=("$python"); break; fi
    done
done
[[ ${#found[@]} -gt 0 ]] || exit 1
if [[ "${1:-}" == "all" ]]; then printf '%s\n' "${found[@]}"; else echo "${found[0]}"; fi
