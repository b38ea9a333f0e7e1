# SPDX-License-Identifier: Apache-2.0
"""Figures as inline SVG: the same bytes for the same numbers, coloured by the page.

matplotlib's Figure alone (no pyplot, no global state). Colours and the font become CSS
variables of the page, so that one drawing serves its light and its dark scheme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

# Drawn in these colours, which are then replaced by var(--plot-NAME).
COLOURS = {
    "ink": "#101010",
    "muted": "#202020",
    "grid": "#303030",
    "before": "#404040",
    "after": "#505050",
    "chosen": "#606060",
    "rejected": "#707070",
    "worse": "#808080",
    "part": "#909090",
    "paper": "#a0a0a0",
}
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 11.0,
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["grid"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.color": COLOURS["grid"],
    "ytick.labelcolor": COLOURS["muted"],
    "legend.frameon": False,
    "legend.borderpad": 0.0,
    "legend.handlelength": 1.4,
    "legend.fontsize": 11.0,
}
_WIDTH = 5.6  # inches of 72 px: narrow enough that text stays readable on a phone


def style() -> AbstractContextManager[None]:
    """The settings to draw under; a user's matplotlibrc does not reach the page."""
    import matplotlib.style

    return matplotlib.style.context(["default", _STYLE], after_reset=True)


def subplots(heights: Sequence[float], total: float, *, is_shared: bool = False):
    """A figure of `total` inches with one plot per relative height, top to bottom."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, max(total, 1.6)), layout="constrained")
    axes = figure.subplots(
        len(heights), 1, squeeze=False, sharex=is_shared, height_ratios=list(heights)
    )
    figure.align_ylabels()
    return figure, list(axes[:, 0])


def to_svg(figure: Any, name: str) -> str:
    """The figure as an <svg> element for HTML: no prolog, no metadata, no fixed size,
    ids that are unique on the page, the page's font and colours."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"alignjax {name}"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, count=1, flags=re.DOTALL)
    start, rest = text.split(">", 1)
    box = re.search(r'viewBox="[\d. ]+"', start)
    assert box, "matplotlib writes a viewBox"
    rest = re.sub(r'(<[^<>]*\s)id="([^"]+)"', rf'\1id="{name}-\2"', rest)
    rest = re.sub(r'xlink:href="#', f'href="#{name}-', rest)
    rest = re.sub(r"url\(#", f"url(#{name}-", rest)
    rest = re.sub(r"'DejaVu Sans'", "var(--font)", rest)
    for colour, value in COLOURS.items():
        rest = re.sub(rf"{value}\b", f"var(--plot-{colour})", rest)
    return f'<svg {box.group()} aria-hidden="true" focusable="false">{rest}'
