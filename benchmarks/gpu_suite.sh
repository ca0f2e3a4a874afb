#!/usr/bin/env bash
# Everything that needs a GPU, within 8 minutes, with nothing but the repository and what the machine has.
#   benchmarks/gpu_suite.sh [FOLDER]     leaves JSON and logs in FOLDER (default: benchmarks/results/gpu)
# Runs from a checkout, installed or not. A rung whose package is missing says so and the ladder goes on.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
deadline=$((SECONDS + 480))
failed=0

# rung NAME SECONDS COMMAND...: runs a command within its own limit and what is left of the whole.
rung() {
    local name=$1 limit=$2 left=$((deadline - SECONDS))
    shift 2
    if [ "$left" -le 5 ]; then
        echo "== $name: not run, the 8 minutes are over" | tee -a "$out/summary.log"
        return
    fi
    [ "$limit" -lt "$left" ] || limit=$left
    local started=$SECONDS
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    local code=$?
    echo "== $name: exit $code after $((SECONDS - started)) s (log: $out/$name.log)" | tee -a "$out/summary.log"
    tail -n 12 "$out/$name.log"
    [ "$code" = 0 ] || failed=1
}

: >"$out/summary.log"
rm -rf "$out"/*.jsonl "$out/corpus" "$out"/run-*
# What is missing is said at once: a bare PyTorch image usually lacks the first two; their wheels are small.
"$python" - <<'PYTHON' | tee -a "$out/summary.log"
import importlib

def present(name):
    try:
        return bool(importlib.import_module(name))
    except ImportError:
        return False

names = "pydantic tomli_w typer rich numba safetensors tensorboard matplotlib skimage sklearn fsspec isal nvidia.dali ffcv"
names = names.split()
print("== missing packages:", ", ".join(name for name in names if not present(name)) or "none")
PYTHON
# The JPEG codec is compiled here, or taken out of a wheel (`make wheel`) that was brought along in dist/.
codec() { "$python" -c 'import sys; from datasets_tools import jpeg; sys.exit(jpeg.problem())'; }
codec 2>/dev/null || "$python" setup.py -q build_ext --inplace >"$out/codec.log" 2>&1
if ! codec 2>/dev/null && ls dist/*.whl >/dev/null 2>&1; then
    "$python" -m zipfile -e dist/*.whl "$out/wheel"
    cp "$out"/wheel/datasets_tools/jpeg/_codec.abi3.so datasets_tools/jpeg/
    cp -r "$out"/wheel/fastbot.libs . && rm -r "$out/wheel"
fi
codec 2>&1 | tee -a "$out/summary.log"
{ date -u; nvidia-smi; "$python" -m pip list; } >"$out/machine.log" 2>&1
rung tests 120 "$python" -m pytest -q -m gpu -p no:cacheprovider
rung step-fp16 90 "$python" -m benchmarks step --batch-size 256 --json "$out/step.jsonl" model.name=resnet50b
rung step-bf16 60 "$python" -m benchmarks step --batch-size 256 --json "$out/step.jsonl" model.name=resnet50b precision.kind=bf16
rung augment 45 "$python" -m benchmarks augment --device cuda --json "$out/augment.jsonl"
rung corpus 60 "$python" -m benchmarks corpus "$out/corpus" --count 2000
rung loader 90 "$python" -m benchmarks loader --data "$out/corpus" --json "$out/loader.jsonl"
short='epochs=60 steps'
backends="synthetic torch"
"$python" -c "import nvidia.dali" 2>/dev/null && backends="$backends dali"
for backend in $backends; do
    rung "train-$backend" 60 "$python" -m fastbot train bot-efficient --data "$out/corpus" --out "$out/run-$backend" \
        --device cuda --backend "$backend" "$short" 'schedule.warmup=5 steps' 'schedule.milestones=[]' \
        data.global_batch_size=256 'run.eval_every=60 steps' run.log_every=10
done
rm -rf "$out/corpus"
exit $failed
