# SPDX-License-Identifier: Apache-2.0
"""The arrays on the devices, and the calls that change them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import (
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)

from alignjax import sharding
from alignjax.models.cache import Prefill
from alignjax.models.decoder import Cache, Model, Params
from alignjax.sampling import decode
from alignjax.sampling.seating import Copied, Row
from alignjax.sampling.shapes import Shapes, check_memory, empty_cache
from alignjax.sampling.state import State


@dataclasses.dataclass
class _Replica:
    """What lies on the devices of one replica.

    Attributes:
      mesh: that its weights are split over; None where it has one device.
      place: of what each of its devices has whole; None is the default device.
    """

    mesh: Mesh | None
    place: Sharding | None
    params: Params
    cache: Cache
    history: jax.Array


class Runner:
    """Owns weights, cache and history of all replicas.

    Each replica runs the program of one, since what the compiler makes of a program
    over several devices may round otherwise (jax 0.12): so their number changes no bit.

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
        self.model, self.shapes = model, shapes
        meshes = [None] if mesh is None else sharding.replicas(mesh)
        tensor = 1 if mesh is None else mesh.shape["tensor"]
        check_memory(
            model.config, shapes, params, devices=tensor, available=memory_bytes
        )
        prepared = model.prepare(params)
        self.replicas = len(meshes)
        self._replicas = [self._replica(each, prepared) for each in meshes]

    def prefill(self, bucket: int, jobs: Sequence[Sequence[tuple[int, Row]]]) -> int:
        """Stores the next tokens, up to `bucket`, of some rows of each replica.

        Returns:
          How many tokens that were.
        """
        stored = 0
        for replica, mine in zip(self._replicas, jobs, strict=True):
            if not mine:
                continue
            rows = self.shapes.rows(bucket)
            tokens = np.zeros((rows, bucket), np.int32)
            # Padding goes to a row out of range.
            prompt = np.full(rows, self.shapes.prompts, np.int32)
            start = np.zeros(rows, np.int32)
            for at, (index, row) in enumerate(mine):
                count = min(row.missing, bucket)
                part = row.work.request.tokens[row.stored : row.stored + count]
                tokens[at, :count] = part
                prompt[at], start[at] = index, row.stored
                row.stored += count
                stored += count
            replica.cache = decode.prefill(
                replica.params,
                replica.cache,
                _put(tokens, replica.place),
                Prefill(_put(prompt, replica.place), _put(start, replica.place)),
                model=self.model,
            )
        return stored

    def copy_prompts(self, copied: Sequence[Sequence[Copied]]) -> None:
        """Copies rows of each replica's prompt store, in the order given."""
        for replica, mine in zip(self._replicas, copied, strict=True):
            for pair in mine:
                source, target = (_put(np.int32(row), replica.place) for row in pair)
                replica.cache = decode.copy_prompt(replica.cache, source, target)

    def remember(self, slot: int, tokens: Sequence[int]) -> None:
        """Puts a prompt into the history of a slot, for the penalties."""
        number, at = divmod(slot, self.shapes.slots)
        replica = self._replicas[number]
        padded = np.zeros(self.shapes.context, np.int32)
        padded[: len(tokens)] = tokens
        replica.history = decode.remember(
            replica.history,
            _put(np.int32(at), replica.place),
            _put(padded, replica.place),
        )

    def decode(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Decodes a chunk: tokens and log-probabilities, [step, slot] each."""
        blocks = None if self.shapes.is_dynamic else state.blocks()
        chunks = []
        for number, replica in enumerate(self._replicas):

            def put(array: np.ndarray, number=number, replica=replica) -> jax.Array:
                return _put(np.split(array, self.replicas)[number], replica.place)

            replica.cache, replica.history, chunk = decode.decode(
                replica.params,
                replica.cache,
                replica.history,
                state.slots(put),
                model=self.model,
                steps=self.shapes.chunk,
                blocks=blocks,
                mesh=replica.mesh,
            )
            chunks.append(chunk)
        # Only now: all of them are at work.
        tokens = [np.asarray(chunk.tokens) for chunk in chunks]
        logprobs = [np.asarray(chunk.logprobs) for chunk in chunks]
        return np.concatenate(tokens, axis=1), np.concatenate(logprobs, axis=1)

    def wait(self) -> None:
        """Until the devices have done what was asked of them."""
        jax.block_until_ready([replica.cache for replica in self._replicas])

    def _replica(self, mesh: Mesh | None, prepared: Params) -> _Replica:
        """A replica on the devices of a mesh."""
        place = None
        if mesh is None:
            params = prepared
        elif mesh.size == 1:
            place = SingleDeviceSharding(mesh.devices.item())
            params, mesh = jax.device_put(prepared, place), None
        else:
            place = NamedSharding(mesh, PartitionSpec())
            params = sharding.shard_to_decode(prepared, mesh)
        history = np.zeros((self.shapes.slots, self.shapes.context), np.int32)
        return _Replica(
            mesh, place, params, self._empty_cache(mesh, place), _put(history, place)
        )

    def _empty_cache(self, mesh: Mesh | None, place: Sharding | None) -> Cache:
        def empty() -> Cache:
            return empty_cache(self.model.config, self.shapes)

        if mesh is not None and self.model.config.kv_heads % mesh.size == 0:
            place = NamedSharding(mesh, PartitionSpec(None, "tensor"))
        return empty() if place is None else jax.jit(empty, out_shardings=place)()


def _put(array: np.ndarray | np.int32, place: Sharding | None) -> jax.Array:
    """A copy on the devices."""
    if place is None:
        return jnp.array(array)
    return jax.device_put(np.array(array), place)
