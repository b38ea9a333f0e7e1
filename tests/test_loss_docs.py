# SPDX-License-Identifier: Apache-2.0
"""docs/losses.md: a row of each loss that agrees with the table, and code that runs."""

import inspect
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from alignjax import losses
from alignjax.losses import LOSSES

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "losses.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("losses_*.py"))
PLOTS = ROOT / "docs" / "plots.py"
PICTURE = ROOT / "docs" / "images" / "losses.svg"
# The names that another project is promised.
PROMISED = (
    *("Pair", "dpo", "robust_dpo", "ipo", "hinge", "exo", "nca", "bco", "sppo", "aot"),
    *("aot_unpaired", "apo_zero", "apo_down", "discopop", "simpo", "cpo", "orpo"),
    *("kto", "coin", "token_logprobs"),
)


def rows() -> dict[str, list[str]]:
    """The rows of five cells that begin with a name in backticks: the paper's arXiv
    id, "" where there is none, and the other cells."""
    found: dict[str, list[str]] = {}
    for line in PAGE.splitlines():
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        link = r"(?:<br>\[(\S+)\]\(https://arxiv.org/abs/\2\))?"
        name = re.fullmatch(rf"`(\w+)`{link}", first)
        if name and len(cells) == 4:
            assert name[1] not in found, f"two rows: {name[1]}"
            found[name[1]] = [name[2] or "", *cells]
    return found


ROWS = rows()


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def test_every_loss_has_a_row_and_no_row_is_of_another():
    assert set(ROWS) == set(LOSSES)
    assert f"[{len(LOSSES)} losses](docs/losses.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_says_what_the_table_says(name):
    """What it reads, in order, with `reference` among it where it needs one; whether it
    is of the whole batch; settings and defaults; the name in TRL."""
    paper, reads, settings, trl, when = ROWS[name]
    loss = LOSSES[name]
    inputs, _, scope = reads.partition("; ")
    assert inputs.split(", ") == list(loss.inputs)
    assert ("reference" in inputs) == loss.reference
    assert (scope == "the whole batch") == loss.coupled
    defaults = dict(re.findall(r"`(\w+)` ([\d.]+)", settings))
    assert {option: float(value) for option, value in defaults.items()} == {
        option: setting.default for option, setting in loss.options.items()
    }
    assert trl == (loss.trl or "none")
    assert len(when) > 20
    cited = re.findall(r"arXiv:([\d.]+\d)", inspect.getdoc(loss.function) or "")
    assert paper in cited or (not paper and not cited)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_its_formula(name):
    formulas = "\n".join(re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S))
    assert re.search(rf"^{name}  +\S", formulas, re.M)


def test_the_modifiers_name_the_losses_that_read_them():
    def named(row: str) -> set[str]:
        (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {row}"))
        return set(re.findall(r"`(\w+)`", line.split("|")[3]))

    smoothed = {
        name
        for name, loss in LOSSES.items()
        if "label_smoothing" in loss.options
        and loss.options["label_smoothing"].default == 0
    }
    assert named("conservative DPO") == smoothed

    divergent = {name for name, loss in LOSSES.items() if loss.divergence}
    assert named("other divergences") == divergent

    def per_pair(option: str) -> set[str]:
        return {
            name
            for name, loss in LOSSES.items()
            if "*batch" in str(inspect.signature(loss.function).parameters.get(option))
        }

    assert named("soft labels") == per_pair("label_smoothing")
    assert named("margin per pair") == per_pair("margin")


def test_the_names_that_are_promised_can_be_imported():
    assert [name for name in PROMISED if not hasattr(losses, name)] == []
    assert set(PROMISED) <= set(losses.__all__)


def test_the_ten_lines_are_ten_and_learn(tmp_path, capsys):
    """Imports and the line that prints aside. DPO begins at log 2 = 0.69."""
    path = tmp_path / "ten.py"
    path.write_text(BLOCKS[0])
    aside = ("import ", "from ", "print(")
    lines = [line for line in BLOCKS[0].splitlines() if line.strip()]
    assert len([line for line in lines if not line.startswith(aside)]) == 10
    runpy.run_path(str(path))
    (loss,) = numbers(capsys.readouterr().out)
    assert 0 < loss < 0.1


@pytest.mark.parametrize("source", BLOCKS[1:], ids=range(1, len(BLOCKS)))
def test_the_code_of_the_page_runs_and_prints_what_it_says(source, tmp_path, capsys):
    """A comment after `print` gives what is printed, or ends with it after "="."""
    path = tmp_path / "block.py"
    path.write_text(source)
    runpy.run_path(str(path))
    said = re.findall(r"^print\(.*\)(?:  # (.*))?$", source, re.M)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(said) > 0
    for line, comment in zip(lines, said, strict=True):
        values = numbers(comment.rpartition("= ")[2])
        if values:
            assert numbers(line) == pytest.approx(values, abs=5e-5)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_lowers_dpo_from_log_2_and_the_contrast(path, capsys):
    runpy.run_path(str(path))
    lines = capsys.readouterr().out.splitlines()
    terms = {line.partition(":")[0]: numbers(line) for line in lines}
    assert {"dpo", "coin"} <= set(terms)
    assert terms["dpo"][0] == pytest.approx(np.log(2), abs=5e-5)
    for before, after in terms.values():
        assert after < before / 2


def test_every_example_is_linked():
    assert [path.name for path in EXAMPLES] == [
        "losses_equinox.py",
        "losses_jax.py",
        "losses_linen.py",
    ]
    for path in EXAMPLES:
        assert f"(examples/{path.name})" in PAGE


def test_the_picture_has_a_panel_of_every_loss_that_reads_responses():
    """All but those that read log-probabilities of tokens or pooled states."""
    plotted = runpy.run_path(str(PLOTS))["plotted"]()
    others = {"sft", "coin", "coin_triplet", "info_nce"}
    assert set(plotted) == set(LOSSES) - others
    for name in plotted:
        assert re.search(rf">{name}( \(times beta²\))?</text>", PICTURE.read_text())


def test_the_picture_is_what_its_script_draws(tmp_path):
    """Byte for byte, with the locked matplotlib. `python docs/plots.py` renews it."""
    runpy.run_path(str(PLOTS))["draw_losses"](tmp_path / "losses.svg")
    assert (tmp_path / "losses.svg").read_bytes() == PICTURE.read_bytes()


def test_the_curves_are_those_of_the_formulas():
    """At margin 0: DPO log 2 with slope -1/2; the hinge 1 with slope -1; IPO times
    beta^2 (0 - 1/2)^2 with slope -1; SPPO twice that, and slope -1 as a and b each take
    half of the margin; APO-zero 1 with slope -1/4. Where a = 0, SPPO at margin 5 is
    (1/2)^2 + (-5 + 1/2)^2."""
    space = runpy.run_path(str(PLOTS))
    middle = len(space["X"]) // 2
    assert space["X"][middle] == 0
    expected = {
        "dpo": (np.log(2), -0.5),
        "hinge": (1, -1),
        "ipo": (0.25, -1),
        "sppo": (0.5, -1),
        "apo_zero": (1, -0.25),
    }
    for name, (value, slope) in expected.items():
        loss, derivative, fallen = space["curves"](name)
        assert loss[middle] == pytest.approx(value)
        assert derivative[middle] == pytest.approx(slope)
        if name == "sppo":
            assert fallen[-1] == pytest.approx(0.25 + 4.5**2)
