#!/usr/bin/env bash
# Installs torch for the Python of a virtual environment, and ends only with one that can be imported. Alone, because
# which build it is, and so its hash, is the index's choice, and asked for together with others it brings CUDA.
#   deploy/install-torch.sh .venv/bin/python
set -euo pipefail

python=$1
torch="torch==2.13.0"
pip() { "$python" -m pip --disable-pip-version-check install -q "$@"; }
works() { "$python" -c "import torch; assert torch.__version__.partition('+')[0] == '${torch#*==}'" 2>/dev/null; }

works && exit
# PyTorch's own index has builds without CUDA, a third in size. Where it cannot be reached, that is known at once.
pip --no-deps --retries 0 --timeout 10 --index-url https://download.pytorch.org/whl/cpu "$torch" 2>/dev/null ||
    pip --no-deps "$torch"
works && exit
# PyPI's wheel for Linux is the CUDA build, which does not start without its libraries.
echo "torch needs the libraries of CUDA here, and brings them: several GB" >&2
pip "$torch"
works || { "$python" -c "import torch"; exit 1; }
