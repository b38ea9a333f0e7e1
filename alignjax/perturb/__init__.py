# SPDX-License-Identifier: Apache-2.0
"""Perturbations: an instruction in other words that asks for the same thing.

Four levels, as in PromptBench (Zhu et al. 2023, arXiv:2306.04528): slips in characters,
other words, added sentences, another phrasing. What decides the meaning is protected
(`spans`), every change is recorded (`edits`) and checked on the texts alone
(`meaning`). Nothing is random but what follows from a name.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from alignjax.perturb import characters, phrasing, sentences, words
from alignjax.perturb.edits import Edit, apply, script
from alignjax.perturb.meaning import SEMANTIC, Limits, distance, flaw
from alignjax.perturb.phrasing import form
from alignjax.perturb.spans import Span, named, protected

__all__ = [
    "LEVELS",
    "Edit",
    "Limits",
    "Perturbed",
    "Span",
    "apply",
    "distance",
    "flaw",
    "form",
    "named",
    "perturb",
    "protected",
    "script",
]

_RULES = {
    "character": characters.slips,
    "word": words.substitutions,
    "sentence": sentences.additions,
    SEMANTIC: phrasing.rewordings,
}
LEVELS = tuple(_RULES)
_DRAWS = 12


@dataclass(frozen=True)
class Perturbed:
    """A reworded instruction; `edits` turn the original into `text`."""

    text: str
    level: str
    edits: tuple[Edit, ...]


def perturb(
    text: str,
    level: str,
    *,
    name: str,
    labels: Sequence[str] = (),
    alternatives: Sequence[str] = (),
    limits: Limits | None = None,
) -> Perturbed | None:
    """Reword an instruction so that it asks for the same thing.

    Args:
      text: the instruction.
      level: one of LEVELS.
      name: decides what is drawn: equal arguments give equal results.
      labels: answers that the instruction may name; they stay.
      alternatives: other wordings of the whole instruction, for the semantic level;
        where there are none, its opening and its constraints are reworded.
      limits: the budget; its defaults where None.

    Returns:
      A rewording without a flaw (see `flaw`), or None where none was found.

    Raises:
      ValueError: there is no such level.

    >>> reworded = perturb("Decide if 7 is odd.", "semantic", name="example")
    >>> print(reworded.text)
    You are asked to decide if 7 is odd.
    """
    if level not in _RULES:
        raise ValueError(f"no level {level!r} (known: {', '.join(LEVELS)})")
    limits = limits or Limits()
    spans = protected(text, labels)
    for draw in range(_DRAWS):
        content = "\x1f".join(("perturb", level, name, str(draw)))
        rng = random.Random(hashlib.sha256(content.encode()).digest())
        if level == SEMANTIC and alternatives:
            edits = phrasing.template(text, alternatives, rng)
        else:
            edits = _RULES[level](text, spans, rng, rng.randint(1, limits.edits))
        edits.sort(key=lambda item: item.start)
        reworded = apply(text, edits)
        found = flaw(text, reworded, edits, level, labels=labels, limits=limits)
        if found is None:
            return Perturbed(reworded, level, tuple(edits))
    return None
