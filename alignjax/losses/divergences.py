# SPDX-License-Identifier: Apache-2.0
"""Divergences: what the KL term of preference optimisation is replaced by.

f-DPO, Wang et al. 2023 (arXiv:2309.16240), theorem 1: with the penalty
E_ref[f(policy / reference)], the implicit reward of a response is beta * f'(u), where
u = policy / reference. Each function here is h(x) = f'(e^x) of the log-ratio x, up to a
constant that cancels between two responses. All have h(0) = 0.

Exponents are clamped at 80 (e^80 is 5.5e34, finite in float32); beyond, the value
stands still and the gradient is 0. So do squares of what comes out, at 1e36.
"""

import dataclasses
import numbers
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from alignjax.losses.precision import upcast

Divergence = Callable[[Float[Array, "*batch"]], Float[Array, "*batch"]]

LARGEST_EXPONENT = 80.0


def reverse_kl(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """h(x) = x: KL(policy || reference), that of DPO.

    >>> import jax.numpy as jnp
    >>> print(reverse_kl(jnp.array([-1.0, 0.0, 2.0])))
    [-1.  0.  2.]
    """
    return upcast(x)


def forward_kl(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """h(x) = 1 - e^-x: KL(reference || policy).

    >>> import jax.numpy as jnp
    >>> print(forward_kl(jnp.array([0.0, jnp.log(2.0)])))
    [0.  0.5]
    """
    return -jnp.expm1(jnp.minimum(-upcast(x), LARGEST_EXPONENT))


def jensen_shannon(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """h(x) = log(2 sigmoid(x)): the Jensen-Shannon divergence, f-DPO's table 1.

    Its slope at 0 is 1/2: the same beta pushes half as hard as the others there.

    >>> import jax.numpy as jnp
    >>> print(f"{jensen_shannon(jnp.log(jnp.array(3.0))):.4f}")  # log(2 * 3 / 4)
    0.4055
    """
    x = upcast(x)
    return jnp.log(jnp.asarray(2.0, x.dtype)) + jax.nn.log_sigmoid(x)


def alpha_divergence(alpha: float) -> Divergence:
    """h(x) = (1 - e^(-alpha x)) / alpha: the alpha-divergences between the two KLs.

    Two of the same alpha are equal, so that as static arguments of a jitted function
    they are compiled once.

    Args:
      alpha: the paper's, a Python number; 0 is `reverse_kl`, 1 is `forward_kl`. TRL
        from 1.0 on counts the other way: its coefficient is 1 - alpha.

    Raises:
      ValueError: alpha is an array, traced or not.

    >>> import jax.numpy as jnp
    >>> print(alpha_divergence(0.5)(jnp.array([0.0, jnp.log(4.0)])))  # (1 - 1/2) / 0.5
    [0. 1.]
    """
    if not isinstance(alpha, numbers.Real):
        kind = type(alpha).__name__
        raise ValueError(
            f"alpha_divergence: alpha must be a Python number, got a {kind}; "
            "compile once for each alpha"
        )
    return reverse_kl if abs(alpha) < 1e-6 else _AlphaDivergence(float(alpha))


@dataclasses.dataclass(frozen=True)
class _AlphaDivergence:
    alpha: float

    def __call__(self, x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        exponent = jnp.minimum(-self.alpha * upcast(x), LARGEST_EXPONENT)
        return -jnp.expm1(exponent) / self.alpha


# Those without a number of their own, by name.
DIVERGENCES: Mapping[str, Divergence] = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "jensen_shannon": jensen_shannon,
}
