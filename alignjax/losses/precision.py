# SPDX-License-Identifier: Apache-2.0
"""Precision: losses are computed in float32 at least."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array


def upcast(x: ArrayLike) -> Array:
    """An array of float32 at least: bfloat16, float16, integers and booleans become
    float32; float32 and float64 stay as they are.

    >>> import jax.numpy as jnp
    >>> print(upcast(jnp.array([1, 2], jnp.bfloat16)).dtype, upcast(-4).dtype)
    float32 float32
    """
    x = jnp.asarray(x)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else np.float32
    return x.astype(np.promote_types(dtype, np.float32))
