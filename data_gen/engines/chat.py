# SPDX-License-Identifier: Apache-2.0
"""Chat completions: the request as OpenAI-compatible servers take it, and a strict
reading of what comes back, which may be anything."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alignjax import json_file
from data_gen.engines import Message, Settings
from data_gen.records import canonical

PATH = "/chat/completions"
# Fields that are set here or would change what comes back.
RESERVED = frozenset(
    ["messages", "model", "n", "stop", "stream", "temperature", "top_p", "top_k"]
)
_MOST_TOKENS = 1 << 31
_SHOWN = 200  # characters of a server's message
_ENDED = {"stop": "stop", "length": "length", "content_filter": "filtered"}
_BROKEN_OFF = {"abort", "error"}
_NO_CREDIT = re.compile(r"insufficient_quota|billing|insufficient[ _](?:credit|fund)")
_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|(?:prompt|input|request|sequence) is too long"
    r"|max(?:imum)?[ _](?:model[ _]len|input|prompt)|too many (?:input |prompt )?tokens"
    r"|string_above_max_length"
)
_FILTERED = re.compile(
    r"content[ _](?:filter|policy|management)|responsibleai|moderation|flagged"
)


class Kind(enum.Enum):
    """What a server's failure to answer means."""

    BUSY = "busy"  # send less
    BROKEN = "broken"  # send it again
    UNFIT = "unfit"  # this request, or all like it, will not be answered
    FATAL = "fatal"  # nothing will


@dataclass(frozen=True)
class Problem:
    """Why there is no answer to a request."""

    kind: Kind
    detail: str


@dataclass(frozen=True)
class Reply:
    """An answer, or the server's word that this request has none (empty `text`)."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = ""
    system_fingerprint: str = ""
    detail: str = ""


def payload(
    messages: tuple[Message, ...],
    settings: Settings,
    *,
    model: str,
    seed: int,
    seed_field: str,
    max_tokens_field: str,
    extra: Mapping[str, Any],
) -> bytes:
    """The body of a request for one sample.

    Args:
      seed: left out where `seed_field` is "".
      extra: further fields.
    """
    fields: dict[str, Any] = {
        **extra,
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        max_tokens_field: settings.max_new_tokens,
    }
    if settings.top_k:  # not in OpenAI's own interface
        fields["top_k"] = settings.top_k
    if settings.stop:
        fields["stop"] = list(settings.stop)
    if seed_field:
        fields[seed_field] = seed
    return canonical(fields).encode("utf-8", "replace")


Scrub = Callable[[str], str]


def read(status: int, body: bytes, scrub: Scrub = str) -> Reply | Problem:
    """What a server's response says.

    Args:
      status: of HTTP.
      body: as much of it as was read.
      scrub: takes the API key out of a text, before any is cut off.
    """
    if status == 200:
        try:
            return _answer(json_file.parse(body, where="the response"), scrub)
        except ValueError as error:
            return Problem(Kind.BROKEN, shown(scrub(str(error))))
    codes, message = _complaint(body, scrub)
    detail = f"HTTP {status}" + (f": {message}" if message else "")
    said = f"{codes} {message}".lower()
    if status in (400, 403, 413, 422):
        if _FILTERED.search(said):
            return Reply("", "filtered", detail=detail)
        if status != 403 and _TOO_LONG.search(said):
            return Reply("", "context", detail=detail)
    if status in (400, 413, 422):
        return Problem(Kind.UNFIT, detail)
    if status in (429, 503, 529):
        is_final = status == 429 and _NO_CREDIT.search(said)
        return Problem(Kind.FATAL if is_final else Kind.BUSY, detail)
    if status in (408, 409, 425) or status >= 500 or status < 300:
        return Problem(Kind.BROKEN, detail)
    hints = {
        401: "the API key is missing or wrong",
        402: "the server wants to be paid",
        403: "the API key may not do this",
        404: "is base_url right (it often ends with /v1), and the model's name?",
    }
    hint = hints.get(status, "")
    if status < 400:
        hint = "redirects are not followed; give base_url as it is"
    return Problem(Kind.FATAL, f"{detail} ({hint})" if hint else detail)


def shown(text: str) -> str:
    """A stranger's text for one line of ours: short, and no control characters."""
    flat = "".join(c if c.isprintable() else " " for c in text[: 4 * _SHOWN])
    flat = " ".join(flat.split())
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 3] + "..."


def _answer(body: Mapping[str, Any], scrub: Scrub) -> Reply | Problem:
    """A reply from the object of a response; ValueError where it is none."""
    choices = body.get("choices")
    if choices is None and body.get("error"):
        codes, message = _parts(body, scrub)
        return Problem(Kind.BROKEN, f"HTTP 200 with an error: {message or codes}")
    if not isinstance(choices, list) or len(choices) != 1:
        count = len(choices) if isinstance(choices, list) else "no"
        raise ValueError(f"expected one choice, got {count}")
    choice = _typed(choices[0], dict, "choices[0]")
    message = _typed(choice.get("message"), dict, "message")
    reason = _typed(choice.get("finish_reason"), str, "finish_reason")
    content = message.get("content")
    text = "" if content is None else _whole(_typed(content, str, "content"))
    if reason in _BROKEN_OFF:
        raise ValueError(f"finish_reason {reason!r}")
    ended, detail = _ENDED.get(reason, "other"), ""
    if ended in ("filtered", "other"):
        detail = shown(scrub(f"finish_reason {reason!r}"))
    elif content is None and isinstance(message.get("refusal"), str):
        ended, detail = "filtered", shown(scrub(f"refusal: {message['refusal']}"))
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        text=text,
        finish_reason=ended,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        model=_named(body.get("model"), scrub),
        system_fingerprint=_named(body.get("system_fingerprint"), scrub),
        detail=detail,
    )


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{where} is {type(value).__name__}, not {kind.__name__}")
    return value


def _whole(text: str) -> str:
    """Half of a surrogate pair, which JSON can hold, cannot be written anywhere."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any) -> int:
    is_count = type(value) is int and 0 <= value < _MOST_TOKENS
    return value if is_count else 0


def _named(value: Any, scrub: Scrub) -> str:
    return shown(scrub(value)) if isinstance(value, str) else ""


def _complaint(body: bytes, scrub: Scrub) -> tuple[str, str]:
    """(codes, message) of an error's body, of whatever layout."""
    try:
        return _parts(json_file.parse(body, where="the response"), scrub)
    except ValueError:
        text = scrub(body.decode("utf-8", "replace"))
        return "", shown(re.sub(r"<[^<>]*>", " ", text[: 16 * _SHOWN]))


def _parts(body: Mapping[str, Any], scrub: Scrub) -> tuple[str, str]:
    """{"error": {"code", "type", "message"}}, {"error": text}, {"message": text} and
    {"detail": ...} are in use."""
    error = body.get("error")
    if isinstance(error, str):
        return "", shown(scrub(error))
    parts = error if isinstance(error, dict) else body
    codes = " ".join(
        shown(scrub(parts[name]))
        for name in ("code", "type")
        if isinstance(parts.get(name), str)
    )
    message = parts.get("message", parts.get("detail"))
    if message is None:
        return codes, ""
    text = message if isinstance(message, str) else json.dumps(message)
    return codes, shown(scrub(text))
