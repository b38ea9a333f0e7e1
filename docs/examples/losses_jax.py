# SPDX-License-Identifier: Apache-2.0
"""DPO, then CoIN, in plain JAX: a bigram model of bytes and hand-written SGD."""

import jax
import jax.numpy as jnp

from alignjax.losses import Pair, Views, coin, coin_weight, dpo, token_logprobs

# The answer is the last four bytes. Two chosen, two rejected:
PAIRS = "2 + 2 = four", "1 + 1 = two.", "2 + 2 = five", "1 + 1 = six."
# i and j, each in two wordings of the same instruction:
COUPLE = (
    *("Good or bad? hot soup: good", "Rate a meal. hot soup: good"),
    *("Good or bad? raw soup: bad.", "Rate a meal. raw soup: bad."),
)


def forward(params, texts):
    """Mean state of each text, and log p(answer | prompt)."""
    tokens = jnp.array([list(text.encode()) for text in texts])
    hidden = params["embed"][tokens]
    targets = tokens[:, 1:].at[:, :-4].set(-1)  # -1: not scored
    logprobs = token_logprobs(hidden[:, :-1], params["head"], targets)
    return hidden.mean(1), logprobs.sum(-1)


def pair(params):
    _, scores = forward(params, PAIRS)
    return Pair(chosen=scores[:2], rejected=scores[2:])


def preference(params):
    loss = dpo(pair(params), reference, beta=0.1).mean()
    return loss, {"dpo": loss}


def contrast(params):
    states, scores = forward(params, COUPLE)
    i, i_paraphrase, j, j_paraphrase = states[:, None]
    loss = coin(Views(i, i_paraphrase), Views(j, j_paraphrase), temperature=0.05)
    terms = {"coin": loss.mean(), "nll": -scores.mean() / 2}  # two wordings, four bytes
    weight = coin_weight(terms["nll"], terms["coin"], bound=1000.0)
    return terms["nll"] + weight * terms["coin"], terms


def train(loss, params, steps=100, rate=0.3):
    step = jax.jit(jax.grad(loss, has_aux=True))
    _, before = step(params)
    for _ in range(steps):
        gradient, terms = step(params)
        params = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
    for name in terms:
        print(f"{name}: {before[name]:.4f} -> {terms[name]:.4f}")


embed = jax.random.normal(jax.random.key(0), (128, 128))
start = {"embed": embed, "head": jnp.eye(128)}
reference = pair(start)
train(preference, start)
train(contrast, start)
