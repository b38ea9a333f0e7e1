# SPDX-License-Identifier: Apache-2.0
"""Encoding: records to token ids, with an exact border between prompt and response.

The prompt is rendered by the chat template up to the assistant's header and encoded on
its own; a response is encoded on its own too, so no token straddles the border and no
beginning-of-sequence token can stand inside a response. Ids that the generator sampled
are used as they are. The end-of-turn token is a scored token, also where a tokenizer
uses the same id for padding: padding is known by its group, never by its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from alignjax.data.records import Answer, Message, Record
from alignjax.data.rows import Tokens


@runtime_checkable
class Codec(Protocol):
    """What encoding needs of a tokenizer."""

    eos_ids: tuple[int, ...]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]: ...

    def encode(self, text: str) -> list[int]: ...


def encode(
    records: Iterable[Record], codec: Codec, *, reuse_ids: bool = True
) -> list[Tokens]:
    """Token ids of each record, in order.

    Args:
      reuse_ids: take the sampled ids of an answer where it has them; only right where
        they come from the same tokenizer.

    Raises:
      ValueError: a prompt or an answer has no tokens; names the record.
    """
    return [_encode(record, codec, reuse_ids) for record in records]


def _encode(record: Record, codec: Codec, reuse_ids: bool) -> Tokens:
    answers = (record.chosen, *record.negatives)
    prompt = tuple(codec.prompt_ids(record.prompt))
    if not prompt:
        raise ValueError(
            f"record {record.id}: the prompt has no tokens; check the chat template"
        )
    return Tokens(
        id=record.id,
        prompt=prompt,
        responses=tuple(
            _response(answer, codec, reuse_ids, record.id) for answer in answers
        ),
        weight=record.weight,
        couple=record.couple,
        role=record.role,
    )


def _response(
    answer: Answer, codec: Codec, reuse_ids: bool, record_id: str
) -> tuple[int, ...]:
    ids = list(answer.token_ids) if reuse_ids else []
    ids = ids or codec.encode(answer.text)
    if not ids:
        raise ValueError(
            f"record {record_id}: the answer {answer.text!r:.60} has no tokens; leave "
            "the record out"
        )
    is_ended = answer.finish_reason == "length" or ids[-1] in codec.eos_ids
    return tuple(ids if is_ended else [*ids, codec.eos_ids[0]])
