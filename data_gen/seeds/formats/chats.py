# SPDX-License-Identifier: Apache-2.0
"""Chats: rows that hold a conversation, with one answer to each of its prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from data_gen.records import Message
from data_gen.seeds.formats.turns import (
    Found,
    Options,
    answered,
    cleaned,
    list_of,
    messages_of,
)


def ultrachat(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"messages"}, or the first release's {"data": [user, assistant, user, ...]}."""
    if "messages" in row:
        turns = messages_of(row, "messages")
    else:
        said = list_of(row, "data")
        if not all(isinstance(text, str) for text in said):
            raise ValueError('"data" must be a list of texts')
        roles = ("user", "assistant")
        turns = [Message(roles[n % 2], cleaned(text)) for n, text in enumerate(said)]
    yield answered(turns, options.turn or "first")


def messages(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"messages": [{"role", "content"}, ...]}, as OpenAI's chat files have it."""
    yield answered(messages_of(row, "messages"), options.turn or "last")


def sharegpt(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"conversations": [{"from", "value"}, ...]}."""
    turns = messages_of(row, "conversations", role="from", content="value")
    yield answered(turns, options.turn or "first")
