#!/usr/bin/env bash
# Everything that needs a GPU, with nothing but the repository and what the machine has.
#   benchmarks/gpu_suite.sh kernels [FOLDER]    tests marked `gpu`, augmentation, the training step
#   benchmarks/gpu_suite.sh data [FOLDER]       loaders, delivery, short trainings
#   benchmarks/gpu_suite.sh all [FOLDER]        both
# Each of the two ends within 9.5 minutes, so that machines lent for 10 take one a call. FOLDER (default:
# benchmarks/results/gpu) gets a few files: a summary, JSON lines of each benchmark, and all logs in one archive.
# Runs from a checkout, installed or not. A rung whose package is missing says so and the ladder goes on.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
part=${1:-all}
case $part in
kernels | data | all) ;;
*)
    echo "usage: benchmarks/gpu_suite.sh kernels|data|all [FOLDER]" >&2
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

# rung NAME SECONDS COMMAND...: runs a command within its own limit and what is left of its part's time.
rung() {
    local name=$1 limit=$2 left=$((deadline - SECONDS))
    shift 2
    if [ "$left" -le 5 ]; then
        say "$name: not run, the time is over"
        failed=1
        return
    fi
    [ "$limit" -lt "$left" ] || limit=$left
    local started=$SECONDS
    timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1
    local code=$?
    say "$name: exit $code after $((SECONDS - started)) s"
    tail -n 40 "$logs/$name.log"
    [ "$code" = 0 ] || failed=1
}

# bench RUNG SECONDS ARGUMENTS...: a benchmark whose JSON lines go to FOLDER/RUNG.jsonl.
bench() {
    local name=$1 limit=$2
    shift 2
    rm -f "$out/$name.jsonl"
    rung "$name" "$limit" "$python" -m benchmarks "$@" --json "$out/$name.jsonl"
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
names = [*names.split(), "ffcv", "kornia", "pynvml"]
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

kernels() {
    deadline=$((SECONDS + 540))
    rung tests 200 "$python" -m pytest -q -m gpu -p no:cacheprovider
    bench augment_gpu 90 augment-gpu
    bench augment 60 augment --device cuda
    bench step_fp16 90 step --batch-size 256 model.name=resnet50b
    bench step_bf16 90 step --batch-size 256 model.name=resnet50b precision.kind=bf16
}

data() {
    deadline=$((SECONDS + 540))
    local corpus=$work/corpus backends="turbo" backend
    "$python" -c "import nvidia.dali" 2>/dev/null && backends="turbo dali"
    rung corpus 60 "$python" -m benchmarks corpus "$corpus" --count 3000
    bench loader 150 loader --data "$corpus" --batch-size 256
    # DALI shall need no more than 4 cores: it gets no more.
    rm -f "$out/loader_4cores.jsonl"
    rung loader_4cores 120 taskset -c 0-3 "$python" -m benchmarks loader --data "$corpus" --batch-size 256 --repeats 3 \
        --json "$out/loader_4cores.jsonl"
    for backend in $backends; do
        bench "delivery_$backend" 120 delivery --data "$corpus" --device cuda --backend "$backend" --batch-size 256 \
            --repeats 2
    done
    for backend in $backends; do
        rung "train-$backend" 45 "$python" -m fastbot train bot-efficient --data "$corpus" --out "$work/run-$backend" \
            --device cuda --backend "$backend" 'epochs=60 steps' 'schedule.warmup=5 steps' 'schedule.milestones=[]' \
            data.global_batch_size=256 'run.eval_every=60 steps' run.log_every=10
    done
    # Which form of its decoder DALI was found to be fastest with, and what the others came to.
    cp -r "$XDG_CACHE_HOME/fastbot/dali" "$logs/dali-forms" 2>/dev/null || say "no form of DALI's decoder was measured"
}

: >"$out/summary-$part.log"
prepare
case $part in
all)
    kernels
    data
    ;;
*) "$part" ;;
esac
tar -czf "$out/logs-$part.tar.gz" -C "$work" logs
exit $failed
