# SPDX-License-Identifier: Apache-2.0
"""The arrays on the devices, and the calls that change them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alignjax import sharding
from alignjax.models.cache import Prefill
from alignjax.models.decoder import Cache, Model, Params
from alignjax.sampling import decode
from alignjax.sampling.seating import Copied, Row
from alignjax.sampling.shapes import Shapes, check_memory, empty_cache
from alignjax.sampling.state import State


class Runner:
    """Owns weights, cache and history of all replicas.

    Attributes:
      replicas: their number; slots and prompt rows of all lie one after the other.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        shapes: Shapes,
        *,
        mesh: Mesh | None,
        memory_bytes: int | None,
    ):
        if mesh is not None and mesh.size == 1:
            mesh = None  # the same, without what could be compiled otherwise
        self.model, self.shapes, self.mesh = model, shapes, mesh
        tensor = 1 if mesh is None else mesh.shape["tensor"]
        check_memory(
            model.config, shapes, params, devices=tensor, available=memory_bytes
        )
        prepared = model.prepare(params)
        if mesh is None:
            self.replicas = 1
            self._params = prepared
        else:
            self.replicas = math.prod(mesh.shape[axis] for axis in decode.REPLICAS)
            self._params = sharding.shard_to_decode(prepared, mesh)
        self._cache = self._empty_cache()
        slots = self.replicas * shapes.slots
        self._history = self._put(np.zeros((slots, shapes.context), np.int32))

    def prefill(self, bucket: int, jobs: Sequence[Sequence[tuple[int, Row]]]) -> int:
        """Stores the next tokens, up to `bucket`, of some rows of each replica.

        Returns:
          How many tokens that were.
        """
        rows = self.shapes.rows(bucket)
        tokens = np.zeros((self.replicas * rows, bucket), np.int32)
        # Padding goes to a row out of range.
        prompt = np.full(self.replicas * rows, self.shapes.prompts, np.int32)
        start = np.zeros(self.replicas * rows, np.int32)
        stored = 0
        for replica, mine in enumerate(jobs):
            for place, (index, row) in enumerate(mine):
                at, count = replica * rows + place, min(row.missing, bucket)
                part = row.work.request.tokens[row.stored : row.stored + count]
                tokens[at, :count] = part
                prompt[at], start[at] = index, row.stored
                row.stored += count
                stored += count
        self._cache = decode.prefill(
            self._params,
            self._cache,
            self._put(tokens),
            Prefill(self._put(prompt), self._put(start)),
            model=self.model,
            mesh=self.mesh,
        )
        return stored

    def copy_prompts(self, copied: Sequence[Sequence[Copied]]) -> None:
        """Copies rows of each replica's prompt store, in the order given."""
        for turn in range(max(map(len, copied))):
            source = np.zeros(self.replicas, np.int32)
            target = np.full(self.replicas, self.shapes.prompts, np.int32)
            for replica, mine in enumerate(copied):
                if turn < len(mine):
                    source[replica], target[replica] = mine[turn]
            self._cache = decode.copy_prompt(
                self._cache, self._put(source), self._put(target), mesh=self.mesh
            )

    def remember(self, slot: int, tokens: Sequence[int]) -> None:
        """Puts a prompt into the history of a slot, for the penalties."""
        padded = np.zeros(self.shapes.context, np.int32)
        padded[: len(tokens)] = tokens
        places = np.full(self.replicas, self.shapes.slots, np.int32)
        places[slot // self.shapes.slots] = slot % self.shapes.slots
        self._history = decode.remember(
            self._history, self._put(places), jnp.asarray(padded), mesh=self.mesh
        )

    def decode(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Decodes a chunk: tokens and log-probabilities, [step, slot] each."""
        blocks = None if self.shapes.is_dynamic else state.blocks()
        self._cache, self._history, chunk = decode.decode(
            self._params,
            self._cache,
            self._history,
            state.slots(self._put),
            model=self.model,
            steps=self.shapes.chunk,
            blocks=blocks,
            mesh=self.mesh,
        )
        return np.asarray(chunk.tokens), np.asarray(chunk.logprobs)

    def wait(self) -> None:
        """Until the devices have done what was asked of them."""
        jax.block_until_ready(self._cache)

    def _empty_cache(self) -> Cache:
        def empty() -> Cache:
            return empty_cache(self.model.config, self.shapes, replicas=self.replicas)

        if self.mesh is None:
            return empty()
        is_split = self.model.config.kv_heads % self.mesh.shape["tensor"] == 0
        heads = ("tensor",) if is_split else ()
        placed = _sharding(self.mesh, decode.REPLICAS, heads)
        return jax.jit(empty, out_shardings=placed)()

    def _put(self, array: np.ndarray) -> jax.Array:
        """A copy whose first axis goes over the replicas, on their devices."""
        if self.mesh is None:
            return jnp.array(array)
        return jax.device_put(array.copy(), _sharding(self.mesh, decode.REPLICAS))


def _sharding(mesh: Mesh, *split: tuple[str, ...]) -> NamedSharding:
    """Each axis of an array split over so many axes of the mesh.

    Mesh axes of one device and what is whole at the end are left out, as the compiler
    leaves them out: else its own results would look new to it, and be compiled for.
    """
    spec: list[str | tuple[str, ...] | None] = []
    for names in split:
        names = tuple(name for name in names if mesh.shape[name] > 1)
        spec.append(names[0] if len(names) == 1 else names or None)
    while spec and spec[-1] is None:
        spec.pop()
    return NamedSharding(mesh, PartitionSpec(*spec))
