# SPDX-License-Identifier: Apache-2.0
"""What an evaluation is: a frozen dataclass, read from YAML."""

from __future__ import annotations

import dataclasses

from alignjax.eval.gates import GateConfig


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """`alignjax eval CONFIG`.

    Attributes:
      model: a known name, a folder in Hugging Face's layout, or a hub id.
      dataset: a dataset folder with prompts.jsonl.
      out: folder for results.json, answers.jsonl and references.jsonl.
      adapter: a PEFT adapter folder on top of the model; empty = none.
      references: folder of an evaluation of the base model, whose answers to the bare
        tasks say what is on topic; empty = make them here, without the adapter.
      embedder: sentence encoder for the topic gate.
      reference_answers: of the base model to each bare task, the first one greedy; the
        nearest says whether an answer is on topic.
      split: "validation" while tuning, "test" once.
      max_new_tokens, slots, context: of the sampler.
      pairs: most held-out pairs to score; 0 = all.
    """

    model: str
    dataset: str
    out: str
    adapter: str = ""
    references: str = ""
    embedder: str = "minilm"
    split: str = "test"
    seed: int = 0
    gates: GateConfig = dataclasses.field(default_factory=GateConfig)
    reference_answers: int = 3
    max_new_tokens: int = 96
    slots: int = 64
    context: int = 256
    pairs: int = 0

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "slots", "context"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.reference_answers < 2:
            raise ValueError(
                f"reference_answers must be 2 or above, got {self.reference_answers}: "
                "the gates are calibrated on each against the others"
            )
        if self.max_new_tokens >= self.context:
            raise ValueError(
                f"max_new_tokens ({self.max_new_tokens}) leaves no room for a prompt "
                f"in context ({self.context})"
            )
        if self.pairs < 0:
            raise ValueError(f"pairs must be 0 (all) or above, got {self.pairs}")
