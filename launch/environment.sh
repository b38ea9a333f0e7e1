#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes .venv from the hashed lock file, from nothing or after an interruption, and
# does nothing when it is up to date. Run by the Makefile, from the repository root.
#
#   PYTHON=/path/to/python3.12 sh launch/environment.sh

set -eu

stamp=.venv/.complete
started=.venv/.incomplete
need_gb=6

fail() {
    printf 'alignjax: %s\n' "$@" >&2
    exit 1
}

# "3.11" for a working interpreter; nothing for one that is absent or does not run.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

lock_for() {
    case "$1" in
        3.11) echo requirements/lock-py311.txt ;;
        3.12) echo requirements/lock-py312.txt ;;
    esac
}

# What the environment was made from: any change here makes it again.
contents() {
    echo "python $1"
    cksum "$(lock_for "$1")" setup.py
}

# 1. Up to date already?
python=${PYTHON:-}
made_with=
if [ -f "$stamp" ]; then
    made_with=$(sed -n 's/^python //p' "$stamp")
    wanted=$made_with
    [ -z "$python" ] || wanted=$(version_of "$python")
    if [ "$wanted" = "$made_with" ] && [ "$(contents "$made_with")" = "$(cat "$stamp")" ]; then
        exit 0
    fi
fi

# 2. Preflight: say what is missing before anything is downloaded.
if [ -n "$python" ]; then
    version=$(version_of "$python")
    [ -n "$version" ] || fail "PYTHON=$python does not run." \
        "Give the path of a Python 3.11 or 3.12: make test PYTHON=/path/to/python3.11"
    [ -n "$(lock_for "$version")" ] || fail "PYTHON=$python is Python $version; 3.11 or 3.12 is needed." \
        "Give the path of one: make test PYTHON=/path/to/python3.11"
else
    for candidate in "python${made_with:-3.11}" python3.11 python3.12 python3; do
        version=$(version_of "$candidate")
        if [ -n "$version" ] && [ -n "$(lock_for "$version")" ]; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "Python 3.11 or 3.12 is needed and neither is on PATH (python3 is ${version:-absent})." \
        "Install one, or give its path: make test PYTHON=/path/to/python3.11"
fi
lock=$(lock_for "$version")
"$python" -c 'import ensurepip, venv' 2>/dev/null || fail \
    "$python has no venv module, which makes .venv." \
    "On Debian and Ubuntu: apt-get install python$version-venv"
free_gb=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
[ "$free_gb" -ge "$need_gb" ] || fail \
    "$free_gb GB of disk are free here; $need_gb GB are needed for packages, models and runs."

# 3. Wait for another make; begin again where one was cut off or used another Python.
if [ -f "$started" ] && kill -0 "$(cat "$started")" 2>/dev/null; then
    echo "alignjax: process $(cat "$started") is making .venv: waiting for it"
    waited_s=0
    while kill -0 "$(cat "$started" 2>/dev/null)" 2>/dev/null; do
        [ "$waited_s" -lt 900 ] || fail "It has not ended in 15 minutes: rm -rf .venv, then run the same command again."
        sleep 1
        waited_s=$((waited_s + 1))
    done
    exec sh "$0"
fi
if [ -d .venv ]; then
    if [ -e "$started" ] || [ "$(version_of .venv/bin/python)" != "$version" ] ||
        ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        echo "alignjax: .venv is incomplete or of another Python: making it again"
        rm -rf .venv
    fi
fi
mkdir -p .venv
echo "$$" >"$started"
rm -f "$stamp"
[ -x .venv/bin/python ] || "$python" -m venv .venv

# 4. Install.
log=.venv/install.log
install() {
    if .venv/bin/python -m pip install --disable-pip-version-check --no-input "$@" >"$log" 2>&1; then
        return 0
    fi
    tail -n 5 "$log" >&2
    # Taken up where it stopped next time: pip itself was not cut off.
    rm -f "$started"
    if grep -q 'DO NOT MATCH THE HASHES' "$log"; then
        fail "A package that was downloaded is not the one in $lock: nothing was installed."
    elif grep -q 'No space left' "$log"; then
        fail "The disk is full."
    elif grep -q -E 'Connection|connect|resolve|timed out|Timeout|Max retries|No matching distribution' "$log"; then
        fail "The Python package index cannot be reached, or lacks a package of $lock." \
            "Check the network and pip's settings (.venv/bin/pip config list), then run the same command again."
    fi
    fail "pip failed; the whole output is in $log."
}
echo "alignjax: installing $(grep -c '==' "$lock") packages from $lock into .venv (1 to 5 minutes)"
install --require-hashes -r "$lock"
install --no-deps --no-build-isolation -e .

contents "$version" >"$stamp.new"
mv "$stamp.new" "$stamp"
rm -f "$started"
echo "alignjax: .venv is ready"
