# SPDX-License-Identifier: Apache-2.0
"""DPO and CoIN in one step, with a flax.linen model of bytes and optax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from alignjax.losses import Pair, Views, coin, dpo, token_logprobs

# The answer is the last four bytes. Two chosen, two rejected:
PAIRS = "2 + 2 = four", "1 + 1 = two.", "2 + 2 = five", "1 + 1 = six."
# i and j, each in two wordings of the same instruction:
COUPLE = (
    *("Good or bad? hot soup: good", "Rate a meal. hot soup: good"),
    *("Good or bad? raw soup: bad.", "Rate a meal. raw soup: bad."),
)


class Model(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        """Hidden state of each byte, and the output projection."""
        embed = nn.Embed(128, 32)
        return nn.RNN(nn.GRUCell(32))(embed(tokens)), embed.embedding.T


def forward(params, texts):
    """State at the end of each prompt, and log p(answer | prompt)."""
    tokens = jnp.array([list(text.encode()) for text in texts])
    hidden, head = Model().apply(params, tokens)
    targets = tokens[:, 1:].at[:, :-4].set(-1)  # -1: not scored
    return hidden[:, -5], token_logprobs(hidden[:, :-1], head, targets).sum(-1)


def pair(params):
    _, scores = forward(params, PAIRS)
    return Pair(chosen=scores[:2], rejected=scores[2:])


def loss(params):
    i, i_paraphrase, j, j_paraphrase = forward(params, COUPLE)[0][:, None]
    contrast = coin(Views(i, i_paraphrase), Views(j, j_paraphrase), temperature=0.05)
    preference = dpo(pair(params), reference, beta=0.1)
    terms = {"dpo": preference.mean(), "coin": contrast.mean()}
    return terms["dpo"] + 0.1 * terms["coin"], terms


@jax.jit
def step(params, state):
    gradient, terms = jax.grad(loss, has_aux=True)(params)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, terms


params = Model().init(jax.random.key(0), jnp.zeros((1, 1), int))
reference = jax.jit(pair)(params)
optimizer = optax.adam(1e-2)
state = optimizer.init(params)
history = []
for _ in range(50):
    params, state, terms = step(params, state)
    history.append(terms)
for name in terms:
    print(f"{name}: {history[0][name]:.4f} -> {history[-1][name]:.4f}")
