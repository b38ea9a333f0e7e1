# SPDX-License-Identifier: Apache-2.0
"""What a training run is: one frozen dataclass tree, read from YAML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from alignjax.train import Objective, find


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Which objective, and its settings; one that it does not read is an error.

    Attributes:
      name: of a loss, see docs/losses.md.
      options: of the loss, and nll, weight, length_alpha (see `train.find`).
      mix: further losses of pairs with their options: MPO is name dpo, options {weight:
        0.8, nll: 1.0}, mix {bco: {weight: 0.2}}.
      divergence: instead of the reverse KL; alpha reads options.alpha.
      weighting: wpo weighs pairs by how likely the policy would write them.
      pooling, negatives: of CoIN: which states are compared, and with what.
    """

    name: str = "dpo"
    options: Mapping[str, float] = dataclasses.field(default_factory=dict)
    mix: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    divergence: Literal["reverse_kl", "forward_kl", "jensen_shannon", "alpha"] = (
        "reverse_kl"
    )
    weighting: Literal["none", "wpo"] = "none"
    pooling: Literal["last", "mean", "first_last"] = "last"
    negatives: Literal["hard", "in_batch"] = "hard"

    def __post_init__(self) -> None:
        self.find()

    def find(self) -> Objective:
        """The objective itself; its errors name the field."""
        return find(
            self.name,
            self.options,
            mix=self.mix,
            divergence=self.divergence,
            weighting=self.weighting,
            pooling=self.pooling,
            negatives=self.negatives,
        )


@dataclasses.dataclass(frozen=True)
class ReferenceConfig:
    """A reference that follows the policy: TR-DPO, Gorbatovski et al. 2024
    (arXiv:2404.09656).

    Every `every` steps, reference <- alpha * policy + (1 - alpha) * reference. 0 keeps
    the reference fixed, and its log-probabilities are then computed once; a moving one
    is part of the checkpoints and costs a forward pass a step.
    """

    every: int = 0
    alpha: float = 0.6

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"every must be 0 (never) or above, got {self.every}")
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha must be in (0, 1], got {self.alpha}")
        if not self.every and self.alpha != ReferenceConfig.alpha:
            raise ValueError("alpha is read only where every is above 0")


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Low-rank adapter: `rank` 0 trains every parameter instead. `modules` are the
    adapted maps of a block."""

    rank: int = 16
    alpha: float = 32.0
    modules: tuple[str, ...] = ("query", "key", "value", "out", "gate", "up", "down")

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ValueError(f"rank must be 0 (none) or above, got {self.rank}")
        if self.alpha <= 0:
            raise ValueError(f"alpha must be > 0, got {self.alpha}")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW: peak learning rate after `warmup` (a share of all steps), then linear
    decay to zero; the gradient's norm is clipped at `clip`."""

    learning_rate: float = 1e-5
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0
    b1: float = 0.9
    b2: float = 0.999

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be > 0, got {self.learning_rate}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share in [0, 1), got {self.warmup}")
        if self.clip <= 0:
            raise ValueError(f"clip must be > 0, got {self.clip}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be >= 0, got {self.weight_decay}")
        for name, value in (("b1", self.b1), ("b2", self.b2)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Shape of a batch in tokens (see `data.rows.Shape`). `microbatches` splits its
    rows for gradient accumulation."""

    rows: int = 4
    time: int = 512
    blocks: int = 8
    block: int = 256
    scored: int = 384
    microbatches: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(
                    f"{field.name} must be > 0, got {getattr(self, field.name)}"
                )
        if self.rows % self.microbatches:
            raise ValueError(
                f"rows ({self.rows}) must be a multiple of microbatches "
                f"({self.microbatches})"
            )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes what is left."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """`alignjax train CONFIG`.

    Attributes:
      model: a known name (smollm2), a folder in Hugging Face's layout, or a hub id.
      dataset: a dataset folder or file (see `data.records`); only its train split is
        read.
      out: folder for checkpoints, metrics and the trained adapter or model.
      strategies: use only examples of these; empty = all.
      epochs: passes over the data. max_steps: stop earlier; 0 = no limit.
      save_every: steps between checkpoints; one is always saved at the end.
      remat: recompute activations in the backward pass, for memory.
    """

    model: str
    dataset: str
    out: str
    seed: int = 0
    objective: ObjectiveConfig = ObjectiveConfig()
    reference: ReferenceConfig = ReferenceConfig()
    adapter: AdapterConfig = AdapterConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    batch: BatchConfig = BatchConfig()
    mesh: MeshConfig = MeshConfig()
    strategies: tuple[str, ...] = ()
    epochs: int = 1
    max_steps: int = 0
    save_every: int = 20
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in [0, 2^32), got {self.seed}")
        objective = self.objective.find()
        if self.reference.every and not objective.reference:
            raise ValueError(
                f"reference.every: objective {self.objective.name!r} has no reference; "
                "set it to 0"
            )
        if objective.coupled and self.batch.microbatches > 1:
            raise ValueError(
                f"objective {self.objective.name!r} compares the examples of a batch "
                "with each other, so microbatches would change it; set "
                "batch.microbatches to 1"
            )
        if self.epochs < 1:
            raise ValueError(f"epochs must be > 0, got {self.epochs}")
        if self.save_every < 1:
            raise ValueError(f"save_every must be > 0, got {self.save_every}")
        if self.max_steps < 0:
            raise ValueError(f"max_steps must be 0 (all) or above: {self.max_steps}")
