# SPDX-License-Identifier: Apache-2.0
"""Plots of a run report: an inline SVG with a caption, and its numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alignjax.eval.svg import COLOURS, style, subplots, to_svg

Value = float | int | None

_TABLE_ROWS = 20

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
    """One plot of curves; `level` is a value to compare with, `level_label` its name."""

    ylabel: str
    lines: list[Line]
    level: float | None = None
    level_label: str = ""


def draw(report: Mapping[str, Any]) -> dict[str, Plot | None]:
    """All plots of a report (see alignjax.eval.report); None where it has no numbers."""
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
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    groups = [[row for row in rows if row["strategy"] == name] for name in strategies]
    figure, drawn = subplots(
        [0.9 + len(group) for group in groups], 0.25 * len(rows) + 0.5 * len(groups)
    )
    for axes, name, group in zip(drawn, strategies, groups, strict=True):
        counts = [row["count"] for row in group]
        is_part = [row["stage"] in _PARTS for row in group]
        colours = [COLOURS["part" if part else "after"] for part in is_part]
        axes.barh(range(len(group)), counts, height=0.72, color=colours)
        for position, count in enumerate(counts):
            place = (count, position)
            axes.annotate(
                f"{count:,}", place, (4, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(group)), [_stage(row) for row in group])
        axes.set_ylim(len(group) - 0.4, -0.6)
        axes.set_xlim(0, 1.12 * max([1, *counts]))
        axes.set_title(name, loc="left", fontsize=12, fontweight="bold")
        axes.grid(False)
        axes.tick_params(left=False, bottom=False, labelbottom=False)
        axes.spines["bottom"].set_visible(False)
    return Plot(
        "From tasks to training pairs",
        "Each bar is the number of items that got this far, on a scale of its own for "
        "each strategy; dark bars count tasks and pairs, pale ones say how a pair came "
        "about (its preferred answer a sample or an edit) or count samples.",
        to_svg(figure, "waterfall"),
        ["strategy", "round", "stage", "count"],
        [
            [str(row[k]) for k in ("strategy", "round", "stage", "count")]
            for row in rows
        ],
    )


def _stage(row: Mapping[str, Any]) -> str:
    words = _STAGES.get(row["stage"], row["stage"])
    return f"round {row['round']}: {words}" if row["round"] else words


def _by_type(by_type: Mapping[str, Mapping[str, Any]], prefix: str) -> Plot | None:
    """Paired dots; `prefix` is "" or "gated_"."""
    found = {name: entry for name, entry in by_type.items() if entry["n"]}
    if not found:
        return None
    # Both plots in one order, so that the eye can go from one to the other.
    names = sorted(
        found,
        key=lambda n: (-_known(found[n]["after"]), -_known(found[n]["before"]), n),
    )
    before = [_percent(found[name][f"{prefix}before"]) for name in names]
    after = [_percent(found[name][f"{prefix}after"]) for name in names]
    figure, (axes,) = subplots([1], 0.235 * len(names) + 1.1)
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        if not math.isnan(old + new):
            colour = COLOURS["after" if new >= old else "worse"]
            axes.plot([old, new], [row, row], color=colour, linewidth=2.2, zorder=2)
    rows = range(len(names))
    dots = {"s": 46, "linewidths": 1.6, "zorder": 3, "clip_on": False}
    paper = COLOURS["paper"]
    axes.scatter(before, rows, color=paper, edgecolors=COLOURS["before"], **dots)
    is_worse = [new < old for old, new in zip(before, after, strict=True)]
    colours = [COLOURS["worse" if worse else "after"] for worse in is_worse]
    axes.scatter(after, rows, color=colours, **dots)
    axes.set_yticks(rows, [f"{name} ({found[name]['n']})" for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 25))
    axes.tick_params(left=False, top=True, labeltop=len(names) > 12)
    gated = "and the gates " if prefix else ""
    axes.set_xlabel(f"answers that pass {gated}(%)".replace("  ", " "))
    handles = [
        axes.scatter([], [], color=paper, edgecolors=COLOURS["before"], **dots),
        axes.scatter([], [], color=COLOURS["after"], **dots),
        axes.scatter([], [], color=COLOURS["worse"], **dots),
    ]
    labels = ["before", "after", "after, and lower"]
    figure.legend(handles, labels, loc="outside upper right", ncols=3, columnspacing=1)
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
            for name, old, new in zip(names, before, after, strict=True)
        ],
    )


def _losses(curves: Mapping[str, Sequence[Value]]) -> Plot | None:
    lines = {
        "loss": Panel("loss", [], None),
        "dpo": Panel("DPO (nats / pair)", [], math.log(2), "ln 2: no preference"),
        "nll": Panel("NLL (nats / token)", []),
        "nll_paraphrase": Panel("NLL, paraphrase\n(nats / token)", []),
        "contrastive": Panel("contrastive\n(nats / example)", []),
    }
    panels = [
        panel._replace(lines=[Line("", "after", curves[name])])
        for name, panel in lines.items()
        if name in curves
    ]
    return _curves(
        "Loss and its terms",
        "The loss is what the optimiser lowers, a weighted sum of the terms below it; "
        "thin lines are single steps, thick ones their moving mean.",
        "loss",
        curves,
        panels,
        [name for name in lines if name in curves],
    )


def _margins(curves: Mapping[str, Sequence[Value]]) -> Plot | None:
    panels = []
    if "margin" in curves:
        line = Line("", "after", curves["margin"])
        panels.append(Panel("margin\n(β × nats)", [line], 0.0))
    if "accuracy" in curves:
        shares = [None if v is None else 100 * v for v in curves["accuracy"]]
        line = Line("", "after", shares)
        panels.append(Panel("pairs in the right\norder (%)", [line], 50.0, "chance"))
    return _curves(
        "Margin and accuracy on training pairs",
        "The margin is how much more than the untrained model the policy favours the "
        "preferred answer; a pair counts as right where that is above zero.",
        "margin",
        curves,
        panels,
        [name for name in ("margin", "accuracy") if name in curves],
    )


def _logprobs(curves: Mapping[str, Sequence[Value]]) -> Plot | None:
    names = {"chosen_logprob": "chosen", "rejected_logprob": "rejected"}
    lines = [
        Line("preferred" if colour == "chosen" else colour, colour, curves[name])
        for name, colour in names.items()
        if name in curves
    ]
    return _curves(
        "How likely the answers are",
        "The gap should widen because rejected answers become less likely, not because "
        "preferred ones fall more slowly: the upper line should stay level or rise.",
        "logprobs",
        curves,
        [Panel("log p of the answer\n(nats, mean)", lines)] if lines else [],
        [name for name in names if name in curves],
    )


def _curves(
    title: str,
    caption: str,
    name: str,
    curves: Mapping[str, Sequence[Value]],
    panels: Sequence[Panel],
    columns: Sequence[str],
) -> Plot | None:
    if not panels:
        return None
    steps = [_known(step) for step in curves["step"]]
    height = 2.7 if len(panels) == 1 else 0.5 + 1.45 * len(panels)
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
            axes.axhline(
                panel.level, color=COLOURS["muted"], linewidth=1, dashes=(4, 3)
            )
            if panel.level_label:
                place = (1, panel.level)
                axes.annotate(
                    panel.level_label,
                    place,
                    (0, 3),
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    ha="right",
                    color=COLOURS["muted"],
                )
        axes.set_ylabel(panel.ylabel)
        axes.margins(x=0.01)
        axes.locator_params(axis="y", nbins=4)
        if len(panel.lines) > 1:
            figure.legend(*axes.get_legend_handles_labels(), **_LEGEND)
    drawn[-1].set_xlabel("optimiser step")
    shown = _spread(len(steps), _TABLE_ROWS)
    return Plot(
        title,
        caption,
        to_svg(figure, name),
        ["step", *columns],
        [
            [f"{steps[i]:.0f}", *(_text(curves[c][i], 4) for c in columns)]
            for i in shown
        ],
    )


_LEGEND = {"loc": "outside upper right", "ncols": 3, "columnspacing": 1.2}


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
    axes.set_ylabel("share of answers (%)")
    axes.set_ylim(bottom=0)
    figure.legend(*axes.get_legend_handles_labels(), **_LEGEND)
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
    if bins["cut"] is not None:
        axes.axvline(bins["cut"], color=COLOURS["ink"], linewidth=1.6, dashes=(4, 3))
    axes.set_xlabel("cosine to the preferred answer")
    axes.set_ylabel("samples")
    axes.set_ylim(bottom=0)
    figure.legend(*axes.get_legend_handles_labels(), **_LEGEND)
    cut = (
        "The dashed line is the cut"
        if bins["cut"] is not None
        else (
            "The cut drops a share of each task's own samples, so the colours overlap"
        )
    )
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
        for i, (low, high) in enumerate(zip(edges, edges[1:], strict=False))
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


def _percent(share: Value) -> float:
    return math.nan if share is None else 100 * share


def _known(value: Value) -> float:
    return -math.inf if value is None else float(value)


def _text(value: Value, digits: int) -> str:
    is_missing = value is None or math.isnan(value)
    return "–" if is_missing else f"{value:.{digits}f}"
