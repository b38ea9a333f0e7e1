# SPDX-License-Identifier: Apache-2.0
"""Losses: pure functions of arrays that return one unreduced value per example.

`logprobs` turns hidden states into log-probabilities of tokens; `likelihood` and
`preference` turn those into losses; `contrastive` works on pooled hidden states.
Nothing here knows a model, a dataset or a mesh, so every function can be called from
any JAX program, under jit, vmap, shard_map and automatic sharding.
"""

from alignjax.losses.contrastive import (
    Views,
    coin,
    coin_triplet,
    coin_weight,
    info_nce,
)
from alignjax.losses.likelihood import Sequences, nll, sequence_logprobs, sft
from alignjax.losses.logprobs import token_logprobs
from alignjax.losses.preference import Pair, dpo, implicit_rewards

__all__ = [
    "Pair",
    "Sequences",
    "Views",
    "coin",
    "coin_triplet",
    "coin_weight",
    "dpo",
    "implicit_rewards",
    "info_nce",
    "nll",
    "sequence_logprobs",
    "sft",
    "token_logprobs",
]
