# SPDX-License-Identifier: Apache-2.0
"""Show: the formats as text, and what a data set gives before a run depends on it."""

from __future__ import annotations

import json
import textwrap
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from alignjax import whole_file
from data_gen.seeds.formats import FORMATS, Format
from data_gen.seeds.plain import write_seed
from data_gen.seeds.seed import Dropped
from data_gen.seeds.source import SeedSource, read


def formats(names: Sequence[str] = (), *, is_markdown: bool = False) -> str:
    """Rows, licence and traps of the formats of these names, or of all.

    Raises:
      ValueError: there is no format of a name.
    """
    for name in names:
        if name not in FORMATS:
            raise ValueError(
                f"no format {name!r}; expected some of {', '.join(FORMATS)}"
            )
    shown = _markdown if is_markdown else _plain
    return "\n\n".join(shown(name, FORMATS[name]) for name in names or FORMATS)


def seeds(source: SeedSource, *, out: Path | None, count: int) -> list[str]:
    """Reads a source and tells what it gives: so many seeds as JSON, then the counts.

    Args:
      source: where from.
      out: a seed file to write, which gives the same seeds again; None writes none.
      count: how many seeds are shown, in ASCII so that no terminal obeys them.

    Raises:
      ValueError: as `read`; `out` is not a .jsonl file. Nothing is written then.
    """
    if out is not None and out.suffix != ".jsonl":
        raise ValueError(f"{out}: seeds are written as .jsonl; name it so")
    kept = 0
    dropped: Counter[tuple[str, str]] = Counter()
    shown: list[str] = []

    def pieces() -> Iterator[bytes]:
        nonlocal kept
        for item in read(source):
            if isinstance(item, Dropped):
                dropped[item.gate, item.reason] += 1
                continue
            line = write_seed(item)
            if kept < count:
                shown.append(json.dumps(json.loads(line)))
            kept += 1
            yield line.encode() + b"\n"

    if out is None:
        deque(pieces(), maxlen=0)
    else:
        whole_file.write_pieces(out, pieces())
    told = f", written to {out}" if out else ""
    total = dropped.total()
    shown.append(f"{source.source}: {kept} seeds{told}; {total} dropped")
    for (gate, reason), number in dropped.most_common():
        shown.append(f"  {number:>7} {reason} ({gate})")
    return shown


def _plain(name: str, known: Format) -> str:
    def wrapped(head: str, text: str) -> str:
        indent = " " * len(head)
        return textwrap.fill(
            text,
            width=88,
            initial_indent=head,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )

    parts = [name + (" (evaluation only)" if known.is_evaluation else "")]
    parts.append(wrapped("  rows     ", known.rows))
    parts.append(wrapped("  licence  ", known.licence))
    if known.hub:
        parts.append(wrapped("  hub      ", ", ".join(known.hub)))
    if known.options:
        parts.append(wrapped("  settings ", ", ".join(known.options)))
    parts += [wrapped("  - ", trap) for trap in known.traps]
    return "\n".join(parts)


def _markdown(name: str, known: Format) -> str:
    parts = [f"### {name}", "", f"    {known.rows}", ""]
    facts = [f"Licence: {known.licence}."]
    if known.hub:
        facts.append(f"On the hub: {', '.join(f'`{hub}`' for hub in known.hub)}.")
    if known.options:
        facts.append(f"Reads: {', '.join(f'`{name}`' for name in known.options)}.")
    parts.append(" ".join(facts))
    if known.traps:
        parts += ["", *(f"- {_escaped(trap)}" for trap in known.traps)]
    return "\n".join(parts)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_<>#[]" else c for c in text)
