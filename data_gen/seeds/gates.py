# SPDX-License-Identifier: Apache-2.0
"""Seed gates: what a foreign text must not hold to become a seed.

A gate is a pure function of one seed. Its version rises whenever it may decide
otherwise than before, and stands beside its name with everything that it dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from data_gen.seeds.overlap import FAR
from data_gen.seeds.seed import Seed, bad_character


@dataclass(frozen=True)
class SeedGates:
    """Thresholds of the seed gates.

    Args:
      max_characters: of the whole prompt, at most.
      near_duplicate: a seed is dropped if its content words are at least this similar
        (Jaccard) to those of an earlier one, in [0.8, 1]; 0 drops exact repeats only.
        Two instances of a task with different labels are never repeats of each other.
    """

    max_characters: int = 8000
    near_duplicate: float = 0.9

    def __post_init__(self) -> None:
        if self.max_characters < 1:
            raise ValueError(
                f"max_characters must be at least 1, got {self.max_characters}"
            )
        if self.near_duplicate and not FAR <= self.near_duplicate <= 1:
            raise ValueError(
                f"near_duplicate must be in [{FAR}, 1], or 0 for exact repeats only, "
                f"got {self.near_duplicate}; less similar seeds are no repeats"
            )


class Finding(NamedTuple):
    """Why a gate drops a seed, and what it saw."""

    reason: str
    detail: str = ""


class Gate(NamedTuple):
    """A check with its name and version; gives None for a seed that may stay."""

    name: str
    version: int
    check: Callable[[Seed, SeedGates], Finding | None]

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


def characters(seed: Seed, gates: SeedGates) -> Finding | None:
    """Control characters anywhere, and text that shows in another order than it has.

    Embeddings and isolates (U+202A, U+202B, U+2066 to U+2068) that are closed are part
    of right-to-left writing and may stay; overrides (U+202D, U+202E) never are.
    """
    for place, text in seed.texts():
        if found := bad_character(text):
            return Finding("control_character", f"{place}: {found}")
        if not _BIDI.search(text):
            continue
        if found := _OVERRIDE.search(text):
            return Finding("bidi_override", f"{place}: U+{ord(found[0]):04X}")
        for line in text.split("\n"):  # a new line closes all
            open_marks = len(_OPENS.findall(line)) - len(_CLOSES.findall(line))
            if open_marks > 0:
                return Finding("bidi_override", f"{place}: {open_marks} left open")
    return None


def leak(seed: Seed, gates: SeedGates) -> Finding | None:
    """Leftovers of the prompts, templates and judges that made or read a data set."""
    for place, text in seed.texts():
        if found := _MARKUP.search(text):
            return Finding("template_leak", f"{place}: {_shown(found[0])}")
        if found := _JUDGE.search(text):
            return Finding("judge_marker", f"{place}: {_shown(found[0])}")
    for turn in seed.messages:
        if found := _EVOLVER.search(turn.content):
            return Finding("evol_leak", _shown(found[0]))
        if turn.role == "user" and (found := _SYSTEM.search(turn.content)):
            return Finding("system_leak", _shown(found[0]))
    return None


def empty(seed: Seed, gates: SeedGates) -> Finding | None:
    """No letter and no digit in the instruction. An answer may be a sign alone."""
    if any(character.isalnum() for character in seed.text):
        return None
    return Finding("no_words")


def too_long(seed: Seed, gates: SeedGates) -> Finding | None:
    """More characters than the prompt may have."""
    count = sum(len(turn.content) for turn in seed.messages)
    if count <= gates.max_characters:
        return None
    return Finding("too_long", f"{count} characters, at most {gates.max_characters}")


GATES = (
    Gate("too_long", 1, too_long),
    Gate("characters", 1, characters),
    Gate("empty", 1, empty),
    Gate("leak", 1, leak),
)


def first_finding(seed: Seed, gates: SeedGates) -> tuple[Gate, Finding] | None:
    """The first gate that drops a seed, and why; None where all let it pass."""
    for gate in GATES:
        if (found := gate.check(seed, gates)) is not None:
            return gate, found
    return None


def _shown(text: str) -> str:
    return " ".join(text.split())[:60]


_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_OVERRIDE = re.compile("[\u202d\u202e]")
_OPENS = re.compile("[\u202a\u202b\u2066-\u2068]")
_CLOSES = re.compile("[\u202c\u2069]")

# Words of the prompts that WizardLM's evolver is asked with. "The given prompt" alone
# is not one: people write it about a prompt that they give.
_EVOLVER = re.compile(
    r"#+\s*(?:the\s+)?(?:given|rewritten|new|created|original)\s+prompt\s*#+"
    r"|\brewritten prompt\b"
    r"|\bthe given prompt and rewrite\b|\brewrite the given prompt\b"
    r"|\bprompt (?:re-?writer|creator)\b"
    r"|^\W*(?:the )?(?:given|created) prompt\W*:",
    re.IGNORECASE | re.MULTILINE,
)
# Chat templates: special tokens, Llama's and Alpaca's marks.
_MARKUP = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^#{2,}\s*(?:instruction|response|human|assistant|system|user)\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_SYSTEM = re.compile(
    r"\byou are chatgpt\b|\bknowledge cutoff\s*:"
    r"|\A\W*you are an? (?:helpful,? )?(?:and harmless )?(?:ai )?assistant\b",
    re.IGNORECASE,
)
# Verdicts of pairwise judges, and the heading that AlpacaEval's judge reads.
_JUDGE = re.compile(
    r"\[\[\s*[^\W\d_]\s*\]\]|\[\[rating\]\]|\brating:\s*\[\[\d+\]\]|## Model Outputs",
    re.IGNORECASE,
)
