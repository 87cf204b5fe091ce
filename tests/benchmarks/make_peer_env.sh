#!/bin/sh
# Make the environment of the peer: PSFMachine 1.1.4, which needs Python 3.10 and numpy < 2.
#
#   tests/benchmarks/make_peer_env.sh [DIRECTORY]      default: .venv-peer in the current directory
#
# Python 3.10 is $PYTHON310, python3.10 on the path, or pyenv's; without any of them, uv or conda fetch one.
set -eu
directory=${1:-.venv-peer}

find_python() {
    for python in "${PYTHON310:-python3.10}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10.*/bin/python; do
        if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

python=$(find_python)
if [ -n "$python" ]; then
    "$python" -m venv "$directory"
elif command -v uv >/dev/null; then
    uv venv --quiet --seed --python 3.10 "$directory"
elif command -v conda >/dev/null; then
    conda create --yes --quiet --prefix "$directory" python=3.10 pip
else
    echo "make_peer_env.sh: expected Python 3.10 as \$PYTHON310, python3.10 or pyenv's, or uv or conda to fetch it; found none" >&2
    exit 1
fi

"$directory/bin/python" -m pip install --quiet "psfmachine==1.1.4" "numpy<2" "pandas<2" "scipy<1.16"
"$directory/bin/python" -W ignore -c 'import numpy, psfmachine; print("peer ready:", psfmachine.__file__, "numpy", numpy.__version__)'
