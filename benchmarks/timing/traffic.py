# SPDX-License-Identifier: Apache-2.0
"""Requests to time the sampler with."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from alignjax.data.tokenizer import Tokenizer
from alignjax.sampling import Request, Result, Settings
from data_gen import seeds
from timing.peers import Work

# Lengths of answers, in tokens: log-normal, clipped.
MEDIAN, SIGMA = 45, 0.7
SHORTEST, LONGEST = 4, 160
LENGTHS = f"log-normal, median {MEDIAN}, sigma {SIGMA}, {SHORTEST} to {LONGEST}"
# Lengths of prompts of mixed requests, in tokens: all equally likely.
PROMPTS = (16, 95)
CONTEXT = PROMPTS[1] + LONGEST + 1  # prompt, answer and the token that ends it
# Of the random prompts: where a byte-level vocabulary holds ordinary words.
_IDS = (1000, 20_000)


class NoText:
    """In place of a tokenizer for a model that has none: no end, no text."""

    eos_ids: tuple[int, ...] = ()

    def decode(self, ids: Sequence[int]) -> str:
        return ""


def even(
    work: Work, *, vocab: int, banned: tuple[int, ...], seed: int
) -> list[Request]:
    """Prompts of random ids, answered at temperature 1 to the full length."""
    draw = np.random.default_rng(seed)
    settings = Settings(max_new_tokens=work.new, banned=banned)
    return [
        Request(
            str(number),
            _prompt(draw, work.prompt, vocab),
            n=work.samples,
            seed=seed,
            settings=settings,
        )
        for number in range(work.prompts)
    ]


def lengths(count: int, draw: np.random.Generator) -> list[int]:
    """As LENGTHS says."""
    drawn = draw.lognormal(math.log(MEDIAN), SIGMA, count)
    return np.clip(np.rint(drawn), SHORTEST, LONGEST).astype(int).tolist()


def uneven(
    prompts: int, *, n: int, vocab: int, banned: tuple[int, ...], seed: int
) -> tuple[list[Request], list[list[int]]]:
    """Requests that go on for long enough, and the lengths wanted of their samples.

    See `ended`, which turns them and their answers into requests of these lengths.
    """
    draw = np.random.default_rng(seed)
    requests, wanted = [], []
    for number in range(prompts):
        mine = lengths(n, draw)
        prompt = _prompt(draw, int(draw.integers(PROMPTS[0], PROMPTS[1] + 1)), vocab)
        settings = Settings(max_new_tokens=max(mine) + 1, banned=banned)
        requests.append(Request(str(number), prompt, n=n, seed=seed, settings=settings))
        wanted.append(mine)
    return requests, wanted


def ended(
    requests: Sequence[Request],
    wanted: Sequence[Sequence[int]],
    results: Iterable[Result],
) -> list[Request]:
    """The same requests, which now end where wanted, by a token that the model samples
    there anyway.

    The sampler learns only when it samples that token that the answer has ended, as it
    does of any end of turn, and the samples of one prompt end apart. An answer in which
    no token near the wanted place is the right one ends a little before it.
    """
    answers: dict[str, dict[int, tuple[int, ...]]] = {}
    for result in results:
        answers.setdefault(result.id, {})[result.sample] = result.tokens
    made = []
    for request, mine in zip(requests, wanted, strict=True):
        samples = [answers[request.id][sample] for sample in range(request.n)]
        settings = dataclasses.replace(request.settings, stop_ids=_ends(samples, mine))
        made.append(dataclasses.replace(request, settings=settings))
    return made


def mixed(*, vocab: int, banned: tuple[int, ...], seed: int) -> Iterator[Request]:
    """Without end: prompts, lengths, numbers of samples and settings all differ."""
    draw = np.random.default_rng(seed)
    kinds = (
        Settings(),
        Settings(temperature=0.0),
        Settings(temperature=0.7, top_p=0.95),
        Settings(top_k=50, min_p=0.02),
        Settings(temperature=0.8, repetition_penalty=1.1, presence_penalty=0.2),
        Settings(logit_bias=((5, 1.0), (9, -1.0))),
    )
    for number in itertools.count():
        settings = dataclasses.replace(
            kinds[draw.integers(len(kinds))],
            max_new_tokens=lengths(1, draw)[0],
            banned=banned,
        )
        prompt = _prompt(draw, int(draw.integers(PROMPTS[0], PROMPTS[1] + 1)), vocab)
        n = int(draw.choice((1, 1, 4)))
        yield Request(str(number), prompt, n=n, seed=number, settings=settings)


def chats(
    tokenizer: Tokenizer, *, count: int, n: int, seed: int, settings: Settings
) -> list[Request]:
    """The project's own seed instructions, as conversations of one turn."""
    chosen = seeds.load_seeds(seeds.BUILTIN, count)
    if len(chosen) < count:
        raise ValueError(f"--prompts {count}: there are {len(chosen)} instructions")
    return [
        Request(
            each.id,
            tuple(tokenizer.prompt_ids([{"role": "user", "content": each.text}])),
            n=n,
            seed=seed,
            settings=settings,
        )
        for each in chosen
    ]


def _prompt(draw: np.random.Generator, length: int, vocab: int) -> tuple[int, ...]:
    low, high = _IDS if vocab >= _IDS[1] else (0, vocab)
    return tuple(draw.integers(low, high, length).tolist())


def _ends(samples: Sequence[tuple[int, ...]], wanted: Sequence[int]) -> tuple[int, ...]:
    """For each sample the token at its wanted end, or shortly before, that it has
    nowhere earlier, and no other sample before its own end."""
    ends = set()
    for number, (sample, length) in enumerate(zip(samples, wanted, strict=True)):
        others = {
            token
            for i, other in enumerate(samples)
            if i != number
            for token in other[: wanted[i] + 1]
        }
        for place in range(min(length, len(sample) - 1), -1, -1):
            token = sample[place]
            if token not in others and token not in sample[:place]:
                ends.add(token)
                break
    return tuple(sorted(ends))
