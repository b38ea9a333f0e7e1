# SPDX-License-Identifier: Apache-2.0
"""Choice: which engines a run uses, as its config says, and making them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from data_gen.engines import Engine, address, chat, secret
from data_gen.engines.recorded import Recorded, RecordedEngine
from data_gen.records import canonical

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|")


@dataclass(frozen=True)
class LocalModel:
    """A model of this machine beside the default one.

    Args:
      model: folder, hub id or known name.
      slots, context, dtype, share: as in the section `engine`.
    """

    model: str
    kind: Literal["flax"] = "flax"
    slots: int = 16
    context: int = 512
    dtype: str = "float32"
    share: int = 1


@dataclass(frozen=True)
class OpenAIServer:
    """A server with OpenAI's interface for chat completions: vLLM, SGLang, a hosted
    one. docs/engines.md says what is sent and what is stored.

    Args:
      base_url: what /chat/completions follows, such as http://127.0.0.1:8000/v1.
      model: its name at the server; in the section `engine` the run's `model` is.
      key: name of the environment variable that holds the API key; "" sends none.
      identity: what stands for the server when samples are looked up; "" is base_url.
        With a name of your own for what is served ("qwen2.5-7b bf16, vllm 0.11"), the
        server may move.
      concurrency: requests in flight, at most; fewer while the server is busy.
      timeout_s: for one attempt, from the connection to the last byte.
      attempts: of one request, until the run stops.
      patience_s: the run stops when for so long nothing but failures came.
      allow: networks, such as 10.0.0.0/8, that the server may be in beside public
        addresses and this machine; http is fine there.
      seed_field: what the server calls the seed; "" sends none.
      max_tokens_field: what it calls the most tokens of an answer.
      extra: further fields of a request.
      prompt_price, completion_price: of a million tokens, in any currency; for the
        report.
    """

    base_url: str
    kind: Literal["openai"] = "openai"
    model: str = ""
    key: str = ""
    identity: str = ""
    concurrency: int = 64
    timeout_s: float = 300.0
    attempts: int = 8
    patience_s: float = 600.0
    allow: tuple[str, ...] = ()
    seed_field: str = "seed"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra: dict[str, Any] = field(default_factory=dict)
    prompt_price: float = 0.0
    completion_price: float = 0.0

    def __post_init__(self) -> None:
        address.parse(self.base_url, self.allow)
        if self.key and not _VARIABLE.fullmatch(self.key):
            # It may be the key itself, so it is not shown.
            raise ValueError(
                "key must be the name of an environment variable, such as "
                "OPENAI_API_KEY; the key itself stays out of the config"
            )
        if not _FIELD.fullmatch(self.seed_field):
            raise ValueError(f"seed_field is no name of a field: {self.seed_field!r}")
        if not 1 <= self.concurrency <= 4096:
            raise ValueError(
                f"concurrency must be in [1, 4096], got {self.concurrency}"
            )
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {self.attempts}")
        for name in ("timeout_s", "patience_s"):
            if not 0 < vars(self)[name] < float("inf"):
                raise ValueError(f"{name} must be above 0, got {vars(self)[name]}")
        for name in ("prompt_price", "completion_price"):
            if not 0 <= vars(self)[name] < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {vars(self)[name]}")
        own = {self.seed_field, "seed", "max_tokens", "max_completion_tokens"}
        if taken := sorted((chat.RESERVED | own) & set(self.extra)):
            raise ValueError(f"extra must not hold {', '.join(taken)}: it is set here")
        try:
            canonical(self.extra)
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra is no JSON: {error}") from None


EngineChoice = LocalModel | OpenAIServer | Recorded


def check(engines: Mapping[str, EngineChoice]) -> None:
    """What a config says of its named engines is complete, as far as it can be seen.

    Raises:
      ValueError: a name cannot be used, or a server's model is not named.
    """
    for name, choice in engines.items():
        if not _NAME.fullmatch(name) or name == "default":
            raise ValueError(
                f"engines: {name!r} cannot be an engine's name; take letters, digits "
                "and _ . - (but not `default`)"
            )
        if not choice.model and not isinstance(choice, Recorded):
            raise ValueError(f"engines.{name}: give the name of its `model`")


def check_keys(
    engines: Mapping[str, object], environment: Mapping[str, str]
) -> dict[str, secret.Secret]:
    """The keys of all servers among `engines`, by engine; nothing is connected to.

    Raises:
      ValueError: an environment variable is not set, or holds no key.
    """
    keys = {}
    for name, choice in engines.items():
        if isinstance(choice, OpenAIServer):
            try:
                keys[name] = secret.from_environment(choice.key, environment)
            except ValueError as error:
                raise ValueError(f"engine {name or 'default'}: {error}") from None
    return keys


def make_all(
    engines: Mapping[str, EngineChoice],
    given: Mapping[str, Engine],
    environment: Mapping[str, str],
    *,
    locate: Callable[[str], Path],
    say: Callable[[str], None],
) -> dict[str, Engine]:
    """All engines by name; nothing is connected to, and no weights are loaded yet.

    Args:
      engines: by name, "" being the default one.
      given: engines that are there already, instead of those of the same name.
      environment: variables that hold API keys.
      locate: the folder of a model.
      say: receives a line when a server has to be waited for.

    Raises:
      ValueError: a key is not there, or a model cannot be found.
    """
    wanted = {name: engines[name] for name in engines if name not in given}
    keys = check_keys(wanted, environment)
    made: dict[str, Engine] = {}
    for name, choice in wanted.items():
        if isinstance(choice, OpenAIServer):
            from data_gen.engines.openai import OpenAIEngine

            made[name] = OpenAIEngine(choice, keys[name], name=name, say=say)
        elif isinstance(choice, Recorded):
            made[name] = RecordedEngine(choice)
        else:
            from data_gen.engines.flax import FlaxEngine

            made[name] = FlaxEngine(
                locate(choice.model),
                slots=choice.slots,
                context=choice.context,
                dtype=choice.dtype,
                share=choice.share,
            )
    return {**given, **made}
