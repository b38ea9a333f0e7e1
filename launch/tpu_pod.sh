#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Train on a TPU slice of one or more hosts: one process per host.
#
#   export TPU_NAME=my-tpu ZONE=us-central2-b        # PROJECT too, unless it is gcloud's
#   launch/tpu_pod.sh setup                          # once, and after every change
#   launch/tpu_pod.sh train configs/NAME.yaml [field=value ...]
#   launch/tpu_pod.sh stop                           # end the processes on all hosts
#
# `setup` copies the committed files (git HEAD) to ~/alignjax on every host and makes the
# environment there from the hashed lock file. The run's folder must be one that every
# host sees, such as a mounted Filestore or bucket. Interrupted, the same command
# continues the run.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    sed -n '5,9s/^# \{0,3\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

: "${TPU_NAME:?set TPU_NAME to the name of the TPU}"
: "${ZONE:?set ZONE to the zone of the TPU}"
where=("--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"})

on_all_hosts() {
    gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${where[@]}" --worker=all --command="$1"
}

setup() {
    local archive
    archive=$(mktemp -d)/alignjax.tar.gz
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:alignjax.tar.gz" "${where[@]}" --worker=all
    on_all_hosts '
        set -eu
        mkdir -p ~/alignjax
        tar -xzf ~/alignjax.tar.gz -C ~/alignjax
        cd ~/alignjax
        if ! command -v python3.11 >/dev/null; then
            sudo apt-get update -qq
            sudo apt-get install -y -qq python3.11 python3.11-venv
        fi
        PYTHON=python3.11 sh launch/environment.sh
        jax=$(.venv/bin/python -c "import importlib.metadata as m; print(m.version(\"jax\"))")
        .venv/bin/pip install --quiet "jax[tpu]==$jax"
    '
}

train() {
    (($# > 0)) || usage
    local arguments
    printf -v arguments ' %q' "$@"
    # "tpu,cpu": fail where JAX finds no TPU, instead of training on the CPU.
    on_all_hosts "cd ~/alignjax && ALIGNJAX_DISTRIBUTED=1 JAX_PLATFORMS=tpu,cpu .venv/bin/python -m alignjax.cli train$arguments"
}

stop() {
    # The brackets keep the pattern from matching this very command.
    on_all_hosts 'pkill -TERM -u "$USER" -f "[a]lignjax.cli train" || true'
}

command=${1:-}
(($# > 0)) && shift
case "$command" in
    setup) setup ;;
    train) train "$@" ;;
    stop) stop ;;
    *) usage ;;
esac
