# SPDX-License-Identifier: Apache-2.0
"""Choice: which engines a run uses, as its config says, and making them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_gen.engines import Engine
from data_gen.engines.recorded import Recorded, RecordedEngine


@dataclass(frozen=True)
class LocalModel:
    """A model of this machine beside the default one.

    Args:
      model: folder, hub id or known name.
      slots, context, dtype, share: as in the section `engine`.
    """

    model: str
    kind: Literal["flax"] = "flax"
    slots: int = 16
    context: int = 512
    dtype: str = "float32"
    share: int = 1


EngineChoice = LocalModel | Recorded


def make(choice: EngineChoice, *, locate: Callable[[str], Path]) -> Engine:
    """The engine; no weights are loaded yet.

    Args:
      choice: as in the config.
      locate: the folder of a model.
    """
    if isinstance(choice, Recorded):
        return RecordedEngine(choice)
    from data_gen.engines.flax import FlaxEngine

    return FlaxEngine(
        locate(choice.model),
        slots=choice.slots,
        context=choice.context,
        dtype=choice.dtype,
        share=choice.share,
    )
