# SPDX-License-Identifier: Apache-2.0
"""Answer gates: pure functions of an answer, each giving None or the reason to drop.

The rules follow WizardLM's elimination step, h2o-wizardlm's `change_approved` and
Auto-Evol-Instruct's failure detectors; thresholds are in `Gates`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from alignjax.eval.gates import repetition

_LEAKS = re.compile(
    r"<\|\w+\|>|\[/?INST\]|<</?SYS>>|###\s*(?:instruction|response|human|assistant)"
    r"|#?(?:given|rewritten|new) prompt#?\b|^\s*(?:user|human|assistant|system)\s*:"
    r"|you are a helpful (?:ai )?assistant",
    re.IGNORECASE | re.MULTILINE,
)
_REFUSALS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language model|language model)\b"
    r"|^\W*(?:i['’]m|i am) (?:\w+ ){0,2}(?:sorry|unable)\b"
    r"|^\W*(?:sorry(?:[,.!:]| but\b| i\b)|my apologies\b|i apologi[sz]e\b)"
    r"|^\W*i (?:can['’]?t|cannot|can not|won['’]t) (?:help|assist|provide|fulfill"
    r"|comply|answer|do that|write|create)\b"
    r"|\bhow (?:can|may) i (?:help|assist) you\b"
    r"|\bplease provide (?:me with |more |the |your )",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Gates:
    """Thresholds of the answer gates.

    Args:
      min_words: fewest words of an answer.
      max_repetition: largest share of word trigrams that repeat an earlier one, in
        [0, 1]; counted as evaluation counts it.
      min_similarity: smallest cosine to the answer it continues, in [-1, 1]; read
        only where an embedder is given.
    """

    min_words: int = 5
    max_repetition: float = 0.4
    min_similarity: float = 0.25

    def __post_init__(self) -> None:
        if self.min_words < 1:
            raise ValueError(f"min_words must be at least 1, got {self.min_words}")
        if not 0 <= self.max_repetition <= 1:
            raise ValueError(
                f"max_repetition must be in [0, 1], got {self.max_repetition}"
            )
        if not -1 <= self.min_similarity <= 1:
            raise ValueError(
                f"min_similarity must be in [-1, 1], got {self.min_similarity}"
            )


def answer(
    text: str, finish_reason: str, instruction: Sequence[str], gates: Gates
) -> str | None:
    """The first reason why `text` is no answer, or None.

    Args:
      text: the answer.
      finish_reason: as in `Generation`; "stop" for texts nobody sampled.
      instruction: the parts of the instruction (task, rendered constraints), for the
        echo gate.
      gates: thresholds.
    """
    return (
        unfinished(finish_reason)
        or empty(text)
        or template_leak(text)
        or refusal(text)
        or echo(text, instruction)
        or too_short(text, gates.min_words)
        or repetitive(text, gates.max_repetition)
    )


def unfinished(finish_reason: str) -> str | None:
    """Ran into max_new_tokens, the prompt left no room in the context, the server gave
    no answer to this request, or nothing is recorded for it."""
    reasons = {"stop": None, "length": "truncated", "context": "no_room"}
    reasons |= {"filtered": "content_filter", "refused": "server_refused"}
    reasons |= {"other": "unknown_finish", "missing": "not_recorded"}
    return reasons[finish_reason]


def empty(text: str) -> str | None:
    """No letter and no digit."""
    return None if any(char.isalnum() for char in text) else "empty"


def too_short(text: str, min_words: int) -> str | None:
    """Fewer than `min_words` words between white space."""
    return "too_short" if len(text.split()) < min_words else None


def repetitive(text: str, max_repetition: float) -> str | None:
    """A loop: `repetition` above the limit."""
    return "repetitive" if repetition(text) > max_repetition else None


def refusal(text: str) -> str | None:
    """Declines, apologises first, or asks for what it was given."""
    if _REFUSALS.search(text):
        return "refusal"
    if len(text.split()) < 80 and re.search(r"\bi['’]?m sorry\b", text, re.IGNORECASE):
        return "refusal"
    return None


def template_leak(text: str) -> str | None:
    """Chat markup, a role name that opens a line, or words of a rewriting prompt."""
    return "template_leak" if _LEAKS.search(text) else None


def echo(text: str, instruction: Sequence[str]) -> str | None:
    """Repeats a part of the instruction of four words or more."""
    said = normalised(text)
    for part in instruction:
        asked = normalised(part)
        if len(asked.split()) >= 4 and asked in said:
            return "echo"
    return None


def off_topic(similarity: float, min_similarity: float) -> str | None:
    """Too far from the answer it should be about the same thing as."""
    return "off_topic" if similarity < min_similarity else None


def normalised(text: str) -> str:
    """Lower-case words with single spaces: what "the same text" means to a gate."""
    return " ".join(re.findall(r"\w+", text.casefold()))
