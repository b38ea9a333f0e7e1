# SPDX-License-Identifier: Apache-2.0
"""Case: one task under one contrast, from its prompt to its example."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from alignjax import constraints
from alignjax.constraints import Constraint
from data_gen import filters
from data_gen.demonstrations import STOCK
from data_gen.engines import Generate, Generation, Settings
from data_gen.prompts import instruct, known_types
from data_gen.records import Example, Message
from data_gen.seeds import Seed
from data_gen.strategies import Context, Trail, draw
from data_gen.strategies.answers import Answer
from data_gen.strategies.popalign import oracle, wording
from data_gen.strategies.popalign.oracle import Asked, Comparison, Replies
from data_gen.strategies.popalign.settings import STRATEGIES, Gap, PopAlign

NAME = "popalign"
_DRAWS = 4  # parameters tried of a constraint type before the next type


class Prompt(NamedTuple):
    """What is asked last, the constraints that stand in it, the turns before it, which
    every request begins with, and the sentences of `text` that were added to a task."""

    text: str
    asked: tuple[Constraint, ...] = ()
    history: tuple[Message, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def bare(self) -> tuple[Message, ...]:
        """The last turn as it is asked where nothing is added."""
        return (Message("user", self.text),)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt of the example."""
        return (*self.history, *self.bare)

    @property
    def whole(self) -> str:
        """All of it as one text, for a judge."""
        turns = [f"{turn.role}: {turn.content}" for turn in self.history]
        return "\n\n".join([*turns, self.text])


@dataclass(frozen=True)
class Side:
    """What one of the two answers is asked with after the prompt's history, and how it
    is read.

    `is_told` says that the request says which side it is (so an answer must not),
    `is_elicited` that the answer stands behind a label, `is_refined` that it is a
    second version, `may_refuse` that a refusal is an answer.
    """

    messages: tuple[Message, ...]
    engine: str = ""
    is_told: bool = False
    is_elicited: bool = False
    is_refined: bool = False
    may_refuse: bool = False


class Found(NamedTuple):
    """An answer and the request that gave it; None where it came with the seed."""

    answer: Answer
    request: Generate | None


Finding = Generator[tuple[Generate, ...], Replies, dict[str, Found]]


@dataclass(frozen=True)
class Case:
    """One task under one contrast or baseline, `name`. The judge, where it is the
    oracle, looks at the pair if `is_judged`."""

    name: str
    task: Seed
    split: str
    prompt: Prompt
    config: PopAlign
    context: Context
    is_judged: bool
    trail: Trail

    @property
    def lineage(self) -> str:
        return f"{STRATEGIES[self.name]}/{self.context.seed}/{self.task.id}"

    def request(self, step: str, side: Side, n: int = 1) -> Generate:
        """The request of a side. Its seed depends on task and step, not on the
        contrast, so what two contrasts ask alike is sampled once."""
        config, context = self.config, self.context
        settings = Settings(
            temperature=config.temperature,
            top_p=config.top_p,
            max_new_tokens=config.max_new_tokens
            + config.thought_tokens * side.is_elicited,
        )
        messages = (*self.prompt.history, *side.messages)
        asked = context.ask(
            self.lineage, step, messages, n, settings, engine=side.engine
        )
        seed = draw(context.seed, NAME, self.task.id, step)
        return replace(asked, seed=seed) if config.temperature else asked

    def accept(
        self, sample: Generation, request: Generate, side: Side, step: str
    ) -> Answer | None:
        """The sample as an answer if it passes the gates; else it goes on the trail."""
        context = self.context
        text, reason = sample.text, filters.unfinished(sample.finish_reason)
        if side.is_elicited and reason is None:
            text = wording.response_field(text) or ""
            reason = None if text else "no_response_field"
        reason = reason or self._flaw(text, side)
        name = context.generation(request, sample.sample)
        if reason is not None:
            self.trail.drop(
                0, "answer", reason, text=sample.text, generation=name, detail=step
            )
            return None
        _, facts = context.identity(side.engine)
        ids = sample.token_ids
        # Ids of another tokenizer, or of a text with its thought, are not this text's.
        is_own = facts.get("template") == context.facts.get("template")
        is_whole = is_own and not side.is_elicited
        return Answer(
            text=text,
            kind="sample",
            token_ids=ids if is_whole else (),
            generation=name,
            sum_logprob=sample.sum_logprob if ids and is_whole else None,
        )

    def _flaw(self, text: str, side: Side) -> str | None:
        gates = self.context.gates
        # An answer that repeats "end with ..." would meet it without being an answer.
        prompt = self.prompt
        parts = (*wording.parts(side.messages, prompt.text), *prompt.added)
        reason = filters.answer(text, "stop", parts, gates)
        if reason == "refusal" and side.may_refuse:
            reason = (
                filters.echo(text, parts)
                or filters.too_short(text, gates.min_words)
                or filters.repetitive(text, gates.max_repetition)
            )
        if reason is None and (side.is_told or side.is_refined):
            reason = wording.leak(text, is_refined=side.is_refined)
        return reason

    def answers(self, sides: Mapping[str, Side], taken: Sequence[str] = ()) -> Finding:
        """One answer for each side, different from each other and from `taken`.

        A side is asked again, with another seed, until it has one or attempts run out.
        """
        found: dict[str, Found] = {}
        tried: set[tuple[str, str]] = set()
        for attempt in range(self.config.attempts):
            requests = {
                name: self.request(f"{name}/{attempt}", side)
                for name, side in sides.items()
                if name not in found
            }
            replies = yield tuple(requests.values())
            for (name, request), (sample,) in zip(
                requests.items(), replies, strict=True
            ):
                if (name, sample.text) in tried:
                    continue  # greedy and recorded engines repeat themselves
                tried.add((name, sample.text))
                step = f"{name}/{attempt}"
                answer = self.accept(sample, request, sides[name], step)
                if answer is None:
                    continue
                others = [*taken, *(other.answer.text for other in found.values())]
                if any(is_same(answer.text, other) for other in others):
                    self.trail.drop(
                        0,
                        "pair",
                        "identical",
                        text=answer.text,
                        generation=answer.generation,
                        detail=step,
                    )
                    continue
                found[name] = Found(answer, request)
            if len(found) == len(sides):
                break
        return found

    def compare(self, better: str, worse: str, step: str = "pair") -> Asked:
        """What the oracle in charge says; "none" where there is none."""
        config, context = self.config, self.context
        if self.prompt.asked:
            return oracle.verify(self.prompt.asked, better, worse)
        if config.oracle == "reward" and context.reward is not None:
            return oracle.reward(context.reward, self.prompt.messages, better, worse)
        if config.oracle == "judge" and self.is_judged:
            return (yield from self.judge(better, worse, step))
        return Comparison("none", "undecided")

    def judge(self, better: str, worse: str, step: str) -> Asked:
        """What the judge says, whatever else could decide."""
        return (
            yield from oracle.judge(
                f"{self.lineage}/{step}",
                self.prompt.whole,
                better,
                worse,
                engine=self.config.judge,
                variant=self.config.variant,
                context=self.context,
            )
        )

    def measured(self, better: Found, worse: Found, gap: Gap | None = None):
        """The end of a case: measure the pair, drop it or make it an example."""
        comparison = yield from self.compare(better.answer.text, worse.answer.text)
        if comparison.oracle != "none":
            self.trail.count(0, oracle.stage(comparison))
        is_dropper = self.config.drop in ("any", comparison.oracle)
        if comparison.verdict == "lost" and is_dropper:
            self.trail.drop(
                0,
                "oracle",
                "contradicted",
                text=better.answer.text,
                generation=better.answer.generation,
                detail=f"by the {comparison.oracle}",
            )
            return
        self.export(better, worse, comparison, gap=gap)

    def export(
        self,
        better: Found,
        worse: Found | None,
        comparison: Comparison,
        *,
        label: Comparison | None = None,
        gap: Gap | None = None,
    ) -> None:
        """Write the example. `label` is what chose the answers, where construction
        did not; `comparison` is what measured them."""
        proof: dict[str, Any] = {
            "kind": "contrast",
            "contrast": self.name,
            "evidence": evidence(comparison, label),
            "wording": wording.fingerprint(),
        }
        if comparison.oracle != "none":
            proof["oracle"] = comparison.to_json()
        if label is not None:
            proof["label"] = label.to_json()
        if gap is not None:
            proof["gap"] = gap._asdict()
        self.trail.examples.append(
            Example(
                strategy=STRATEGIES[self.name],
                root_id=self.task.id,
                parent_id=self.task.id,
                round=0,
                split=self.split,
                prompt=self.prompt.messages,
                chosen=better.answer.response(),
                negatives=(worse.answer.negative("sample", 0),) if worse else (),
                constraints=tuple(item.to_json() for item in self.prompt.asked),
                proof=proof,
                provenance={
                    "task": self.task.whole,
                    "contrast": self.name,
                    "variant": self.config.variant,
                    "better": self._origin(better),
                    "worse": self._origin(worse),
                },
                weight=self.config.weights.get(self.name, 1.0),
            )
        )
        self.trail.count(0, "pairs")

    def _origin(self, found: Found | None) -> dict[str, Any]:
        """Engine, settings and seed of a side; {} of one that nobody sampled."""
        if found is None or found.request is None:
            return {}
        facts = self.context.provenance(found.request, "")
        return {
            "name": found.request.engine,
            **{name: value for name, value in facts.items() if name != "task"},
        }


def evidence(comparison: Comparison, label: Comparison | None) -> str:
    """What the label rests on: "programmatic", "judged" or "construction"."""
    if any(found and oracle.proves(found) for found in (comparison, label)):
        return "programmatic"
    return "judged" if label else "construction"


def is_same(first: str, second: str) -> bool:
    """Whether two answers have the same words, whatever their case and punctuation."""
    return filters.normalised(first) == filters.normalised(second)


def prompt_of(task: Seed, config: PopAlign, context: Context) -> Prompt | None:
    """The task, with the constraints that the config asks for; the same for every
    contrast. None where no wording, or no set that can be met, was found."""
    stated = constraints.parse(task.text)
    if not config.constraints:
        return Prompt(task.text, stated, task.history)
    name = f"{NAME}/{context.seed}/{task.id}"
    rng = random.Random(draw(name, "constraints"))
    types = known_types(config.types)
    added: list[Constraint] = []
    for kind in sorted(types, key=lambda kind: draw(name, "type", kind)):
        if len(added) == config.constraints:
            break
        if kind in {item.type for item in stated}:
            continue
        for _ in range(_DRAWS):
            drawn = constraints.sample(kind, rng, topic=task.text)
            # An edited stock answer shows that all of it can be met at once.
            if constraints.compose([*stated, *added, drawn], STOCK[0][1]) is not None:
                added.append(drawn)
                break
    instruction = instruct(task.text, added, name)
    if len(added) < config.constraints or instruction is None:
        return None
    asked = constraints.parse(instruction.text)
    return Prompt(instruction.text, asked, task.history, instruction.parts)
