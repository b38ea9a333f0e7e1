# SPDX-License-Identifier: Apache-2.0
"""Chat templates: programs from a model's author, run in a sandbox with limits."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE = 256_000
MAX_TEXT = 1_000_000
LIMIT_S = 2.0

_ROLE = re.compile(r"[A-Za-z_]{1,32}")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without the products and powers that fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**":
            raise jinja2.exceptions.SecurityError("powers are not allowed")
        for value, count in ((left, right), (right, left)):
            is_repeat = isinstance(value, str | list | tuple) and isinstance(count, int)
            if is_repeat and len(value) * count > MAX_TEXT:
                raise jinja2.exceptions.SecurityError("a product is too long")
        return super().call_binop(context, operator, left, right)


def compile(source: str, *, where: str) -> jinja2.Template:
    """A template that is ready to render; whitespace as Hugging Face sets it.

    Raises:
      ValueError: too long, or a syntax error; names the line.
    """
    if len(source) > MAX_SOURCE:
        raise ValueError(
            f"{where}: the chat template has {len(source)} characters; "
            f"limit {MAX_SOURCE}"
        )
    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.filters["tojson"] = _tojson
    try:
        return sandbox.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(
            f"{where}: chat template, line {error.lineno}: {error.message}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{where}: the chat template is nested too deeply") from error


def render(
    template: jinja2.Template,
    turns: Sequence[tuple[str, str]],
    *,
    add_generation_prompt: bool,
    tokens: Mapping[str, str],
    where: str,
) -> str:
    """The text of a conversation.

    Args:
      turns: (role, content) of each message; nothing else reaches the template.
      tokens: bos_token, eos_token and so on, as the template names them.

    Raises:
      ValueError: an odd role, the template refuses the messages or does something
        that the sandbox forbids, takes over 2 s of processor time or gives over 1 MB.
    """
    for number, (role, _) in enumerate(turns):
        if not _ROLE.fullmatch(role):
            raise ValueError(f"message {number}: {role!r:.60} is not a role")
    deadline = time.thread_time() + LIMIT_S
    is_over = False

    # The sandbox allows nested loops. A trace function sees every line of the
    # compiled template, so it can stop one from inside the same thread.
    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal is_over
        if not is_over and time.thread_time() > deadline:
            is_over = True
            raise ValueError(f"{where}: the chat template exceeded {LIMIT_S:g} s")
        return watch

    pieces: list[str] = []
    size = 0
    outer = sys.gettrace()
    sys.settrace(watch)
    try:
        for piece in template.generate(
            messages=[{"role": role, "content": content} for role, content in turns],
            add_generation_prompt=add_generation_prompt,
            tools=None,
            documents=None,
            **tokens,
        ):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_TEXT:
                raise ValueError(
                    f"{where}: the rendered prompt exceeds {MAX_TEXT} characters"
                )
    except (
        jinja2.TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
    ) as error:
        raise ValueError(
            f"{where}: chat template refused: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.settrace(outer)
    return "".join(pieces)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
