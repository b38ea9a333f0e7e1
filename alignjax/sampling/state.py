# SPDX-License-Identifier: Apache-2.0
"""What the host knows of each slot, as the arrays that a decoding call takes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from alignjax.sampling.choose import Options
from alignjax.sampling.decode import Slots
from alignjax.sampling.requests import MAX_BIASES, Request
from alignjax.sampling.shapes import Shapes


class State:
    """Slots of all replicas, one after the other; empty ones decode something too, and
    nobody looks at it."""

    def __init__(self, shapes: Shapes, *, replicas: int, vocab: int):
        slots, prompts = replicas * shapes.slots, replicas * shapes.prompts
        self._vocab = vocab
        self._shapes = shapes
        self.token = np.zeros(slots, np.int32)
        self.index = np.zeros(slots, np.int32)
        self._prompt = np.ones(slots, np.int32)
        self._is_taken = np.zeros(slots, bool)
        self._seed = np.zeros(slots, np.int32)
        self._sample = np.zeros(slots, np.int32)
        self._seat = np.zeros(slots, np.int32)
        self._table = np.zeros((prompts, shapes.share), np.int32)
        self._stored = np.zeros(prompts, np.int32)
        self._options = {
            "temperature": np.zeros(slots, np.float32),
            "top_k": np.zeros(slots, np.int32),
            "top_p": np.ones(slots, np.float32),
            "min_p": np.zeros(slots, np.float32),
            "repetition": np.ones(slots, np.float32),
            "presence": np.zeros(slots, np.float32),
            "bias_ids": np.full((slots, MAX_BIASES), vocab, np.int32),
            "bias": np.zeros((slots, MAX_BIASES), np.float32),
        }

    def put(
        self,
        slot: int,
        request: Request,
        sample: int,
        *,
        replica: int,
        row: int,
        seat: int,
    ) -> None:
        """Begins an answer in `slot` of the replica, reading its prompt `row`."""
        shapes, settings, options = self._shapes, request.settings, self._options
        at = replica * shapes.slots + slot
        self._is_taken[at] = True
        self.token[at] = request.tokens[-1]
        self.index[at] = 0
        self._prompt[at] = len(request.tokens)
        self._seed[at] = request.seed
        self._sample[at] = sample
        self._seat[at] = row * shapes.share + seat
        self._table[replica * shapes.prompts + row, seat] = slot
        self._stored[replica * shapes.prompts + row] = len(request.tokens) - 1
        options["temperature"][at] = settings.temperature
        options["top_k"][at] = settings.top_k
        options["top_p"][at] = settings.top_p
        options["min_p"][at] = settings.min_p
        options["repetition"][at] = settings.repetition_penalty
        options["presence"][at] = settings.presence_penalty
        biases = [*settings.logit_bias, *((i, -np.inf) for i in settings.banned)]
        options["bias_ids"][at] = self._vocab
        options["bias"][at] = 0
        for place, (token, bias) in enumerate(biases):
            options["bias_ids"][at, place] = token
            options["bias"][at, place] = bias

    def clear(self, slot: int, *, replica: int) -> None:
        """Makes a slot cheap: greedy, without options, at the start of its cache."""
        at = replica * self._shapes.slots + slot
        options = self._options
        self._is_taken[at] = False
        self.token[at] = self.index[at] = 0
        self._prompt[at] = 1
        options["temperature"][at] = options["top_k"][at] = options["min_p"][at] = 0
        options["top_p"][at] = options["repetition"][at] = 1
        options["presence"][at] = 0
        options["bias_ids"][at] = self._vocab

    def advance(self, tokens: np.ndarray) -> None:
        """After a chunk of decoded tokens [step, slot]."""
        self.token[:] = np.where(self._is_taken, tokens[-1], 0)
        self.index[:] = np.where(self._is_taken, self.index + len(tokens), 0)

    def forget(self, row: int, *, replica: int) -> None:
        """An empty row of the prompt store is no longer read."""
        self._stored[replica * self._shapes.prompts + row] = 0

    def slots(self, put: Callable[[np.ndarray], jax.Array]) -> Slots:
        """Everything on the devices, where `put` brings a copy of each array."""
        return Slots(
            token=put(self.token),
            index=put(self.index),
            prompt=put(self._prompt),
            seed=put(self._seed),
            sample=put(self._sample),
            seat=put(self._seat),
            table=put(self._table),
            stored=put(self._stored),
            options=Options(**{name: put(x) for name, x in self._options.items()}),
        )

    def blocks(self) -> tuple[int, int]:
        """Blocks of prompts and of answers that the next chunk reads, each rounded up
        to a power of two so that few programs are compiled."""
        longest = int(self.index.max()) + self._shapes.chunk

        def rounded(tokens: int, most: int, block: int) -> int:
            return min(_power_of_two(-(-tokens // block)), -(-most // block))

        shapes = self._shapes
        prompts = rounded(int(self._stored.max()), shapes.context, shapes.prompt_block)
        return prompts, rounded(longest, shapes.answer, shapes.answer_block)


def _power_of_two(number: int) -> int:
    return 0 if number < 1 else 1 << (number - 1).bit_length()
