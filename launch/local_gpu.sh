#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Train on the GPUs of this machine: one process that drives all of them.
#
#   launch/local_gpu.sh configs/NAME.yaml [field=value ...]
#
# Needs JAX for CUDA in the environment: .venv/bin/pip install -e '.[cuda12]' (or cuda13).
# Choose GPUs with CUDA_VISIBLE_DEVICES. Interrupted, the same command continues the run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# == 0)); then
    echo "usage: launch/local_gpu.sh CONFIG [field=value ...]" >&2
    exit 2
fi

# Fail where JAX finds no GPU, instead of training on the CPU without a word.
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu}

python=${PYTHON:-.venv/bin/python}
exec "$python" -m alignjax.cli train "$@"
