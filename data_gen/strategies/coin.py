# SPDX-License-Identifier: Apache-2.0
"""CoIN: contrastive instruction tuning, Yan et al. 2024 (arXiv:2402.11138).

A couple is one instruction over two instances with different answers, each in the
original wording and in a paraphrase: the paraphrase is the positive, the other instance
under the same instruction the hard negative. The paper paraphrases by FLAN's templates;
here other levels of perturbation come beside them, and each is checked for its meaning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alignjax.perturb import LEVELS, SEMANTIC, Limits
from data_gen import paraphrase
from data_gen.couple_proof import prompt_of, prove
from data_gen.couples import NAME, Couple, Pool, Side, Source, gather, pair_up
from data_gen.engines import Generate, Generation, Settings
from data_gen.paraphrase import Candidate
from data_gen.records import Example, Message, Rejected, Response, digest
from data_gen.seeds import SplitFractions
from data_gen.strategies import Context, Lineage, Steps, Trail, draw
from data_gen.tasks import TASKS
from data_gen.tasks import read as reading
from data_gen.tasks.recorded import Recorded, recorded

STAGES = ("couples", "reworded", "exported")
Maker = Literal["rules", "file", "off"]
_SAMPLING = ("samples", "temperature", "max_new_tokens")


@dataclass(frozen=True)
class CoIN:
    """Which instances are coupled, and how their instructions are reworded.

    Args:
      sources: files of instances; () takes the project's own of every task.
      instances: of each source at most; 0 takes all.
      repeats: how often all instances are paired, each time otherwise.
      couples: training couples at most; 0 takes all.
      held_out: couples of the validation split at most, and of the test split again.
      negatives: "same_task" holds an instance against another of its source, under the
        same instruction; "other_task" against one of another source (the ablation).
      character, word, sentence: who rewords at this level: "rules", "file", or "off"
        for nobody. Couples take the levels that are on in turn.
      semantic: the same, or "model".
      recorded: file of recorded wordings, for levels whose maker is "file".
      edits, distance, growth: see `alignjax.perturb.Limits`.
      min_similarity, max_similarity: smallest and largest cosine of a wording and its
        paraphrase, in [-1, 1]; read only where an embedder is given.
      samples, temperature, max_new_tokens: of a model that rewords. It is asked once
        for each wording, and couples choose among its answers.
    """

    sources: tuple[Source, ...] = ()
    instances: int = 0
    repeats: int = 4
    couples: int = 0
    held_out: int = 0
    negatives: Literal["same_task", "other_task"] = "same_task"
    character: Maker = "rules"
    word: Maker = "rules"
    sentence: Maker = "rules"
    semantic: Literal["rules", "file", "model", "off"] = "rules"
    recorded: str = ""
    edits: int = 3
    distance: int = 40
    growth: float = 2.5
    min_similarity: float = 0.4
    max_similarity: float = 0.9999
    samples: int = 8
    temperature: float = 0.9
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        least = {"instances": 0, "couples": 0, "held_out": 0, "repeats": 1}
        for name, low in {**least, "samples": 1, "max_new_tokens": 1}.items():
            value = dataclasses.asdict(self)[name]
            if value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        Limits(self.edits, self.distance, self.growth)
        if self.temperature <= 0:
            raise ValueError(
                f"temperature must be above 0, got {self.temperature}: greedy samples "
                "are all the same"
            )
        if not -1 <= self.min_similarity < self.max_similarity <= 1:
            raise ValueError(
                "similarities must be -1 <= min_similarity < max_similarity <= 1, got "
                f"{self.min_similarity} and {self.max_similarity}"
            )
        if not self.levels:
            raise ValueError(f"all of {', '.join(LEVELS)} are off; turn one on")
        self._check_makers()

    def _check_makers(self) -> None:
        """What is read must be there, and what is there must be read."""
        by_file = [level for level in LEVELS if self.maker(level) == "file"]
        reworded = [source for source in self.sources if source.paraphrases]
        if self.recorded and not by_file:
            raise ValueError("recorded: no level reads it; set one of them to 'file'")
        if reworded and self.semantic != "file":
            raise ValueError(
                f"sources: the paraphrases of {reworded[0].name} are not read; set "
                "semantic to 'file'"
            )
        lacking = [level for level in by_file if level != SEMANTIC]
        if len(reworded) < max(len(self.sources), 1) and SEMANTIC in by_file:
            lacking.append(SEMANTIC)
        if lacking and not self.recorded:
            raise ValueError(
                f"{lacking[0]} is 'file', but there is no file: give `recorded`"
                + (", or `paraphrases` of each source" * (lacking == [SEMANTIC]))
            )
        if self.semantic != "model":
            for item in dataclasses.fields(self):
                value = dataclasses.asdict(self)[item.name]
                if item.name in _SAMPLING and value != item.default:
                    raise ValueError(
                        f"{item.name}: only a model that rewords reads it; set "
                        "semantic to 'model', or leave it out"
                    )

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that are on."""
        return tuple(level for level in LEVELS if self.maker(level) != "off")

    def maker(self, level: str) -> str:
        """Who rewords at a level."""
        makers = (self.character, self.word, self.sentence, self.semantic)
        return dict(zip(LEVELS, makers, strict=True))[level]

    @property
    def limits(self) -> Limits:
        return Limits(self.edits, self.distance, self.growth)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        return self.sources or tuple(Source(task) for task in TASKS)


@dataclass(frozen=True)
class Plan:
    """The couples of a run, what a file has recorded, and what was dropped."""

    couples: tuple[Couple, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def load(
    config: CoIN, splits: SplitFractions, *, seed: int, near_duplicate: float
) -> Plan:
    """Read the sources and couple their instances.

    Raises:
      ValueError: a file cannot be read, or no training couple is left.
    """
    pool: Pool = gather(
        config.all_sources,
        splits,
        seed=seed,
        limit=config.instances,
        near_duplicate=near_duplicate,
    )
    most = {"train": config.couples}
    if config.held_out:
        most |= {"validation": config.held_out, "test": config.held_out}
    couples, dropped = pair_up(
        pool,
        seed=seed,
        levels=config.levels,
        repeats=config.repeats,
        is_mixed=config.negatives == "other_task",
        most=most,
    )
    if not any(couple.split == "train" for couple in couples):
        raise ValueError(
            "coin: no training couple: two training instances of a source must have "
            "different answers; give more instances, or a larger splits.train"
        )
    known = recorded(config.recorded) if config.recorded else ()
    return Plan(tuple(couples), known, (*pool.rejected, *dropped))


def fingerprint(config: CoIN) -> str:
    """sha256 of the content of all files that are read, by the names they go by."""
    read = reading.fingerprint
    files = [
        [source.name, read(source.path), *map(read, filter(None, [source.paraphrases]))]
        for source in config.all_sources
    ]
    return digest([*files, *map(read, filter(None, [config.recorded]))])


def plan(made: Plan, config: CoIN, context: Context) -> list[Lineage]:
    """One lineage per couple."""
    return [
        Lineage(
            f"{NAME}/{couple.name}",
            len(_asked(couple)) * config.samples
            if config.maker(couple.level) == "model"
            else 0,
            contrast(couple, made.recorded, config, context),
        )
        for couple in made.couples
    ]


@dataclass(frozen=True)
class _Rewording:
    """What became of one side of a couple."""

    concerns: str
    candidate: Candidate
    cosine: float | None
    request: Generate | None


def contrast(
    couple: Couple, found: Sequence[Recorded], config: CoIN, context: Context
) -> Steps:
    """The coroutine of one couple; see the module."""
    trail = Trail(NAME, couple.i.instance.root_id, couple.split)
    trail.count(0, "couples")
    requests: dict[str, tuple[str, str, Generate]] = {}
    answers: dict[str, tuple[Generation, ...]] = {}
    if config.maker(couple.level) == "model":
        for side in _asked(couple):
            requests[side.source] = _request(couple, side, config, context)
        received = yield tuple(request for _, _, request in requests.values())
        answers = dict(zip(requests, received, strict=True))
    rewordings: dict[str, _Rewording] = {}
    for key, side in _reworded(couple).items():
        request, concerns = None, "wording"
        if side.reworded is not None and couple.level == SEMANTIC:
            concerns = "instance"
            candidates = paraphrase.by_instance(
                side.instance, side.reworded, side.labels, config.limits
            )
        elif side.source in requests:
            wording, asked, request = requests[side.source]
            samples = [
                (context.generation(request, sample.sample), sample)
                for sample in answers[side.source]
            ]
            samples.sort(key=lambda item: draw(couple.name, item[0]))
            candidates = paraphrase.by_model(
                wording, asked, samples, side.labels, config.limits
            )
        else:
            candidates = _candidates(couple, side, found, config)
        band = (config.min_similarity, config.max_similarity)
        kept = paraphrase.first(candidates, band, context.embed, trail)
        if kept is None:
            trail.drop(
                0,
                "couple",
                "no_rewording",
                detail=f"{couple.name}: {couple.level} level, {side.source}",
                text=side.instance.text,
            )
            return trail.outcome()
        rewordings[key] = _Rewording(concerns, *kept, request)
    trail.count(0, "reworded")
    for name, side, other in (("i", couple.i, couple.j), ("j", couple.j, couple.i)):
        rewording = rewordings[_key(side, couple)]
        trail.examples.extend(
            _examples(couple, name, side, other, rewording, config, context)
        )
    return trail.outcome()


def _key(side: Side, couple: Couple) -> str:
    """Sides of one key share their paraphrase: all of a source, unless the instances
    themselves are reworded."""
    if side.reworded is not None and couple.level == SEMANTIC:
        return side.instance.id
    return side.source


def _reworded(couple: Couple) -> dict[str, Side]:
    return {_key(side, couple): side for side in (couple.j, couple.i)}


def _asked(couple: Couple) -> list[Side]:
    """The sides whose wording a model is asked for."""
    return list({side.source: side for side in (couple.j, couple.i)}.values())


def _request(
    couple: Couple, side: Side, config: CoIN, context: Context
) -> tuple[str, str, Generate]:
    """A wording, the sentence of it that is asked for, and the request. Couples that
    took the same wording share its samples: only the key is their own."""
    wording, asked, messages = paraphrase.question(
        TASKS[side.task].wordings, f"{couple.name}/{side.source}"
    )
    settings = Settings(
        temperature=config.temperature, max_new_tokens=config.max_new_tokens
    )
    name = f"{NAME}/{context.seed}"
    request = context.ask(name, asked, messages, config.samples, settings)
    key = digest([couple.name, side.source])[:32]
    return wording, asked, dataclasses.replace(request, key=key)


def _candidates(
    couple: Couple, side: Side, found: Sequence[Recorded], config: CoIN
) -> Iterator[Candidate]:
    name = f"{couple.name}/{side.source}"
    if config.maker(couple.level) == "file":
        yield from paraphrase.by_file(
            found, side.task, couple.level, name, side.labels, config.limits
        )
    else:
        yield from paraphrase.by_rules(
            TASKS[side.task].wordings, couple.level, name, side.labels, config.limits
        )


def _examples(
    couple: Couple,
    name: str,
    side: Side,
    other: Side,
    rewording: _Rewording,
    config: CoIN,
    context: Context,
) -> Iterator[Example]:
    """One instance in its original wording and in the paraphrase."""
    candidate, own = rewording.candidate, side.instance
    wordings = (candidate.original, candidate.text)
    if rewording.concerns == "instance":
        wordings = (_wording(couple, side), _wording(couple, side))
    proof = prove(
        level=couple.level,
        maker=config.maker(couple.level),
        concerns=rewording.concerns,
        task=side.task,
        labels=side.labels,
        wordings=wordings,
        fields=own.fields,
        reworded=side.reworded.fields
        if side.reworded and rewording.concerns == "instance"
        else None,
        edits=candidate.edits,
        limits=config.limits,
        cosine=rewording.cosine,
        band=(config.min_similarity, config.max_similarity),
        embedder=context.embed.fingerprint if context.embed else "",
        instance=own.id,
        partner=other.instance.id,
        answers=(own.answer, other.instance.answer),
    )
    provenance: dict[str, Any] = {"task": own.text, "source": side.source}
    if rewording.request is not None:
        provenance = {**context.provenance(rewording.request, own.text), **provenance}
        provenance["generation"] = candidate.generation
    for wording in ("original", "paraphrase"):
        role = f"{wording}_{name}"
        yield Example(
            strategy=NAME,
            root_id=own.root_id,
            parent_id=own.id,
            round=0,
            split=couple.split,
            prompt=(Message("user", prompt_of(proof, role)),),
            chosen=Response(own.answer, "given"),
            negatives=(),
            proof=proof,
            provenance=provenance,
            couple=couple.name,
            role=role,
        )


def _wording(couple: Couple, side: Side) -> str:
    """The wording of a couple whose instances are reworded: the same for both."""
    wordings = TASKS[side.task].wordings
    return wordings[draw(couple.name, "wording", side.source) % len(wordings)]
