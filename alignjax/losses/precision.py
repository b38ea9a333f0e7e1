# SPDX-License-Identifier: Apache-2.0
"""Precision: losses are computed in float32 at least."""

import numpy as np
from jaxtyping import Array


def upcast(x: Array) -> Array:
    """bfloat16 and float16 to float32; float32 and float64 stay as they are."""
    return x.astype(np.promote_types(x.dtype, np.float32))
