# SPDX-License-Identifier: Apache-2.0
"""Shapes: what is compiled in, and the memory that it takes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from alignjax.models.cache import Prefill
from alignjax.sampling import decode, shapes
from alignjax.sampling.requests import MAX_BIASES, Request
from alignjax.sampling.runner import Runner
from alignjax.sampling.state import State

ASKED: dict[str, Any] = {"slots": 8, "context": 100, "answer": 40, "prefill_tokens": 64}
SHAPES = shapes.shapes(**ASKED, share=2)


@pytest.mark.parametrize(
    ("tokens", "bucket"),
    [(1, 32), (32, 32), (33, 64), (64, 64), (65, 96), (96, 96), (97, 96), (500, 96)],
)
def test_a_bucket_is_a_doubled_block_or_the_whole_call(tokens: int, bucket: int):
    """Blocks of 32 tokens, calls of 96: 32, 64, 96."""
    assert dataclasses.replace(SHAPES, prefill_tokens=96).bucket(tokens) == bucket


def test_a_call_holds_as_many_prompts_as_its_tokens_allow():
    many = dataclasses.replace(SHAPES, prefill_tokens=1024, prefill_rows=16)
    assert [many.rows(bucket) for bucket in (32, 64, 128, 512, 1024)] == [
        *(16, 16, 8, 2, 1)
    ]
    assert dataclasses.replace(SHAPES, prefill_tokens=32).rows(32) == 1


@pytest.mark.parametrize(("context", "block"), [(100, 64), (512, 64), (513, 128)])
def test_a_store_has_at_most_eight_blocks(context: int, block: int):
    long = dataclasses.replace(SHAPES, context=context, answer=40)
    assert (long.prompt_block, long.answer_block) == (block, 64)


def test_what_is_left_out_is_chosen():
    """Prompts: rows for twice the slots, at most one a slot; answers that fill the
    context; on a CPU calls of 128 tokens and chunks of 4 steps."""
    alone = shapes.shapes(slots=16, context=100)
    assert (alone.share, alone.prompts, alone.answer) == (1, 16, 100)
    assert (alone.prefill_tokens, alone.chunk, alone.cache_dtype) == (128, 4, None)
    shared = [shapes.shapes(slots=48, context=9, share=n).prompts for n in (2, 4, 5)]
    assert shared == [48, 24, 24]  # 96 / 5 = 19.2, rounded up to a multiple of 8


@pytest.mark.parametrize(("asked", "got"), [(1, 1), (2, 8), (8, 8), (9, 16)])
def test_slots_and_prompts_are_one_or_a_multiple_of_eight(asked: int, got: int):
    some = shapes.shapes(slots=asked, context=9, prompts=asked)
    assert (some.slots, some.prompts) == (got, got)


@pytest.mark.parametrize(
    "name",
    ["slots", "context", "answer", "share", "prompts", "prefill_tokens", "chunk"],
)
@pytest.mark.parametrize("value", [0, -3])
def test_a_size_below_one_is_refused(name: str, value: int):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {value}$"):
        shapes.shapes(**{**ASKED, name: value})


def test_seats_that_do_not_suffice_are_refused():
    message = "prompts=8 x share=2 seats are fewer than slots=24: some would stay empty"
    with pytest.raises(ValueError, match=message):
        shapes.shapes(**{**ASKED, "slots": 24}, share=2, prompts=2)


def test_slots_added_by_rounding_get_seats_too():
    """4 slots of one prompt become 8, which 8 prompts of 4 can seat (1 could not)."""
    made = shapes.shapes(slots=4, context=64, share=4, prompts=1)
    assert (made.slots, made.prompts) == (8, 8)
    assert shapes.shapes(slots=32, context=64, share=32, prompts=1).prompts == 1


def test_a_prefill_call_is_of_whole_blocks():
    with pytest.raises(ValueError, match="prefill_tokens must be a multiple of 32"):
        shapes.shapes(**{**ASKED, "prefill_tokens": 48})


def test_a_cache_is_of_the_models_dtype_or_int8():
    with pytest.raises(ValueError, match=r"cache_dtype must be int8 or .* 'float16'"):
        shapes.shapes(**ASKED, cache_dtype="float16")


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_the_cache_takes_what_is_estimated(tiny, dtype: str | None):
    """8 prompts of 2 blocks of 64 tokens and 8 answers of one, keys and values of 2
    layers x 2 heads x 4: 4 bytes each, or one and a scale per head."""
    config = tiny[0].config
    these = dataclasses.replace(SHAPES, cache_dtype=dtype)
    taken = sum(x.nbytes for x in jax.tree.leaves(shapes.empty_cache(config, these)))
    assert shapes.cache_bytes(config, these) == taken
    heads = 2 * 2 * 2 * 8 * (2 * 64 + 64)
    assert taken == heads * (4 * 4 if dtype is None else 4 + 4)


def test_the_estimate_covers_what_the_compiled_calls_take(tiny):
    """Arguments, results and temporary memory of a prefill and of a decoding call, as
    the compiler counts them; not twice as much is asked for."""
    model, params = tiny
    runner = Runner(model, params, SHAPES, mesh=None, memory_bytes=None)
    replica = runner._replicas[0]
    state = State(SHAPES, replicas=1, vocab=model.config.vocab)
    row = jnp.zeros(1, jnp.int32)
    calls = [
        decode.prefill.lower(
            replica.params,
            replica.cache,
            jnp.zeros((1, 64), jnp.int32),
            Prefill(row, row),
            model=model,
        ),
        decode.decode.lower(
            replica.params,
            replica.cache,
            replica.history,
            state.slots(jnp.array),
            model=model,
            steps=SHAPES.chunk,
        ),
    ]
    taken = []
    for call in calls:
        sizes: Any = call.compile().memory_analysis()
        taken.append(
            sizes.argument_size_in_bytes
            + sizes.temp_size_in_bytes
            + sizes.output_size_in_bytes
            - sizes.alias_size_in_bytes
        )
    estimate = shapes.estimate_bytes(model.config, SHAPES, params)
    assert max(taken) <= estimate < 2 * max(taken)


def test_over_several_devices_a_replica_takes_less_on_each(tiny):
    """Two kv heads: split over two devices, whole on each of three. The 4 x 8 x (7 x 64
    + 100 + 2 x 256) bytes of scores and options are on every device."""
    model, params = tiny
    one, two, three = (
        shapes.estimate_bytes(model.config, SHAPES, params, devices=n)
        for n in (1, 2, 3)
    )
    cache = shapes.cache_bytes(model.config, SHAPES)
    whole = 4 * 8 * (7 * 64 + 100 + 2 * MAX_BIASES)
    assert abs(two - whole - (one - whole) / 2) <= 4
    assert abs(three - whole - cache - (one - whole - cache) / 3) <= 4  # rounded down


def test_slots_for_which_there_is_no_memory_are_refused_with_what_would_fit(tiny):
    """Memory for exactly sixteen slots: thirty-two are refused, sixteen are not."""
    model, params = tiny
    many, some = (
        shapes.shapes(**{**ASKED, "slots": slots}, share=2) for slots in (32, 16)
    )
    available = shapes.estimate_bytes(model.config, some, params)
    shapes.check_memory(model.config, some, params, available=available)
    message = (
        "32 slots of 100 tokens need 0.00 GiB with the weights, 0.00 GiB are free; "
        "16 slots would fit"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        shapes.check_memory(model.config, many, params, available=available)
    with pytest.raises(ValueError, match="not even one slot would fit: take a smaller"):
        shapes.check_memory(model.config, some, params, available=1000)
    # Of two devices each takes less.
    less = (
        available + shapes.estimate_bytes(model.config, some, params, devices=2)
    ) / 2
    shapes.check_memory(model.config, some, params, devices=2, available=int(less))
    with pytest.raises(ValueError, match=r"16 slots of .* 8 slots would fit"):
        shapes.check_memory(model.config, some, params, available=int(less))


def test_free_memory_is_the_least_of_machine_and_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shapes, "_CGROUP", tmp_path)
    machine = shapes.free_bytes()
    assert machine is not None and machine > 1 << 20
    for limit, used, expected in [("max", 5, None), (str(70_000), 4_000, 66_000)]:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        found = shapes.free_bytes()
        assert found is not None
        assert found > 1 << 20 if expected is None else found == expected


def test_every_slot_has_room_for_as_many_biases_as_a_request_may_have():
    state = State(SHAPES, replicas=1, vocab=64)
    state.put(0, Request("a", (1,)), 0, replica=0, row=0, seat=0)
    assert state.slots(jnp.array).options.bias_ids.shape == (8, MAX_BIASES)
