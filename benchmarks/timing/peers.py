# SPDX-License-Identifier: Apache-2.0
"""Other systems, timed on the same work in processes and environments of their own.

A peer NAME is a script {folder}/{SCRIPTS[NAME]} that is called as

    PYTHON script MODEL --prompts N --samples N --prompt TOKENS --new TOKENS

and whose last line of output is a JSON object with `all_s`, the seconds of each of its
repeats.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SCRIPTS = {"transformers": "hf_sample.py", "tunix": "tunix_sample.py"}
_PACKAGES = {
    "transformers": ("transformers", "torch"),
    "tunix": ("google-tunix", "jax", "flax"),
}
_WITH_DTYPE = ("transformers",)  # the others know float32 only
_TIMEOUT_S = 3600


class Work(NamedTuple):
    """`samples` answers of `new` tokens to each of `prompts` prompts of `prompt`."""

    prompts: int
    samples: int
    prompt: int
    new: int

    @property
    def tokens(self) -> int:
        return self.prompts * self.samples * self.new


class Peer(NamedTuple):
    name: str
    python: Path
    script: Path

    def versions(self) -> dict[str, str]:
        """Of Python and of the packages that matter, from the peer's environment."""
        code = (
            "import json, platform, sys; from importlib.metadata import version; "
            "print(json.dumps({'python': platform.python_version(), "
            "**{p: version(p) for p in sys.argv[1:]}}))"
        )
        return self._json("-c", code, *_PACKAGES[self.name])

    def seconds(self, model: Path, work: Work, *, dtype: str) -> list[float]:
        """Of each repeat, the first of which may hold its compilation."""
        options = [f"--{name}={value}" for name, value in work._asdict().items()]
        if self.name in _WITH_DTYPE:
            options.append(f"--dtype={dtype}")
        line = self._json(str(self.script), str(model), *options)
        if not line.get("all_s"):
            raise ValueError(f"{self.script}: its last line has no 'all_s'")
        return line["all_s"]

    def _json(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [str(self.python), *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            cwd=self.script.parent,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(
                f"peer {self.name}: {self.script} ended with {done.returncode}: {last}"
            )
        lines = [x for x in done.stdout.splitlines() if x.startswith("{")]
        if not lines:
            raise ValueError(f"peer {self.name}: {self.script} printed no JSON line")
        return json.loads(lines[-1])


def find(peers: Sequence[str], folder: Path | None, *, dtype: str) -> list[Peer]:
    """The peers of `--peer NAME=PYTHON ... --bench FOLDER`.

    Raises:
      ValueError: an unknown name, a file that is not there, or a dtype that the peer
        is not timed in.
    """
    if peers and folder is None:
        raise ValueError(
            f"--peer needs --bench FOLDER, where {', '.join(SCRIPTS.values())} lie"
        )
    found = []
    for given in peers:
        name, _, python = given.partition("=")
        if name not in SCRIPTS or not python:
            raise ValueError(
                f"--peer {given}: expected NAME=PYTHON with a NAME out of "
                f"{', '.join(SCRIPTS)}"
            )
        if dtype != "float32" and name not in _WITH_DTYPE:
            raise ValueError(
                f"--peer {given}: is timed in float32 only, not in {dtype}"
            )
        assert folder is not None
        script = (folder / SCRIPTS[name]).absolute()
        # Not resolved: a virtual environment's python is a link.
        program = Path(python).expanduser().absolute()
        for path in (script, program):
            if not path.is_file():
                raise ValueError(f"--peer {given}: {path} does not exist")
        found.append(Peer(name, program, script))
    return found


def ratios(
    ours: Sequence[float], theirs: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """Our tokens/s over each peer's, round by round: what else the machine does slows
    both.

    Args:
      ours, theirs: best tokens/s of each round.
    """
    table = {}
    for name, rates in theirs.items():
        rounds = [a / b for a, b in zip(ours, rates, strict=True)]
        table[name] = {
            "median": round(statistics.median(rounds), 2),
            "of_the_best": round(max(ours) / max(rates), 2),
            "rounds": [round(x, 2) for x in rounds],
        }
    return table
