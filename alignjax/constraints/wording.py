# SPDX-License-Identifier: Apache-2.0
"""Wordings: templates that turn parameters into one sentence, and back.

A template has slots `{name}` and plural endings `{name:s}`, which is "s" unless the
number is 1. Because the pattern that reads a sentence is made from the template that
wrote it, and a match counts only if it renders back to itself, reading inverts writing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from alignjax.constraints.params import Param, validate

_SLOT = re.compile(r"\{(\w+)(:s)?\}")


def render(template: str, schema: tuple[Param, ...], params: Mapping[str, Any]) -> str:
    """The sentence of a template with valid parameters filled in."""
    by_name = {param.name: param for param in schema}

    def fill(slot: re.Match[str]) -> str:
        name, is_plural = slot[1], slot[2]
        if is_plural:
            return "" if params[name] == 1 else "s"
        return by_name[name].show(params[name])

    return _SLOT.sub(fill, template)


def find(
    type_name: str, template: str, schema: tuple[Param, ...], text: str
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yields (start, end, params) of each place where `text` has this wording."""
    if _landmark(template) not in text:
        return
    for match in _pattern(template, schema).finditer(text):
        params = {param.name: param.read(match[param.name]) for param in schema}
        try:
            validate(type_name, schema, params)
        except ValueError:
            continue  # the words are ours but the values are not: no constraint
        if render(template, schema, params) == match[0]:
            yield match.start(), match.end(), params


@functools.cache
def _landmark(template: str) -> str:
    """The longest piece that every sentence of the template has."""
    pieces = re.split(r"\{\w+(?::s)?\}", template)
    return max(pieces, key=len)


@functools.cache
def _pattern(template: str, schema: tuple[Param, ...]) -> re.Pattern[str]:
    by_name = {param.name: param for param in schema}
    parts, seen, last = [r"(?<!\S)"], set(), 0
    for slot in _SLOT.finditer(template):
        parts.append(re.escape(template[last : slot.start()]))
        last, name = slot.end(), slot[1]
        if slot[2]:
            parts.append("s?")
        elif name in seen:
            parts.append(f"(?P={name})")
        else:
            parts.append(f"(?P<{name}>{by_name[name].pattern})")
            seen.add(name)
    parts.append(re.escape(template[last:]) + r"(?!\S)")
    return re.compile("".join(parts))
