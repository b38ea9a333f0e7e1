# SPDX-License-Identifier: Apache-2.0
"""The text of an answer: token by token what decoding the whole gives."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Library

from alignjax import fetch
from alignjax.data.tokenizer import load_tokenizer
from alignjax.sampling.text import AnswerText, ByteCodec, TextCodec

# Characters of one to four bytes, of several code points, and one that is no token.
TEXT = "The cat 猫は木を、 naïve café 👍🏽 👨‍👩‍👧 наука\n\n\t한국어 🇩🇪 \ufffd!  the end"


class Codec:
    """A decoder of the library as it is, over two special tokens and `tokens`."""

    eos_ids = ()

    def __init__(self, tokens: Sequence[str], decoder: decoders.Decoder):
        special = ["<s>", "</s>"]
        self.ids = {token: i for i, token in enumerate([*special, *tokens])}
        self._library = Library(models.WordLevel(self.ids, unk_token="<s>"))
        self._library.decoder = decoder
        self._library.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in special]
        )

    def spell(self, text: str) -> list[int]:
        """Ids of the characters that are tokens."""
        return [self.ids[c] for c in text.replace(" ", "▁") if c in self.ids]

    def decode(self, ids: list[int]) -> str:
        return self._library.decode(ids, skip_special_tokens=True)


class ByteLevel(Codec):
    def spell(self, text: str) -> list[int]:
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return [self.ids[b] for part, _ in level.pre_tokenize_str(text) for b in part]


class Fallback(Codec):
    """What is no token is spelled in bytes; `byte_values` says which ids those are."""

    def __init__(self, tokens: Sequence[str], decoder: decoders.Decoder):
        super().__init__([*(f"<0x{i:02X}>" for i in range(256)), *tokens], decoder)
        self.byte_values = {self.ids[f"<0x{i:02X}>"]: i for i in range(256)}

    def spell(self, text: str) -> list[int]:
        return [
            i
            for c in text.replace(" ", "▁")
            for i in (
                [self.ids[c]]
                if c in self.ids
                else [self.ids[f"<0x{b:02X}>"] for b in c.encode()]
            )
        ]


class Counting:
    """Counts the ids that another codec decodes."""

    eos_ids = ()

    def __init__(self, codec: TextCodec):
        self.codec, self.count = codec, 0

    def decode(self, ids: list[int]) -> str:
        self.count += len(ids)
        return self.codec.decode(ids)


class CountingFallback(Counting):
    def __init__(self, codec: Fallback):
        super().__init__(codec)
        self.byte_values = codec.byte_values


def byte_level() -> Codec:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # The last two end in half a character.
    words = ["Ġthe", "Ġcat", "ab", "ĠðŁĳ", "çĮ«ãģ"]
    return ByteLevel([*alphabet, *words], decoders.ByteLevel())


def sentencepiece() -> Codec:
    """As Llama 2 has it: a byte for what is no token, no blank at the beginning."""
    words = ["▁", "▁the", "▁cat", "s", "a", ".", "猫", "\ufffd", "▁▁"]
    steps = [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    return Fallback(words, decoders.Sequence(steps))


def metaspace() -> Codec:
    return Codec(["▁", "▁the", "▁cat", "s", "a", ".", "猫"], decoders.Metaspace())


def wordpiece() -> Codec:
    return Codec(
        ["the", "cat", "'", "s", "do", "n't", ".", "##s", "##é"],
        decoders.WordPiece(cleanup=True),
    )


def with_suffix() -> Codec:
    return Codec(["the</w>", "cat</w>", "s", ".</w>", "</w>"], decoders.BPEDecoder())


CODECS: dict[str, Callable[[], Codec]] = {
    "byte_level": byte_level,
    "sentencepiece": sentencepiece,
    "metaspace": metaspace,
    "wordpiece": wordpiece,
    "with_suffix": with_suffix,
}


def whole(
    codec: TextCodec, tokens: Sequence[int], stop: Sequence[str]
) -> tuple[int, str, bool]:
    """By definition: tokens up to the first with which the whole text has a stop text,
    the text before the first of those, and whether there was one."""
    text = ""
    for count in range(1, len(tokens) + 1):
        text = codec.decode(list(tokens[:count]))
        if cuts := [text.find(s) for s in stop if s in text]:
            return count, text[: min(cuts)], True
    return len(tokens), text, False


def check(codec: TextCodec, tokens: Sequence[int], stop: Sequence[str] = ()) -> None:
    answer, pieces, count = AnswerText(codec, stop), [], 0
    for token in tokens:
        pieces.append(answer.push(token))
        count += 1
        if answer.is_stopped:
            break
    expected = whole(codec, tokens, stop)
    assert (count, answer.result(), answer.is_stopped) == expected
    pieces.append(answer.finish())
    assert "".join(pieces) == answer.result() == expected[1]
    assert answer.finish() == ""


@st.composite
def cases(draw: st.DrawFn, codec: Codec) -> tuple[list[int], list[str]]:
    """Tokens of any kind, bytes more often; stop texts are parts of their text, where
    it is text, or anything."""
    ids = st.integers(0, len(codec.ids) - 1)
    texts = st.text("猫👍é🇩 the.s\n", max_size=6).map(codec.spell)
    parts = draw(st.lists(st.one_of(ids.map(lambda i: [i]), texts), max_size=16))
    tokens = [i for part in parts for i in part]
    text = codec.decode(tokens)
    some = st.integers(0, max(len(text) - 1, 0))
    cut = st.tuples(some, st.integers(1, 8)).map(lambda c: text[c[0] : sum(c)])
    stop = draw(st.lists(st.one_of(cut, st.text("a. \n猫s", max_size=3)), max_size=3))
    return tokens, [each for each in stop if each and "\ufffd" not in each]


@pytest.mark.parametrize("name", CODECS)
def test_any_tokens_give_what_the_whole_decoded_gives(name: str):
    codec = CODECS[name]()

    @settings(max_examples=100, deadline=None)
    @given(case=cases(codec))
    def matches(case: tuple[list[int], list[str]]) -> None:
        check(codec, *case)

    matches()


@pytest.mark.parametrize("name", ["byte_level", "sentencepiece"])
def test_bytes_in_any_order_give_what_the_whole_decoded_gives(name: str):
    """All but a few are bytes that begin or go on with a character of several, so most
    are no text, in long rows."""
    codec, draw = CODECS[name](), random.Random(0)
    spelled = codec.spell("🇩é👍")
    for _ in range(80):
        row = draw.choices(spelled, k=40)
        at = draw.sample(range(40), k=3)
        for i in at:
            row[i] = draw.randrange(len(codec.ids))
        check(codec, row, ["👍", "s"])


def test_text_shows_as_soon_as_it_is_whole(tiny_llama: Path):
    """Of a byte-level tokenizer, with the last byte of each character."""
    tokenizer = load_tokenizer(tiny_llama)
    tokens, shown = tokenizer.encode(TEXT.replace("\ufffd", "")), ""
    answer = AnswerText(tokenizer)
    for count, token in enumerate(tokens, start=1):
        shown += answer.push(token)
        assert shown == tokenizer.decode(tokens[:count]).rstrip("\ufffd")
    assert shown == answer.result() == TEXT.replace("\ufffd", "")
    assert answer.finish() == ""


def check_real(folder: Path) -> None:
    """Random ids, and texts whose tokens are now and then another."""
    tokenizer, draw = load_tokenizer(folder), random.Random(0)
    special = list(tokenizer.special_tokens.values())
    for _ in range(25):
        some = draw.choices(range(tokenizer.vocab_size), k=12)
        begin = draw.randrange(len(TEXT))
        tokens = tokenizer.encode(TEXT[begin : begin + 30])
        for i in range(0, len(tokens), 9):
            tokens[i] = draw.choice([tokens[i], draw.choice(special), some[0]])
        for ids in (some, tokens, [*tokens, *some]):
            text = tokenizer.decode(ids)
            at = draw.randrange(len(text) + 1)
            stops = [text[at : at + 3], text[at + 1 : at + 9], "<|im_end|>", "the end"]
            check(tokenizer, ids)
            check(tokenizer, ids, [s for s in stops if s and "\ufffd" not in s])


def test_a_byte_level_tokenizer_gives_what_it_decodes(tiny_llama: Path):
    check_real(tiny_llama)


def test_smollm2_gives_what_it_decodes():
    folder = fetch.home(os.environ) / "models" / "smollm2"
    if not (folder / "tokenizer.json").is_file():
        pytest.skip(f"{folder} is not there: alignjax fetch smollm2")
    check_real(folder)


def pieces(codec: TextCodec, tokens: Sequence[int], *stop: str) -> list[str]:
    """What each token shows, and the end of the answer."""
    answer = AnswerText(codec, stop)
    shown = [answer.push(token) for token in tokens]
    return [*shown, answer.finish()]


def test_the_beginning_of_a_stop_text_waits_until_it_is_another(digits):
    """1304.. may become 1[3045]; 130430 has begun anew with 30, which 42 ends."""
    assert pieces(digits(), [13, 4, 30, 42], "3045") == ["1", "", "304", "3042", ""]
    assert pieces(digits(), [13, 4, 30], "3045") == ["1", "", "304", "30"]


def test_a_stop_text_over_three_tokens_cuts_before_it(digits):
    """1[3045]3: the answer ends with the token that brought the 5."""
    answer = AnswerText(digits(), ["777", "3045"])
    assert [answer.push(token) for token in (13, 4)] == ["1", ""]
    assert not answer.is_stopped
    assert (answer.push(53), answer.is_stopped) == ("", True)
    assert (answer.finish(), answer.result()) == ("", "1")


@pytest.mark.parametrize("stop", [*itertools.permutations(["04", "1304", "304"])])
def test_of_stop_texts_that_one_token_completes_the_first_in_the_text_cuts(
    digits, stop: tuple[str, ...]
):
    assert pieces(digits(), [21, 13], *stop) == ["2", "1", "13"]
    answer = AnswerText(digits(), stop)
    for token in (21, 13, 4):
        answer.push(token)
    assert (answer.is_stopped, answer.result()) == (True, "21")


def test_half_a_character_waits_for_its_other_half():
    """Two bytes of 猫, an id without text, the third byte; é is cut by the end."""
    codec = byte_level()
    first, second, third = codec.spell("猫")
    tokens = [first, second, codec.ids["</s>"], third, codec.spell("é")[0]]
    assert pieces(codec, tokens) == ["", "", "", "猫", "", "\ufffd"]


def test_the_blank_of_the_first_token_is_left_out_and_of_others_kept():
    """Also where ids without text come before it."""
    codec = sentencepiece()
    tokens = [codec.ids[token] for token in ("<s>", "▁the", "</s>", "▁cat", "▁", "▁")]
    assert pieces(codec, tokens) == ["", "the", "", " cat", " ", " ", ""]


def test_bytes_wait_for_the_end_of_their_row():
    """Alone the line break and 木 are text; with half a character after them the
    decoder makes seven U+FFFD of seven bytes."""
    codec = sentencepiece()
    row = codec.spell("\n木👍")
    after = codec.ids["▁cat"]
    assert pieces(codec, [*row, after]) == [*[""] * 8, "\n木👍 cat", ""]
    broken = "\ufffd" * 7
    assert pieces(codec, [*row[:7], after]) == [*[""] * 7, f"{broken} cat", ""]
    assert pieces(codec, row[:7]) == [*[""] * 7, broken]
    # A stop text in them is seen at once.
    assert pieces(codec, row[:4], "木") == [*[""] * 3, "\n", ""]


def test_text_in_bytes_needs_no_list_of_them():
    """A codec that does not say which ids are bytes: text is right all the same."""
    codec = sentencepiece()
    plain = Counting(codec)
    assert isinstance(codec, ByteCodec) and not isinstance(plain, ByteCodec)
    check(plain, codec.spell(TEXT), ["the end"])
    assert "".join(pieces(plain, codec.spell(TEXT))) == TEXT


ROWS: dict[str, tuple[Callable[[], Codec], Callable[[Codec], list[int]]]] = {
    "words": (byte_level, lambda codec: [codec.ids["Ġthe"]]),
    "characters of four bytes": (byte_level, lambda codec: codec.spell("👍")),
    "beginnings": (byte_level, lambda codec: codec.spell("👍")[:1]),
    "ends": (byte_level, lambda codec: codec.spell("👍")[1:]),
    "no text": (byte_level, lambda codec: [codec.ids["</s>"]]),
    "half, no text": (byte_level, lambda c: [*c.spell("👍")[:2], *[c.ids["<s>"]] * 98]),
    "pieces": (sentencepiece, lambda codec: [codec.ids["▁the"]]),
    "blanks": (sentencepiece, lambda codec: [codec.ids["▁"]]),
    "special": (sentencepiece, lambda codec: [codec.ids["</s>"]]),
    "row of bytes": (sentencepiece, lambda codec: codec.spell("👍")),
    "broken row": (sentencepiece, lambda c: [*c.spell("木")[:2], *c.spell("木木\n")]),
    "short rows": (sentencepiece, lambda c: [*c.spell("木木"), c.ids["a"]]),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_cost_of_a_token_does_not_grow(name: str):
    """4,000 tokens decode fewer than 20 ids each; decoding all after each would take
    2,000. Stop texts that nearly come are looked for all the time."""
    make, row = ROWS[name]
    codec = make()
    tokens = [*codec.spell("a"), *(row(codec) * 4000)][:3999]
    tokens.append(codec.ids["Ġcat" if make is byte_level else "▁cat"])
    is_fallback = isinstance(codec, Fallback)
    counting = CountingFallback(codec) if is_fallback else Counting(codec)
    answer = AnswerText(counting, ["👍👍.", "木木.", " the cats", "a" * 5000])
    text = "".join([answer.push(token) for token in tokens])
    assert counting.count < 20 * 4000
    assert text + answer.finish() == codec.decode(tokens)
