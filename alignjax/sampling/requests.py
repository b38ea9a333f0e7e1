# SPDX-License-Identifier: Apache-2.0
"""What is asked of the sampler, and what it returns."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal, TypeGuard

from alignjax import config

FinishReason = Literal["stop", "length", "refused"]

MAX_BIASES = 256  # ids in logit_bias and banned together
# The sampler computes in float32 and int32; within these bounds nothing overflows.
_LARGEST, _SMALLEST, _END = 1e30, 1e-30, 1 << 31


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one request is sampled.

    Attributes:
      temperature: divides the scores; 0 = greedy. >= 0.
      top_k: keep the k most probable tokens; 0 = all.
      top_p: then keep the smallest set of most probable tokens whose probability
        reaches top_p; in (0, 1], 1 = all (Holtzman et al. 2020, arXiv:1904.09751).
      max_new_tokens: at most this many tokens are sampled; > 0.
      stop: texts that end the answer; the answer is cut before them.
      min_p: drop tokens whose probability is below min_p times that of the most
        probable one; in [0, 1), 0 = none (Nguyen et al. 2024, arXiv:2407.01082).
      repetition_penalty: the scores of tokens in prompt or answer are divided by it
        where positive and multiplied where negative; > 0, 1 = unchanged (Keskar et
        al. 2019, arXiv:1909.05858).
      presence_penalty: subtracted from the scores of tokens in the answer so far; in
        nats, 0 = unchanged, below 0 they become more probable.
      logit_bias: pairs of a token id and what is added to its score, in nats.
      banned: ids that are never sampled.
      stop_ids: ids that end the answer besides the tokenizer's end-of-turn ids, and
        like those are left out of the tokens.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 128
    stop: tuple[str, ...] = ()
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    banned: tuple[int, ...] = ()
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature)
        if not (self.temperature == 0 or self.temperature >= _SMALLEST):
            raise ValueError(
                f"temperature must be 0 (greedy) or at least {_SMALLEST:g}, got "
                f"{self.temperature}"
            )
        _check_int("top_k", self.top_k, 0, "0 (all) or above")
        _check_number("top_p", self.top_p)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        _check_int("max_new_tokens", self.max_new_tokens, 1, "> 0")
        _check_stop(self.stop)
        _check_number("min_p", self.min_p)
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p must be in [0, 1), got {self.min_p}")
        _check_number("repetition_penalty", self.repetition_penalty)
        if not self.repetition_penalty >= _SMALLEST:
            raise ValueError(
                f"repetition_penalty must be > 0 (at least {_SMALLEST:g}; 1 changes "
                f"nothing), got {self.repetition_penalty}"
            )
        _check_number("presence_penalty", self.presence_penalty)
        _check_biases(self.logit_bias, self.banned)
        _check_ids("stop_ids", self.stop_ids)


@dataclasses.dataclass(frozen=True)
class Request:
    """A prompt to be continued `n` times: its samples first .. first + n - 1.

    Sample i is a function of (tokens, settings, seed, i) and of the sampler's shapes
    and weights; neighbours and order do not change it. The seed is in [0, 2^31).
    """

    id: str
    tokens: tuple[int, ...]
    n: int = 1
    seed: int = 0
    settings: Settings = dataclasses.field(default_factory=Settings)
    first: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise ValueError(f"a request's id must be a text, got {_show(self.id)}")
        name = f"request {self.id}"
        if not isinstance(self.tokens, tuple):
            raise ValueError(
                f"{name}: tokens must be a tuple, got {_show(self.tokens)}"
            )
        if not self.tokens:
            raise ValueError(f"{name}: the prompt is empty")
        for token in self.tokens:
            if not _is_int(token):
                raise ValueError(f"{name}: a token must be an int, got {_show(token)}")
        _check_int(f"{name}: n", self.n, 1, "> 0")
        _check_int(f"{name}: seed", self.seed, 0, "in [0, 2^31)")
        _check_int(f"{name}: first", self.first, 0, "0 or above")
        if self.first + self.n > _END:
            raise ValueError(
                f"{name}: first + n must be at most 2^31, got {self.first} + {self.n}"
            )
        if not isinstance(self.settings, Settings):
            raise ValueError(
                f"{name}: settings must be Settings, got {_show(self.settings)}"
            )


@dataclasses.dataclass(frozen=True)
class Result:
    """One sampled answer.

    Attributes:
      tokens: sampled ids without the end-of-turn token; those of a stop text stay.
      text: the ids decoded; where a stop text ended it, cut before that text.
      logprobs: log p of each of `tokens` under the model's own scores, before bias,
        penalties and temperature; in nats.
      finish_reason: "stop" (end-of-turn token, stop id or stop text), "length", or
        "refused": the request could not be done, and there is no answer.
      reason: why it was refused; else empty.
    """

    id: str
    sample: int
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    reason: str = ""


def settings(values: object, where: str = "settings") -> Settings:
    """Settings from what JSON or YAML can hold.

    Args:
      values: a mapping of field names to values, with lists for tuples; `stop` may be
        one text, and `logit_bias` a mapping of ids (as JSON has them, in quotes) to
        numbers.
      where: what error messages begin with.

    Raises:
      ValueError: names the field, what was expected and what came; for a name that is
        no field, the nearest one.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{where}: expected the fields of Settings, got {_show(values)}"
        )
    fields = dict(values)
    if isinstance(fields.get("stop"), str):
        fields["stop"] = [fields["stop"]]
    if isinstance(bias := fields.get("logit_bias"), Mapping):
        fields["logit_bias"] = [[_id(k, where), v] for k, v in bias.items()]
    return config.parse(Settings, fields, where)


def _id(key: object, where: str) -> int:
    """The id that a key of `logit_bias` spells."""
    if isinstance(key, str) and re.fullmatch("0|[1-9][0-9]{0,9}", key):
        return int(key)
    if _is_int(key):
        return key
    raise ValueError(
        f'{where}: logit_bias: a key must be a token id, such as "7", got {_show(key)}'
    )


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {_show(value)}")
    if not abs(value) <= _LARGEST:  # NaN as well
        raise ValueError(
            f"{name} must be finite and at most {_LARGEST:g} in size, got "
            f"{_show(value)}"
        )


def _check_int(name: str, value: object, least: int, meaning: str) -> None:
    if not _is_int(value):
        raise ValueError(f"{name} must be an int, got {_show(value)}")
    if value < least:
        raise ValueError(f"{name} must be {meaning}, got {_show(value)}")
    if value >= _END:
        raise ValueError(f"{name} must be below 2^31, got {_show(value)}")


def _check_stop(stop: object) -> None:
    if not isinstance(stop, tuple):
        raise ValueError(f"stop must be a tuple of texts, got {_show(stop)}")
    for text in stop:
        if not isinstance(text, str):
            raise ValueError(f"stop: each must be a text, got {_show(text)}")
        if not text:
            raise ValueError("stop: an empty text would end every answer at once")
        if re.search("[\ufffd\ud800-\udfff]", text):
            raise ValueError(
                f"stop: {_show(text)} holds U+FFFD or a surrogate: half a character, "
                "which no finished text has; leave it out"
            )


def _check_ids(name: str, ids: object) -> None:
    if not isinstance(ids, tuple):
        raise ValueError(f"{name} must be a tuple of token ids, got {_show(ids)}")
    seen = set()
    for i in ids:
        _check_int(f"{name}: an id", i, 0, "0 or above")
        if i in seen:
            raise ValueError(f"{name}: id {i} is there twice; name it once")
        seen.add(i)


def _check_biases(biases: object, banned: object) -> None:
    if not isinstance(biases, tuple):
        raise ValueError(
            f"logit_bias must be a tuple of (id, number), got {_show(biases)}"
        )
    for pair in biases:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(f"logit_bias: expected (id, number), got {_show(pair)}")
        _check_number(f"logit_bias: the bias of id {_show(pair[0])}", pair[1])
    ids = tuple(pair[0] for pair in biases)
    _check_ids("logit_bias", ids)
    _check_ids("banned", banned)
    assert isinstance(banned, tuple)
    if both := set(ids) & set(banned):
        raise ValueError(
            f"id {min(both)} is in logit_bias and in banned, where it is never "
            "sampled; take it out of one"
        )
    if len(ids) + len(banned) > MAX_BIASES:
        raise ValueError(
            f"logit_bias and banned hold {len(ids) + len(banned)} ids together; at "
            f"most {MAX_BIASES} are possible"
        )


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
