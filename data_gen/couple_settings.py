# SPDX-License-Identifier: Apache-2.0
"""Settings of CoIN: where instances come from, and how instructions are reworded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from alignjax.perturb import LEVELS, SEMANTIC, Limits
from data_gen.tasks import OPEN, TASKS
from data_gen.tasks.read import BUILTIN

SEEDS = "seeds"
Maker = Literal["rules", "file", "off"]
_OF_MODELS = ("min_model_similarity", "samples", "temperature", "max_new_tokens")


@dataclass(frozen=True)
class Source:
    """Where instances of a task come from.

    Args:
      task: sentiment, topic, grammar, entailment, paraphrase, word_sense, choice,
        yes_no, claim, word_problem, or open.
      path: a .jsonl, .json or .tsv file, gzipped or not (for their formats see
        `data_gen.tasks.read`), or "builtin" for the project's own; "seeds", the seeds
        of the run, goes with the task open and with no other.
      paraphrases: a file of the same format whose lines are the instances of `path` in
        other words; "" for none.
      labels: what the file calls an answer -> the word to ask for; {} takes the task's.
    """

    task: str
    path: str = BUILTIN
    paraphrases: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(
                f"task: there is no task {self.task!r} (known: {', '.join(TASKS)})"
            )
        if (self.task == OPEN) != (self.path == SEEDS):
            raise ValueError(
                f"path: the task {OPEN!r} and the path {SEEDS!r} go together, got "
                f"{self.task!r} and {self.path!r}"
            )
        if self.labels and not TASKS[self.task].labels:
            raise ValueError(
                f"labels: the answers of {self.task} are texts; leave it out"
            )

    @property
    def name(self) -> str:
        """Distinguishes sources; does not depend on where the file lies."""
        return f"{self.task}/{self.path.replace(chr(92), '/').rpartition('/')[2]}"


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
      min_model_similarity: smallest cosine of a sentence and what a model made of it.
      samples, temperature, max_new_tokens: of a model that rewords. It is asked once
        for each wording, and couples choose among its answers.
      answer_tokens: of the model's greedy answer to a seed that has none.
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
    min_model_similarity: float = 0.8
    samples: int = 8
    temperature: float = 0.6
    max_new_tokens: int = 48
    answer_tokens: int = 128

    def __post_init__(self) -> None:
        least = {"instances": 0, "couples": 0, "held_out": 0, "repeats": 1}
        least |= {"samples": 1, "max_new_tokens": 1, "answer_tokens": 1}
        for name, low in least.items():
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
        if not -1 <= self.min_model_similarity < self.max_similarity:
            raise ValueError(
                "min_model_similarity must be in [-1, max_similarity), got "
                f"{self.min_model_similarity}"
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
        if self.answer_tokens != CoIN.answer_tokens and not self.reads_seeds:
            raise ValueError("answer_tokens: read only where a source is of the seeds")
        if self.semantic != "model":
            for item in dataclasses.fields(self):
                value = dataclasses.asdict(self)[item.name]
                if item.name in _OF_MODELS and value != item.default:
                    raise ValueError(
                        f"{item.name}: only a model that rewords reads it; set "
                        "semantic to 'model', or leave it out"
                    )

    def band(self, level: str) -> tuple[float, float]:
        """Smallest and largest cosine of a rewording at a level."""
        is_model = self.maker(level) == "model"
        least = self.min_model_similarity if is_model else self.min_similarity
        return least, self.max_similarity

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that are on."""
        return tuple(level for level in LEVELS if self.maker(level) != "off")

    def maker(self, level: str) -> str:
        """Who rewords at a level."""
        makers = (self.character, self.word, self.sentence, self.semantic)
        return dict(zip(LEVELS, makers, strict=True))[level]

    @property
    def reads_seeds(self) -> bool:
        return any(source.path == SEEDS for source in self.sources)

    @property
    def limits(self) -> Limits:
        return Limits(self.edits, self.distance, self.growth)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        own = tuple(Source(task) for task in TASKS if task != OPEN)
        return self.sources or own
