#!/usr/bin/env bash
# Everything that needs a GPU, with nothing but the repository and what the machine has.
#   benchmarks/gpu_suite.sh [all] [FOLDER]      both of these, within 8 minutes
#   benchmarks/gpu_suite.sh tests [FOLDER]      tests marked `gpu`, at most 110 s
#   benchmarks/gpu_suite.sh ladder [FOLDER]     `python -m benchmarks all --gpu`
# The ladder takes at most MINUTES (5.5): enough, on an H100, for the training step beside other loops, a training end to
# end, and table 3. The rest is for further calls into the same FOLDER: augmentation, the loaders, table 5, other
# precisions, turbo's training, 4 cores, startup, decoding; then delivery, memory, and scaling where there are two GPUs:
#   MINUTES=9 FROM=augment-gpu benchmarks/gpu_suite.sh ladder [FOLDER]
#   MINUTES=5 FROM=delivery_turbo benchmarks/gpu_suite.sh ladder [FOLDER]
# FOLDER (default: benchmarks/results/gpu) gets a summary, JSON lines of each rung, the report as Markdown and as one
# HTML file, and all logs in one archive, also where this is interrupted. Runs from a checkout, installed or not. What is
# missing is said, and the rungs that need it are left out.
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
child=
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export XDG_CACHE_HOME=$work/cache # what DALI's forms came to is measured here, not remembered
failed=0
total_s=475 # of `all`: 8 minutes, less the archive

say() { echo "== $*" | tee -a "$out/summary-$part.log"; }

# shellcheck disable=SC2317 # called by a trap
archive() {
    [ -d "$out/logs" ] && mv "$out/logs" "$logs/rungs"
    tar -czf "$out/logs-$part.tar.gz" -C "$work" logs
    rm -rf "$work"
}

# Bash runs a trap only when what it waits for has ended: commands run beside it, and are ended here.
# shellcheck disable=SC2317 # called by a trap
stop() {
    trap '' INT TERM
    say "interrupted"
    [ -n "$child" ] && kill -TERM "$child" 2>/dev/null && wait "$child"
    exit "$1"
}
trap archive EXIT
trap 'stop 130' INT
trap 'stop 143' TERM

# limited SECONDS NAME COMMAND...: runs a command, its output going into a log.
limited() {
    local limit=$1 name=$2
    shift 2
    timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1 &
    child=$!
    wait "$child"
    local code=$?
    child=
    return $code
}

# within SECONDS NAME COMMAND...: runs a command and shows how it ended.
within() {
    local started=$SECONDS
    limited "$@"
    local code=$?
    say "$2: exit $code after $((SECONDS - started)) s"
    tail -n 60 "$logs/$2.log"
    [ "$code" = 0 ] || failed=1
}

codec() { "$python" -c 'import sys; from datasets_tools import jpeg; sys.exit(jpeg.problem())'; }

# At most 55 s: where nothing has to be compiled, a few.
prepare() {
    # What is missing is said at once: a bare PyTorch image usually lacks the first two; their wheels are small.
    "$python" - <<'PYTHON' | tee -a "$out/summary-$part.log"
from importlib.util import find_spec

def present(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False

names = "pydantic tomli_w typer rich numba safetensors tensorboard matplotlib skimage sklearn fsspec isal nvidia.dali"
names = [*names.split(), "ffcv", "timm", "kornia", "pynvml"]
print("== missing packages:", ", ".join(name for name in names if not present(name)) or "none")
PYTHON
    # The JPEG codec is compiled here, or taken out of a wheel (`make wheel`) that was brought along in dist/.
    codec 2>/dev/null || limited 40 codec "$python" setup.py -q build_ext --inplace
    if ! codec 2>/dev/null && ls dist/*.whl >/dev/null 2>&1; then
        "$python" -m zipfile -e dist/*.whl "$work/wheel"
        cp "$work"/wheel/datasets_tools/jpeg/_codec.abi3.so datasets_tools/jpeg/
        cp -r "$work"/wheel/fastbot.libs .
    fi
    codec 2>&1 | tee -a "$out/summary-$part.log"
    { date -u; timeout 5 nvidia-smi; nproc; timeout 5 "$python" -m pip list --disable-pip-version-check; } \
        >"$logs/machine.log" 2>&1
    say "prepared after $SECONDS s"
}

tests() { within 110 tests "$python" -m pytest -q -m gpu -p no:cacheprovider; }

ladder() {
    # With 15 s to end the last rung and to write the report.
    local seconds
    seconds=$("$python" -c "print(int(60 * ${MINUTES:-5.5}))" 2>/dev/null || echo 330)
    if [ "$part" = all ] && [ $((total_s - SECONDS - 15)) -lt "$seconds" ]; then
        seconds=$((total_s - SECONDS - 15))
    fi
    within $((seconds + 15)) ladder "$python" -m benchmarks all --gpu --out "$out" \
        --minutes "$((seconds / 60)).$(printf %02d $((seconds % 60 * 100 / 60)))" ${FROM:+--from "$FROM"}
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
exit $failed
