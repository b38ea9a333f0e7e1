# SPDX-License-Identifier: Apache-2.0
"""Audit: whether a stored contrast shows what its proof says, without a model."""

from __future__ import annotations

from collections.abc import Iterator

from alignjax import constraints
from alignjax.constraints import Constraint
from data_gen import filters
from data_gen.records import Example
from data_gen.strategies.popalign import oracle, wording
from data_gen.strategies.popalign.case import evidence, is_same
from data_gen.strategies.popalign.oracle import Comparison
from data_gen.strategies.popalign.settings import STRATEGIES

_TOLD = ("prefix", "demonstration", "elicitive", "rlcd", "context_distillation")
_MODELS = ("parameters", "leaderboard")


def flaws(example: Example) -> Iterator[str]:
    """One line for everything that is wrong; none if nothing is.

    Verdicts of verifiers are computed again from the texts. A judge's or a reward's
    cannot be; they must follow from the letters or numbers that are stored.
    """
    proof = example.proof
    name = proof.get("contrast", "")
    if proof.get("kind") != "contrast" or STRATEGIES.get(name) != example.strategy:
        yield f"proof: is not of {example.strategy}"
        return
    texts = [example.chosen.text, *(negative.text for negative in example.negatives)]
    if len(texts) != (1 if name == "context_distillation" else 2):
        yield f"has {len(texts) - 1} negatives"
        return
    if len(texts) == 2 and is_same(*texts):
        yield "the answers have the same words"
    for place, text in enumerate(texts):
        is_refined = name == "refine" and place == 0
        leak = wording.leak(text, is_refined=is_refined)
        if leak and (name in _TOLD or is_refined):
            yield f"answer {place}: {leak}"
    if name == "refine" and filters.refusal(texts[0]):
        yield "the refined answer is a refusal"
    if name in _MODELS and "gap" not in proof:
        yield "proof: does not say how far apart the models are"
    if example.constraints != tuple(
        item.to_json() for item in constraints.parse(example.prompt[-1].content)
    ):
        yield "the prompt states other constraints"
    yield from _comparisons(example, texts)


def _comparisons(example: Example, texts: list[str]) -> Iterator[str]:
    asked = [Constraint.from_json(dict(value)) for value in example.constraints]
    known: dict[str, Comparison | None] = {"oracle": None, "label": None}
    for part in known:
        stored = example.proof.get(part)
        if stored is None:
            continue
        facts = {k: v for k, v in stored.items() if k not in ("oracle", "verdict")}
        known[part] = Comparison(stored["oracle"], stored["verdict"], facts)
        if part == "label" and stored["verdict"] != "won":
            yield f"proof: the label's verdict is {stored['verdict']}"
        if stored["oracle"] == "verifiers":
            found = oracle.verify(asked, *texts).to_json()
            for name in ("verdict", "chosen", "negatives"):
                if found[name] != stored.get(name):
                    yield f"proof: {part}'s {name} is not what the texts give"
        elif stored["oracle"] == "judge":
            if oracle.choice(stored["choices"]) != stored["verdict"]:
                yield f"proof: {part}'s verdict does not follow from its letters"
        else:
            high, low = stored["rewards"]
            if oracle.order(high, low) != stored["verdict"]:
                yield f"proof: {part}'s verdict does not follow from its rewards"
    is_measured = known["oracle"] or known["label"]
    if asked and len(texts) == 2 and is_measured is None:
        yield "proof: no verifier has looked at an example with constraints"
    found = evidence(known["oracle"] or Comparison("none", "undecided"), known["label"])
    if found != example.proof.get("evidence"):
        yield f"proof: evidence is {example.proof.get('evidence')}, should be {found}"
