# SPDX-License-Identifier: Apache-2.0
"""Couple proofs: what shows that a paraphrase means the same and that a hard negative
is one, as JSON that can be checked again without a model."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from alignjax import perturb
from alignjax.data.records import ROLES
from alignjax.perturb import Edit, Limits
from data_gen.records import Example
from data_gen.tasks import TASKS, fill, same_answer

CONCERNS = ("wording", "instance")


def prompt_of(proof: Mapping[str, Any], role: str) -> str:
    """The prompt that an example of this role and proof has."""
    is_reworded = role.startswith("paraphrase")
    fields = proof["fields"]
    if is_reworded and proof["concerns"] == "instance":
        fields = proof["reworded"]
    wording = proof["wordings"][is_reworded]
    return fill(wording, TASKS[proof["task"]], fields, proof["labels"])


def compared(proof: Mapping[str, Any]) -> tuple[str, str]:
    """The two texts that say the same: wordings, or an instance in other words."""
    if proof["concerns"] == "instance":
        return "\n".join(proof["fields"].values()), "\n".join(
            proof["reworded"].values()
        )
    original, paraphrase = proof["wordings"]
    return original, paraphrase


def prove(
    *,
    level: str,
    maker: str,
    concerns: str,
    task: str,
    labels: Sequence[str],
    wordings: tuple[str, str],
    fields: Mapping[str, str],
    reworded: Mapping[str, str] | None,
    edits: Sequence[Edit],
    limits: Limits,
    cosine: float | None,
    band: tuple[float, float],
    embedder: str,
    instance: str,
    partner: str,
    answers: tuple[str, str],
) -> dict[str, Any]:
    """The proof of one side of a couple, in both its wordings.

    Args:
      concerns: "wording" where the instruction was reworded, "instance" where the
        input was.
      answers: of this instance and of its partner.

    Returns:
      The arguments, with `distance` and the protected parts of the original.
    """
    proof: dict[str, Any] = {
        "level": level,
        "maker": maker,
        "concerns": concerns,
        "task": task,
        "labels": list(labels),
        "wordings": list(wordings),
        "fields": dict(fields),
        "reworded": dict(reworded or {}),
        "edits": [list(item) for item in edits],
        "distance": perturb.distance(edits),
        "limits": asdict(limits),
        "cosine": cosine,
        "band": list(band),
        "embedder": embedder,
        "instance": instance,
        "partner": partner,
        "answers": list(answers),
    }
    original, _ = compared(proof)
    spans = perturb.protected(original, tuple(labels))
    proof["protected"] = [[*span, original[span.start : span.end]] for span in spans]
    return proof


def flaws(example: Example) -> Iterator[str]:
    """Why an example is not what its proof says, or the proof shows too little."""
    proof = example.proof
    if example.role not in ROLES:
        yield f"has the role {example.role!r}, expected one of {', '.join(ROLES)}"
        return
    if example.prompt[-1].content != prompt_of(proof, example.role):
        yield "the prompt is not its wording filled with its instance"
    own, other = proof["answers"]
    if example.chosen.text != own:
        yield f"the answer is {example.chosen.text!r}, the proof says {own!r}"
    if same_answer(own) == same_answer(other):
        yield f"the hard negative has the same answer: {own!r} and {other!r}"
    if proof["labels"] and own not in proof["labels"]:
        yield f"the answer {own!r} is none of {proof['labels']}"
    original, paraphrase = compared(proof)
    edits = tuple(Edit(*item) for item in proof["edits"])
    found = _flaw(
        original,
        paraphrase,
        edits,
        proof["level"],
        tuple(proof["labels"]),
        Limits(**proof["limits"]),
    )
    if found is not None:
        yield f"the paraphrase is none: {found}"
    if proof["distance"] != perturb.distance(edits):
        yield "proof: distance is not what the edits give"
    spans = perturb.protected(original, tuple(proof["labels"]))
    if proof["protected"] != [[*s, original[s.start : s.end]] for s in spans]:
        yield "proof: protected is not what the original gives"
    least, most = proof["band"]
    if proof["cosine"] is not None and not least <= proof["cosine"] <= most:
        yield f"proof: cosine {proof['cosine']} is outside [{least}, {most}]"


def torn(examples: Sequence[Example]) -> Iterator[str]:
    """What is wrong between the four examples of a couple that are each right."""
    couples: dict[str, dict[str, Example]] = defaultdict(dict)
    for example in examples:
        couples[example.couple][example.role] = example
    for name, own in sorted(couples.items()):
        if set(own) != set(ROLES):
            continue  # the reader of training data says so
        i, i_too, j, j_too = (own[role].proof for role in ROLES)
        if i != i_too or j != j_too:
            yield f"couple {name}: two wordings of an instance have different proofs"
        if (i["instance"], i["partner"]) != (j["partner"], j["instance"]):
            yield f"couple {name}: its instances are not each other's partners"
        if i["answers"] != j["answers"][::-1] or i["level"] != j["level"]:
            yield f"couple {name}: its two proofs disagree"


@functools.lru_cache(maxsize=1 << 16)
def _flaw(
    original: str,
    text: str,
    edits: tuple[Edit, ...],
    level: str,
    labels: tuple[str, ...],
    limits: Limits,
) -> str | None:
    """`perturb.flaw`, which the four examples of a couple ask for."""
    return perturb.flaw(original, text, edits, level, labels=labels, limits=limits)
