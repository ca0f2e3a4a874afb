#!/usr/bin/env bash
# Everything that needs a GPU, with nothing but the repository and what the machine has.
#   benchmarks/gpu_suite.sh [all] [FOLDER]      both of these, within 8 minutes
#   benchmarks/gpu_suite.sh tests [FOLDER]      tests marked `gpu`
#   benchmarks/gpu_suite.sh ladder [FOLDER]     `python -m benchmarks all --gpu`; MINUTES=9 for more of it
# FOLDER (default: benchmarks/results/gpu) gets a summary, JSON lines of each rung, the report as Markdown and as one
# HTML file, and all logs in one archive. Runs from a checkout, installed or not. What is missing is said, and the rungs
# that need it are left out.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
part=${1:-all}
case $part in
tests | ladder | all) ;;
*)
    echo "usage: benchmarks/gpu_suite.sh [all|tests|ladder] [FOLDER]" >&2
    exit 2
    ;;
esac
out=${2:-benchmarks/results/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
out=$(realpath "$out")
work=$(mktemp -d)
logs=$work/logs
mkdir "$logs"
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export XDG_CACHE_HOME=$work/cache # what DALI's forms came to is measured here, not remembered
failed=0

say() { echo "== $*" | tee -a "$out/summary-$part.log"; }

# within SECONDS NAME COMMAND...: runs a command and shows how it ended.
within() {
    local limit=$1 name=$2 started=$SECONDS
    shift 2
    timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1
    local code=$?
    say "$name: exit $code after $((SECONDS - started)) s"
    tail -n 60 "$logs/$name.log"
    [ "$code" = 0 ] || failed=1
}

codec() { "$python" -c 'import sys; from datasets_tools import jpeg; sys.exit(jpeg.problem())'; }

prepare() {
    # What is missing is said at once: a bare PyTorch image usually lacks the first two; their wheels are small.
    "$python" - <<'PYTHON' | tee -a "$out/summary-$part.log"
import importlib

def present(name):
    try:
        return bool(importlib.import_module(name))
    except ImportError:
        return False

names = "pydantic tomli_w typer rich numba safetensors tensorboard matplotlib skimage sklearn fsspec isal nvidia.dali"
names = [*names.split(), "ffcv", "timm", "kornia", "pynvml"]
print("== missing packages:", ", ".join(name for name in names if not present(name)) or "none")
PYTHON
    # The JPEG codec is compiled here, or taken out of a wheel (`make wheel`) that was brought along in dist/.
    codec 2>/dev/null || "$python" setup.py -q build_ext --inplace >"$logs/codec.log" 2>&1
    if ! codec 2>/dev/null && ls dist/*.whl >/dev/null 2>&1; then
        "$python" -m zipfile -e dist/*.whl "$work/wheel"
        cp "$work"/wheel/datasets_tools/jpeg/_codec.abi3.so datasets_tools/jpeg/
        cp -r "$work"/wheel/fastbot.libs .
    fi
    codec 2>&1 | tee -a "$out/summary-$part.log"
    { date -u; nvidia-smi; nproc; "$python" -m pip list; } >"$logs/machine.log" 2>&1
}

tests() { within 110 tests "$python" -m pytest -q -m gpu -p no:cacheprovider; }

ladder() {
    local minutes=${MINUTES:-5.5}
    within "$("$python" -c "print(int(60 * $minutes) + 15)" 2>/dev/null || echo 345)" ladder \
        "$python" -m benchmarks all --gpu --minutes "$minutes" --out "$out"
    [ -d "$out/logs" ] && mv "$out/logs" "$logs/rungs"
    # Which form of its decoder DALI was found to be fastest with, and what the others came to.
    cp -r "$XDG_CACHE_HOME/fastbot/dali" "$logs/dali-forms" 2>/dev/null || say "no form of DALI's decoder was measured"
}

: >"$out/summary-$part.log"
prepare
case $part in
all)
    tests
    ladder
    ;;
*) "$part" ;;
esac
tar -czf "$out/logs-$part.tar.gz" -C "$work" logs
exit $failed
