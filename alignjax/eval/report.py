# SPDX-License-Identifier: Apache-2.0
"""The report of a run: its numbers in report.json, and the same as one HTML page."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignjax import whole_file
from alignjax.eval import page, run_files
from alignjax.eval.run_files import Row, Run, Source

FORMAT = "alignjax-report/1"
_POINTS = 300  # most points of a curve; longer runs are averaged
_BINS = 24  # about so many in a histogram
_ACCURACIES = {
    "constraint_accuracy": "constraint accuracy",
    "gated_constraint_accuracy": "constraint accuracy with the gates",
    "preference_accuracy": "preference accuracy",
}

# From where on a number is worth a warning.
_SHORT = 0.6  # mean answer length, after / before
_LOGPROB_FALL = 0.2  # of the preferred answers' log-probability, relative
_CLEAR_GAIN = 0.02  # of accuracy, from where on its parts are compared
_TYPE_FALL = 0.2  # of the accuracy of one type of constraint
_GATED_PART = 0.6  # of that gain that is left with the gates
_WITNESSES = 0.5  # share of preferred answers that are edits
_TRUNCATED = 0.2  # share of answers cut off at the length limit
_OWN_TASK = 0.95  # least share of the untrained model's answers that the gates pass
_OTHER_TASK = 0.05  # most, of its answers to another task


def write_report(run: Path, out: Path, *, samples: int = 12) -> dict[str, Any]:
    """Writes the page to `out`, and its numbers beside it with the suffix .json.

    Args:
      run: a run's folder. What it does not hold is shown as not part of the run.
      out: path of the page, ending in .html.
      samples: at most so many prompts are shown with their answers.

    Returns:
      The numbers; see `collect`.

    Raises:
      ValueError: `run` holds nothing to report, or a file is damaged; names the file
        and the line or field.
    """
    if out.suffix != ".html":
        raise ValueError(f"{out}: the report is an HTML page; end its name in .html")
    found = run_files.read(run)
    shown = page.choose(found.before.answers, found.after.answers, samples)
    report = collect(found)
    report["samples"] = [sample.id for sample in shown]
    html = page.render(report, shown)
    numbers = json.dumps(report, indent=2, allow_nan=False) + "\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    whole_file.write(out, html)
    whole_file.write(out.with_suffix(".json"), numbers)
    return report


def collect(run: Run) -> dict[str, Any]:
    """The numbers of the report; None, or empty, for what is not part of the run.

    A number that was measured twice is {"before", "after", "change"}; shares and
    accuracies are in [0, 1], log-probabilities and margins in nats.
    """
    before, after, data = run.before.results, run.after.results, run.data
    evaluated = run.after if run.after.results.content else run.before
    results = evaluated.results
    shared = [name for name in run.after.answers if name in run.before.answers]
    pairs = [(run.before.answers[name], run.after.answers[name]) for name in shared]
    facts = {**results.content, **run.pipeline.content}
    kinds = data.counts("chosen_kinds")

    def both(*names: str) -> dict[str, Any]:
        return _both(before.number(*names), after.number(*names))

    report: dict[str, Any] = {
        "format": FORMAT,
        "run": run.name,
        "model": facts.get("model"),
        "seed": facts.get("seed"),
        "split": facts.get("split"),
        "prompts": results.number("constraint", "n"),
        "tasks": len({row["root_id"] for row in evaluated.answers.values()}) or None,
        "constraint_accuracy": {
            **both("constraint", "accuracy"),
            "interval": _interval(pairs, run_files.passes),
        },
        "gated_constraint_accuracy": {
            **both("constraint", "gated_accuracy"),
            "interval": _interval(pairs, run_files.passes_gated),
        },
        "preference_accuracy": both("preference", "accuracy"),
        "preference_margin": both("preference", "margin"),
        "preference_pairs": results.number("preference", "n"),
        "chosen_logprob": both("preference", "chosen_logprob"),
        "rejected_logprob": both("preference", "rejected_logprob"),
        "mean_response_tokens": both("length", "mean_tokens"),
        "truncated": both("truncated"),
        "ambiguous": both("constraint", "ambiguous"),
        "changes": dict(Counter(run_files.change(*pair) for pair in pairs)) or None,
        "by_type": _by_type(run),
        "gates": _gates(results),
        "answer_length": _histogram(
            {
                "before": before.numbers("length", "tokens"),
                "after": after.numbers("length", "tokens"),
            },
            least=1,
        ),
        "pairs": (data if data.content else run.training).number("pairs"),
        "witness_share": _share(kinds.get("witness", 0), sum(kinds.values())),
        "data": _data(run),
        "training": _training(run),
        "wall_s": run.pipeline.number("wall_s"),
        "stages": {},
        "commands": {},
    }
    columns = {"name": str, "command": str, "wall_s": (int, float)}
    for stage in run.pipeline.table("stages", columns):
        report["stages"][stage["name"]] = stage["wall_s"]
        report["commands"][stage["name"]] = stage["command"]
    report["warnings"] = [*_numbers_that_look_bad(report), *_broken_comparisons(run)]
    return report


def summary_lines(report: Mapping[str, Any]) -> list[str]:
    """The report for a terminal; ASCII but for names from the run."""
    lines = []
    for card in page.cards(report):
        if card.before is not None or card.after is not None:
            values = f"{card.before_text:>12} -> {card.after_text:<12}"
            line = f"{card.label.lower():<30}{values} {card.difference}"
            line += f" ({card.note})" if card.note else ""
            lines.append(line.replace("−", "-").replace("–", "-").rstrip())
    if report["pairs"] is not None:
        lines.append(f"{'pairs, all splits':<30}{report['pairs']:>12,}")
    if report["wall_s"] is not None:
        slowest = sorted(report["stages"].items(), key=lambda stage: -stage[1])[:3]
        names = ", ".join(f"{name} {page.duration(wall_s)}" for name, wall_s in slowest)
        lines.append(f"{'time':<30}{page.duration(report['wall_s']):>12}    {names}")
    return lines + [f"warning: {text}" for text in report["warnings"]]


def _both(before: float | None, after: float | None) -> dict[str, Any]:
    change = None
    if before is not None and after is not None:
        change = round(after - before, 9)
    return {"before": before, "after": after, "change": change}


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _interval(
    pairs: Sequence[tuple[Row, Row]], judge: Callable[[Row], bool]
) -> list[float] | None:
    """95 % interval of the change in the share that `judge` accepts.

    The prompts of one task are not independent, so tasks are the draws: the variance
    of the mean change over n prompts of C tasks is C / (C - 1) times the sum of the
    tasks' squared summed deviations, over n^2 (Liang and Zeger 1986).
    """
    by_task: dict[str, list[int]] = defaultdict(list)
    for old, new in pairs:
        by_task[new["root_id"]].append(judge(new) - judge(old))
    tasks = len(by_task)
    if tasks < 2:
        return None
    mean = sum(map(sum, by_task.values())) / len(pairs)
    squares = sum((sum(d) - mean * len(d)) ** 2 for d in by_task.values())
    error = math.sqrt(squares * tasks / (tasks - 1)) / len(pairs)
    low, high = mean - 1.96 * error, mean + 1.96 * error
    return [round(max(low, -1.0), 6), round(min(high, 1.0), 6)]


def _by_type(run: Run) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    fields = ("n", "before", "after", "gated_before", "gated_after")
    for when, evaluation in (("before", run.before), ("after", run.after)):
        for name in evaluation.results.mapping("constraint", "by_type"):
            counts = evaluation.results.counts("constraint", "by_type", name)
            entry = table.setdefault(name, dict.fromkeys(fields))
            entry["n"] = counts.get("n", 0)
            entry[when] = _share(counts.get("passed", 0), entry["n"])
            entry[f"gated_{when}"] = _share(counts.get("gated_passed", 0), entry["n"])
    return dict(sorted(table.items()))


def _gates(results: Source) -> dict[str, Any] | None:
    if not results.content:
        return None
    rates = ("own_task_pass_rate", "other_task_pass_rate", "n_own", "n_other")
    numbers = {name: results.number("gates", name) for name in rates}
    return {"thresholds": results.mapping("gates", "thresholds"), **numbers}


def _data(run: Run) -> dict[str, Any]:
    columns = {"strategy": str, "round": int, "stage": str, "count": int}
    lengths = ("chosen", "rejected")
    is_told = run.data.content.get("cosines") or {}
    cosines = {
        fate: run.data.numbers("cosines", fate)
        for fate in ("kept", "unused", "dropped")
        if fate in is_told
    }
    words = {
        name: run.data.numbers("lengths", f"{name}_words")
        for name in lengths
        if f"{name}_words" in run.data.mapping("lengths")
    }
    similarity = _histogram(cosines)
    if similarity:
        similarity["cut"] = (
            run.data.number("cosines", "cut") if "cut" in is_told else None
        )
    return {
        "waterfall": run.data.table("waterfall", columns),
        "rejected": run.data.counts("rejected"),
        "by_strategy": run.data.counts("by_strategy"),
        "chosen_kinds": run.data.counts("chosen_kinds"),
        "pair_length": _histogram(words, least=1),
        "cosines": similarity,
    }


def _histogram(
    series: Mapping[str, Sequence[float]], *, least: float = 0.0
) -> dict[str, Any] | None:
    """Counts per bin and the means. Bins have a round width (1, 2 or 5 times a power
    of ten) of `least` or more; a value on an edge belongs to the bin above it."""
    series = {name: values for name, values in series.items() if values}
    if not series:
        return None
    low = min(map(min, series.values()))
    high = max(map(max, series.values()))
    rough = max((high - low) / _BINS, least, 1e-6) * (1 - 1e-9)
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)

    def place(value: float) -> int:
        return math.floor(value / width + 1e-9)

    first, last = place(low), place(high)
    counts = {name: [0] * (last - first + 1) for name in series}
    for name, values in series.items():
        for value in values:
            counts[name][place(value) - first] += 1
    return {
        "edges": [round(i * width, 9) for i in range(first, last + 2)],
        "counts": counts,
        "means": {name: sum(values) / len(values) for name, values in series.items()},
    }


def _training(run: Run) -> dict[str, Any]:
    """The summary, the speed, and the curves as means of equally long stretches."""
    rows = run.metrics
    size = math.ceil(len(rows) / _POINTS) or 1
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]

    def mean(name: str, part: Sequence[Row]) -> float | None:
        values = [row[name] for row in part if row.get(name) is not None]
        return sum(values) / len(values) if values else None

    names = [n for n in run_files.CURVES if any(n in row for row in rows)]
    timed = [row for row in rows if row.get("tokens") and row.get("step_s")]
    seconds = sum(row["step_s"] for row in timed)
    curves = {name: [mean(name, part) for part in parts] for name in ("step", *names)}
    return {
        "summary": run.training.content,
        "tokens_per_s": _share(sum(row["tokens"] for row in timed), seconds),
        "curves": curves if rows else {},
    }


def _numbers_that_look_bad(report: Mapping[str, Any]) -> Iterator[str]:
    for name, words in _ACCURACIES.items():
        change = report[name]["change"]
        if change is not None and change < 0:
            yield f"{words} fell by {-100 * change:.1f} points"
    raw = report["constraint_accuracy"]["change"] or 0.0
    gated = report["gated_constraint_accuracy"]["change"] or 0.0
    if raw >= _CLEAR_GAIN and gated < _GATED_PART * raw:
        yield (
            f"{100 * raw:.1f} points were gained, but only {100 * gated:.1f} with the "
            "gates: part of the gain is text that is no longer an answer"
        )
    worse = [
        f"{name} {100 * entry['before']:.0f} % to {100 * entry['after']:.0f} %"
        for name, entry in report["by_type"].items()
        if None not in (entry["before"], entry["after"])
        and entry["before"] - entry["after"] >= _TYPE_FALL
    ]
    if worse:
        yield f"types of constraint that are met less often: {', '.join(worse)}"
    tokens = report["mean_response_tokens"]
    if tokens["change"] is not None and tokens["after"] < _SHORT * tokens["before"]:
        yield (
            f"answers became much shorter: {tokens['after']:.1f} tokens on average, "
            f"{tokens['before']:.1f} before"
        )
    logprob = report["chosen_logprob"]
    fall = -(logprob["change"] or 0.0)
    if fall > 0 and fall > _LOGPROB_FALL * abs(logprob["before"]):
        yield (
            "preferred answers became much less likely: log p is "
            f"{logprob['after']:.1f} nats, {logprob['before']:.1f} before"
        )
    truncated = report["truncated"]["after"]
    if truncated is not None and truncated > _TRUNCATED:
        yield f"{100 * truncated:.0f} % of the answers were cut off at the length limit"
    edits = report["witness_share"] or 0.0
    if edits > _WITNESSES:
        yield (
            f"{100 * edits:.0f} % of the preferred answers are edits, not the model's "
            "own samples"
        )
    if report["gates"]:
        own = report["gates"]["own_task_pass_rate"] or 0.0
        other = report["gates"]["other_task_pass_rate"] or 0.0
        if own < _OWN_TASK or other > _OTHER_TASK:
            yield (
                f"the gates pass {100 * own:.1f} % of the untrained model's answers to "
                f"the task (at least {100 * _OWN_TASK:.0f} % wanted) and "
                f"{100 * other:.1f} % of those to another task (at most "
                f"{100 * _OTHER_TASK:.0f} %)"
            )


def _broken_comparisons(run: Run) -> Iterator[str]:
    first, second = run.before, run.after
    for evaluation in (first, second):
        rows = list(evaluation.answers.values())
        told = evaluation.results.number("constraint", "accuracy")
        if rows and told is not None:
            counted = sum(map(run_files.passes, rows)) / len(rows)
            if abs(counted - told) > 1e-6:
                folder = evaluation.results.path.parent.name
                yield (
                    f"{folder}: results.json says accuracy {told:.4f}, answers.jsonl "
                    f"{counted:.4f}; they are not of one evaluation"
                )
    if not (first.results.content and second.results.content):
        return
    for name in ("model", "split", "seed"):
        told = [evaluation.results.content.get(name) for evaluation in (first, second)]
        if told[0] != told[1]:
            yield f"before and after differ in {name}: {told[0]!r} and {told[1]!r}"
    if first.answers.keys() != second.answers.keys():
        yield "before and after were measured on different prompts"
