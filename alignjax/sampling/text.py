# SPDX-License-Identifier: Apache-2.0
"""The text of an answer while it grows, and where a stop text ends it.

Decoding all tokens after each one would take time quadratic in the answer. So only a
window is decoded: the newest tokens, whose text may still change, after a few whose
text is settled. What the window's text has beyond that of those few is new. They are
decoded along because decoders treat the first token unlike the others (sentencepiece
takes its blank away).
"""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

_NO_TEXT = "\ufffd"  # what decoders put where bytes are no character, or not yet
_UNFINISHED = 3  # bytes of the longest character that lacks its last one
_PATIENCE = 8  # tokens that end in _NO_TEXT before the first are settled; >= 6


@runtime_checkable
class TextCodec(Protocol):
    """What the sampler needs of a tokenizer; `decode` puts U+FFFD where bytes are no
    character."""

    eos_ids: tuple[int, ...]

    def decode(self, ids: list[int]) -> str: ...


@runtime_checkable
class ByteCodec(Protocol):
    """A codec with sentencepiece's byte fallback, where bytes in a row are decoded
    together: if one is no part of a character, all become U+FFFD. `byte_values` has
    the byte of each id that stands for one."""

    byte_values: Mapping[int, int]


class AnswerText:
    """The text of one answer.

    What `push` and `finish` return makes up `result()`. The cost of a token does not
    grow with the answer.

    Attributes:
      is_stopped: a stop text has come; there is nothing to push any more.
    """

    def __init__(self, codec: TextCodec, stop: Sequence[str] = ()):
        """An answer without tokens, to be cut before the first of the `stop` texts."""
        self.is_stopped = False
        self._codec = codec
        self._byte_values = codec.byte_values if isinstance(codec, ByteCodec) else {}
        self._stops = [_Stop(text) for text in stop]
        self._tokens: list[int] = []
        self._final: str | None = None
        # The window: tokens and their text, and how many of both are settled.
        self._window: list[int] = []
        self._text = ""
        self._settled_tokens = self._settled_size = 0
        self._matched = [0] * len(stop)  # of each stop text, by the end of the settled
        self._run: _Run | None = None  # the bytes that the window ends with
        self._held = ""  # settled, but maybe the beginning of a stop text
        self._shown = 0  # characters given out

    def push(self, token: int) -> str:
        """Adds a token; returns the text that is now certain, and has not been given.

        Kept back are half a character, and what a stop text may begin with.
        """
        assert self._final is None, "the answer has ended"
        self._tokens.append(token)
        if token in self._byte_values:
            return self._push_byte(token)
        if self._run is not None and self._is_silent(token):
            return ""
        text = self._codec.decode([*self._window, token])
        if text == self._text and self._is_silent(token):
            return ""
        self._window.append(token)
        self._text, self._run = text, None
        new = text[self._settled_size :]
        matched, is_found = self._follow(self._matched, new)
        if is_found and self._stop():
            return self.finish()
        size = len(self._window)
        if self._byte_values:  # any other token is text, and settles the bytes before
            return self._settle(size, 1, new, matched)
        if new and not new.endswith(_NO_TEXT):
            return self._settle(size, size - self._settled_tokens, new, matched)
        if size - self._settled_tokens < _PATIENCE:
            return ""
        # Bytes that are no text. With three more after it each is known for what it
        # is; and three after the window's first, its text is that of the whole answer.
        size -= _UNFINISHED
        end = len(self._codec.decode(self._window[:size]))
        new = text[self._settled_size : end]
        return self._settle(size, _UNFINISHED, new, self._follow(self._matched, new)[0])

    def finish(self) -> str:
        """Ends the answer; returns what was kept back."""
        self._final = self.result()
        rest = self._final[self._shown :]
        self._shown += len(rest)
        return rest

    def result(self) -> str:
        """All tokens decoded, cut before the first stop text."""
        return self._codec.decode(self._tokens) if self._final is None else self._final

    def _push_byte(self, token: int) -> str:
        """Adds a byte; its text is settled by the token after the run of bytes."""
        self._window.append(token)
        if self._run is None:
            self._run = _Run(self._matched)
        character = self._run.add(self._byte_values[token])
        self._run.matched, is_found = self._follow(self._run.matched, character)
        return self.finish() if is_found and self._stop() else ""

    def _is_silent(self, token: int) -> bool:
        """Whether it never has text, as special tokens; a lone blank has, the second
        time."""
        return not self._codec.decode([token, token])

    def _follow(self, matched: list[int], text: str) -> tuple[list[int], bool]:
        """How far each stop text is matched after `text`, and whether one was whole."""
        followed = [
            stop.follow(so_far, text)
            for stop, so_far in zip(self._stops, matched, strict=True)
        ]
        return [so_far for so_far, _ in followed], any(found for _, found in followed)

    def _stop(self) -> bool:
        """Cuts the text before the first stop text, if it is in the whole text."""
        text = self._codec.decode(self._tokens)
        cuts = [text.find(stop.text) for stop in self._stops if stop.text in text]
        if cuts:
            self._final, self.is_stopped = text[: min(cuts)], True
        return self.is_stopped

    def _settle(self, size: int, keep: int, new: str, matched: list[int]) -> str:
        """Settles the first `size` tokens of the window, the last with the text `new`;
        the window goes on with the last `keep` of them. Returns what can be given."""
        is_all = size == len(self._window)
        self._window = self._window[size - keep :]
        self._text = self._codec.decode(self._window)
        settled = self._text if is_all else self._codec.decode(self._window[:keep])
        self._settled_tokens, self._settled_size = keep, len(settled)
        self._matched = matched
        self._held += new
        end = len(self._held) - max(matched, default=0)
        given, self._held = self._held[:end], self._held[end:]
        self._shown += len(given)
        return given


class _Stop:
    """Finds one text in another that comes in parts (Knuth, Morris, Pratt 1977)."""

    def __init__(self, text: str):
        self.text = text
        # borders[i]: the longest end of text[: i + 1] that it begins with as well.
        self._borders = [0]
        for character in text[1:]:
            self._borders.append(self._next(self._borders[-1], character))

    def follow(self, matched: int, part: str) -> tuple[int, bool]:
        """The size of the text's beginning that has come, and whether it was whole."""
        is_found = False
        for character in part:
            matched = self._next(matched, character)
            if matched == len(self.text):
                is_found, matched = True, self._borders[-1]
        return matched, is_found

    def _next(self, matched: int, character: str) -> int:
        while matched and self.text[matched] != character:
            matched = self._borders[matched - 1]
        return matched + (self.text[matched] == character)


@dataclasses.dataclass
class _Run:
    """Bytes in a row, read as UTF-8; `matched` of each stop text by their end."""

    matched: list[int]
    is_text: bool = True
    _utf8: codecs.IncrementalDecoder = dataclasses.field(
        default_factory=codecs.getincrementaldecoder("utf-8")
    )

    def add(self, value: int) -> str:
        """The character that the byte completes; none if the run is no text."""
        try:
            return self._utf8.decode(bytes([value])) if self.is_text else ""
        except UnicodeDecodeError:
            self.is_text = False
            return ""
