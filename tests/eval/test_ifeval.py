# SPDX-License-Identifier: Apache-2.0
"""IFEval on saved answers: files, accuracies, contrasts, mistakes, and how far the
verdicts agree with the recorded ones."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alignjax import cli
from alignjax.constraints.ifeval import plain_id
from alignjax.eval import contrast

NO_COMMA = {
    "key": 7,
    "prompt": "Name a bird without commas.",
    "instruction_id_list": ["punctuation:no_comma"],
    "kwargs": [{}],
}
TWO = {
    "prompt": "Praise <b>rain</b>\nwithout commas.",
    "instruction_id_list": ["en:punctuation:no_comma", "keywords:existence"],
    "kwargs": [{}, {"keywords": ["rain"], "num_words": None}],
}

ANSWER = {"prompt": NO_COMMA["prompt"], "response": "A wren."}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with two prompts and an answer to each."""
    monkeypatch.chdir(tmp_path)
    write("prompts.jsonl", NO_COMMA, TWO)
    write(
        "answers.jsonl",
        {"prompt": TWO["prompt"], "response": "*Well, hm*\nRain é good."},
        {"prompt": NO_COMMA["prompt"], "response": None},
    )
    return tmp_path


def write(name: str, *rows: Any) -> None:
    Path(name).write_text(
        "".join(row if isinstance(row, str) else f"{json.dumps(row)}\n" for row in rows)
    )


def run(*more: str, out: str = "out") -> int:
    files = ["--prompts", "prompts.jsonl", "--responses", "answers.jsonl"]
    return cli.main(["eval", "ifeval", *files, "--out", out, *more])


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_verdicts_are_in_the_order_of_the_answers(folder):
    """The first answer has a comma, in its first line: strict no, loose yes. None fails
    although it has no comma."""
    assert run(out="new/out") == 0
    assert read("new/out/verdicts.jsonl") == [
        {
            "prompt": TWO["prompt"],
            "instruction_id_list": ["en:punctuation:no_comma", "keywords:existence"],
            "follow_instruction_list": [False, True],
            "follow_instruction_list_loose": [True, True],
            "follow_all_instructions": False,
            "follow_all_instructions_loose": True,
        },
        {
            "key": 7,
            "prompt": NO_COMMA["prompt"],
            "instruction_id_list": ["punctuation:no_comma"],
            "follow_instruction_list": [False],
            "follow_instruction_list_loose": [False],
            "follow_all_instructions": False,
            "follow_all_instructions_loose": False,
        },
    ]


def test_the_summary_counts_prompts_instructions_and_types(folder, capsys):
    """Strict: 0 of 2 prompts, 1 of 3 instructions. Loose: 1 of 2 and 2 of 3; commas,
    by one name, 1 of 2. One prompt more has no answer and does not count."""
    write("prompts.jsonl", NO_COMMA, TWO, {**NO_COMMA, "prompt": "Another."})
    assert run() == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["prompts"], summary["no_response"], summary["unanswered"]) == (
        2,
        1,
        1,
    )
    strict, loose = summary["strict"], summary["loose"]
    assert strict["prompt_level"]["followed"] == 0
    assert strict["instruction_level"] == share(1, 3)
    assert loose["prompt_level"]["accuracy"] == 0.5
    assert loose["instruction_level"] == share(2, 3)
    assert loose["types"] == {
        "keywords:existence": share(1, 1),
        "punctuation:no_comma": share(1, 2),
    }
    shown = capsys.readouterr().out
    assert re.search(r"^prompt level +0\.000  0\.500     2$", shown, re.M)
    assert re.search(r"^  punctuation:no_comma +0\.000  0\.500     2$", shown, re.M)
    assert "1 empty answers, which count as failed" in shown
    assert "1 prompts without an answer, which do not count" in shown


def share(followed: int, n: int) -> dict[str, Any]:
    return {"followed": followed, "n": n, "accuracy": followed / n}


def test_the_same_files_give_the_same_bytes(folder):
    assert run() == run(out="again") == 0
    for name in ("verdicts.jsonl", "summary.json"):
        assert Path("out", name).read_bytes() == Path("again", name).read_bytes()


def test_compressed_files_are_read(folder):
    path = Path("answers.jsonl")
    Path("answers.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert run() == run("--responses", "answers.jsonl.gz", out="again") == 0
    assert read("out/verdicts.jsonl") == read("again/verdicts.jsonl")


def test_two_files_of_answers_are_compared(folder, capsys):
    """TWO: 1 against 2 instructions followed, all by the second only: a loss in both.
    NO_COMMA: none against all: a loss in both, too. The other way round: two wins; the
    interval of 2 of 2 begins at 2 / (2 + z^2) = 0.342."""
    write(
        "better.jsonl",
        {"prompt": NO_COMMA["prompt"], "response": "A wren."},
        {"prompt": TWO["prompt"], "response": "I praise rain."},
    )
    assert run("--against", "better.jsonl") == 0
    found = json.loads(Path("out/summary.json").read_text())
    for contrast_ in found["contrast"].values():
        assert (contrast_["wins"], contrast_["losses"], contrast_["ties"]) == (0, 2, 0)
        assert contrast_["accuracy"] == 0
    assert found["against"]["strict"]["prompt_level"]["accuracy"] == 1
    assert [all(row["follow_instruction_list"]) for row in read("out/verdicts.jsonl")]
    assert read("out/verdicts_against.jsonl")[0]["key"] == 7
    assert run("--responses", "better.jsonl", "--against", "answers.jsonl") == 0
    assert (
        "contrast accuracy, follows all instructions: 1.000 (95 % interval, Wilson: "
        "0.342 to 1.000; 2 wins, 0 losses, 0 ties)" in capsys.readouterr().out
    )


def test_only_prompts_that_both_answered_are_compared(folder):
    write("other.jsonl", {"prompt": NO_COMMA["prompt"], "response": ""})
    assert run("--against", "other.jsonl") == 0
    found = json.loads(Path("out/summary.json").read_text())["contrast"]
    assert found["all_followed"] == {
        "wins": 0,
        "losses": 0,
        "ties": 1,
        "accuracy": None,
        "interval_95": [0.0, 1.0],
    }


def test_recorded_verdicts_are_compared_with_ours(folder, capsys):
    """1 of 2 agrees: a comma was not seen, as they say. By what is recorded, the first
    file's answer to TWO follows 2 instructions against 1, and wins. Ours tie."""
    first = {"prompt": TWO["prompt"], "response": "Rain, rain."}
    write("answers.jsonl", {**first, "follow_instruction_list": [True, True]}, ANSWER)
    write("other.jsonl", {**first, "follow_instruction_list": [True, False]}, ANSWER)
    assert run("--against", "other.jsonl") == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["recorded"] == {
        "agree": 1,
        "n": 2,
        "share": 0.5,
        "differ": [
            {
                "key": None,
                "prompt": TWO["prompt"],
                "instruction_id": "en:punctuation:no_comma",
                "recorded": True,
                "here": False,
            }
        ],
    }
    found = summary["contrast_recorded"]["more_followed"]
    assert (found["wins"], found["losses"], found["ties"]) == (1, 0, 0)
    assert summary["contrast"]["more_followed"]["ties"] == 2
    shown = capsys.readouterr().out
    assert "1 of 2 strict verdicts are those recorded in the file" in shown
    assert "follows more instructions, as recorded: 1.000" in shown


def test_a_contrast_counts_wins_losses_and_ties():
    found = contrast.contrast([(2, 1), (3, 3), (0, 1), (1, 0)])
    assert found == (2, 1, 1)
    assert found.accuracy == 2 / 3


def test_wilsons_interval_of_8_in_10():
    """z^2 = 3.8415: middle (0.8 + 0.19207) / 1.38415 = 0.71674, half width
    1.95996 sqrt(0.016 + 0.0096036) / 1.38415 = 0.22657."""
    low, high = contrast.wilson(8, 10)
    assert (low, high) == (
        pytest.approx(0.71674 - 0.22657, abs=1e-4),
        pytest.approx(0.71674 + 0.22657, abs=1e-4),
    )
    assert contrast.wilson(0, 5)[0] == 0
    assert contrast.wilson(5, 5)[1] == 1


MISTAKES = {
    "no file": ("prompts.jsonl", None, "prompts.jsonl: No such file or directory"),
    "no answers file": ("answers.jsonl", None, "answers.jsonl: No such file or direc"),
    "empty": ("prompts.jsonl", [], "prompts.jsonl: holds no prompts"),
    "only blank": ("answers.jsonl", ["\n", " \n"], "answers.jsonl: holds no answers"),
    "no json": ("answers.jsonl", [ANSWER, "{\n"], "answers.jsonl:2 is not valid JSON"),
    "array": ("answers.jsonl", ["[]\n"], "answers.jsonl:1: expected a JSON object, go"),
    "latin 1": (
        "answers.jsonl",
        [b'{"prompt": "\xe9"}\n'],
        "answers.jsonl:1 is not valid UTF-8",
    ),
    "no prompt": ("answers.jsonl", ["{}\n"], 'answers.jsonl:1: expected "prompt", a t'),
    "no response": (
        "answers.jsonl",
        [{"prompt": NO_COMMA["prompt"]}],
        'answers.jsonl:1: expected "response", a text or null',
    ),
    "list as response": (
        "answers.jsonl",
        [{**ANSWER, "response": ["A wren."]}],
        'answers.jsonl:1: expected "response", a text or null',
    ),
    "recorded": (
        "answers.jsonl",
        [{**ANSWER, "follow_instruction_list": [True, False]}],
        'answers.jsonl:1: expected "follow_instruction_list", true or false for each o',
    ),
    "unmatched": (
        "answers.jsonl",
        [ANSWER, {**ANSWER, "prompt": "Name a bird without commas. "}],
        "answers.jsonl:2: 'Name a bird without commas. ' is no prompt of the prompts'",
    ),
    "two answers": (
        "answers.jsonl",
        [ANSWER, "\n", ANSWER],
        "answers.jsonl:3: 'Name a bird without commas.' stands in answers.jsonl:1 alre",
    ),
    "two prompts": (
        "prompts.jsonl",
        [NO_COMMA, {**NO_COMMA, "key": 8}],
        "prompts.jsonl:2: 'Name a bird without commas.' stands in prompts.jsonl:1 alre",
    ),
    "unknown id": (
        "prompts.jsonl",
        [{**NO_COMMA, "instruction_id_list": ["punctuation:no_commas"]}],
        "prompts.jsonl:1: unknown instruction id 'punctuation:no_commas'; did you mean",
    ),
    "wrong kwargs": (
        "prompts.jsonl",
        [NO_COMMA, {**TWO, "kwargs": [{}, {"keyword": "rain"}]}],
        "prompts.jsonl:2: keywords:existence: expected the kwargs (keywords), got (key",
    ),
    "too few kwargs": (
        "prompts.jsonl",
        [{**TWO, "kwargs": [{}]}],
        "prompts.jsonl:1: expected kwargs for each of the 2 instructions, got 1",
    ),
    "kwargs no list": (
        "prompts.jsonl",
        [{**NO_COMMA, "kwargs": {}}],
        'prompts.jsonl:1: expected "kwargs", a list of objects',
    ),
    "no instructions": (
        "prompts.jsonl",
        [{**NO_COMMA, "instruction_id_list": [], "kwargs": []}],
        'prompts.jsonl:1: expected "instruction_id_list", a list of ids',
    ),
    "key": (
        "prompts.jsonl",
        [{**NO_COMMA, "key": [1]}],
        'prompts.jsonl:1: expected "key", a number or a text, got [1]',
    ),
    "half a character": (
        "prompts.jsonl",
        ['{"prompt": "\\ud800"}\n'],
        'prompts.jsonl:1: "prompt" holds half a surrogate pair',
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(folder, mistake, capsys):
    name, rows, message = MISTAKES[mistake]
    Path(name).unlink()
    if rows and isinstance(rows[0], bytes):
        Path(name).write_bytes(rows[0])
    elif rows is not None:
        write(name, *rows)
    assert run() == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"alignjax eval ifeval: {message}")
    assert shown.count("\n") == 1
    assert not Path("out").exists()


def test_a_mistake_in_the_second_file_is_found_before_anything_is_written(folder):
    write("other.jsonl", {"prompt": "Unknown.", "response": ""})
    assert run("--against", "other.jsonl") == 2
    assert not Path("out").exists()


def test_a_response_of_half_characters_is_judged(folder):
    write("answers.jsonl", {**ANSWER, "response": "\ud800 bird"})
    assert run() == 0
    assert read("out/verdicts.jsonl")[0]["follow_all_instructions"]


def test_the_command_has_help_with_examples_and_so_has_eval(capsys):
    for words, expected in (
        (["eval", "ifeval"], "examples:\n  alignjax eval ifeval --prompts "),
        (["eval"], "alignjax eval CONFIG split="),
        (["eval"], "alignjax eval ifeval --help"),
        ([], "eval ifeval\n"),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main([*words, "--help"])
        assert caught.value.code == 0
        assert expected in capsys.readouterr().out


def test_a_config_is_still_what_eval_takes(folder, capsys):
    assert cli.main(["eval", "missing.yaml"]) == 2
    assert "missing.yaml" in capsys.readouterr().err


def test_it_answers_at_once_without_jax_or_numpy(folder, root):
    """Well under the second that loading JAX takes."""
    program = (
        "import sys\n"
        "from alignjax import cli\n"
        "words = '--prompts prompts.jsonl --responses answers.jsonl --out out'\n"
        "assert cli.main(['eval', 'ifeval', *words.split()]) == 0\n"
        "heavy = {'jax', 'numpy', 'flax', 'transformers', 'pyarrow', 'langdetect'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert time.monotonic() - began < 2


# ---- recorded verdicts ---------------------------------------------------------------

QWEN = "m_ifeval/results_strict/Qwen__Qwen2.5-{}-Instruct-GPTQ-Int4.jsonl.gz"
GPT4 = "ifeval/eval_results_{}.jsonl.gz"
# Answers, those they are compared with, and the prompts of both.
RUNS = {
    "GPT-4": (GPT4.format("strict"), "", "ifeval/input_data.jsonl"),
    "32B": (QWEN.format("32B"), QWEN.format("0.5B"), "m_ifeval/en_input_data.jsonl"),
    "7B": (QWEN.format("7B"), QWEN.format("1.5B"), "m_ifeval/en_input_data.jsonl"),
}
# Files of recorded verdicts, and where ours on the same answers lie.
RECORDED = {
    ("GPT-4", "strict"): (GPT4.format("strict"), "GPT-4/verdicts.jsonl"),
    ("GPT-4", "loose"): (GPT4.format("loose"), "GPT-4/verdicts.jsonl"),
    ("Qwen2.5-32B", "strict"): (QWEN.format("32B"), "32B/verdicts.jsonl"),
    ("Qwen2.5-0.5B", "strict"): (QWEN.format("0.5B"), "32B/verdicts_against.jsonl"),
    ("Qwen2.5-7B", "strict"): (QWEN.format("7B"), "7B/verdicts.jsonl"),
    ("Qwen2.5-1.5B", "strict"): (QWEN.format("1.5B"), "7B/verdicts_against.jsonl"),
}


@pytest.fixture(scope="module")
def scores(shared_data, root, tmp_path_factory) -> Path:
    """A folder with the results of the command for each of the RUNS; in processes of
    their own, where types are not checked."""
    folder = tmp_path_factory.mktemp("scores")
    for name, (answers, others, prompts) in RUNS.items():
        words = ["--prompts", prompts, "--responses", answers]
        words += ["--out", str(folder / name)]
        words += ["--against", others] if others else []
        subprocess.run(
            [sys.executable, "-m", "alignjax.cli", "eval", "ifeval", *words],
            check=True,
            cwd=shared_data,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
    return folder


def disagreements(
    ours: list[dict[str, Any]], recorded: list[dict[str, Any]], reading: str
) -> tuple[int, set[tuple[str, ...]]]:
    """The number of instruction verdicts, and (key, id, recorded, ours) of those that
    differ."""
    name = "follow_instruction_list" + ("_loose" if reading == "loose" else "")
    n, found = 0, set()
    for row, expected in zip(ours, recorded, strict=True):
        assert row["prompt"] == expected["prompt"]
        lists = row["instruction_id_list"], expected["follow_instruction_list"]
        for instruction, theirs, own in zip(*lists, row[name], strict=True):
            n += 1
            if theirs != own:
                key, shown = str(row["key"]), ("no", "yes")
                found.add((key, plain_id(instruction), shown[theirs], shown[own]))
    return n, found


def test_verdicts_agree_with_the_recorded_ones(scores, shared_data, root):
    """On 99.5 % of each file, and the table in docs/ifeval.md lists all others."""
    page = (root / "docs" / "ifeval.md").read_text()
    listed: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for model, reading, rest in re.findall(
        r"^\| (\S+), (strict|loose) \| (.*) \|$", page, re.M
    ):
        cells = tuple(cell.strip(" `") for cell in rest.split("|"))
        listed.setdefault((model, reading), set()).add(cells[:4])
    n_all = n_differ = 0
    for (model, reading), (file, verdicts) in RECORDED.items():
        with gzip.open(shared_data / file, "rt") as lines:
            recorded = [json.loads(line) for line in lines]
        n, found = disagreements(read(str(scores / verdicts)), recorded, reading)
        assert n in (832, 834)
        assert len(found) <= 0.005 * n, (model, reading)
        assert found == listed.pop((model, reading), set()), (model, reading)
        n_all, n_differ = n_all + n, n_differ + len(found)
    assert not listed  # nothing in the table but what was found
    assert f"{n_all:,} in all: {n_all - n_differ:,} agree" in page


def test_accuracies_are_the_published_ones(scores):
    """GPT-4: 417 and 430 of 540 prompts, .7722 and .7963; Qwen2.5-32B: .7911."""
    for name, reading, expected, tolerance in (
        ("GPT-4", "strict", 0.7722, 5e-5),
        ("GPT-4", "loose", 0.7963, 2e-3),
        ("32B", "strict", 0.7911, 2e-3),
    ):
        summary = json.loads((scores / name / "summary.json").read_text())
        accuracy = summary[reading]["prompt_level"]["accuracy"]
        assert accuracy == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "more", "all_"), [("32B", 0.965, 0.960), ("7B", 0.908, 0.922)]
)
def test_the_larger_model_wins_as_often_as_recorded(scores, name, more, all_):
    """359 / (359 + 13) = .965 and 246 / (246 + 25) = .908 where more instructions
    followed win; 312 / 325 = .960 and 212 / 230 = .922 where all followed do. Our
    verdicts differ by the few of the table in docs/ifeval.md."""
    summary = json.loads((scores / name / "summary.json").read_text())
    for kind, tolerance in (("contrast_recorded", 5e-4), ("contrast", 5e-3)):
        for rule, expected in (("more_followed", more), ("all_followed", all_)):
            found = summary[kind][rule]
            assert found["accuracy"] == pytest.approx(expected, abs=tolerance)
            low, high = found["interval_95"]
            assert low < expected < high < low + 0.08
