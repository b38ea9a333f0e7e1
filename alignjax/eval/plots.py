# SPDX-License-Identifier: Apache-2.0
"""Plots of a run report: an inline SVG with a caption, and its numbers as a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alignjax.eval.svg import COLOURS, style, subplots, to_svg

Value = float | int | None
Curves = Mapping[str, Sequence[Any]]  # a value, or None, per step

_TABLE_ROWS = 20
_LEGEND = {"loc": "outside upper right", "ncols": 3, "columnspacing": 1.2}

# What a stage of data_gen counts, in words.
_STAGES = {
    "tasks": "tasks",
    "answered": "answered well",
    "constrained": "constraint found",
    "sampled": "a sample passes",
    "witness": "only an edit passes",
    "pairs": "pairs",
    "exported": "kept",
    "targets": "target found",
    "distinct": "distinct samples",
    "dissimilar": "samples left by the cut",
}
_PARTS = {"sampled", "witness", "distinct", "dissimilar"}  # no steps of the funnel


class Plot(NamedTuple):
    """A figure of the page; `header` and `rows` are the table below it."""

    title: str
    caption: str
    svg: str
    header: list[str]
    rows: list[list[str]]


class Line(NamedTuple):
    """One curve: its label, its colour's name, a value (or None) per step."""

    label: str
    colour: str
    values: Sequence[Value]


class Panel(NamedTuple):
    """One plot of curves; `level` is a value to compare them with."""

    ylabel: str
    lines: list[Line]
    level: float | None = None
    level_label: str = ""


def draw(report: Mapping[str, Any]) -> dict[str, Plot | None]:
    """All plots of a report; None where it has no numbers for one."""
    with style():
        return {
            "waterfall": _waterfall(report["data"]["waterfall"]),
            "by_type": _by_type(report["by_type"], ""),
            "gated_by_type": _by_type(report["by_type"], "gated_"),
            "loss": _losses(report["training"]["curves"]),
            "margin": _margins(report["training"]["curves"]),
            "logprobs": _logprobs(report["training"]["curves"]),
            "answer_length": _answer_lengths(report["answer_length"]),
            "pair_length": _pair_lengths(report["data"]["pair_length"]),
            "cosines": _cosines(report["data"]["cosines"]),
        }


def _waterfall(rows: Sequence[Mapping[str, Any]]) -> Plot | None:
    if not rows:
        return None
    columns = ["strategy", "round", "stage", "count"]
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    groups = [[row for row in rows if row["strategy"] == name] for name in strategies]
    figure, drawn = subplots(
        [0.9 + len(group) for group in groups], 0.25 * len(rows) + 0.5 * len(groups)
    )
    for axes, name, group in zip(drawn, strategies, groups, strict=True):
        counts = [row["count"] for row in group]
        is_part = [row["stage"] in _PARTS for row in group]
        colours = [COLOURS["part" if part else "after"] for part in is_part]
        bars = axes.barh(range(len(group)), counts, height=0.72, color=colours)
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=4)
        axes.set_yticks(range(len(group)), [_stage(row) for row in group])
        axes.set_ylim(len(group) - 0.4, -0.6)
        axes.set_xlim(0, 1.12 * max([1, *counts]))
        axes.set_title(_label(name), loc="left", fontsize=12, fontweight="bold")
        axes.grid(False)
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
    return Plot(
        "From tasks to training pairs",
        "Each bar is the number of items that got this far, on a scale of its own for "
        "each strategy; strong bars count tasks and pairs, faint ones say how a pair "
        "came about (its preferred answer a sample or an edit) or count samples.",
        to_svg(figure, "waterfall"),
        columns,
        [[str(row[column]) for column in columns] for row in rows],
    )


def _stage(row: Mapping[str, Any]) -> str:
    words = _STAGES.get(row["stage"], _label(row["stage"]))
    return f"round {row['round']}: {words}" if row["round"] else words


def _by_type(by_type: Mapping[str, Mapping[str, Any]], prefix: str) -> Plot | None:
    """Paired dots; `prefix` is "" or "gated_"."""
    found = {name: entry for name, entry in by_type.items() if entry["n"]}
    if not found:
        return None
    # Both plots in one order, so that the eye can go from one to the other.
    names = sorted(
        found,
        key=lambda n: (-(found[n]["after"] or 0), -(found[n]["before"] or 0), n),
    )
    before = [_percent(found[name][f"{prefix}before"]) for name in names]
    after = [_percent(found[name][f"{prefix}after"]) for name in names]
    pairs = list(zip(before, after, strict=True))
    figure, (axes,) = subplots([1], 0.235 * len(names) + 1.1)
    for row, (old, new) in enumerate(pairs):
        colour = COLOURS["worse" if new < old else "after"]
        axes.plot([old, new], [row, row], color=colour, linewidth=2.2, zorder=2)
    series = {
        "before": (dict(enumerate(before)), COLOURS["before"], COLOURS["paper"]),
        "after": (
            {row: new for row, (old, new) in enumerate(pairs) if not new < old},
            *2 * (COLOURS["after"],),
        ),
        "after, and lower": (
            {row: new for row, (old, new) in enumerate(pairs) if new < old},
            *2 * (COLOURS["worse"],),
        ),
    }
    for label, (dots, edge, face) in series.items():
        if not all(map(math.isnan, dots.values())):
            look = {"s": 46, "linewidths": 1.6, "zorder": 3, "clip_on": False}
            look |= {"color": face, "edgecolors": edge, "label": label}
            axes.scatter(list(dots.values()), list(dots), **look)
    axes.set_yticks(
        range(len(names)), [f"{_label(n)} ({found[n]['n']})" for n in names]
    )
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 25))
    axes.tick_params(left=False, top=True, labeltop=len(names) > 12)
    axes.set_xlabel(f"answers that pass {'and the gates ' if prefix else ''}(%)")
    figure.legend(**_LEGEND)
    return Plot(
        "With the gates" if prefix else "Constraint met",
        "Each line goes from the share of answers that meet this type of constraint "
        + ("and pass all gates " if prefix else "")
        + "before training (ring) to the share after it (dot), in % of the prompts "
        "whose number is in brackets"
        + ("; same order as the plot of all answers." if prefix else "."),
        to_svg(figure, f"{prefix}type"),
        ["type", "prompts", "before (%)", "after (%)"],
        [
            [name, str(found[name]["n"]), _text(old, 1), _text(new, 1)]
            for name, (old, new) in zip(names, pairs, strict=True)
        ],
    )


def _losses(curves: Curves) -> Plot | None:
    panels = {
        "loss": Panel("loss", [], None),
        "dpo": Panel("DPO (nats / pair)", [], math.log(2), "ln 2: no preference"),
        "nll": Panel("NLL (nats / token)", []),
        "nll_paraphrase": Panel("NLL, paraphrase\n(nats / token)", []),
        "contrastive": Panel("contrastive\n(nats / example)", []),
    }
    drawn = [
        panel._replace(lines=[Line("", "after", curves[name])])
        for name, panel in panels.items()
        if name in curves
    ]
    caption = (
        "The loss is what the optimiser lowers, a weighted sum of the terms below it; "
        "thin lines are single steps, thick ones their moving mean."
    )
    return _curves("Loss and its terms", caption, "loss", curves, drawn, [*panels])


def _margins(curves: Curves) -> Plot | None:
    panels = []
    if "margin" in curves:
        line = Line("", "after", curves["margin"])
        panels.append(Panel("margin\n(β × nats)", [line], 0.0))
    if "accuracy" in curves:
        shares = [None if v is None else 100 * v for v in curves["accuracy"]]
        line = Line("", "after", shares)
        panels.append(Panel("pairs in the right\norder (%)", [line], 50.0, "chance"))
    title = "Margin and accuracy on training pairs"
    caption = (
        "The margin is how much more than the untrained model the policy favours the "
        "preferred answer; a pair counts as right where that is above zero."
    )
    return _curves(title, caption, "margin", curves, panels, ["margin", "accuracy"])


def _logprobs(curves: Curves) -> Plot | None:
    names = {"chosen_logprob": "preferred", "rejected_logprob": "rejected"}
    lines = [
        Line(label, name.split("_")[0], curves[name])
        for name, label in names.items()
        if name in curves
    ]
    panels = [Panel("log p of the answer\n(nats, mean)", lines)] if lines else []
    caption = (
        "The gap should widen because rejected answers become less likely, not because "
        "preferred ones fall more slowly: the upper line should stay level or rise."
    )
    title = "How likely the answers are"
    return _curves(title, caption, "logprobs", curves, panels, [*names])


def _curves(
    title: str,
    caption: str,
    name: str,
    curves: Curves,
    panels: Sequence[Panel],
    columns: Sequence[str],
) -> Plot | None:
    if not panels:
        return None
    steps = curves["step"]
    height = 2.7 if len(panels) == 1 else 0.5 + 1.35 * len(panels)
    figure, drawn = subplots([1] * len(panels), height, is_shared=True)
    window = max(1, len(steps) // 20)
    for axes, panel in zip(drawn, panels, strict=True):
        for line in panel.lines:
            values = [math.nan if v is None else v for v in line.values]
            colour = COLOURS[line.colour]
            axes.plot(steps, values, color=colour, linewidth=0.9, alpha=0.4)
            smooth = _moving_mean(values, window)
            axes.plot(steps, smooth, color=colour, linewidth=2.2, label=line.label)
        if panel.level is not None:
            muted = {"color": COLOURS["muted"]}
            axes.axhline(panel.level, linewidth=1, dashes=(4, 3), **muted)
            place = {"xycoords": ("axes fraction", "data"), "ha": "right"}
            offset = {"xytext": (0, 3), "textcoords": "offset points"}
            axes.annotate(
                panel.level_label, (1, panel.level), **place, **offset, **muted
            )
        axes.set_ylabel(panel.ylabel)
        axes.margins(x=0.01)
        axes.locator_params(axis="y", nbins=4)
        if len(panel.lines) > 1:
            figure.legend(**_LEGEND)
    drawn[-1].set_xlabel("optimiser step")
    columns = [column for column in columns if column in curves]
    rows = [
        [f"{steps[i]:.0f}", *(_text(curves[column][i], 4) for column in columns)]
        for i in _spread(len(steps), _TABLE_ROWS)
    ]
    return Plot(title, caption, to_svg(figure, name), ["step", *columns], rows)


def _answer_lengths(bins: Mapping[str, Any] | None) -> Plot | None:
    return _shares(
        "Length of the answers",
        "Bars show which share of the answers has this many tokens; dashed lines are "
        "the means.",
        "answers",
        bins,
        {"before": "before", "after": "after"},
        "tokens in the answer",
    )


def _pair_lengths(bins: Mapping[str, Any] | None) -> Plot | None:
    return _shares(
        "Length of the training answers",
        "If the two means lie apart, length alone tells preferred from rejected, and "
        "the model may learn length instead of the constraint.",
        "pairs",
        bins,
        {"chosen": "preferred", "rejected": "rejected"},
        "words in the answer",
    )


def _shares(
    title: str,
    caption: str,
    name: str,
    bins: Mapping[str, Any] | None,
    labels: Mapping[str, str],
    xlabel: str,
) -> Plot | None:
    """Overlaid histograms, each in % of its own total."""
    if bins is None:
        return None
    figure, (axes,) = subplots([1], 2.7)
    counts = {key: bins["counts"][key] for key in labels if key in bins["counts"]}
    for key, values in counts.items():
        shares = [100 * value / sum(values) for value in values]
        colour = COLOURS[key]
        axes.stairs(shares, bins["edges"], fill=True, color=colour, alpha=0.22)
        axes.stairs(
            shares, bins["edges"], color=colour, linewidth=1.6, label=labels[key]
        )
        axes.axvline(bins["means"][key], color=colour, linewidth=1.6, dashes=(4, 3))
    axes.set_xlabel(xlabel)
    axes.locator_params(axis="x", integer=True)
    axes.set_ylabel("share of answers (%)")
    axes.set_ylim(bottom=0)
    figure.legend(**_LEGEND)
    means = ["mean", *(_text(bins["means"][key], 1) for key in counts)]
    header = [xlabel, *(labels[key] for key in counts)]
    return Plot(
        title, caption, to_svg(figure, name), header, [*_bins(bins, counts), means]
    )


def _cosines(bins: Mapping[str, Any] | None) -> Plot | None:
    if bins is None:
        return None
    figure, (axes,) = subplots([1], 2.7)
    labels = {"kept": "negative", "unused": "not needed", "dropped": "too similar"}
    colours = {"kept": "chosen", "unused": "part", "dropped": "rejected"}
    base = [0.0] * (len(bins["edges"]) - 1)
    counts = {key: bins["counts"][key] for key in labels if key in bins["counts"]}
    for key, values in counts.items():
        top = [low + value for low, value in zip(base, values, strict=True)]
        colour = COLOURS[colours[key]]
        options = {"baseline": base, "fill": True, "color": colour, "alpha": 0.85}
        axes.stairs(top, bins["edges"], label=labels[key], **options)
        base = top
    cut = "The cut drops a share of each task's own samples, so the colours overlap"
    if bins["cut"] is not None:
        cut = "The dashed line is the cut"
        axes.axvline(bins["cut"], color=COLOURS["ink"], linewidth=1.6, dashes=(4, 3))
    axes.set_xlabel("cosine to the preferred answer")
    axes.set_ylabel("samples")
    axes.set_ylim(bottom=0)
    figure.legend(**_LEGEND)
    return Plot(
        "Self-Contrast: similarity to the preferred answer",
        "Samples most like the preferred answer may be good answers themselves and are "
        f"dropped; the rest become negatives. {cut}.",
        to_svg(figure, "cosines"),
        ["cosine", *(labels[key] for key in counts)],
        _bins(bins, counts),
    )


def _bins(bins: Mapping[str, Any], counts: Mapping[str, Any]) -> list[list[str]]:
    edges = [f"{edge:g}" for edge in bins["edges"]]
    return [
        [f"{low} to {high}", *(str(values[i]) for values in counts.values())]
        for i, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def _moving_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of the up to `window` values around each, NaN left out."""
    means = []
    for i in range(len(values)):
        around = values[max(0, i - window // 2) : i + (window + 1) // 2]
        known = [value for value in around if not math.isnan(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    return means


def _spread(count: int, most: int) -> list[int]:
    """Up to `most` of `count` indices, evenly spread, with the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _label(name: str) -> str:
    """A name from the run on one short line."""
    line = " ".join(name.split())
    return line if len(line) <= 40 else f"{line[:39]}…"


def _percent(share: Value) -> float:
    return math.nan if share is None else 100 * share


def _text(value: Value, digits: int) -> str:
    is_missing = value is None or math.isnan(value)
    return "–" if is_missing else f"{value:.{digits}f}"
