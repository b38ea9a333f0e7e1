#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Everything about sampling that needs a GPU, in one command:
#   1. decoding against the memory bandwidth at 64 and 256 rows, and its profile;
#   2. the same with keys and values in int8;
#   3. the tests of the sampler, on the GPU.
#
#   benchmarks/gpu.sh
#   benchmarks/gpu.sh --peer transformers=../torch/bin/python --bench ../bench
#
# Arguments go to the first (see `python benchmarks/sampling.py roofline --help`).
# Needs JAX for CUDA in the environment: .venv/bin/pip install -e '.[cuda12]' (or cuda13).
# Another Python: PYTHON=python3 benchmarks/gpu.sh

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}

# Fail where JAX finds no GPU, instead of measuring the CPU without a word.
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu}
device=$("$python" -c '
import jax
device = jax.devices()[0]
if device.platform == "cpu":
    raise SystemExit(1)
print(device.device_kind)') || {
    echo "gpu.sh: JAX finds no GPU with $python: install JAX for CUDA there, or set PYTHON" >&2
    exit 1
}

printf '== roofline on %s ==\n' "$device"
"$python" benchmarks/sampling.py roofline --rows 64 256 --profile "$@"

printf '\n== the same with an int8 cache ==\n'
"$python" benchmarks/sampling.py roofline --rows 64 256 --sampler cache_dtype=int8

printf '\n== tests of the sampler ==\n'
# In float32 as it is written: a GPU multiplies it in TF32 unless told otherwise.
JAX_DEFAULT_MATMUL_PRECISION=highest "$python" -m pytest -q tests/sampling

printf '\nThe lines are in %s.\n' benchmarks/results/sampling.jsonl
