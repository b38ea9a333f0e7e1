# SPDX-License-Identifier: Apache-2.0
"""The pictures of the docs.

    python docs/plots.py    # writes docs/images/*.svg, the same bytes every time

losses.svg: each loss and its slope over the margin. The losses come from the table,
called with its defaults, so a new one is drawn as soon as its family has a place in
FAMILIES.

slots.svg: the sampler's busy slots over time, as `benchmarks/sampling.py uneven` found
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alignjax.losses import LOSSES, Pair, Ranking

IMAGES = Path(__file__).parent / "images"
SLOTS = Path(__file__).parent.parent / "benchmarks" / "results" / "slots.json"
# Six panels a row, the last of the 24 for the legend.
FAMILIES = {
    "preference": "of the margin",
    "reference_free": "without a reference",
    "rewards": "of the two rewards",
    "transport": "of the batch (one pair here)",
    "ranking": "of several rejected (three equal ones here)",
}
COLUMNS = 6
# In squared nats: drawn times beta^2, which makes them a function of beta * margin.
SQUARED = ("ipo", "ipo_sum", "sppo")
# Nats of both responses under the reference; only `orpo` depends on it.
LEVEL = -3.0
# Nats by which the rejected response has drifted further, for `tdpo`.
DRIFT = 10.0

X = np.linspace(-5, 5, 401)
BLUE, ORANGE, GREY = "#1f5fa8", "#d1651b", "#6b6b6b"


def plotted() -> dict[str, str]:
    """The losses that are drawn, in order, with their families: all that read scores of
    responses."""
    families = {
        name: loss.function.__module__.rpartition(".")[2]
        for name, loss in LOSSES.items()
        if loss.scores in ("pair", "ranking", "response")
    }
    order = list(FAMILIES)
    return dict(sorted(families.items(), key=lambda item: order.index(item[1])))


def value(name: str, margin: Float[Array, ""], share: float = 0.5) -> Float[Array, ""]:
    """A loss with its defaults where beta * (a - b) = margin; `share` of it is a's.

    One response of one token each, so that the margin is also the margin per token.
    """
    loss = LOSSES[name]
    options = {option: setting.default for option, setting in loss.options.items()}
    beta = options.get("beta", 1.0)
    a = jnp.atleast_1d(share * margin / beta)
    b = jnp.atleast_1d((share - 1) * margin / beta)
    log_ratios = {
        "pair": Pair(a, b),
        "ranking": Ranking(a, jnp.tile(b, (1, 3))),
        "response": jnp.concatenate([a, b]),
    }[loss.scores]
    inputs = {
        "policy": jax.tree.map(lambda ratio: LEVEL + ratio, log_ratios),
        "reference": jax.tree.map(
            lambda ratio: jnp.full_like(ratio, LEVEL), log_ratios
        ),
        "tokens": Pair(jnp.ones(1), jnp.ones(1)),
        "kl": Pair(jnp.zeros(1), jnp.full(1, DRIFT)),
        "is_desirable": jnp.array([True, False]),
        "baseline": 0.0,
    }
    unreduced = loss.function(*(inputs[each] for each in loss.inputs), **options)
    return unreduced.mean() * (beta**2 if name in SQUARED else 1)


def curves(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Over X: the loss and its slope where a = -b, and the loss where a = 0."""

    def three(margin: Array) -> tuple[Array, Array, Array]:
        loss, slope = jax.value_and_grad(lambda m: value(name, m))(margin)
        return loss, slope, value(name, margin, share=0.0)

    with jax.enable_x64(True):
        loss, slope, fallen = jax.jit(jax.vmap(three))(jnp.asarray(X))
    return np.asarray(loss), np.asarray(slope), np.asarray(fallen)


def draw_losses(path: Path) -> None:
    names = plotted()
    rows = -(-(len(names) + 1) // COLUMNS)
    with _svg(path, height=2 * rows + 0.4) as figure:
        panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True).ravel()
        before = ""
        for panel, (name, family) in zip(panels, names.items(), strict=False):
            _panel(panel, name)
            if family != before:
                _heading(panel, FAMILIES[family])
            before = family
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        _legend(panels[len(names)])
        figure.supxlabel("margin of the rewards, beta (a - b)", fontsize=9, y=0.012)
        figure.subplots_adjust(0.035, 0.08, 0.995, 0.95, wspace=0.08, hspace=0.5)


def draw_slots(path: Path) -> None:
    """A panel for each run: busy slots in the decoding calls, with the prefill calls
    below."""
    measured = json.loads(SLOTS.read_text())
    runs = measured["runs"]
    with _svg(path, height=1.9 * len(runs) + 0.5) as figure:
        panels = figure.subplots(len(runs), sharey=True, squeeze=False).ravel()
        for panel, run in zip(panels, runs, strict=True):
            _slots_panel(panel, run)
        panels[-1].set_xlabel("seconds", fontsize=9)
        figure.subplots_adjust(0.045, 0.5 / (1.9 * len(runs) + 0.5), 0.995, 0.92)
        figure.subplots_adjust(hspace=0.55)


def _slots_panel(panel: Axes, run: Mapping[str, Any]) -> None:
    start, wall, busy = np.array(run["decode"]).T
    x = np.stack([start, start + wall], axis=1).ravel() / 1000
    panel.fill_between(x, np.repeat(busy, 2), color=BLUE, alpha=0.25, linewidth=0)
    panel.plot(x, np.repeat(busy, 2), color=BLUE, linewidth=0.9)
    panel.axhline(run["slots"], color="#999999", linewidth=0.8, linestyle=(0, (3, 2)))
    start, wall, _ = np.array(run["prefill"]).T
    gap = np.full(len(start), np.nan)  # lifts the pen
    x = np.stack([start, start + wall, gap], axis=1).ravel() / 1000
    below = np.full(len(x), -0.09 * run["slots"])
    panel.plot(x, below, color=ORANGE, linewidth=5, solid_capstyle="butt")
    samples = "one sample" if run["n"] == 1 else f"{run['n']} samples"
    panel.set_title(
        f"{samples} of each prompt: {run['useful_share']:.0%} of the slots' steps "
        "became tokens",
        fontsize=10,
        loc="left",
        pad=6,
    )
    top, end = run["slots"], np.sum(run["decode"][-1][:2]) / 1000
    panel.set(xlim=(0, end), ylim=(-0.16 * top, 1.08 * top), yticks=(0, top // 2, top))
    panel.tick_params(length=2, colors=GREY, labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#999999")
    for right, text, color in ((90, "busy slots", BLUE), (0, "prefill calls", ORANGE)):
        panel.annotate(
            text,
            (1, 1),
            (-right, 6),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            color=color,
            fontsize=9,
        )


@contextmanager
def _svg(path: Path, *, height: float) -> Iterator[Figure]:
    """A figure that is saved there: text stays text, and neither ids nor anything else
    depends on the moment."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "alignjax"}):
        figure = Figure(figsize=(11, height), facecolor="white")
        yield figure
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _panel(panel: Axes, name: str) -> None:
    loss, slope, fallen = curves(name)
    panel.axhline(0, color="#cccccc", linewidth=0.8)
    panel.axvline(0, color="#cccccc", linewidth=0.8)
    if np.abs(loss - fallen).max() > 1e-6:
        panel.plot(X, fallen, color=BLUE, linewidth=1, linestyle=(0, (3, 2)))
    panel.plot(X, slope, color=ORANGE, linewidth=1.6)
    panel.plot(X, loss, color=BLUE, linewidth=1.8)
    panel.set(xlim=(X[0], X[-1]), ylim=(-2, 4), xticks=(-4, 0, 4), yticks=(-2, 0, 2, 4))
    title = f"{name} (times beta²)" if name in SQUARED else name
    panel.set_title(title, fontsize=10, pad=4)
    panel.tick_params(length=2, colors=GREY, labelsize=8, labelbottom=True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#999999")


def _heading(panel: Axes, text: str) -> None:
    panel.annotate(
        text,
        (0, 1),
        (0, 20),
        xycoords="axes fraction",
        textcoords="offset points",
        color=GREY,
        fontsize=9,
        fontweight="bold",
    )


def _legend(panel: Axes) -> None:
    lines = [
        ("loss where a = -b", {"color": BLUE, "linewidth": 1.8}),
        ("loss where a = 0", {"color": BLUE, "linestyle": (0, (3, 2))}),
        ("slope where a = -b", {"color": ORANGE, "linewidth": 1.6}),
    ]
    for label, style in lines:
        panel.plot([], [], label=label, **style)
    panel.legend(loc="center left", frameon=False, fontsize=9, borderpad=0)


if __name__ == "__main__":
    draw_losses(IMAGES / "losses.svg")
    draw_slots(IMAGES / "slots.svg")
