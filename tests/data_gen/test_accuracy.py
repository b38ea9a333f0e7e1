# SPDX-License-Identifier: Apache-2.0
"""Files of verdicts compared: which lines belong together, and who wins."""

import json
from pathlib import Path

import pytest

from data_gen import cli
from data_gen.accuracy import compare


def verdicts(path: Path, *rows, prompts=()) -> Path:
    lines = [{"follow_instruction_list": list(map(bool, row))} for row in rows]
    for line, prompt in zip(lines, prompts, strict=False):
        line["prompt"] = prompt
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_number_followed_and_all_followed_are_counted(tmp_path):
    """Numbers: 2 > 1 won, 1 < 2 lost, 1 = 1 tied, 1 > 0 won. All: only the first of
    the better file and the second of the other are followed whole."""
    better = verdicts(tmp_path / "a.jsonl", (1, 1), (1, 0), (1, 0), (1, 0))
    worse = verdicts(tmp_path / "b.jsonl", (1, 0), (1, 1), (0, 1), (0, 0))
    found = compare(better, worse)
    assert found.number[:3] == (2, 1, 1)
    assert found.all[:3] == (1, 1, 2)
    assert found.number.accuracy == pytest.approx(2 / 3)


def test_lines_are_matched_by_their_prompt_where_all_have_one(tmp_path):
    better = verdicts(tmp_path / "a.jsonl", (1,), (0,), prompts=("x", "y"))
    other = tmp_path / "b.jsonl"
    worse = verdicts(other, (0,), (1,), prompts=("y", "x"))
    assert compare(better, worse).number[:3] == (0, 0, 2)
    worse = verdicts(other, (0,), (1,), prompts=("y",))
    assert compare(better, worse).number[:3] == (1, 1, 0)


@pytest.mark.parametrize(
    ("rows", "prompts", "message"),
    [
        (((1,),), ("x",), r"a\.jsonl: no verdicts|b\.jsonl: no verdicts for the pr"),
        (((1,),), (), "a.jsonl has 2 lines, .*b.jsonl has 1: without"),
        (((1,), (0, 1)), ("x", "y"), "prompt 2 has 1 instructions in .*, 2 in"),
        (((1,), (1,)), ("x", "x"), "1 prompts are there twice"),
        (((1,), (1,), (1,)), ("x", "y", "z"), "1 prompts of .* are missing"),
        (((),), (), "b.jsonl:1: expected 'follow_instruction_list'"),
        ((), (), "holds no verdicts"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, rows, prompts, message):
    better = verdicts(tmp_path / "a.jsonl", (1,), (0,), prompts=("x", "y"))
    worse = verdicts(tmp_path / "b.jsonl", *rows, prompts=prompts)
    with pytest.raises(ValueError, match=message):
        compare(better, worse)


@pytest.mark.parametrize(
    ("better", "worse", "number", "share", "all_followed"),
    [
        ("32B", "0.5B", (359, 13), "0.965", (312, 13)),
        ("7B", "1.5B", (246, 25), "0.908", (212, 18)),
    ],
)
def test_larger_models_follow_more_instructions(
    shared_data, capsys, better, worse, number, share, all_followed
):
    """Recorded answers to IFEval's 541 prompts, by the verdicts that came with them;
    for measuring only."""
    folder = shared_data / "m_ifeval" / "results_strict"
    paths = [
        str(folder / f"Qwen__Qwen2.5-{size}-Instruct-GPTQ-Int4.jsonl.gz")
        for size in (better, worse)
    ]
    found = compare(*map(Path, paths))
    assert found.number[:2] == number
    assert found.all[:2] == all_followed
    assert sum(found.all[:4]) == sum(found.number[:4]) == 541
    assert cli.main(["accuracy", *paths]) == 0
    printed = capsys.readouterr().out
    assert f"number followed: {number[0]} won, {number[1]} lost" in printed
    assert f": {share} (" in printed
