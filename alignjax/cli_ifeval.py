# SPDX-License-Identifier: Apache-2.0
"""The command `alignjax eval ifeval`: its options, files and tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignjax.eval.ifeval import Verdict

EXAMPLES = """\
INPUT_DATA.jsonl is the benchmark's file of prompts:
  {"key": 1, "prompt": "...", "instruction_id_list": ["punctuation:no_comma"],
   "kwargs": [{}]}
FILE.jsonl holds an answer a line, matched by its prompt; null counts as failed:
  {"prompt": "...", "response": "..."}

DIR/verdicts.jsonl has a line for each answer, in their order: strict verdicts in
follow_instruction_list, loose ones in follow_instruction_list_loose. DIR/summary.json
has the accuracies. With --against, also DIR/verdicts_against.jsonl, and the contrast
accuracy: how often the answer in --responses is the better one, of the times that the
two differ. Verdicts of another checker, in follow_instruction_list of the answers'
lines, are compared with these.

examples:
  alignjax eval ifeval --prompts input_data.jsonl --responses answers.jsonl --out scores
  alignjax eval ifeval --prompts input_data.jsonl --responses large.jsonl \\
    --against small.jsonl --out scores/contrast
"""
_CONTRASTS = {
    "more_followed": "follows more instructions",
    "all_followed": "follows all instructions",
}
_WIDTH = 48  # of the longest instruction id, indented


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `alignjax eval ifeval`."""
    parser.add_argument(
        "--prompts",
        required=True,
        type=Path,
        metavar="INPUT_DATA.jsonl",
        help="IFEval's prompts",
    )
    parser.add_argument(
        "--responses",
        required=True,
        type=Path,
        metavar="FILE.jsonl",
        help="answers to score",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE.jsonl",
        help="answers that should be worse",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for the results"
    )


def run(arguments: argparse.Namespace) -> int:
    """Scores the answers, writes the files and prints the tables."""
    from alignjax import json_file, whole_file
    from alignjax.eval import ifeval

    # All files are read, and all mistakes told, before anything is judged or written.
    prompts = ifeval.read_prompts(arguments.prompts)
    answers = ifeval.read_answers(arguments.responses, prompts)
    others = arguments.against and ifeval.read_answers(arguments.against, prompts)
    verdicts = ifeval.score(prompts, answers)
    summary = _summary(prompts, verdicts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = ifeval.lines(verdicts)
    whole_file.write_pieces(arguments.out / "verdicts.jsonl", lines)
    if others:
        against = ifeval.score(prompts, others)
        lines = ifeval.lines(against)
        whole_file.write_pieces(arguments.out / "verdicts_against.jsonl", lines)
        summary["against"] = _summary(prompts, against)
        summary["contrast"] = ifeval.compare(verdicts, against)
        if "recorded" in summary and "recorded" in summary["against"]:
            recorded = ifeval.compare_recorded(verdicts, against)
            summary["contrast_recorded"] = recorded
    json_file.write(arguments.out / "summary.json", summary)
    _print(summary)
    print(f"verdicts: {arguments.out / 'verdicts.jsonl'}")
    return 0


def _summary(prompts: Sized, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    from alignjax.eval import ifeval

    found = ifeval.summary(verdicts)
    found["unanswered"] = len(prompts) - len(verdicts)
    recorded = ifeval.agreement(verdicts)
    return {**found, "recorded": recorded} if recorded["n"] else found


def _print(summary: dict[str, Any]) -> None:
    strict, loose = summary["strict"], summary["loose"]
    print(f"{'':{_WIDTH}} {'strict':>6} {'loose':>6} {'n':>5}")
    for level in ("prompt_level", "instruction_level"):
        _row(level.replace("_", " "), strict[level], loose[level])
    for name, share in strict["types"].items():
        _row(f"  {name}", share, loose["types"][name])
    for count, text in (
        (summary["no_response"], "empty answers, which count as failed"),
        (summary["unanswered"], "prompts without an answer, which do not count"),
    ):
        if count:
            print(f"{count} {text}")
    if "recorded" in summary:
        found = summary["recorded"]
        of = f"{found['agree']} of {found['n']} strict verdicts"
        print(f"{of} are those recorded in the file")
    for name, found in summary.get("contrast", {}).items():
        _contrast(_CONTRASTS[name], found)
    for name, found in summary.get("contrast_recorded", {}).items():
        _contrast(f"{_CONTRASTS[name]}, as recorded", found)


def _contrast(text: str, found: dict[str, Any]) -> None:
    low, high = found["interval_95"]
    share = "none" if found["accuracy"] is None else f"{found['accuracy']:.3f}"
    print(
        f"contrast accuracy, {text}: {share} (95 % interval, Wilson: {low:.3f} to "
        f"{high:.3f}; {found['wins']} wins, {found['losses']} losses, {found['ties']} "
        "ties)"
    )


def _row(name: str, strict: dict[str, Any], loose: dict[str, Any]) -> None:
    shares = f"{strict['accuracy']:6.3f} {loose['accuracy']:6.3f}"
    print(f"{name:{_WIDTH}} {shares} {strict['n']:5}")
