# SPDX-License-Identifier: Apache-2.0
"""A tiny decoder with random weights, and a tokenizer that spells ids as digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import tiny_models

# JAX must not be imported before pytest_configure has run.
if TYPE_CHECKING:
    from alignjax.models import Model, Params
    from alignjax.sampling import Sampler, Tick
    from mixed_requests import Answers, Digits


@pytest.fixture(scope="session")
def digits() -> type[Digits]:
    from mixed_requests import Digits

    return Digits


@pytest.fixture(scope="session")
def tiny(random_params: Callable[..., Any]) -> tuple[Model, Params]:
    """The output head of its own keeps the model from repeating its input."""
    from alignjax.models import decoder

    config = tiny_models.decoder(vocab=64, is_tied=False, context=128)
    return decoder.build(config), random_params(config)


@pytest.fixture(scope="module")
def sampler(tiny: tuple[Model, Params]) -> Sampler:
    """For the requests of few_requests."""
    from few_requests import make

    return make(tiny)


@pytest.fixture
def ticks(sampler: Sampler) -> Iterator[list[Tick]]:
    """Every call of the device while the test runs."""
    found: list[Tick] = []
    sampler.on_tick = found.append
    yield found
    sampler.on_tick = None


@pytest.fixture(scope="module")
def together(sampler: Sampler) -> Answers:
    """13 samples through 8 slots."""
    from few_requests import REQUESTS
    from mixed_requests import answers

    return answers(sampler, REQUESTS)
