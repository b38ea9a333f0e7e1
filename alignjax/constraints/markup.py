# SPDX-License-Identifier: Apache-2.0
"""Constraints on titles, highlights, placeholders and hashtags."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from alignjax.constraints.constraint import (
    ConstraintType,
    Context,
    Params,
    Readings,
    at_least,
    exactly,
    facts,
    nothing,
)
from alignjax.constraints.params import Integer
from alignjax.constraints.text import append, blocks, content_words, delete_last, title
from alignjax.constraints.vocabulary import KEYWORDS, PLACEHOLDERS

_HIGHLIGHT = re.compile(r"(?<![*\w])\*(?![*\s])[^*\n]+(?<!\s)\*(?![*\w])")
_ANY_HIGHLIGHT = re.compile(
    r"(?<!\*)(\*{1,3})(?![*\s])(?P<inner>[^*\n]+)(?<!\s)\1(?!\*)"
)
_BRACKETS = re.compile(r"\[(?P<inner>[^\[\]\n]+)\]")
_PLACEHOLDER = re.compile(r"\[(?=[^\[\]\n]*[^\W\d_]{2})[^\[\]\n]+\](?!\()")
_HASHTAG = re.compile(r"(?<![\w#&])#(?=\w*[^\W\d_])\w+")
_ANY_HASHTAG = re.compile(r"#(?P<inner>\w+)")
_ANGLES = re.compile(r"<<(?P<inner>[^<>\n]*\w[^<>\n]*)>>")
_NOT_TITLES = ("title", "your title", "title here")


def _draw_small(rng: random.Random, context: Context) -> Params:
    del context
    return {"n": rng.choice((1, 2, 2, 3))}


def _highlight_readings(params: Params, text: str) -> Readings:
    counts = {
        "single_asterisks": len(_HIGHLIGHT.findall(text)),
        "any_asterisks": len(_ANY_HIGHLIGHT.findall(text)),
    }
    return at_least(counts, params["n"])


def _highlight(params: Params, text: str) -> str:
    for word in sorted(content_words(text), key=len, reverse=True):
        if len(_HIGHLIGHT.findall(text)) >= params["n"]:
            return text
        plain = re.compile(rf"(?<![\w*<\[#'’-])({word})(?![\w*>\]'’-])", re.IGNORECASE)
        edited = plain.sub(r"*\1*", text, count=1)
        if len(_HIGHLIGHT.findall(edited)) > len(_HIGHLIGHT.findall(text)):
            text = edited
    while len(_HIGHLIGHT.findall(text)) < params["n"]:
        text = append(text, "This is the *main point* here.")
    return text


def _highlight_violations(params: Params, text: str) -> Iterator[str]:
    yield delete_last(_ANY_HIGHLIGHT, text, keep=params["n"] - 1)


HIGHLIGHTS = ConstraintType(
    name="highlights",
    family="markup",
    version=1,
    stage=45,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Highlight at least {n} word{n:s} or phrase{n:s} with asterisks, like *this*.",
        "Put {n} or more part{n:s} of your answer between asterisks, like *this*.",
    ),
    readings=_highlight_readings,
    repair=_highlight,
    violations=_highlight_violations,
    draw=_draw_small,
)


def _placeholder_readings(params: Params, text: str) -> Readings:
    counts = {
        "placeholders": len(_PLACEHOLDER.findall(text)),
        "any_brackets": len(_BRACKETS.findall(text)),
    }
    return at_least(counts, params["n"])


def _add_placeholders(params: Params, text: str) -> str:
    missing = params["n"] - len(_PLACEHOLDER.findall(text))
    for i in range(max(0, missing)):
        text = append(text, PLACEHOLDERS[i % len(PLACEHOLDERS)])
    return text


def _placeholder_violations(params: Params, text: str) -> Iterator[str]:
    yield delete_last(_BRACKETS, text, keep=params["n"] - 1)


PLACEHOLDER = ConstraintType(
    name="placeholders",
    family="markup",
    version=1,
    stage=27,
    schema=(Integer("n", 1, 20),),
    wordings=(
        "Include at least {n} placeholder{n:s} in square brackets, such as [name].",
        "Use {n} or more placeholder{n:s} in square brackets, like [address].",
    ),
    readings=_placeholder_readings,
    repair=_add_placeholders,
    violations=_placeholder_violations,
    draw=_draw_small,
)


def _hashtag_readings(params: Params, text: str) -> Readings:
    counts = {
        "with_letters": len(_HASHTAG.findall(text)),
        "any": len(_ANY_HASHTAG.findall(text)),
    }
    return at_least(counts, params["n"])


def _add_hashtags(params: Params, text: str) -> str:
    missing = max(0, params["n"] - len(_HASHTAG.findall(text)))
    words = (content_words(text) + list(KEYWORDS))[:missing]
    return " ".join([text, *(f"#{word}" for word in words)])


def _hashtag_violations(params: Params, text: str) -> Iterator[str]:
    yield delete_last(_ANY_HASHTAG, text, keep=params["n"] - 1)


HASHTAGS = ConstraintType(
    name="hashtags",
    family="markup",
    version=1,
    stage=48,
    schema=(Integer("n", 1, 10),),
    wordings=(
        "Add at least {n} hashtag{n:s}.",
        "Include {n} or more hashtag{n:s} such as #nature.",
    ),
    readings=_hashtag_readings,
    repair=_add_hashtags,
    violations=_hashtag_violations,
    draw=_draw_small,
)


def _title_readings(params: Params, text: str) -> Readings:
    del params
    titles = [match["inner"].strip() for match in _ANGLES.finditer(text)]
    named = [found for found in titles if found.casefold() not in _NOT_TITLES]
    return facts({"named": bool(named), "any": bool(titles)})


def _title_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield delete_last(_ANGLES, text, keep=0)


TITLE = ConstraintType(
    name="title",
    family="markup",
    version=1,
    stage=46,
    schema=(),
    wordings=(
        "Give your answer a title in double angular brackets, such as <<title>>.",
        "Include a title wrapped in double angular brackets, like <<My Topic>>.",
    ),
    readings=_title_readings,
    repair=lambda params, text: f"<<{title(text)}>>\n{text}",
    violations=_title_violations,
    draw=nothing,
)


def _bold_title_readings(params: Params, text: str) -> Readings:
    del params
    first, _, rest = text.partition("\n")
    own_line = re.fullmatch(r"\*\*(?![*\s])[^*\n]*\w[^*\n]*\*\*", first.strip())
    starts = re.match(r"(?:#+ *)?\*\*[^*\n]*\w[^*\n]*\*\*", text)
    return facts(
        {
            "own_line": own_line is not None and any(c.isalnum() for c in rest),
            "at_start": starts is not None,
        }
    )


def _bold_title_violations(params: Params, text: str) -> Iterator[str]:
    del params
    first, _, rest = text.partition("\n")
    yield f"{first.strip().strip('*')}\n{rest}"


BOLD_TITLE = ConstraintType(
    name="bold_title",
    family="markup",
    version=1,
    stage=47,
    schema=(),
    wordings=(
        "Begin with a title in bold on its own line, like **Title**.",
        "Make the first line a title between double asterisks, like **Title**.",
    ),
    readings=_bold_title_readings,
    repair=lambda params, text: f"**{title(text)}**\n{text}",
    violations=_bold_title_violations,
    draw=nothing,
)


def _heading_readings(params: Params, text: str) -> Readings:
    del params
    first, _, rest = text.partition("\n")
    has_text = any(c.isalnum() for c in rest)
    return facts(
        {
            "level_one": re.match(r"# +\S*\w", first) is not None and has_text,
            "any_level": re.match(r"#{1,6} *\S*\w", first) is not None,
        }
    )


def _heading_violations(params: Params, text: str) -> Iterator[str]:
    del params
    yield text.lstrip("# ")


HEADING = ConstraintType(
    name="heading",
    family="markup",
    version=1,
    stage=47,
    schema=(),
    wordings=(
        'Begin with a heading on its own line that starts with "# ".',
        'Put a heading above your answer: a first line that starts with "# ".',
    ),
    readings=_heading_readings,
    repair=lambda params, text: f"# {title(text)}\n{text}",
    violations=_heading_violations,
    draw=nothing,
)


def _subheading_readings(params: Params, text: str) -> Readings:
    counts = {
        "level_two": len(re.findall(r"(?m)^## +\S*\w", text)),
        "any_level": len(re.findall(r"(?m)^[ \t]*#{1,6} +\S*\w", text)),
    }
    return exactly(counts, params["n"])


def _add_subheadings(params: Params, text: str) -> str:
    text = re.sub(r"(?m)^[ \t]*#{1,6} +", "", text)
    parts = blocks(text, params["n"])
    return "\n\n".join(f"## {title(part)}\n{part}" for part in parts)


def _subheading_violations(params: Params, text: str) -> Iterator[str]:
    before, mark, after = text.rpartition("## ")
    yield before + after if mark else text
    yield f"{text}\n## {title(text)}\nThat is all."


SUBHEADINGS = ConstraintType(
    name="subheadings",
    family="markup",
    version=1,
    stage=33,
    schema=(Integer("n", 1, 10),),
    wordings=(
        'Divide your answer with exactly {n} subheading{n:s} that start with "## ".',
        'Use {n} heading{n:s} of level two, each on a line that starts with "## ".',
    ),
    readings=_subheading_readings,
    repair=_add_subheadings,
    violations=_subheading_violations,
    draw=lambda rng, context: {"n": rng.choice((2, 2, 3, 4))},
)
