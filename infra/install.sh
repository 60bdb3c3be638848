#!/usr/bin/env bash
# Makes .venv with everything: the project (editable), its extras, and the tools of `make test`.
#   infra/install.sh VENV [EXTRAS]     EXTRAS: comma-separated; PYTHON=... chooses the interpreter, 3.11 or newer
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
extras=${2:-all,docs,test}

usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# one that was interrupted while it was made has a Python, and no pip
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    chosen=""
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if usable "$candidate"; then chosen=$candidate; break; fi
    done
    if [ -z "$chosen" ]; then
        echo "install: no Python 3.11 or newer with the venv module among: ${PYTHON:-python3.11 python3.12 python3.13 python3}." >&2
        echo "install: on Debian: apt-get install python3 python3-venv; or: make install PYTHON=/path/to/python" >&2
        exit 1
    fi
    echo "install: making $venv with $("$chosen" --version)"
    "$chosen" -m venv "$venv"
fi
# large wheels over a slow line: wait longer than the 30 s that uv allows a silent connection
export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

# One interpreter for every uv call below; VIRTUAL_ENV of another project must not win.
unset VIRTUAL_ENV
install=("$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt)

case ",$extras," in
    *,all,* | *,embed,* | *,fit,* | *,experiments,*) torch=yes ;;
    *) torch=no ;;
esac

# PyPI's torch for Linux brings 4 GB of CUDA libraries that nothing here uses. The CPU build lives on an index of
# its own that a closed network may not reach, so the attempt gives up after 10 silent seconds, and 10 minutes in all.
if [ $torch = yes ] && ! "$venv/bin/python" -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
    if UV_HTTP_TIMEOUT=10 UV_HTTP_RETRIES=0 timeout 600 "${install[@]}" --torch-backend=cpu torch 2>"$venv/torch-cpu.log"; then
        echo "install: torch's CPU build is installed"
    else
        echo "install: the index of torch's CPU builds cannot be reached (see $venv/torch-cpu.log);"
        echo "install: falling back to PyPI's torch, which brings CUDA libraries (about 4 GB). Everything works with either."
    fi
fi
"${install[@]}" --editable ".[$extras]"
echo "install: $venv is ready"
