# SPDX-License-Identifier: Apache-2.0
"""Constraints on what encloses the whole answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Params,
    Readings,
    facts,
    nothing,
)
from alignjax.constraints.params import Choice
from alignjax.constraints.vocabulary import TAGS

_STRAIGHT, _OPENING, _CLOSING = '"', '"“„«', '"”“»'


def _has_text(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _quoted_readings(params: Params, text: str) -> Readings:
    del params
    inner = text[1:-1]
    straight = text[0] == _STRAIGHT == text[-1] and _has_text(inner)
    any_quotes = text[0] in _OPENING and text[-1] in _CLOSING and _has_text(inner)
    return facts(
        {
            "straight": straight,
            "any_quotes": any_quotes,
            "one_pair": straight and _STRAIGHT not in inner,
        }
    )


def _quoted_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield text[:-1]
    yield text[1:-1]


QUOTED = ConstraintType(
    name="quoted",
    family="wrap",
    version=1,
    stage=80,
    schema=(),
    wordings=(
        "Put your whole answer in double quotes.",
        "Wrap your entire answer in double quotation marks.",
    ),
    readings=_quoted_readings,
    repair=lambda params, text: '"' + re.sub('["“”„]', "'", text) + '"',
    violations=_quoted_violations,
    draw=nothing,
)


def _pairs_up(text: str) -> bool:
    """Whether the first parenthesis closes at the last character."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i == len(text) - 1
    return False


def _parentheses_readings(params: Params, text: str) -> Readings:
    del params
    outer = text[0] == "(" and text[-1] == ")" and _has_text(text)
    return facts({"outer": outer, "one_pair": outer and _pairs_up(text)})


def _parentheses_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield text[:-1]
    yield text[1:-1]


PARENTHESES = ConstraintType(
    name="parentheses",
    family="wrap",
    version=1,
    stage=80,
    schema=(),
    wordings=(
        "Put your whole answer in parentheses.",
        "Enclose your entire answer in round brackets ( ).",
    ),
    readings=_parentheses_readings,
    repair=lambda params, text: "(" + re.sub("[()]", "", text) + ")",
    violations=_parentheses_violations,
    draw=nothing,
)


def _tag_readings(params: Params, text: str) -> Readings:
    tag = params["tag"]
    opening, closing = f"<{tag}>", f"</{tag}>"
    inner = text.removeprefix(opening).removesuffix(closing)
    whole = text.startswith(opening) and text.endswith(closing) and _has_text(inner)
    _, found_opening, rest = text.lower().partition(opening)
    between, found_closing, _ = rest.rpartition(closing)
    return facts(
        {
            "whole": whole and opening not in inner and closing not in inner,
            "anywhere": bool(found_opening and found_closing) and _has_text(between),
        }
    )


def _tag_repair(params: Params, text: str) -> str:
    tag = params["tag"]
    return f"<{tag}>" + re.sub(f"(?i)</?{tag}>", "", text).strip() + f"</{tag}>"


def _tag_violations(params: Params, text: str) -> Iterator[str]:
    opening, closing = f"<{params['tag']}>", f"</{params['tag']}>"
    yield text.removesuffix(closing)
    yield text.removeprefix(opening).removesuffix(closing)


TAG = ConstraintType(
    name="tag",
    family="wrap",
    version=1,
    stage=82,
    schema=(Choice("tag", TAGS),),
    wordings=(
        "Put your whole answer between <{tag}> and </{tag}>.",
        "Wrap your entire answer in <{tag}></{tag}> tags.",
    ),
    readings=_tag_readings,
    repair=_tag_repair,
    violations=_tag_violations,
    draw=lambda rng, context: {"tag": rng.choice(TAGS)},
)


_FENCED = re.compile(r"```[\w-]*\n(.*?)\n```", re.DOTALL)


def _block_readings(params: Params, text: str) -> Readings:
    """Whether the text is one fenced block, and whether it has one at all."""
    del params
    whole = _FENCED.fullmatch(text)
    inner = [match[1] for match in _FENCED.finditer(text)]
    return facts(
        {
            "whole": whole is not None
            and _has_text(whole[1])
            and "```" not in whole[1],
            "anywhere": any(_has_text(block) for block in inner),
        }
    )


def _block_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield text.removesuffix("```")
    yield text.replace("`", "")


CODE_BLOCK = ConstraintType(
    name="code_block",
    family="wrap",
    version=1,
    stage=84,
    schema=(),
    wordings=(
        "Put your whole answer in one code block between lines of three backticks.",
        "Wrap your entire answer in a fenced Markdown code block (```).",
    ),
    readings=_block_readings,
    repair=lambda params, text: "```\n" + text.replace("```", "~~~") + "\n```",
    violations=_block_violations,
    draw=nothing,
)
