# SPDX-License-Identifier: Apache-2.0
"""DPO and CoIN in one step, with an Equinox model of bytes and optax."""

import equinox as eqx
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


class Model(eqx.Module):
    embed: eqx.nn.Embedding
    cell: eqx.nn.GRUCell

    def __call__(self, tokens):
        """Hidden state of each byte of one text."""

        def step(state, token):
            state = self.cell(self.embed(token), state)
            return state, state

        return jax.lax.scan(step, jnp.zeros(32), tokens)[1]


def forward(model, texts):
    """State at the end of each prompt, and log p(answer | prompt)."""
    tokens = jnp.array([list(text.encode()) for text in texts])
    hidden = jax.vmap(model)(tokens)
    targets = tokens[:, 1:].at[:, :-4].set(-1)  # -1: not scored
    logprobs = token_logprobs(hidden[:, :-1], model.embed.weight.T, targets)
    return hidden[:, -5], logprobs.sum(-1)


def pair(model):
    _, scores = forward(model, PAIRS)
    return Pair(chosen=scores[:2], rejected=scores[2:])


def loss(model):
    i, i_paraphrase, j, j_paraphrase = forward(model, COUPLE)[0][:, None]
    contrast = coin(Views(i, i_paraphrase), Views(j, j_paraphrase), temperature=0.05)
    preference = dpo(pair(model), reference, beta=0.1)
    terms = {"dpo": preference.mean(), "coin": contrast.mean()}
    return terms["dpo"] + 0.1 * terms["coin"], terms


@eqx.filter_jit
def step(model, state):
    gradient, terms = eqx.filter_grad(loss, has_aux=True)(model)
    updates, state = optimizer.update(gradient, state)
    return eqx.apply_updates(model, updates), state, terms


one, two = jax.random.split(jax.random.key(0))
model = Model(eqx.nn.Embedding(128, 32, key=one), eqx.nn.GRUCell(32, 32, key=two))
reference = eqx.filter_jit(pair)(model)
optimizer = optax.adam(1e-2)
state = optimizer.init(eqx.filter(model, eqx.is_array))
history = []
for _ in range(50):
    model, state, terms = step(model, state)
    history.append(terms)
for name in terms:
    print(f"{name}: {history[0][name]:.4f} -> {history[-1][name]:.4f}")
