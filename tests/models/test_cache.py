# SPDX-License-Identifier: Apache-2.0
"""Decoding with a cache gives the numbers of the whole sequence, whoever shares it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny_models
from alignjax.models import cache as caches
from alignjax.models import decoder
from alignjax.models.attention import Visibility
from alignjax.models.cache import Prefill, Step
from alignjax.models.decoder import Cache, Model, Params

CONFIG = tiny_models.decoder()
BLOCK = 4


@pytest.fixture(scope="module")
def tiny(random_params: Callable[..., Params]) -> tuple[Model, Params]:
    return decoder.build(CONFIG), random_params(CONFIG)


def ids(seed: int, size: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, CONFIG.vocab, size).tolist()


@partial(jax.jit, static_argnames="model")
def whole(params: Params, tokens: jax.Array, *, model: Model) -> jax.Array:
    visibility = Visibility(jnp.ones_like(tokens), jnp.zeros_like(tokens))
    positions = jnp.arange(tokens.shape[1])[None]
    return model.apply(params, tokens, positions, visibility).hidden[0]


def expected(tiny: tuple[Model, Params], tokens: Sequence[int]) -> np.ndarray:
    """Hidden states of a plain sequence by one forward: [time, embed]."""
    model, params = tiny
    padded = np.zeros((1, 32), np.int32)
    padded[0, : len(tokens)] = tokens
    return np.asarray(whole(params, padded, model=model))[: len(tokens)]


class Decoder:
    """Two prompts in a store of three, four answers; two of them share a prompt."""

    # Answers 0 and 2 read prompt 0, answer 1 prompt 2, answer 3 nothing (prompt 1).
    SEAT = (0, 4, 1, 2)
    TABLE = ((0, 2), (3, 0), (1, 0))

    def __init__(self, tiny: tuple[Model, Params], dtype: str | None = None):
        self.model, params = tiny
        self.params = self.model.prepare(params)
        self.cache: Cache = decoder.empty_cache(
            self.model.config,
            prompts=3,
            prompt_tokens=12,
            prompt_block=BLOCK,
            answers=4,
            answer_tokens=8,
            answer_block=BLOCK,
            dtype=dtype,
        )
        self.stored = np.zeros(3, np.int32)
        self.index = np.zeros(4, np.int32)
        self._apply = jax.jit(self.model.apply)
        self._step = jax.jit(self._one, static_argnames="blocks")

    def prefill(self, tokens: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Stores the next tokens of some prompts in one call."""
        width = -(-max(map(len, tokens)) // BLOCK) * BLOCK
        padded = np.zeros((len(rows), width), np.int32)
        for place, mine in enumerate(tokens):
            padded[place, : len(mine)] = mine
        start = np.array([self.stored[row] if row < 3 else 0 for row in rows])
        call = Prefill(jnp.asarray(rows), jnp.asarray(start, jnp.int32))
        positions = start[:, None] + np.arange(width)
        self.cache = self._apply(
            self.params,
            jnp.asarray(padded),
            jnp.asarray(positions, jnp.int32),
            call,
            self.cache,
        ).cache
        for row, mine in zip(rows, tokens, strict=True):
            if row < 3:
                self.stored[row] += len(mine)

    def step(
        self, fed: Sequence[int], blocks: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Feeds one token to each answer: hidden states [answer, embed]."""
        prompt = self.stored[np.array(self.SEAT) // 2]
        hidden, self.cache = self._step(
            self.params,
            self.cache,
            jnp.asarray(fed, jnp.int32),
            jnp.asarray(prompt + self.index, jnp.int32),
            jnp.asarray(self.index),
            jnp.asarray(self.stored),
            blocks=blocks,
        )
        self.index += 1
        return np.asarray(hidden)

    def _one(self, params, cache, fed, position, index, stored, *, blocks):
        call = Step(index, jnp.array(self.SEAT), jnp.array(self.TABLE), stored, blocks)
        output = self.model.apply(params, fed[:, None], position[:, None], call, cache)
        return output.hidden[:, 0], output.cache


# The last token of each prompt is fed by the first step. Prompt 0 is stored in two
# calls (8 + 1 tokens), prompt 2 in one (5).
LONG, SHORT = ids(0, 10), ids(1, 6)
ANSWERS = [ids(2, 7), ids(3, 7), ids(4, 7)]


def begun(tiny: tuple[Model, Params], dtype: str | None = None) -> Decoder:
    decoding = Decoder(tiny, dtype)
    decoding.prefill([LONG[:8], SHORT[:5]], [0, 2])
    decoding.prefill([LONG[8:9], ids(9, 3)], [0, 3])  # the second row is padding
    return decoding


def fed(step: int) -> list[int]:
    """What the four answers are fed; the fourth, empty, anything."""
    first, second, third = ANSWERS
    if step == 0:
        return [LONG[-1], SHORT[-1], LONG[-1], 5]
    return [first[step - 1], second[step - 1], third[step - 1], 6]


SEQUENCES = [LONG + ANSWERS[0], SHORT + ANSWERS[1], LONG + ANSWERS[2]]


@pytest.mark.parametrize("blocks", [None, (3, 2)])
def test_prefill_and_steps_equal_the_whole_sequence(tiny, blocks):
    """Eight steps: the answers' second block is entered; the loops' length, whether
    known to the compiler or not, is that of the longest."""
    decoding = begun(tiny)
    wanted = [expected(tiny, sequence) for sequence in SEQUENCES]
    for step in range(8):
        hidden = decoding.step(fed(step), blocks)
        for answer, prompt in enumerate([LONG, SHORT, LONG]):
            np.testing.assert_allclose(
                hidden[answer], wanted[answer][len(prompt) - 1 + step], atol=2e-5
            )


def test_longer_neighbours_and_longer_loops_change_no_bit(tiny):
    """The short prompt's answer alone, with all others empty, and in company; with
    loops that end with the longest and with all blocks."""
    company = begun(tiny)
    alone = Decoder(tiny)
    alone.prefill([SHORT[:5], []], [2, 3])
    unrolled = begun(tiny)
    for step in range(8):
        tokens = fed(step)
        seen = company.step(tokens)[1]
        np.testing.assert_array_equal(alone.step([1, tokens[1], 2, 3])[1], seen)
        np.testing.assert_array_equal(unrolled.step(tokens, (3, 2))[1], seen)


def test_an_answer_to_a_prompt_of_one_token_reads_its_own_store_only(tiny):
    """The fourth answer's prompt row is empty."""
    decoding = begun(tiny)
    sequence = [7, 8, 9]
    wanted = expected(tiny, sequence)
    for step, token in enumerate(sequence):
        hidden = decoding.step([*fed(step)[:3], token])
        np.testing.assert_allclose(hidden[3], wanted[step], atol=2e-5)


def test_a_copied_prompt_reads_like_the_original(tiny):
    decoding = begun(tiny)
    decoding.cache = tuple(
        caches.copy_prompt(layer, jnp.asarray(2), jnp.asarray(1))
        for layer in decoding.cache
    )
    decoding.stored[1] = decoding.stored[2]
    for step in range(3):
        tokens = fed(step)
        hidden = decoding.step([*tokens[:3], tokens[1]])
        np.testing.assert_array_equal(hidden[3], hidden[1])


def test_what_does_not_fit_is_dropped(tiny):
    """A ninth token in a store of eight, and a padded row of a prefill."""
    decoding = begun(tiny)
    before = jax.tree.map(np.asarray, decoding.cache)
    decoding.index += 8
    decoding.prefill([ids(5, 4), ids(6, 4)], [3, 3])
    decoding.step([1, 2, 3, 4])
    for old, new in zip(
        jax.tree.leaves(before), jax.tree.leaves(decoding.cache), strict=True
    ):
        np.testing.assert_array_equal(new, old)


def test_int8_entries_are_within_half_a_step_of_the_numbers(tiny):
    """A step is the largest entry of the token's head over 127."""
    exact, rounded = begun(tiny).cache, begun(tiny, "int8").cache
    store, found = exact[0].prompts[0], rounded[0].prompts[0]  # the first block
    assert found.keys.dtype == found.values.dtype == np.int8
    assert found.key_scale is not None and found.value_scale is not None
    for number, scale, value in [
        (found.keys, found.key_scale[:, :, None], store.keys),
        (found.values, found.value_scale[..., None], store.values),
    ]:
        part = np.array([0, 2])  # both prompts
        difference = np.abs(number * scale - value)[part]
        assert (difference <= np.asarray(0.5 * scale + 1e-6)[part]).all()
        assert np.abs(np.asarray(number[part])).max() == 127


def test_an_int8_cache_stays_near_the_exact_one(tiny):
    exact, rounded = begun(tiny), begun(tiny, "int8")
    for step in range(8):
        wanted, found = exact.step(fed(step))[:3], rounded.step(fed(step))[:3]
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert 0 < error < 0.02


def test_prepared_parameters_are_one_dict_per_layer_with_kernels_out_first(tiny):
    model, params = tiny
    prepared = model.prepare(params)
    assert len(prepared["blocks"]) == CONFIG.layers
    for index, layer in enumerate(prepared["blocks"]):
        assert layer.keys() == params["blocks"].keys()
        kernel = params["blocks"]["down"]["kernel"][index]
        np.testing.assert_array_equal(layer["down"]["kernel"], kernel.T)
        weight = params["blocks"]["mlp_norm"]["weight"][index]
        np.testing.assert_array_equal(layer["mlp_norm"]["weight"], weight)


def test_an_adapter_is_decoded_with_too(tiny, random_params: Callable[..., Params]):
    config = dataclasses.replace(CONFIG, lora_rank=3, lora_alpha=6.0)
    adapted = decoder.build(config), random_params(config)
    decoding = begun(adapted)
    wanted = expected(adapted, SEQUENCES[1])
    plain = expected(tiny, SEQUENCES[1])
    for step in range(4):
        hidden = decoding.step(fed(step))[1]
        np.testing.assert_allclose(hidden, wanted[len(SHORT) - 1 + step], atol=2e-5)
        assert np.abs(hidden - plain[len(SHORT) - 1 + step]).max() > 1e-2


def test_a_store_takes_what_its_shape_says():
    """Keys and values of 3 rows x 2 kv heads x 2 blocks of 4 tokens x 4: 4 bytes each;
    int8: 1 byte, and two scales of 4 bytes per token and head."""
    entries = 3 * CONFIG.kv_heads * 2 * BLOCK * CONFIG.head_dim

    def taken(dtype: str) -> int:
        store = caches.empty_store(
            rows=3,
            tokens=7,
            kv_heads=CONFIG.kv_heads,
            head_dim=CONFIG.head_dim,
            block=BLOCK,
            dtype=dtype,
        )
        return sum(leaf.nbytes for leaf in jax.tree.leaves(store))

    assert taken("float32") == 2 * entries * 4
    assert taken("int8") == 2 * entries + 2 * 4 * entries // CONFIG.head_dim
    assert math.prod((2, 3, 2)) * 4 * 4 == entries
