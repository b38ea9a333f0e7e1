# SPDX-License-Identifier: Apache-2.0
"""What changes the tokens: a cache of int8, and other shapes of the sampler.

Where two samplers of one request part, their arithmetic differed in the last digits and
two tokens were so close that it mattered. How close is a gap of scores:

* Greedy: the difference of the scores of the two tokens.
* Sampled: the sampler takes the first token whose cumulated probability F exceeds the
  uniform number u. One token a comes before the other, b, so it is F at a boundary
  between them that lay above u once and below u once. Call `below` the tokens up to
  that boundary and `above` the others, each with the log-sum-exp of its scores
  (over the temperature) as its score: u takes `below` iff

      score(below) - score(above) = logit(F) > logit(u).

  With u uniform, logit(u) is logistic, the difference of two Gumbel numbers, so this
  compares two scores with sampling noise, as the Gumbel-max draw does, and their gap is
  |logit(F) - logit(u)|. It is 0 where u lies between F(a) and F(b - 1).

A score that is off by at most e moves logit(F) by at most 2 e / temperature.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alignjax.data.rows import Shape, Tokens
from alignjax.models.attention import Visibility
from alignjax.sampling import Request, Result, Settings, score
from alignjax.sampling.choose import uniforms
from alignjax.sampling.shapes import cache_bytes
from timing import record, subject, traffic
from timing.record import Compilations
from timing.subject import Subject

WITHIN = 1e-4  # gap, in nats, at which two samplers may part
# What is changed in the sampler, one at a time.
CHANGES: tuple[dict[str, int], ...] = (
    {"slots": 4},
    {"slots": 64},
    {"prefill_tokens": 32},
    {"share": 1},
    {"slots": 64, "prefill_tokens": 64},
)
_SCORED_ROWS = 4
_Answers = dict[tuple[str, int], Result]


class Split(NamedTuple):
    """Where two answers to one request part: how many tokens they share, and the gap
    there in nats."""

    place: int
    gap: float


def int8(
    it: Subject,
    *,
    prompts: int,
    new: int,
    options: Mapping[str, Any],
    seed: int,
    compilations: Compilations,
) -> Iterator[dict[str, Any]]:
    """A cache of int8 beside one of the model's dtype.

    The log-probabilities that the sampler returns are compared with those of the same
    tokens by `score`, which has no cache.

    Yields:
      A line per cache.
    """
    greedy = _chats(it, prompts, 1, seed, temperature=0.0, new=new)
    sampled = _chats(it, prompts, 1, seed, temperature=1.0, new=new)
    longest = max(len(request.tokens) for request in greedy)
    chosen = {"slots": 32, "context": longest + new, "answer": new, **options}
    reference: _Answers = {}
    for cache_dtype in (None, "int8"):
        sampler = it.sampler(**chosen, cache_dtype=cache_dtype)
        subject.run(sampler, greedy)
        run = subject.run(sampler, sampled)
        answers = _by_sample(subject.run(sampler, greedy).results)
        reference = reference or answers
        differences = _differences(it, sampled, run.results)
        agreed, whole = _agreement(reference, answers)
        yield {
            "system": "alignjax",
            "work": {
                "name": "int8",
                "model": it.name,
                "prompts": prompts,
                "prompt": f"chat, at most {longest} tokens",
                "new": new,
            },
            "dtype": it.model.config.dtype,
            "cache_dtype": cache_dtype or it.model.config.dtype,
            "logprob_difference": {
                "mean": float(f"{differences.mean():.2g}"),
                "max": float(f"{differences.max():.2g}"),
                "tokens": differences.size,
            },
            "greedy_tokens_before_the_first_split": round(agreed, 4),
            "greedy_answers_equal": round(whole, 4),
            "cache_mib": round(cache_bytes(it.model.config, sampler.shapes) / 2**20, 1),
            "tokens_per_s": round(run.tokens_per_s, 1),
            "sampler": dataclasses.asdict(sampler.shapes),
            "seed": seed,
            "compilations": {"total": compilations.total},
            "versions": record.versions(),
        }
        del sampler


def fingerprints(
    it: Subject,
    *,
    prompts: int,
    new: int,
    options: Mapping[str, Any],
    seed: int,
    compilations: Compilations,
) -> Iterator[dict[str, Any]]:
    """The same requests under samplers of other shapes.

    Yields:
      A line per change: how many answers part, and at which gaps.
    """
    third = -(-prompts // 3)
    requests = [
        *_chats(it, third, 1, seed, temperature=0.0, new=new),
        *_chats(it, third, 4, seed, temperature=1.0, new=new),
        *_chats(it, third, 4, seed, temperature=0.7, new=new),
    ]
    longest = max(len(request.tokens) for request in requests)
    chosen = {"slots": 16, "context": longest + new, "answer": new, "share": 4}
    chosen = {**chosen, "prefill_tokens": 128, **options}
    reference = _by_sample(subject.run(it.sampler(**chosen), requests).results)
    for change in CHANGES:
        record.say(f"fingerprints: {change}")
        sampler = it.sampler(**{**chosen, **change})
        answers = _by_sample(subject.run(sampler, requests).results)
        splits = find_splits(it, requests, reference, answers, length=longest + new)
        yield {
            "system": "alignjax",
            "work": {
                "name": "fingerprints",
                "model": it.name,
                "requests": len(requests),
                "prompt": f"chat, at most {longest} tokens",
                "new": new,
            },
            "dtype": it.model.config.dtype,
            "sampler": dataclasses.asdict(sampler.shapes),
            "changed": change,
            "answers": len(answers),
            "tokens": sum(len(result.tokens) for result in answers.values()),
            "splits": len(splits),
            "splits_within_1e-4": sum(split.gap <= WITHIN for split in splits),
            "gaps": [float(f"{split.gap:.2g}") for split in splits],
            "seed": seed,
            "compilations": {"total": compilations.total},
            "versions": record.versions(),
        }


def find_splits(
    it: Subject,
    requests: Sequence[Request],
    one: _Answers,
    other: _Answers,
    *,
    length: int,
) -> list[Split]:
    """Of all answers that part; `length` tokens hold any prompt and its answer."""
    apply, head = jax.jit(it.model.apply), it.model.output_head(it.params)
    splits = []
    for request in requests:
        for sample in range(request.n):
            pair = [answers[request.id, sample].tokens for answers in (one, other)]
            place = _common(*pair)
            if place == max(map(len, pair)):
                continue
            tokens = np.zeros((1, length), np.int32)
            context = (*request.tokens, *pair[0][:place])
            tokens[0, : len(context)] = context
            group = jnp.ones_like(tokens)
            positions = np.arange(length, dtype=np.int32)[None]
            hidden = apply(it.params, tokens, positions, Visibility(group, group - 1))
            scores = np.asarray(hidden.hidden[0, len(context) - 1] @ head, np.float64)
            if it.model.softcap is not None:
                scores = it.model.softcap * np.tanh(scores / it.model.softcap)
            scores[list(request.settings.banned)] = -np.inf
            named = (jnp.full(1, x) for x in (request.seed, sample, place))
            found = gap(
                scores,
                float(uniforms(*named)[0]),
                (pair[0][place], pair[1][place]),
                temperature=request.settings.temperature,
            )
            splits.append(Split(place, found))
    return splits


def gap(
    scores: np.ndarray, uniform: float, tokens: tuple[int, int], *, temperature: float
) -> float:
    """How close the two tokens were, in nats; see the text above.

    Args:
      scores: of the whole vocabulary; -inf = banned.
      uniform: the number that was inverted; not read where the temperature is 0.
      tokens: the one that was chosen by each sampler; they differ.
    """
    a, b = sorted(tokens)
    if temperature == 0:
        return float(abs(scores[a] - scores[b]))
    tempered = (scores - scores.max()) / temperature
    weights = np.exp(tempered)
    up_to, beyond = np.cumsum(weights), np.cumsum(weights[::-1])[::-1]
    with np.errstate(divide="ignore"):  # u = 0, or nothing beyond the last boundary
        first = np.log(up_to[a]) - np.log(beyond[a + 1])
        last = np.log(up_to[b - 1]) - np.log(beyond[b])
        wanted = np.log(uniform) - np.log1p(-uniform)
    return float(max(first - wanted, wanted - last, 0.0))


def _chats(
    it: Subject, count: int, n: int, seed: int, *, temperature: float, new: int
) -> list[Request]:
    settings = Settings(temperature=temperature, max_new_tokens=new, banned=it.end_ids)
    assert it.tokenizer is not None
    made = traffic.chats(it.tokenizer, count=count, n=n, seed=seed, settings=settings)
    return [dataclasses.replace(r, id=f"{r.id} at {temperature}") for r in made]


def _by_sample(results: Sequence[Result]) -> _Answers:
    return {(result.id, result.sample): result for result in results}


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens before the first difference."""
    same = (a == b for a, b in zip(one, other, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, same))


def _agreement(reference: _Answers, answers: _Answers) -> tuple[float, float]:
    """Of the reference's tokens, those before the first difference; of its answers,
    those that are the same."""
    pairs = [(reference[key].tokens, answers[key].tokens) for key in reference]
    agreed = sum(_common(*pair) for pair in pairs)
    total = sum(len(tokens) for tokens, _ in pairs)
    return agreed / total, sum(a == b for a, b in pairs) / len(pairs)


def _differences(
    it: Subject, requests: Sequence[Request], results: Sequence[Result]
) -> np.ndarray:
    """|log p by the sampler - log p without a cache| of each sampled token."""
    answers = _by_sample(results)
    examples = [
        Tokens(request.id, request.tokens, (answers[request.id, 0].tokens,))
        for request in requests
    ]
    length = max(example.length for example in examples)
    shape = Shape(
        rows=_SCORED_ROWS,
        time=length,
        blocks=1,
        block=length,
        scored=max(len(example.responses[0]) for example in examples),
    )
    scored = score(it.model, it.params, examples, shape)
    return np.concatenate(
        [
            np.abs(responses[0] - np.array(answers[request.id, 0].logprobs))
            for request, responses in zip(requests, scored, strict=True)
        ]
    )
