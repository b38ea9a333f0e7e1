# SPDX-License-Identifier: Apache-2.0
"""Encoding: exact borders, end-of-turn tokens, sampled ids."""

import dataclasses

import pytest

from alignjax.data import encode, rows
from alignjax.data.records import Answer, Message, Record
from alignjax.data.rows import Shape
from alignjax.data.tokenizer import Tokenizer, load_tokenizer

RECORD = Record(
    "r", (Message("user", "Hi"),), Answer("the cat."), (Answer("a tree"),), weight=2.0
)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama) -> Tokenizer:
    return load_tokenizer(tiny_llama)


def one(record: Record, tokenizer: Tokenizer, **options) -> rows.Tokens:
    (tokens,) = encode.encode([record], tokenizer, **options)
    return tokens


def test_prompt_and_responses_are_encoded_apart(tokenizer):
    record = dataclasses.replace(RECORD, couple="c", role="original_i")
    tokens = one(record, tokenizer)
    assert (tokens.id, tokens.couple, tokens.role) == ("r", "c", "original_i")
    assert tokens.weight == 2.0
    assert tokens.prompt == tuple(tokenizer.prompt_ids(RECORD.prompt))
    ends = tokenizer.eos_ids[0]
    assert tokens.responses == (
        (*tokenizer.encode("the cat."), ends),
        (*tokenizer.encode("a tree"), ends),
    )
    assert tokens.length == len(tokens.prompt) + sum(map(len, tokens.responses))
    assert tokens.longest == len(tokens.prompt) + max(map(len, tokens.responses))


def test_the_end_token_is_scored_although_it_is_also_the_padding(tokenizer):
    """The last scored token of each response is the end token; padding is not scored,
    whatever id fills it."""
    assert tokenizer.pad_id == tokenizer.eos_ids[0]
    tokens = one(RECORD, tokenizer)
    size = tokens.length + 5
    shape = Shape(rows=1, time=size, blocks=2, block=tokens.longest, scored=size)
    built = rows.build([[0]], [tokens], shape)
    scored = built.scored[0][built.scored[0] >= 0]
    assert len(scored) == sum(map(len, tokens.responses))
    for last in built.last[0]:
        assert built.tokens[0, last] == tokenizer.eos_ids[0]
        assert last in scored
    assert not set(scored) & set(range(tokens.length, size))


def test_a_response_begins_without_a_beginning_of_sequence(tokenizer):
    assert tokenizer.bos_id is not None
    for response in one(RECORD, tokenizer).responses:
        assert tokenizer.bos_id not in response


def test_sampled_ids_are_used_as_they_are(tokenizer):
    """A sampler may spell a word otherwise than the tokenizer does."""
    spelled = tuple(i for letter in "cat" for i in tokenizer.encode(letter))
    assert spelled != tuple(tokenizer.encode(" cat"))
    record = dataclasses.replace(RECORD, chosen=Answer("cat", spelled))
    ends = tokenizer.eos_ids[0]
    assert one(record, tokenizer).responses[0] == (*spelled, ends)
    again = one(record, tokenizer, reuse_ids=False).responses[0]
    assert again == (*tokenizer.encode("cat"), ends)


def test_an_end_token_that_was_sampled_is_not_doubled(tokenizer):
    ids = (*tokenizer.encode("the"), tokenizer.eos_ids[0])
    record = dataclasses.replace(RECORD, chosen=Answer("the", ids))
    assert one(record, tokenizer).responses[0] == ids


def test_an_answer_that_was_cut_gets_no_end_token(tokenizer):
    ids = tuple(tokenizer.encode("the cat"))
    for answer in (Answer("the cat", ids, "length"), Answer("the cat", (), "length")):
        record = dataclasses.replace(RECORD, negatives=(answer,))
        assert one(record, tokenizer).responses[1] == ids


def test_an_answer_or_a_prompt_without_tokens_is_named(tokenizer):
    empty = dataclasses.replace(RECORD, negatives=(Answer(""),))
    with pytest.raises(ValueError, match="record r: the answer '' has no tokens"):
        encode.encode([empty], tokenizer)

    class Silent:
        eos_ids: tuple[int, ...] = (2,)

        def prompt_ids(self, messages):
            return []

        def encode(self, text):
            return [1]

    with pytest.raises(ValueError, match="record r: the prompt has no tokens"):
        encode.encode([RECORD], Silent())
