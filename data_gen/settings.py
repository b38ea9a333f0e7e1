# SPDX-License-Identifier: Apache-2.0
"""Settings: what the config of `data-gen run` may say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from data_gen import seeds
from data_gen.couple_settings import CoIN
from data_gen.engines import choice
from data_gen.engines.choice import EngineChoice, OpenAIServer
from data_gen.filters import Gates
from data_gen.prompts import Evaluation
from data_gen.seeds import SeedSource, SplitFractions
from data_gen.strategies.ecd import ECD
from data_gen.strategies.popalign import PopAlign
from data_gen.strategies.self_contrast import SelfContrast


@dataclass(frozen=True)
class EngineConfig:
    """The local engine.

    Args:
      slots: answers in progress at once.
      context: tokens of prompt and answer together, at most.
      dtype: of weights and activations, "float32" or "bfloat16".
      share: samples of a prompt that read one copy of its keys and values; above 1 it
        pays where every request has at least so many samples.
    """

    slots: int = 16
    context: int = 512
    dtype: str = "float32"
    share: int = 1


@dataclass(frozen=True)
class RunConfig:
    """One data_gen run.

    Args:
      model: folder, hub id or known name of the model that answers.
      out: dataset folder to write.
      seeds: "builtin", a .jsonl or a .txt file, or the fields of a `SeedSource`: any
        data set, its format and the gates that its records must pass (docs/seeds.md).
      embedder: the same of a sentence encoder, for topic gates and Self-Contrast;
        "" for none, "hashed-ngrams" for one without weights (weak, instant).
      limit: use the first so many seeds; null takes all.
      seed: decides everything random.
      cache: the sqlite file with all samples; "" is OUT/cache.sqlite. Runs that share
        one share their samples.
      engine: how the model is run; with `kind: openai` a server runs it, and `model` is
        its name there.
      engines: further ones by the names that strategies give them, each with its
        `kind`: flax (another local model), openai (a server) or recorded (a file).
      near_duplicate: a training task is dropped if its words are at least this similar
        (Jaccard) to those of a held-out task, in (0, 1].
    """

    model: str
    out: str
    seeds: str | SeedSource = seeds.BUILTIN
    embedder: str = ""
    limit: int | None = None
    seed: int = 0
    cache: str = ""
    near_duplicate: float = 0.6
    engine: EngineConfig | OpenAIServer = field(default_factory=EngineConfig)
    engines: dict[str, EngineChoice] = field(default_factory=dict)
    splits: SplitFractions = field(default_factory=SplitFractions)
    gates: Gates = field(default_factory=Gates)
    ecd: ECD | None = None
    self_contrast: SelfContrast | None = None
    popalign: PopAlign | None = None
    coin: CoIN | None = None
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        if not (self.reads_tasks or self.coin):
            raise ValueError(
                "nothing to do: give at least one of ecd, self_contrast, popalign, "
                "coin, evaluation (`ecd: {}` takes its defaults)"
            )
        if self.popalign:
            for name in self.popalign.engines:
                if name not in self.engines:
                    raise ValueError(
                        f"popalign asks an engine {name!r} that is not among engines; "
                        f"there are: {', '.join(self.engines) or 'none'}"
                    )
        if self.self_contrast and not self.embedder:
            raise ValueError(
                "self_contrast needs an embedder: the folder of a sentence encoder"
            )
        choice.check(self.engines)
        if isinstance(self.engine, OpenAIServer) and self.engine.model:
            raise ValueError(
                "engine.model is not read: the run's `model` is the model's name at "
                "the server"
            )

    @property
    def choices(self) -> dict[str, EngineChoice]:
        """The named engines and, under "", the default one where it is a server."""
        if isinstance(self.engine, OpenAIServer):
            return {"": replace(self.engine, model=self.model), **self.engines}
        return self.engines

    @property
    def reads_tasks(self) -> bool:
        """Whether anything but CoIN, which has instances of its own, is configured."""
        return bool(self.ecd or self.self_contrast or self.popalign or self.evaluation)
