# SPDX-License-Identifier: Apache-2.0
"""Oracles: whether the preferred answer of a pair is the better one.

The share of pairs for which it is, of those that are decided, is the contrast accuracy
(PopAlign, arXiv:2410.13785, table 2, where GPT-4 and PairRM are the oracles). Verifiers
decide where the prompt carries constraints. A judge is an engine that is asked in both
orders and counts as tied where its choice follows the order; it is weak evidence.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from alignjax.constraints import Constraint
from alignjax.eval.contrast import wilson
from data_gen.engines import Generate, Generation, Settings
from data_gen.proof import prove
from data_gen.records import Message
from data_gen.strategies import Context, Reward, Stages
from data_gen.strategies.popalign.wording import judgement, letter

VERDICTS = ("won", "lost", "tied", "undecided")
ORACLES = ("verifiers", "judge", "reward")
WEAK = ("judge",)
_REPLY_TOKENS = 8

Replies = tuple[tuple[Generation, ...], ...]
Asked = Generator[tuple[Generate, ...], Replies, "Comparison"]


@dataclass(frozen=True)
class Comparison:
    """What an oracle says of a pair: the preferred answer has "won", "lost", "tied",
    or that is "undecided"; `facts` is JSON with what it rests on."""

    oracle: str
    verdict: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"oracle": self.oracle, "verdict": self.verdict, **self.facts}


class Accuracy(NamedTuple):
    """Pairs by verdict; `accuracy` is won / (won + lost), with its 95 % interval
    (Wilson 1927); all three None where nothing is decided."""

    won: int
    lost: int
    tied: int
    undecided: int
    accuracy: float | None
    low: float | None
    high: float | None


def accuracy(verdicts: Iterable[str]) -> Accuracy:
    """The contrast accuracy over the verdicts of many pairs."""
    counts = Counter(verdicts)
    won, lost, tied, undecided = (counts.pop(verdict, 0) for verdict in VERDICTS)
    if counts:
        raise ValueError(
            f"verdicts are {', '.join(VERDICTS)}; got {', '.join(map(repr, counts))}"
        )
    n = won + lost
    if not n:
        return Accuracy(won, lost, tied, undecided, None, None, None)
    return Accuracy(won, lost, tied, undecided, won / n, *wilson(won, n))


def order(better: float | None, worse: float | None) -> str:
    """The verdict from the scores of the two answers, such as how many of the
    instructions each follows; None is a score that is in doubt."""
    if better is None or worse is None:
        return "undecided"
    return "tied" if better == worse else "won" if better > worse else "lost"


def verify(asked: Sequence[Constraint], better: str, worse: str) -> Comparison:
    """Verifiers: won where `better` meets more of the constraints than `worse`, with
    no verdict in doubt. The facts are those of `proof.prove`."""
    proof = prove(asked, better, [worse])
    facts = {name: proof[name] for name in ("verifiers", "chosen", "negatives")}
    met = map(_met, (facts["chosen"], facts["negatives"][0]["checks"]))
    return Comparison("verifiers", order(*met), facts)


def proves(comparison: Comparison) -> bool:
    """Whether verifiers leave no doubt: the preferred answer meets all constraints and
    the other fails one."""
    if (comparison.oracle, comparison.verdict) != ("verifiers", "won"):
        return False
    return all(check["verdict"] == "pass" for check in comparison.facts["chosen"])


def _met(checks: Sequence[Mapping[str, Any]]) -> int | None:
    verdicts = [check["verdict"] for check in checks]
    return None if "ambiguous" in verdicts else verdicts.count("pass")


def reward(
    score: Reward, prompt: Sequence[Message], better: str, worse: str
) -> Comparison:
    """A reward: won where `better` scores higher."""
    high, low = scores(score, prompt, [better, worse])
    facts = {"rewards": [high, low], "reward": score.fingerprint}
    return Comparison("reward", order(high, low), facts)


def scores(
    score: Reward, prompt: Sequence[Message], answers: Sequence[str]
) -> list[float]:
    """One number per answer, rounded to six digits.

    Raises:
      ValueError: the reward gave another count, or something that is no number.
    """
    found = [round(float(value), 6) for value in score(prompt, answers)]
    if len(found) != len(answers) or not all(map(math.isfinite, found)):
        raise ValueError(
            f"the reward {score.fingerprint!r} must give one finite number per answer; "
            f"it gave {found} for {len(answers)} answers"
        )
    return found


def judge(
    name: str,
    prompt: str,
    better: str,
    worse: str,
    *,
    engine: str,
    variant: str,
    context: Context,
) -> Asked:
    """A judge, asked greedily with each answer in first place once.

    Won or lost where both replies choose the same answer; tied where both choose the
    same place; undecided where a reply is no choice.

    Args:
      name: of the question; decides the requests' keys.
      prompt, better, worse: texts; constraints are no part of the question.
      engine: name of the judge's engine.
      variant: of the wording.
      context: of the run.
    """
    settings = Settings(temperature=0.0, max_new_tokens=_REPLY_TOKENS)
    orders = ((better, worse), (worse, better))
    requests = tuple(
        context.ask(
            name,
            f"judge/{number}",
            tuple(judgement(prompt, *order, variant)),
            1,
            settings,
            engine=engine,
        )
        for number, order in enumerate(orders)
    )
    replies = yield requests
    choices = [letter(samples[0].text) for samples in replies]
    facts = {
        "engine": context.identity(engine).fingerprint,
        "choices": choices,
        "generations": [context.generation(request, 0) for request in requests],
    }
    return Comparison("judge", choice(choices), facts)


def choice(letters: Sequence[str]) -> str:
    """The verdict from the letters chosen with the preferred answer as A, then as B."""
    known = {"AB": "won", "BA": "lost", "AA": "tied", "BB": "tied"}
    return known["".join(letters)] if all(letters) else "undecided"


def stage(comparison: Comparison) -> str:
    """The stage under which a comparison is counted."""
    return f"{comparison.oracle}_{comparison.verdict}"


COUNTED = tuple(f"{oracle}_{verdict}" for oracle in ORACLES for verdict in VERDICTS)


def measured(stages: Stages) -> list[dict[str, Any]]:
    """Contrast accuracy per strategy and oracle, from the counts of a run."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for (strategy, _, name), count in stages.items():
        oracle, _, verdict = name.partition("_")
        if name in COUNTED:
            found.setdefault((strategy, oracle), Counter())[verdict] += count
    return [
        {
            "strategy": strategy,
            "oracle": oracle,
            "is_weak": oracle in WEAK,
            **accuracy(counts.elements())._asdict(),
        }
        for (strategy, oracle), counts in sorted(found.items())
    ]
