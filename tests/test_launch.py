# SPDX-License-Identifier: Apache-2.0
"""Launch scripts: they parse, run the one training command, and fail in clear words."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
MANIFESTS = sorted(LAUNCH.glob("*.yaml"))
BASH = shutil.which("bash") or "bash"
SH = shutil.which("sh") or "sh"


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        timeout=60,
    )


@pytest.fixture
def recorder(tmp_path):
    """A stand-in for a program: writes its arguments and chosen variables to a file."""

    def make(name: str) -> Path:
        program = tmp_path / name
        program.write_text(
            "#!/bin/sh\n"
            f'printf "%s\\n" "$@" >"{tmp_path}/{name}.arguments"\n'
            f'env >"{tmp_path}/{name}.environment"\n'
        )
        program.chmod(0o755)
        return program

    return make


def recorded(program: Path) -> tuple[list[str], dict[str, str]]:
    arguments = program.with_name(f"{program.name}.arguments").read_text().splitlines()
    lines = program.with_name(f"{program.name}.environment").read_text().splitlines()
    return arguments, dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script):
    done = run([BASH, "-n", str(script)])
    assert done.returncode == 0, done.stderr


def test_local_gpu_runs_one_process_and_insists_on_a_gpu(recorder):
    python = recorder("python")
    script = str(LAUNCH / "local_gpu.sh")
    done = run([BASH, script, "a b.yaml", "x=1"], PYTHON=str(python), JAX_PLATFORMS="")
    assert done.returncode == 0, done.stderr
    arguments, environment = recorded(python)
    assert arguments == ["-m", "alignjax.cli", "train", "a b.yaml", "x=1"]
    assert environment["JAX_PLATFORMS"] == "cuda,cpu"
    assert "ALIGNJAX_DISTRIBUTED" not in environment


def test_slurm_gives_its_one_task_per_machine_every_gpu(recorder, tmp_path):
    """Eight GPUs on a machine are numbers 0 to 7."""
    srun = recorder("srun")
    script = str(LAUNCH / "slurm.sbatch")
    done = run(
        [BASH, script, "a.yaml"],
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        PYTHON="python",
        SLURM_SUBMIT_DIR=str(ROOT),
        SLURM_GPUS_ON_NODE="8",
        SLURM_CPUS_PER_TASK="32",
        https_proxy="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    arguments, environment = recorded(srun)
    assert arguments[1:] == ["python", "-m", "alignjax.cli", "train", "a.yaml"]
    assert environment["JAX_LOCAL_DEVICE_IDS"] == "0,1,2,3,4,5,6,7"
    assert environment["ALIGNJAX_DISTRIBUTED"] == "1"
    assert environment["SRUN_CPUS_PER_TASK"] == "32"
    assert "https_proxy" not in environment


def test_tpu_pod_starts_every_host_and_quotes_the_arguments(recorder, tmp_path):
    gcloud = recorder("gcloud")
    path = f"{tmp_path}:{os.environ['PATH']}"
    script = str(LAUNCH / "tpu_pod.sh")
    done = run(
        [BASH, script, "train", "a b.yaml", "x=$(1)"],
        PATH=path,
        TPU_NAME="t",
        ZONE="z",
        PROJECT="p",
    )
    assert done.returncode == 0, done.stderr
    arguments, _ = recorded(gcloud)
    assert arguments[:5] == ["compute", "tpus", "tpu-vm", "ssh", "t"]
    assert arguments[5:8] == ["--zone=z", "--project=p", "--worker=all"]
    assert arguments[8].endswith(
        "ALIGNJAX_DISTRIBUTED=1 JAX_PLATFORMS=tpu,cpu .venv/bin/python "
        r"-m alignjax.cli train a\ b.yaml x=\$\(1\)"
    )


def test_a_script_without_a_config_says_how_it_is_used():
    for name in ("local_gpu.sh", "slurm.sbatch"):
        done = run([BASH, str(LAUNCH / name)])
        assert done.returncode == 2
        assert "usage: " in done.stderr
    done = run([BASH, str(LAUNCH / "tpu_pod.sh"), "train"], TPU_NAME="t", ZONE="z")
    assert done.returncode == 2
    assert "launch/tpu_pod.sh train configs/NAME.yaml" in done.stderr


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_has_what_jax_needs_to_find_its_processes(manifest):
    """An Indexed Job with labels, in the domain of a headless service."""
    parts = {part["kind"]: part for part in yaml.safe_load_all(manifest.read_text())}
    job, service = parts["Job"], parts["Service"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert job["metadata"]["labels"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert container["command"][:4] == ["python", "-m", "alignjax.cli", "train"]
    assert variables["ALIGNJAX_DISTRIBUTED"] == "1"


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nonexistent/python", "PYTHON=/nonexistent/python does not run"),
        ("old", "is Python 3.9; 3.11 or 3.12 is needed"),
        ("bare", "has no venv module"),
        ("full", "0 GB of disk are free here; 6 GB are needed"),
    ],
)
def test_the_environment_script_says_what_is_missing(tmp_path, python, message):
    """Stand-ins: a Python 3.9, a Python without venv, a disk with nothing free."""
    answers = {
        "old": "echo 3.9",
        "bare": 'case "$2" in *ensurepip*) exit 1 ;; esac; echo 3.11',
        "full": "echo 3.11",
    }
    if python in answers:
        program = tmp_path / python
        program.write_text(f"#!/bin/sh\n{answers[python]}\n")
        program.chmod(0o755)
        python = str(program)
    disk = tmp_path / "df"
    disk.write_text("#!/bin/sh\nprintf 'a\\nb 9 9 9 9%% /\\n'\n")
    disk.chmod(0o755)
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "environment.sh", tmp_path / "launch")
    done = subprocess.run(
        [SH, "launch/environment.sh"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": python},
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / ".venv").exists()


def environment_of(folder: Path, python: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SH, "launch/environment.sh"],
        capture_output=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHON": str(python)},
        text=True,
        timeout=60,
    )


def test_a_failed_install_leaves_no_stamp_and_names_the_cause(tmp_path):
    """A stand-in for python, with a pip that cannot connect until a file says so."""
    (tmp_path / "launch").mkdir()
    (tmp_path / "requirements").mkdir()
    shutil.copy(LAUNCH / "environment.sh", tmp_path / "launch")
    (tmp_path / "setup.py").write_text("")
    for lock in ("lock-py311.txt", "lock-py312.txt"):
        (tmp_path / "requirements" / lock).write_text("a==1\n")
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
case "$*" in
    *version_info*) exec {sys.executable} -c 'print("3.11")' ;;
    *"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"pip install"*)
        echo call >>calls
        [ -e online ] || {{ echo "Max retries exceeded"; exit 1; }} ;;
esac
"""
    )
    python.chmod(0o755)
    stamp = tmp_path / ".venv" / ".complete"

    done = environment_of(tmp_path, python)
    assert done.returncode == 1
    assert "The Python package index cannot be reached" in done.stderr
    assert not stamp.exists()

    (tmp_path / "online").touch()
    (tmp_path / ".venv" / "kept").touch()
    assert environment_of(tmp_path, python).returncode == 0
    assert stamp.exists()
    assert (tmp_path / ".venv" / "kept").exists()  # taken up, not begun again
    calls = (tmp_path / "calls").read_text().count("call")
    assert calls == 3  # the one that failed, then the lock file and the project

    assert environment_of(tmp_path, python).stdout == ""  # up to date: nothing to do
    assert (tmp_path / "calls").read_text().count("call") == calls

    (tmp_path / "setup.py").write_text("changed")
    assert environment_of(tmp_path, python).returncode == 0
    assert (tmp_path / "calls").read_text().count("call") == calls + 2

    stamp.unlink()  # as after a kill in the middle of an install
    (tmp_path / ".venv" / ".incomplete").write_text("999999999")
    assert environment_of(tmp_path, python).returncode == 0
    assert stamp.exists()
    assert not (tmp_path / ".venv" / "kept").exists()
