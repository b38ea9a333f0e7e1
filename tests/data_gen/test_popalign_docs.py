# SPDX-License-Identifier: Apache-2.0
"""The page and the configs of PopAlign say what the code does."""

import json
import re
import subprocess
import sys

import pytest

from alignjax import config
from data_gen.engines.recorded import Recorded
from data_gen.run import RunConfig
from data_gen.strategies.popalign import BASELINES, CONTRASTS, PopAlign


@pytest.fixture(scope="module")
def page(root) -> str:
    return (root / "docs" / "methods" / "popalign.md").read_text()


def rows(page: str, heading: str) -> dict[str, str]:
    """First and second cell of the table under a heading."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)`[^|]* \| ([^|]*?) \|", section, re.M))


def test_every_setting_is_there_with_its_default(page):
    expected = {name: json.dumps(value) for name, value in vars(PopAlign()).items()}
    assert rows(page, "Settings") == expected


def test_every_contrast_and_baseline_is_there(page):
    assert list(rows(page, "The method")) == list(CONTRASTS)
    assert list(rows(page, "Baselines")) == list(BASELINES)
    for name in CONTRASTS:
        assert f"**{name}**" in page.split("\n## Real pairs\n")[1]


def test_every_field_of_a_file_engine_is_there_with_its_default(page):
    found = rows(page, "Answers from files")
    expected = {k: json.dumps(v) for k, v in vars(Recorded("a.jsonl")).items()}
    assert found == {**expected, "kind": "required", "path": "required"}


def test_the_example_of_the_accuracy_runs(page, root):
    (source,) = re.findall(r"```python\n(.*?)```", page, re.S)
    command = [sys.executable, "-c", source]
    printed = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert printed.split() == source.rsplit("# = ")[1].split()


@pytest.mark.parametrize("name", ["popalign", "popalign_recorded"])
def test_the_configs_are_runs_of_popalign(root, name):
    found = config.load(RunConfig, root / "configs" / "data" / f"{name}.yaml")
    assert found.popalign is not None
