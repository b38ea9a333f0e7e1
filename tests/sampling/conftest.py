# SPDX-License-Identifier: Apache-2.0
"""A tiny decoder with random weights, and a tokenizer that spells ids as digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import tiny_models

# JAX must not be imported before pytest_configure has run.
if TYPE_CHECKING:
    from alignjax.models import Model, Params
    from mixed_requests import Digits


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
