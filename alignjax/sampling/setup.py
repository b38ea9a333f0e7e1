# SPDX-License-Identifier: Apache-2.0
"""What a sampler is made of, as a command gives it: weights, shape and devices."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from alignjax import fetch, models, sharding
from alignjax.data.tokenizer import Tokenizer
from alignjax.models import convert, lora, peft
from alignjax.sampling.sampler import Sampler
from alignjax.sampling.shapes import shapes


@dataclasses.dataclass(frozen=True)
class Setup:
    """A model, perhaps with an adapter, and the arguments of `Sampler`.

    Attributes:
      folder: of the model.
      adapter: a folder in PEFT's layout, folded into the weights.
      tensor: devices that the model is split over.
      replicas: copies of the model, each with slots of its own; 0 makes as many as
        this process has devices for.
    """

    folder: Path
    slots: int
    context: int
    answer: int
    adapter: Path | None = None
    dtype: str = "float32"
    share: int = 1
    cache_dtype: str | None = None
    tensor: int = 1
    replicas: int = 0

    def facts(self, tokenizer: Tokenizer) -> dict[str, str]:
        """All that decides a sample besides its request: nearly every shape may change
        the last bits of a number.

        Raises:
          ValueError: a file of model or adapter is missing, or a shape is out of range.
        """
        sizes = dataclasses.asdict(shapes(**self._shape()))
        del sizes["chunk"], sizes["is_dynamic"]  # these change none
        facts = {
            "model": fetch.fingerprint(self.folder),
            "config": _sha256(self.folder / "config.json"),
            "template": tokenizer.fingerprint,
            "dtype": self.dtype,
            "tensor": str(self.tensor),
            **{name: str(value) for name, value in sizes.items()},
        }
        if self.adapter is not None:
            about = self.adapter / "adapter_config.json"
            if not about.is_file():
                raise ValueError(
                    f"{about}: no such file; give --adapter a folder in PEFT's layout"
                )
            facts["adapter"] = fetch.fingerprint(self.adapter)
            facts["adapter_config"] = _sha256(about)
        return facts

    def load(self, tokenizer: Tokenizer) -> Sampler:
        """The sampler; reads the weights and allocates the cache."""
        model, params = models.load(self.folder, dtype=self.dtype)
        if self.adapter is not None:
            adapter, scale = peft.read(self.adapter, layers=model.config.layers)
            params = lora.fold(adapter, params, scale=scale)
        return Sampler(
            model,
            params,
            tokenizer,
            mesh=_mesh(self.tensor, self.replicas),
            **self._shape(),
        )

    def _shape(self) -> dict[str, Any]:
        return {
            "slots": self.slots,
            "context": self.context,
            "answer": self.answer,
            "share": self.share,
            "cache_dtype": self.cache_dtype,
        }


def model_context(folder: Path) -> int:
    """The positions of a model, from its config.

    Raises:
      ValueError: the model is of a kind that cannot be loaded.
    """
    where = str(folder / "config.json")
    return convert.decoder_config(models.read_config(folder), where=where).context


def _mesh(tensor: int, replicas: int) -> Mesh | None:
    """Over this process's devices; none where one is enough."""
    if tensor == 1 and 1 in (replicas, len(jax.local_devices())):
        return None
    return sharding.local_mesh(tensor=tensor, replicas=replicas)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
