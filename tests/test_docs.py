# SPDX-License-Identifier: Apache-2.0
"""Documentation: links lead somewhere, commands and settings exist, examples run."""

import json
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import data_gen.cli
from alignjax import cli, config, constraints
from alignjax.constraints import TYPES
from alignjax.constraints.ifeval.own import OWN
from alignjax.data import records
from alignjax.data.tokenizer import load_tokenizer
from alignjax.eval.config import EvalConfig
from alignjax.stages import PipelineConfig, StageConfig
from alignjax.train import loop
from alignjax.train.config import TrainConfig
from data_gen.couple_settings import CoIN
from data_gen.engines.choice import OpenAIServer
from data_gen.run import RunConfig
from data_gen.strategies.ecd import ECD
from data_gen.strategies.self_contrast import SelfContrast

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
RUNS = {
    "data-gen run": RunConfig,
    "alignjax train": TrainConfig,
    "alignjax eval": EvalConfig,
}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Headings as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def commands(page: Path) -> list[list[str]]:
    """Every command of ours in a block: fenced as sh, or indented, also in the header
    of a config."""
    indented = re.findall(r"^(?:    |#   )(\S.*)$", page.read_text(), re.M)
    text = "\n".join([*blocks(page, "sh"), *indented])
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for part in line.split("&&"):
            if re.match(r"\s*(\S+/bin/)?(alignjax|data-gen|make|\S*\.sh)\s", part):
                words = shlex.split(part, comments=True)
                found.append([words[0].rsplit("bin/")[-1], *words[1:]])
    return found


ALL = [
    pytest.param(words, id=f"{named(page)}: {shlex.join(words)}")
    for page in [*PAGES, *CONFIGS]
    for words in commands(page)
]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]*#?[^)]*)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{named(page)}: {target}"
        assert not anchor or anchor in anchors(path), f"{named(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_are_named_exist(page):
    """`alignjax/...`, `data_gen/...`, `tests/...` and so on, in backticks."""
    folders = "alignjax|data_gen|configs|launch|tests|docs"
    for name in re.findall(rf"`((?:{folders})/[\w/.]+)`", page.read_text()):
        assert (ROOT / name).exists() or "NAME" in name, f"{named(page)}: {name}"


def test_there_are_commands_to_check():
    assert len(ALL) > 20


@pytest.mark.parametrize("words", ALL)
def test_commands_are_understood(words, tmp_path):
    """By the command's own parser; its overrides, by the config that they change."""
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(words[1:2]) <= set(targets)
        return
    if words[0].endswith(".sh"):
        assert (ROOT / words[0]).is_file()
        words = ["alignjax", "train", *words[1:]]
    if len(words) == 2 and words[1].startswith("--"):
        return
    words = [words[0], *cli._joined(words[1:])]
    parser = (cli if words[0] == "alignjax" else data_gen.cli)._parser()
    arguments, rest = parser.parse_known_args(words[1:])
    assert not [word for word in rest if word.startswith("-")], rest
    given = getattr(arguments, "settings", getattr(arguments, "overrides", []))
    check_overrides(" ".join(words[:2]), [*given, *rest], tmp_path)


def check_overrides(command: str, overrides: list[str], folder: Path) -> None:
    """They fit the config: of the command, or of the stage that they address."""
    if command == "alignjax pipeline":
        path = ROOT / "configs" / "quickstart.yaml"
        for stage in config.load(PipelineConfig, path, overrides).stages:
            check_stage(stage)
    elif command in RUNS:
        least = {"data-gen run": {"ecd": {}}}.get(command, {"dataset": "d"})
        path = folder / "least.yaml"
        path.write_text(json.dumps({"model": "m", "out": "o", **least}))
        numbered = [word.replace("=N", "=7") for word in overrides]
        config.load(RUNS[command], path, numbered)


def check_stage(stage: StageConfig) -> None:
    kind = RUNS[stage.run]
    shared = {"model": "m", "embedder": "e", "out": "o"}
    known = {k: v for k, v in shared.items() if k in kind.__annotations__}
    config.parse(kind, {**known, **config.plain(stage.config)})


def test_the_examples_of_the_readme_run():
    """log(1 + exp(-0.1)) = 0.6444."""
    (source,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = re.findall(r"= ([\d.]+)$", source, re.M)
    printed = [float(line.strip("[]")) for line in done.stdout.split()]
    assert printed == [pytest.approx(float(value), abs=5e-5) for value in shown]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_yaml_examples_are_configs(page, tmp_path):
    for number, source in enumerate(blocks(page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(source)
        kind = TrainConfig if "dataset:" in source else RunConfig
        config.load(kind, path)


def test_the_rows_of_data_format_can_be_trained_on(tmp_path):
    (source,) = blocks(ROOT / "docs" / "data_format.md", "json")
    path = tmp_path / "rows.jsonl"
    path.write_text(source)
    found = records.read(path).records
    fruit = [record.prompt[0].content.startswith("Name a fruit.") for record in found]
    assert fruit == [True] * 5
    assert [record.chosen.text for record in found] == ["An apple."] * 5
    assert [len(record.negatives) for record in found] == [1, 1, 2, 1, 0]


@pytest.mark.parametrize(
    ("page", "kind"),
    [("ecd", ECD), ("self_contrast", SelfContrast), ("coin", CoIN)],
)
def test_the_settings_of_a_method_are_all_there_with_their_defaults(page, kind):
    text = (ROOT / "docs" / "methods" / f"{page}.md").read_text()
    table = text.split("## Settings")[1]
    found = {}
    for names, defaults in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", table, re.M):
        values = defaults.strip().split(", ")
        found |= dict(zip(re.findall(r"`(\w+)`", names), values, strict=True))
    expected = {
        name: f"all {len(TYPES)}" if name == "types" else json.dumps(value)
        for name, value in vars(kind()).items()
    }
    assert found == expected


def test_the_page_of_constraints_lists_every_type_as_it_is():
    """Name, first wording and the readings that `measure` gives."""
    page = (ROOT / "docs" / "constraints.md").read_text()
    listed = page.split("## Types")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| `(.*)` \| ([\w, ]+) \|$", listed, re.M)
    expected = []
    for name, kind in TYPES.items():
        wording = re.sub(r"\{\w+:s\}", "(s)", kind.wordings[0])
        drawn = constraints.sample(name, random.Random(0))
        readings = ", ".join(constraints.measure(drawn, "It is so."))
        expected.append((name, " ".join(wording.split()), readings))
    assert sorted(found) == sorted(expected)
    assert f"has {len(TYPES)} types" in page


def test_the_page_of_constraints_has_a_type_for_every_instruction_of_ifeval():
    page = (ROOT / "docs" / "constraints.md").read_text()
    rows = re.findall(r"^\| `(\w+:\w+)` \| (.*) \|$", page, re.M)
    shown = {name: set(re.findall(r"`(\w+)`", types)) for name, types in rows}
    assert set(shown) == set(OWN) and len(shown) == 25
    for name, items in OWN.items():
        assert {item.type for item in items} <= shown[name] <= set(TYPES)


def test_the_example_of_constraints_prints_what_its_comments_say():
    (source,) = blocks(ROOT / "docs" / "constraints.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == re.findall(r"# (.+)$", source, re.M)


def test_the_settings_of_a_server_are_all_there_with_their_defaults():
    text = (ROOT / "docs" / "engines.md").read_text()
    table = text.split("## Settings of a server")[1].split("\n## ")[0]
    found = {}
    for names, defaults in re.findall(r"^\| (`[^|]*`) \| ([^|]*) ?\|", table, re.M):
        words = re.findall(r"`(\w+)`", names)
        values = [text.strip() for text in defaults.split(", ")]
        found |= dict(zip(words, values, strict=True))
    assert found.pop("base_url") == ""
    own = vars(OpenAIServer("https://example.com"))
    assert found == {
        name: json.dumps(value)
        for name, value in own.items()
        if name not in ("base_url", "kind")
    }


def test_the_couples_of_the_howto_can_be_trained_on(tiny_llama, tmp_path, monkeypatch):
    """The script writes two couples of four; the config trains on both in one step. The
    tiny model's tokens are bytes, so its rows are longer."""
    page = ROOT / "docs" / "howto.md"
    (script,) = blocks(page, "python")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    (source,) = (text for text in blocks(page, "yaml") if "coin" in text)
    (tmp_path / "coin.yaml").write_text(source)
    monkeypatch.chdir(tmp_path)
    changes = [f"model={tiny_llama}", "batch.time=800", "batch.block=200"]
    summary = loop.train(
        config.load(TrainConfig, Path("coin.yaml"), changes),
        model_folder=tiny_llama,
        tokenizer=load_tokenizer(tiny_llama),
        model_fingerprint="tiny",
    )
    assert (summary["examples"], summary["steps"]) == (8, 1)
    assert summary["without_couple"] == summary["too_long"] == 0
