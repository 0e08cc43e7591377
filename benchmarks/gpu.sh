#!/usr/bin/env bash
# Everything that needs a GPU, on one H200: the tests marked gpu, then the published runs (about 20 minutes).
#   benchmarks/gpu.sh [FOLDER]     results: FOLDER/tests.txt, FOLDER/*.json (default: .bench/gpu)
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-.bench/gpu}
python=${PYTHON:-python}
mkdir -p "$out"
status=0

nvidia-smi | tee "$out/nvidia-smi.txt"
$python -m pytest -m gpu -q -p no:cacheprovider 2>&1 | tee "$out/tests.txt" || status=1
# The aim: GLMC as published (64 wide, 200 epochs) in 2.5 minutes, 16 wide in 1 minute, all methods in 6 minutes.
$python benchmarks/gpu.py --methods glmc --engines graph --out "$out/glmc-64.json" || status=1
$python benchmarks/gpu.py --methods glmc --engines graph --width 16 --out "$out/glmc-16.json" || status=1
$python benchmarks/gpu.py --methods gcl paco gpaco reslt bagmar --engines graph --out "$out/others.json" || status=1
# Engine against engine, on short runs.
$python benchmarks/gpu.py --methods glmc --engines eager graph compile --epochs 10 --out "$out/engines-64.json" || status=1
$python benchmarks/gpu.py --methods glmc gcl paco gpaco reslt bagmar --engines eager graph --epochs 5 --width 16 \
    --out "$out/engines-16.json" || status=1
exit $status
