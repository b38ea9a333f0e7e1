# SPDX-License-Identifier: Apache-2.0
"""Chat: a conversation in a terminal, or a turn per line of a pipe."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from alignjax import whole_file
from alignjax.data.records import Message
from alignjax.sampling.requests import Request, Result, Settings
from alignjax.sampling.sampler import Piece, Tick

HELP = """\
/reset          begin anew; the system's text stays
/system TEXT    give the model this text before the conversation; none takes it away
/undo           take back the last turn and its answer
/seed N         draw from another stream of random numbers
/temperature X  0 = always the most probable token
/save FILE      write the conversation as a line of JSONL: {"messages": [...]}
/help           this
/quit           leave, as Ctrl-D does; Ctrl-C stops an answer, twice it leaves
A turn that begins with / needs a blank before it."""
# What would move the cursor, or worse, where a model writes to a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@runtime_checkable
class Source(Protocol):
    """What a chat needs of a sampler; see `Sampler`."""

    on_tick: Callable[[Tick], None] | None

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        observe: Callable[[Piece], None] = ...,
    ) -> Iterator[Result]: ...


class Chat:
    """A conversation and how it goes on.

    Args:
      encode: tokens of a conversation up to the answer.
      context: most tokens of conversation and answer together; where they are more,
        the oldest turns are not given to the model.
      show: gets the answer as it comes, piece by piece.
      note: gets a line of what is not part of the conversation.

    Attributes:
      turns: all that was said, the system's text left out.
    """

    def __init__(
        self,
        source: Source,
        encode: Callable[[Sequence[Message]], Sequence[int]],
        *,
        context: int,
        settings: Settings,
        seed: int = 0,
        system: str = "",
        show: Callable[[str], None],
        note: Callable[[str], None],
    ):
        self.turns: list[Message] = []
        self.settings, self.system = settings, system
        self._source, self._encode, self._context = source, encode, context
        self._show, self._note = show, note
        self._saved: set[Path] = set()
        self._hidden = 0  # turns that the model no longer sees
        self._restart(seed)

    def prepare(self) -> None:
        """Samples a token of an answer to nothing much: what compiles does so now.

        Raises:
          ValueError: as `check`.
        """
        settings = dataclasses.replace(self.settings, max_new_tokens=1)
        request = Request(id="first", tokens=tuple(self.check()), settings=settings)
        list(self._source.generate([request]))

    def say(self, text: str) -> None:
        """A user's turn, and its answer; the turn is taken back where there is none.

        Raises:
          ValueError: the turn alone exceeds the context, or cannot be encoded.
        """
        self.turns.append(Message("user", text))
        answer = ""
        try:
            answer = self._answer(self._visible())
        finally:
            if answer:
                self.turns.append(Message("assistant", answer))
            else:
                self.turns.pop()

    def command(self, line: str) -> None:
        """Does what a line that begins with / says.

        Raises:
          ValueError: there is no such command, or its value is wrong.
        """
        name, _, value = line[1:].partition(" ")
        value = value.strip()
        match name:
            case "help":
                self._note(HELP)
            case "reset":
                self.turns, self._hidden = [], 0
                self._note("the conversation begins anew")
            case "undo":
                if not self.turns:
                    raise ValueError("/undo: nothing has been said yet")
                taken = self.turns[-2]
                del self.turns[-2:]
                self._note(f"taken back: {taken.content[:60]}")
            case "system":
                self._set_system(value)
            case "seed":
                self._restart(_number(int, name, value))
                self._note(f"seed {self._seed}")
            case "temperature":
                temperature = _number(float, name, value)
                self.settings = dataclasses.replace(
                    self.settings, temperature=temperature
                )
                self._note(f"temperature {temperature:g}")
            case "save":
                self._save(value)
            case _:
                raise ValueError(
                    f"no command /{name}; /help lists them. A turn that begins with / "
                    "needs a blank before it"
                )

    def _restart(self, seed: int) -> None:
        if not 0 <= seed < 1 << 31:
            raise ValueError(f"seed must be in [0, 2^31), got {seed}")
        self._seed, self._answers = seed, 0

    def _set_system(self, text: str) -> None:
        before, self.system = self.system, text
        try:
            self.check()
        except ValueError:
            self.system = before
            raise
        self._note(f"system: {text}" if text else "no system text")

    def check(self) -> Sequence[int]:
        """Tokens of a short conversation.

        Raises:
          ValueError: there is no template, or it refuses the system's text.
        """
        return self._encode(self._conversation([Message("user", "Hello.")]))

    def _conversation(self, turns: Sequence[Message]) -> list[Message]:
        return [*([Message("system", self.system)] if self.system else []), *turns]

    def _visible(self) -> Sequence[int]:
        """Tokens of the conversation, without its oldest turns if it is too long."""
        room = self._context - self.settings.max_new_tokens
        needed = 0
        for hidden in range(0, len(self.turns), 2):
            tokens = self._encode(self._conversation(self.turns[hidden:]))
            if len(tokens) <= room:
                if hidden > self._hidden:
                    self._note(
                        f"the conversation exceeds the context of {self._context} "
                        f"tokens: the model no longer sees its first {hidden} turns"
                    )
                self._hidden = hidden
                return tokens
            needed = len(tokens)
        raise ValueError(
            f"the turn needs {needed} tokens with the system's text, and only "
            f"{room} of the context are not kept for the answer; say it shorter, or "
            "start with a larger --context or a smaller --max-new-tokens"
        )

    def _answer(self, tokens: Sequence[int]) -> str:
        """The text of the next answer, also of one that was stopped."""
        request = Request(
            id="chat",
            tokens=tuple(tokens),
            seed=self._seed,
            settings=self.settings,
            first=self._answers,
        )
        self._answers += 1
        told: list[str] = []

        # Between two device calls, where the sampler can be left without harm.
        def observe(piece: Piece) -> None:
            told.append(piece.text)
            self._show(piece.text)

        try:
            with _interruptible() as check:
                self._source.on_tick = lambda tick: check()
                (result,) = self._source.generate([request], observe=observe)
        except KeyboardInterrupt:
            self._show("\n")
            text = "".join(told)
            self._note("stopped" if text else "stopped; your turn is taken back")
            return text
        if result.finish_reason == "refused":
            raise ValueError(result.reason)
        self._show("\n")
        if result.finish_reason == "length":
            self._note(f"cut at {len(result.tokens)} tokens; see --max-new-tokens")
        elif not result.text:
            self._note("the model had nothing to say; your turn is taken back")
        return result.text

    def _save(self, name: str) -> None:
        if not name:
            raise ValueError("/save: give it the name of a file")
        path = Path(name).expanduser()
        if path.exists() and path not in self._saved:
            raise ValueError(f"/save: {path} exists already; choose another name")
        messages = [dataclasses.asdict(turn) for turn in self._conversation(self.turns)]
        row = json.dumps({"messages": messages}, ensure_ascii=False)
        whole_file.write(path, row + "\n")
        self._saved.add(path)
        self._note(f"{len(messages)} messages are in {path}")


def converse(chat: Chat, lines: Iterable[str], *, note: Callable[[str], None]) -> None:
    """Says each line, or does what it commands, until /quit or the last line. What goes
    wrong with one is noted, and the next follows.

    Raises:
      BrokenPipeError: what is said goes to a pipe that was closed.
    """
    for line in lines:
        try:
            if line.rstrip() in ("/quit", "/exit"):
                return
            if line.startswith("/"):
                chat.command(line.rstrip())
            elif line.strip():
                chat.say(line.strip())
        except ValueError as error:
            note(" ".join(str(error).split()))
        except BrokenPipeError:  # nobody reads on
            raise
        except OSError as error:
            note(f"{error.filename}: {error.strerror}")


def typed(prompt: str) -> Iterator[str]:
    """Lines that a person types, with line editing where there is readline; Ctrl-C and
    Ctrl-D end them."""
    with suppress(ImportError):
        import readline  # noqa: F401  (importing it is what gives input() its editing)
    while True:
        try:
            yield input(prompt)
        except (EOFError, KeyboardInterrupt):
            print()
            return


def printed(*, is_terminal: bool) -> Callable[[str], None]:
    """Prints text at once; a terminal gets no control characters but line ends."""

    def show(text: str) -> None:
        text = _CONTROL.sub("\ufffd", text) if is_terminal else text
        print(text, end="", flush=True)

    return show


def noted(text: str) -> None:
    """Tells what is not part of the conversation."""
    print(text if "\n" in text else f"[{text}]", file=sys.stderr, flush=True)


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits for the next call of what this gives, which then raises
    KeyboardInterrupt; a second one does not wait, and ends the command."""
    is_asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal is_asked
        if is_asked:
            raise SystemExit(130)
        is_asked = True

    def check() -> None:
        if is_asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _number(kind: Callable[[str], Any], name: str, value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"/{name}: expected a number, got {value!r:.40}") from None
