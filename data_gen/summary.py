# SPDX-License-Identifier: Apache-2.0
"""Summary: a run in numbers (report.json), and the same as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from alignjax.data.records import ROLES
from data_gen.records import Example, Rejected
from data_gen.store import Usage
from data_gen.strategies import Stages, coin, ecd, popalign, self_contrast

if TYPE_CHECKING:
    from rich.console import Console

_STAGES = {
    ecd.NAME: ecd.STAGES,
    self_contrast.NAME: self_contrast.STAGES,
    **dict.fromkeys(popalign.STRATEGIES.values(), popalign.STAGES),
    coin.NAME: coin.STAGES,
}


def build(
    examples: Sequence[Example],
    rejected: Sequence[Rejected],
    stages: Stages,
    prompts: Sequence[Mapping[str, Any]],
    *,
    effort: Mapping[str, float],
    usage: Mapping[str, Usage],
) -> dict[str, Any]:
    """The content of report.json.

    Args:
      examples: what was exported.
      rejected: what was not.
      stages: how many got how far.
      prompts: held-out evaluation prompts.
      effort: samples, tokens and wall_s of all sessions, from the store.
      usage: what servers did in them, by the engine's name.
    """
    ordered = sorted(examples, key=lambda example: example.id)
    negatives = [negative for example in ordered for negative in example.negatives]
    chosen = [example.chosen for example in ordered]
    evolved = [example for example in ordered if example.strategy == ecd.NAME]
    contrasts = [e for e in ordered if e.strategy == self_contrast.NAME]
    wall_s = effort["wall_s"]
    return {
        "waterfall": _waterfall(stages),
        "rejected": _counted(item.reason for item in rejected),
        "pairs": len(ordered),
        "negatives": len(negatives),
        "prompts": len(prompts),
        "by_strategy": _counted(example.strategy for example in ordered),
        "by_split": _counted(example.split for example in ordered),
        "by_type": _counted(ecd.newest_type(example) for example in evolved),
        "chosen_kinds": {
            kind: sum(response.kind == kind for response in chosen)
            for kind in ("sample", "witness", "given")
        },
        "hardness": [
            negative["hardness"]
            for example in evolved
            for negative in example.proof["negatives"]
        ],
        "lengths": {
            # Tokens are known of sampled answers only; words of all.
            "chosen_tokens": [len(r.token_ids) for r in chosen if r.token_ids],
            "rejected_tokens": [len(n.token_ids) for n in negatives if n.token_ids],
            "chosen_words": [len(r.text.split()) for r in chosen],
            "rejected_words": [len(n.text.split()) for n in negatives],
        },
        "cosines": _cosines(contrasts),
        "contrast_accuracy": popalign.measured(stages),
        **_couples([e for e in ordered if e.strategy == coin.NAME]),
        "samples": int(effort["samples"]),
        "tokens": int(effort["tokens"]),
        "tokens_per_s": effort["tokens"] / wall_s if wall_s else 0.0,
        "wall_s": wall_s,
        "servers": {name or "default": asdict(usage[name]) for name in sorted(usage)},
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print a report as tables."""
    from rich.table import Table

    steps = Table(title="How far it got", title_justify="left")
    steps.add_column("strategy")
    steps.add_column("round", justify="right")
    steps.add_column("stage")
    steps.add_column("count", justify="right")
    for row in report["waterfall"]:
        cells = (row["strategy"], row["round"], row["stage"], row["count"])
        steps.add_row(*map(str, cells))
    console.print(steps)
    titles = {
        "rejected": "Dropped, by reason",
        "by_type": "Pairs, by newest constraint",
        "by_split": "Pairs, by split",
        "chosen_kinds": "Preferred answers, by kind",
        "couples_by_level": "Couples, by level",
        "couples_by_source": "Couples, by source of instance i",
    }
    for field, title in titles.items():
        if any(report.get(field, {}).values()):
            console.print(_counts(title, report[field]))
    if report.get("contrast_accuracy"):
        console.print(_accuracies(report["contrast_accuracy"]))
    words = report["lengths"]
    console.print(
        f"{report['pairs']} pairs with {report['negatives']} negatives, "
        f"{report['prompts']} evaluation prompts; "
        f"words: {_mean(words['chosen_words']):.0f} preferred, "
        f"{_mean(words['rejected_words']):.0f} rejected"
    )
    console.print(
        f"{report['samples']} samples, {report['tokens']} tokens in "
        f"{report['wall_s']:.0f} s ({report['tokens_per_s']:.0f} tokens/s)"
    )
    for name, usage in report.get("servers", {}).items():
        console.print(
            f"engine {name}: {usage['samples']} samples in {usage['attempts']} "
            f"requests, {usage['prompt_tokens']} tokens sent, "
            f"{usage['completion_tokens']} received, cost {usage['cost']:.4g}",
            markup=False,
        )


def _waterfall(stages: Stages) -> list[dict[str, Any]]:
    def place(key: tuple[str, int, str]) -> tuple[str, int, int]:
        strategy, round_number, stage = key
        return strategy, round_number, _STAGES[strategy].index(stage)

    return [
        {"strategy": key[0], "round": key[1], "stage": key[2], "count": stages[key]}
        for key in sorted(stages, key=place)
    ]


def _cosines(contrasts: Sequence[Example]) -> dict[str, list[float]]:
    """Cosine to the target of every distinct sample, by what became of it."""
    found: dict[str, list[float]] = {"kept": [], "unused": [], "dropped": []}
    for example in contrasts:
        proof = example.proof
        used = {negative.generation for negative in example.negatives}
        for name, cosine in sorted(proof["cosines"].items()):
            is_left = name in proof["order"]
            fate = "kept" if name in used else "unused" if is_left else "dropped"
            found[fate].append(cosine)
    return found


def _couples(examples: Sequence[Example]) -> dict[str, Any]:
    """CoIN's couples by level and by source, and the cosines of their paraphrases by
    level; nothing where there are none."""
    if not examples:
        return {}
    ours = [example for example in examples if example.role == ROLES[0]]
    cosines: dict[str, list[float]] = {}
    for example in ours:
        if example.proof["cosine"] is not None:
            cosines.setdefault(example.proof["level"], []).append(
                example.proof["cosine"]
            )
    return {
        "couples_by_level": _counted(e.proof["level"] for e in ours),
        "couples_by_source": _counted(e.provenance["source"] for e in ours),
        "couples_cosines": cosines,
    }


def _counted(names: Any) -> dict[str, int]:
    counts = Counter(names)
    return {name: counts[name] for name in sorted(counts)}


def _counts(title: str, counts: Mapping[str, int]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(name, str(count))
    return table


def _accuracies(rows: Sequence[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(
        title="How often the preferred answer is the better one", title_justify="left"
    )
    for name in ("strategy", "oracle"):
        table.add_column(name)
    for name in ("won", "lost", "tied", "undecided", "accuracy, 95 % interval"):
        table.add_column(name, justify="right")
    for row in rows:
        share = "-"
        if row["accuracy"] is not None:
            share = f"{row['accuracy']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        oracle = f"{row['oracle']} (weak)" if row["is_weak"] else row["oracle"]
        counts = (str(row[name]) for name in ("won", "lost", "tied", "undecided"))
        table.add_row(row["strategy"], oracle, *counts, share)
    return table


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
