# SPDX-License-Identifier: Apache-2.0
"""Requests of all kinds, and the rule by which two samplers may differ on them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignjax.models import Model, Params
from alignjax.models.attention import Visibility
from alignjax.sampling import Request, Result, Sampler, Settings
from alignjax.sampling.choose import uniforms

VOCAB = 64
CONTEXT = 128
# The samplers of all tests have these shapes unless a test is about another one, so
# that their programs are compiled once.
SHAPES: dict[str, Any] = {
    "slots": 8,
    "context": CONTEXT,
    "answer": 32,
    "share": 2,
    "prefill_tokens": 64,
}
CLOSE = 1e-4  # within which rounding may decide between two tokens

Answers = dict[tuple[str, int], Result]


class Digits:
    """Id 7 is "07": texts can be worked out by hand, and "30" stands across the
    border of 13 and 04."""

    def __init__(self, *eos_ids: int):
        self.eos_ids = eos_ids

    def decode(self, ids: list[int]) -> str:
        return "".join(f"{i:02d}" for i in ids)


def mixed(count: int, *, seed: int = 0) -> list[Request]:
    """Prompts of 1 to 90 tokens, 1 to 5 samples of up to 30 tokens, and every setting,
    alone and with others."""
    rng = np.random.default_rng(seed)
    return [
        Request(
            f"r{i}",
            prompt(int(rng.integers(1 << 30)), int(rng.integers(1, 91))),
            n=int(rng.integers(1, 6)),
            seed=int(rng.integers(1 << 31)),
            settings=_settings(rng, i),
            first=int(rng.integers(0, 3)),
        )
        for i in range(count)
    ]


def prompt(seed: int, size: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(0, VOCAB, size).tolist())


def _settings(rng: np.random.Generator, number: int) -> Settings:
    ids = rng.permutation(VOCAB).tolist()
    some: dict[str, Any] = {
        "top_k": int(rng.integers(1, 20)),
        "top_p": float(rng.uniform(0.1, 0.99)),
        "min_p": float(rng.uniform(0.01, 0.5)),
        "repetition_penalty": float(rng.uniform(0.7, 1.8)),
        "presence_penalty": float(rng.uniform(-1, 2)),
        "logit_bias": tuple((i, float(rng.normal())) for i in ids[:3]),
        "banned": tuple(ids[3:13]),
        "stop_ids": tuple(ids[13:15]),
        "stop": ("12", f"{ids[15]:02d}", "303"),
        "temperature": float(rng.uniform(0.2, 2)),
    }
    names = list(some)
    if number % 12 < 10:
        names = [names[number % 12]]  # one setting alone
    elif number % 12 == 11:
        some["temperature"] = 0.0  # greedy, with all others that count then
    limit = int(rng.integers(1, 31))
    return Settings(max_new_tokens=limit, **{name: some[name] for name in names})


def answers(sampler: Sampler, requests: Iterable[Request | None]) -> Answers:
    results = list(sampler.generate(requests))
    found = {(result.id, result.sample): result for result in results}
    assert len(found) == len(results)
    return found


@functools.partial(jax.jit, static_argnames="model")
def _scores(params: Params, tokens: jax.Array, *, model: Model) -> jax.Array:
    visibility = Visibility(jnp.ones_like(tokens), jnp.zeros_like(tokens))
    positions = jnp.arange(tokens.shape[1])[None]
    hidden = model.apply(params, tokens, positions, visibility).hidden
    return hidden[0] @ model.output_head(params)


def next_scores(tiny: tuple[Model, Params], tokens: Sequence[int]) -> np.ndarray:
    """Scores after the last token, by one forward over everything, in float64."""
    model, params = tiny
    padded = np.zeros((1, CONTEXT), np.int32)
    padded[0, : len(tokens)] = tokens
    scores = _scores(params, padded, model=model)[len(tokens) - 1]
    return np.asarray(scores, np.float64)


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a token is chosen, by the definitions in `Settings`, in float64.

    Attributes:
      scores: after penalties, biases and bans.
      settings: of the request.
      uniform: the random number of this token.
    """

    scores: np.ndarray
    settings: Settings
    uniform: float

    def depth(self) -> np.ndarray:
        """Nats below the best token, after temperature."""
        return (self.scores.max() - self.scores) / self.settings.temperature

    def cumulated(self) -> np.ndarray:
        """The distribution function over ids of the tokens that are kept."""
        weights = np.where(self._kept(), np.exp(-self.depth()), 0)
        return np.cumsum(weights) / weights.sum()

    def token(self) -> int:
        if self.settings.temperature == 0:
            return int(self.scores.argmax())
        return int(np.searchsorted(self.cumulated(), self.uniform, side="right"))

    def is_close(self, one: int, other: int) -> bool:
        """Whether rounding may decide between the two tokens.

        Greedy: the scores of both are within 1e-4 of the best one. Else the random
        number is within 1e-4 of both tokens' intervals of the distribution function;
        or a filter's cut is within 1e-4: of the score of a token that is not the k-th,
        of a sum of probabilities (top-p), of a score (min-p).
        """
        if self.settings.temperature == 0:
            worst = min(self.scores[one], self.scores[other])
            return bool(self.scores.max() - worst <= CLOSE)
        ends = self.cumulated()
        starts = np.concatenate([[0], ends[:-1]])
        is_near = (starts - CLOSE <= self.uniform) & (self.uniform <= ends + CLOSE)
        is_near &= self._kept()
        return bool(is_near[one] and is_near[other]) or self._is_cut_close()

    def _kept(self) -> np.ndarray:
        depth, settings = self.depth(), self.settings
        kept = np.isfinite(depth)
        if settings.top_k:
            kept &= depth <= np.sort(depth)[min(settings.top_k, VOCAB) - 1]
        if settings.top_p < 1:
            order = np.sort(depth[kept])
            mass = np.cumsum(np.exp(-order)) / np.exp(-order).sum()
            kept &= depth <= order[int((mass >= settings.top_p).argmax())]
        if settings.min_p:
            kept &= depth <= -np.log(settings.min_p)
        return kept

    def _is_cut_close(self) -> bool:
        depth, settings = np.sort(self.depth()), self.settings
        found = False
        if 0 < settings.top_k < VOCAB:
            found |= depth[settings.top_k] - depth[settings.top_k - 1] <= CLOSE
            depth = depth[: settings.top_k]
        if settings.top_p < 1:
            mass = np.cumsum(np.exp(-depth)) / np.exp(-depth).sum()
            found |= np.abs(mass - settings.top_p).min() <= CLOSE
        if settings.min_p:
            found |= np.abs(depth + np.log(settings.min_p)).min() <= CLOSE
        return bool(found)


def choice(
    tiny: tuple[Model, Params], request: Request, sample: int, answer: Sequence[int]
) -> Choice:
    """The choice of the token that comes after `answer`."""
    settings = request.settings
    scores = next_scores(tiny, [*request.tokens, *answer])
    for token in {*request.tokens, *answer}:
        penalty = settings.repetition_penalty
        scores[token] *= penalty if scores[token] < 0 else 1 / penalty
    for token in set(answer):
        scores[token] -= settings.presence_penalty
    for token, bias in settings.logit_bias:
        scores[token] += bias
    scores[list(settings.banned)] = -np.inf
    place = (np.array([i], np.int32) for i in (request.seed, sample, len(answer)))
    return Choice(scores, settings, float(uniforms(*map(jnp.asarray, place))[0]))


@dataclasses.dataclass
class Agreement:
    """How two samplers' answers to the same requests compare.

    Attributes:
      answers, tokens: compared; tokens up to the first difference.
      splits: answers whose tokens differ from some position on.
      unexplained: those where rounding could not have decided.
      off: largest difference of log-probabilities, in nats.
    """

    answers: int = 0
    tokens: int = 0
    splits: int = 0
    unexplained: list[str] = dataclasses.field(default_factory=list)
    off: float = 0.0


def compare(
    tiny: tuple[Model, Params],
    requests: Iterable[Request],
    one: Mapping[tuple[str, int], Result],
    other: Mapping[tuple[str, int], Result],
) -> Agreement:
    """Compares token by token until the first that differs."""
    found = Agreement()
    assert one.keys() == other.keys()
    for request in requests:
        for sample in range(request.first, request.first + request.n):
            left, right = one[request.id, sample], other[request.id, sample]
            found.answers += 1
            same = 0
            for a, b in zip(left.tokens, right.tokens, strict=False):
                if a != b:
                    break
                same += 1
            found.tokens += same
            for a, b in zip(left.logprobs[:same], right.logprobs, strict=False):
                found.off = max(found.off, abs(a - b))
            if left.tokens == right.tokens and left.text == right.text:
                continue
            found.splits += 1
            chosen = [_token(x, same, request) for x in (left, right)]
            there = choice(tiny, request, sample, left.tokens[:same])
            if not any(there.is_close(a, b) for a in chosen[0] for b in chosen[1]):
                found.unexplained.append(f"{request.id}/{sample} at {same}: {chosen}")
    return found


def _token(result: Result, place: int, request: Request) -> tuple[int, ...]:
    """What was chosen at a place: an id that ended the answer is not in its tokens."""
    if place < len(result.tokens):
        return (result.tokens[place],)
    return request.settings.stop_ids
