# SPDX-License-Identifier: Apache-2.0
"""A seed: one instruction that a run starts from, and what came with it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from data_gen.records import Message


@dataclass(frozen=True)
class Seed:
    """One instruction.

    Args:
      id: names the seed and everything derived from it.
      text: the instruction; of a conversation, its last user turn.
      domain: where it comes from, or what it is about.
      answer: a preferred answer that came with it, if any.
      rejected: worse answers that came with it, the best of them first.
      history: the turns before `text`; empty where the prompt is `text` alone.
      instruction, input: the two parts of `text` where it is a task applied to an
        instance; both empty where it is not.
      label: the bare result where the task has one, such as a class or a number.
      constraints: names of what the instruction demands, as its data set calls them.
    """

    id: str
    text: str
    domain: str = ""
    answer: str | None = None
    rejected: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()
    instruction: str = ""
    input: str = ""
    label: str = ""
    constraints: tuple[str, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole prompt, ending with the user's turn."""
        return (*self.history, Message("user", self.text))

    @property
    def whole(self) -> str:
        """The whole prompt as one text: what two seeds are compared by."""
        if not self.history:
            return self.text
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.messages)

    def texts(self) -> Iterator[tuple[str, str]]:
        """(where it stands, text) of the prompt's turns and of the given answers."""
        for number, turn in enumerate(self.messages, start=1):
            last = number == len(self.messages)
            yield "prompt" if last else f"turn {number}", turn.content
        if self.answer is not None:
            yield "answer", self.answer
        for number, text in enumerate(self.rejected, start=1):
            yield f"rejected {number}", text


@dataclass(frozen=True)
class Dropped:
    """A record of a seed source that gives no seed, and why.

    `place` is where it stood ("line 3"), `gate` the name and version of what dropped
    it ("leak/1").
    """

    place: str
    gate: str
    reason: str
    detail: str = ""
    text: str = ""
    id: str = ""


def normalise(text: str) -> str:
    """The text without what does not change its meaning: NFKC, casefold, spacing."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content_id(text: str) -> str:
    """An id that depends on the text only, up to `normalise`."""
    digest = hashlib.sha256(normalise(text).encode("utf-8")).hexdigest()
    return f"h{digest[:16]}"


def bad_character(text: str) -> str | None:
    """What cannot be part of a text, as "U+0007, at character 2", or None.

    Control characters other than newline and tab, and lone surrogates.
    """
    found = _BAD.search(text)
    if found is None:
        return None
    code = ord(found[0])
    kind = "a lone surrogate" if code >= 0xD800 else "a control character"
    return f"{kind}, U+{code:04X}, at character {found.start() + 1}"


# The categories Cc, without newline and tab, and Cs.
_BAD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
