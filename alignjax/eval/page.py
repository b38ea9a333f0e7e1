# SPDX-License-Identifier: Apache-2.0
"""The HTML page of a report: one file that loads nothing.

Every text is escaped, and the page's content policy lets no script run but the one
that filters the samples, whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alignjax.eval import run_files
from alignjax.eval.run_files import Row

_TEMPLATE = Path(__file__).with_name("report.html")
_CHANGES = ("fixed", "broken", "same")

# Label, unit of the values, unit of the change, whether more is better (None: neither).
_CARDS: dict[str, tuple[str, str, bool | None]] = {
    "constraint_accuracy": ("Constraint accuracy", "share", True),
    "gated_constraint_accuracy": ("Constraint accuracy, gated", "share", True),
    "preference_accuracy": ("Preference accuracy", "share", True),
    "preference_margin": ("Preference margin", "nats", True),
    "chosen_logprob": ("log p of preferred answers", "nats", True),
    "mean_response_tokens": ("Mean answer length", "tokens", None),
}


class Card(NamedTuple):
    """A headline number; `verdict` is "better", "worse" or ""."""

    key: str
    label: str
    before: float | None
    after: float | None
    before_text: str
    after_text: str
    difference: str
    verdict: str
    note: str


class Sample(NamedTuple):
    """A prompt with its answers (rows of answers.jsonl); `change` is None with one."""

    id: str
    type: str
    prompt: str
    change: str | None
    before: Row | None
    after: Row | None


def cards(report: Mapping[str, Any]) -> list[Card]:
    """The headline numbers, each before and after."""
    return [
        _card(key, label, report[key], unit, more_is_better)
        for key, (label, unit, more_is_better) in _CARDS.items()
    ]


def choose(
    before: Mapping[str, Row], after: Mapping[str, Row], count: int
) -> list[Sample]:
    """Up to `count` prompts: equally many fixed, broken and unchanged ones as far as
    there are, of as many types as possible, otherwise by the hash of their id."""
    found = []
    for name, row in (after or before).items():
        old, new = before.get(name), after.get(name)
        change = run_files.change(old, new) if old and new else None
        found.append(Sample(name, row["type"], row["prompt"], change, old, new))
    found.sort(key=lambda sample: hashlib.sha256(sample.id.encode()).digest())
    # How many of the same change and type, then of the same change, came earlier.
    seen: Counter[tuple[str | None, str]] = Counter()
    turns = []
    for sample in found:
        turns.append((seen[sample.change, sample.type], len(turns), sample))
        seen[sample.change, sample.type] += 1
    drawn: Counter[str | None] = Counter()
    order = []
    for _, index, sample in sorted(turns, key=lambda turn: turn[:2]):
        order.append((drawn[sample.change], index, sample))
        drawn[sample.change] += 1
    chosen = [sample for *_, sample in sorted(order, key=lambda turn: turn[:2])[:count]]
    place = {change: i for i, change in enumerate(_CHANGES)}
    return sorted(chosen, key=lambda s: (place.get(s.change or "", 9), s.type, s.id))


def render(report: Mapping[str, Any], samples: Sequence[Sample]) -> str:
    """The page, the same bytes for the same numbers."""
    import jinja2

    from alignjax.eval import plots

    source = _TEMPLATE.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)
    assert script, "the template has a script"
    digest = hashlib.sha256(script.group(1).encode()).digest()
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "percent": lambda value: _value(value, "share"),
        "number": _number,
    }
    return environment.from_string(source).render(
        report=report,
        cards=cards(report),
        plots=plots.draw(report),
        samples=samples,
        types=sorted({sample.type for sample in samples}),
        changes=[c for c in _CHANGES if any(c == s.change for s in samples)],
        script_hash=base64.b64encode(digest).decode(),
    )


def duration(seconds: float | None) -> str:
    """8.3 s, 3 min 12 s, 1 h 04 min."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def _card(
    key: str,
    label: str,
    number: Mapping[str, Any],
    unit: str,
    more_is_better: bool | None,
) -> Card:
    before, after, change = number["before"], number["after"], number["change"]
    difference, verdict = "", ""
    if change is not None:
        points = (100 * change, "points") if unit == "share" else (change, unit)
        difference = f"{_signed(points[0])} {points[1]}"
        is_shown = not re.fullmatch(r"[+−]0\.0 \w+", difference)
        if more_is_better is not None and is_shown:
            verdict = "better" if (change > 0) == more_is_better else "worse"
    interval = number.get("interval")
    note = ""
    if interval and change is not None:
        low, high = (_signed(100 * end) for end in interval)
        note = f"95 % interval {low} to {high}"
    texts = (_value(before, unit), _value(after, unit))
    return Card(key, label, before, after, *texts, difference, verdict, note)


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.1f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")
