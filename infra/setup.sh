#!/bin/sh
# Makes or completes a virtual environment: setup.sh PYTHON VENV [EXTRA]
#
# uv installs where it is on the PATH, else pip. Where a Linux machine has no NVIDIA device, torch comes from PyTorch's own
# index of CPU wheels (https://pytorch.org/get-started/locally), which need no CUDA libraries (several GB); where that index
# does not answer, from the configured one. Versions are those of constraints.txt either way. With LOCKED in the environment
# everything but the tools of the developer is a wheel whose hash is in requirements.lock.
set -eu
PYTHON=$1 VENV=$2 EXTRA=${3:-dev}
TORCH_INDEX=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which with PYTHON=...")'
began=$(date +%s)

if command -v uv > /dev/null 2>&1; then
    with="uv"
    test -x "$VENV/bin/python" || uv venv --quiet --seed --python "$PYTHON" "$VENV"
    add() { uv pip install --quiet --python "$VENV/bin/python" --constraint constraints.txt "$@"; }
else
    with="pip"
    test -x "$VENV/bin/python" || "$PYTHON" -m venv "$VENV"
    add() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"; }
fi

has_nvidia() { test -e /dev/nvidiactl || command -v nvidia-smi > /dev/null 2>&1; }

answers() {
    "$PYTHON" - "$1" 2> /dev/null << 'END'
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=3).close()
END
}

add_torch() {
    if test "$(uname)" = Linux && test -n "$TORCH_INDEX" && ! has_nvidia && answers "$TORCH_INDEX/"; then
        echo "  torch, CPU wheels"
        add --index-url "$TORCH_INDEX" torch==2.13.0 2> /dev/null && return
    fi
    echo "  torch"
    add torch==2.13.0
}

echo "Setting up $VENV with $with (once; a few minutes)"
if test -n "${LOCKED-}"; then
    echo "  what requirements.lock has, by hash"
    add --require-hashes --only-binary :all: --requirement requirements.lock
    isolation=--no-build-isolation # it has what builds the project
else
    isolation=
    add_torch
fi
echo "  Modelyard and what else it needs"
add $isolation --editable ".[$EXTRA]"
echo "  done in $(($(date +%s) - began)) s, $(du -sm "$VENV" | cut -f1) MB"
