# SPDX-License-Identifier: Apache-2.0
"""Proofs: what makes an example's label true, as JSON that can be computed again."""

from collections.abc import Mapping, Sequence
from typing import Any

from alignjax import constraints
from alignjax.constraints import Constraint


def prove(
    asked: Sequence[Constraint], chosen: str, negatives: Sequence[str]
) -> dict[str, Any]:
    """Verdicts and measurements of every answer on every constraint.

    Returns:
      newest: index of the constraint that the first negative fails;
      verifiers: fingerprint of the source behind each type's verdicts;
      chosen: one {verdict, readings} per constraint;
      negatives: per answer its checks and its hardness, the share that passes.
    """
    checked = [_checks(asked, text) for text in negatives]
    return {
        "newest": len(asked) - 1,
        "verifiers": {c.type: constraints.fingerprint(c.type) for c in asked},
        "chosen": _checks(asked, chosen),
        "negatives": [
            {"hardness": _hardness(checks), "checks": checks} for checks in checked
        ],
    }


def flaws(proof: Mapping[str, Any]) -> list[str]:
    """Why a proof does not show what it should; empty if it does.

    The chosen answer passes everything. The first negative passes all but the newest
    constraint, which it fails. Every other negative fails one at least, and no
    verdict about it is in doubt.
    """
    found = []
    for index, check in enumerate(proof["chosen"]):
        if check["verdict"] != "pass":
            found.append(f"chosen: constraint {index} is {check['verdict']}, not pass")
    if not proof["negatives"]:
        found.append("there is no negative")
    for rank, negative in enumerate(proof["negatives"]):
        verdicts = [check["verdict"] for check in negative["checks"]]
        if rank == 0:
            wanted = ["pass"] * proof["newest"] + ["fail"]
            if verdicts != wanted:
                found.append(f"negative 0: verdicts {verdicts}, expected {wanted}")
        elif "fail" not in verdicts or "ambiguous" in verdicts:
            found.append(f"negative {rank}: verdicts {verdicts} show no clear failure")
    return found


def _checks(asked: Sequence[Constraint], text: str) -> list[dict[str, Any]]:
    return [
        {
            "verdict": str(constraints.check(constraint, text)),
            "readings": constraints.measure(constraint, text),
        }
        for constraint in asked
    ]


def _hardness(checks: Sequence[Mapping[str, Any]]) -> float:
    passed = sum(check["verdict"] == "pass" for check in checks)
    return round(passed / max(len(checks), 1), 6)
