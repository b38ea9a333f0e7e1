# SPDX-License-Identifier: Apache-2.0
"""Losses: pure functions of arrays that return one unreduced value per example.

Nothing here knows a model, a dataset or a mesh, so every function can be called from
any JAX program, under jit, vmap, shard_map and automatic sharding.

`logprobs` turns hidden states into log-probabilities of tokens, `likelihood` those into
scores of responses. Preference losses read scores: of the margin (`preference`), of the
two rewards (`rewards`), of a batch as a whole (`transport`), without a reference model
(`reference_free`), of several rejected responses (`ranking`). `contrastive` works on
pooled hidden states. `table` lists all of them with what they need.
"""

from alignjax.losses.contrastive import (
    Views,
    coin,
    coin_triplet,
    coin_weight,
    info_nce,
    pool,
)
from alignjax.losses.divergences import (
    DIVERGENCES,
    alpha_divergence,
    forward_kl,
    jensen_shannon,
    reverse_kl,
)
from alignjax.losses.likelihood import (
    Sequences,
    length_desensitized,
    nll,
    sequence_logprobs,
    sft,
    wpo_weight,
)
from alignjax.losses.logprobs import (
    TokenStatistics,
    token_kl,
    token_logprobs,
    token_statistics,
)
from alignjax.losses.pairs import Pair, implicit_rewards, per_token
from alignjax.losses.preference import (
    discopop,
    dpo,
    dpo_norm,
    exo,
    hinge,
    ipo,
    ipo_sum,
    robust_dpo,
    tdpo,
)
from alignjax.losses.ranking import (
    Ranking,
    nca_ranking,
    pairwise,
    plackett_luce,
    softmax_dpo,
)
from alignjax.losses.reference_free import cpo, orpo, simpo
from alignjax.losses.rewards import (
    apo_down,
    apo_zero,
    bco,
    kto,
    kto_baseline,
    nca,
    sppo,
)
from alignjax.losses.table import LOSSES, Loss, Option, find
from alignjax.losses.transport import aot, aot_unpaired

__all__ = [
    "DIVERGENCES",
    "LOSSES",
    "Loss",
    "Option",
    "find",
    "Pair",
    "Ranking",
    "Sequences",
    "TokenStatistics",
    "Views",
    "alpha_divergence",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "bco",
    "coin",
    "coin_triplet",
    "coin_weight",
    "cpo",
    "discopop",
    "dpo",
    "dpo_norm",
    "exo",
    "forward_kl",
    "hinge",
    "implicit_rewards",
    "info_nce",
    "ipo",
    "ipo_sum",
    "jensen_shannon",
    "kto",
    "kto_baseline",
    "length_desensitized",
    "nca",
    "nca_ranking",
    "nll",
    "orpo",
    "pairwise",
    "per_token",
    "plackett_luce",
    "pool",
    "reverse_kl",
    "robust_dpo",
    "sequence_logprobs",
    "sft",
    "simpo",
    "softmax_dpo",
    "sppo",
    "tdpo",
    "token_kl",
    "token_logprobs",
    "token_statistics",
    "wpo_weight",
]
