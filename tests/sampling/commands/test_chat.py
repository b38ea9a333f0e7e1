# SPDX-License-Identifier: Apache-2.0
"""Chat with a scripted sampler: what is kept, what is taken back, what is refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from alignjax.data.records import Message
from alignjax.sampling import Request, Result, Settings
from alignjax.sampling.commands import chat
from alignjax.sampling.commands.chat import Chat
from alignjax.sampling.sampler import Piece, Tick


class Scripted:
    """Gives the scripted answers in turn, word by word; at the word ^C the user presses
    Ctrl-C, and the call of the device that samples it still ends. "cut" ends by length,
    "refuse" is refused."""

    def __init__(self, *answers: str):
        self.on_tick: Callable[[Tick], None] | None = None
        self.answers = list(answers)
        self.asked: list[Request] = []

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        observe: Callable[[Piece], None] = lambda piece: None,
    ) -> Iterator[Result]:
        (request,) = requests
        assert request is not None
        self.asked.append(request)
        answer = self.answers.pop(0)
        if answer == "refuse":
            yield Result(request.id, request.first, (), "", (), "refused", "no room")
            return
        words = answer.split()
        for word in words:
            if word == "^C":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                observe(Piece(request.id, request.first, f"{word} "))
            assert self.on_tick is not None
            self.on_tick(Tick("decode", 0.0, 1, 1, 1))
        text = "".join(f"{word} " for word in words)
        tokens, logprobs = (1,) * len(words), (0.0,) * len(words)
        reason = "length" if answer == "cut" else "stop"
        yield Result(request.id, request.first, tokens, text, logprobs, reason)


def encode(messages: Sequence[Message]) -> list[int]:
    """A token per character, and one per message for its role."""
    if messages[0].role == "system" and messages[0].content == "bad":
        raise ValueError("the template knows no system")
    text = "".join(f"{message.role[0]}{message.content}" for message in messages)
    return [ord(letter) for letter in text]


class Talk:
    """A chat and what it showed and noted."""

    def __init__(self, *answers: str, context: int = 100, system: str = ""):
        self.source = Scripted(*answers)
        self.shown: list[str] = []
        self.notes: list[str] = []
        self.chat = Chat(
            self.source,
            encode,
            context=context,
            settings=Settings(max_new_tokens=10),
            seed=3,
            system=system,
            show=self.shown.append,
            note=self.notes.append,
        )

    def hear(self, *lines: str) -> None:
        chat.converse(self.chat, lines, note=self.notes.append)

    def given(self) -> list[str]:
        """What the model was given, as `encode` spells it."""
        return ["".join(map(chr, request.tokens)) for request in self.source.asked]

    def said(self) -> list[tuple[str, str]]:
        return [(turn.role, turn.content) for turn in self.chat.turns]


def test_what_compiles_does_so_before_the_first_turn():
    """One token, which is not shown and draws no number of the conversation's."""
    talk = Talk("never shown", "a")
    talk.source.on_tick = lambda tick: None
    talk.chat.prepare()
    talk.hear("1")
    assert talk.given() == ["uHello.", "u1"]
    assert [r.settings.max_new_tokens for r in talk.source.asked] == [1, 10]
    assert [r.first for r in talk.source.asked] == [0, 0]
    assert talk.shown == ["a ", "\n"]


def test_an_answer_is_shown_as_it_comes_and_kept():
    talk = Talk("It is.", "Yes.")
    talk.hear(" Is it? \n", "", "Sure?")
    assert talk.shown == ["It ", "is. ", "\n", "Yes. ", "\n"]
    assert talk.given() == ["uIs it?", "uIs it?aIt is. uSure?"]
    assert talk.said() == [
        ("user", "Is it?"),
        ("assistant", "It is. "),
        ("user", "Sure?"),
        ("assistant", "Yes. "),
    ]
    assert talk.notes == []


def test_each_answer_draws_numbers_of_its_own():
    """As samples 0, 1, 2 of the seed; another seed begins again at 0."""
    talk = Talk(*"abcd")
    talk.hear("1", "2", "/undo", "2", "/seed 8", "3")
    assert [(r.seed, r.first) for r in talk.source.asked] == [
        (3, 0), (3, 1), (3, 2), (8, 0)
    ]  # fmt: skip
    assert talk.notes == ["taken back: 2", "seed 8"]


def test_an_answer_that_is_stopped_stays_in_the_conversation():
    """The word that was sampled with the interrupt is not shown any more."""
    talk = Talk("One two ^C three", "Four.")
    before = signal.getsignal(signal.SIGINT)
    talk.hear("Count.", "Go on.")
    assert talk.shown == ["One ", "two ", "\n", "Four. ", "\n"]
    assert talk.given()[1] == "uCount.aOne two uGo on."
    assert talk.notes == ["stopped"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_turn_whose_answer_was_stopped_at_once_is_taken_back():
    talk = Talk("^C One")
    talk.hear("Count.")
    assert talk.said() == []
    assert talk.notes == ["stopped; your turn is taken back"]


def test_a_second_interrupt_leaves():
    talk = Talk("One ^C ^C")
    talk.source.on_tick = None

    class Slow(Scripted):
        """Its device never comes to the end of a call."""

        def generate(self, requests, *, observe=lambda piece: None):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the second one did not leave")
            yield

    talk.chat._source = Slow()
    with pytest.raises(SystemExit) as caught:
        talk.hear("Count.")
    assert caught.value.code == 130


def test_what_ends_oddly_is_noted():
    talk = Talk("cut", "refuse", "")
    talk.hear("1", "2", "3")
    assert talk.said() == [("user", "1"), ("assistant", "cut ")]
    assert talk.notes == [
        "cut at 1 tokens; see --max-new-tokens",
        "no room",
        "the model had nothing to say; your turn is taken back",
    ]


def test_the_oldest_turns_are_dropped_when_the_context_is_full():
    """Room for 30 - 10 = 20 tokens, 4 of them the system's. The second turn needs 4 +
    3 + 3 + 9 = 19; the third, with all, 4 + 3 + 3 + 9 + 3 + 3 = 25, without the first
    two 19; the fourth 25 again, and 19. Nothing is lost for /save."""
    talk = Talk(*"abcd", context=30, system="sys")
    talk.hear("u1", "u2345678", "u3", "u4")
    assert talk.given() == [
        "ssysuu1",
        "ssysuu1aa uu2345678",
        "ssysuu2345678ab uu3",
        "ssysuu3ac uu4",
    ]
    assert talk.notes == [
        "the conversation exceeds the context of 30 tokens: the model no longer sees "
        f"its first {turns} turns"
        for turns in (2, 4)
    ]
    assert len(talk.said()) == 8


def test_a_turn_that_alone_exceeds_the_context_is_taken_back():
    """ "u" and 20 letters are 21; 30 - 10 = 20 fit."""
    talk = Talk("a", "b", context=30)
    talk.hear("u1", "x" * 20, "u2")
    assert talk.given() == ["uu1", "uu1aa uu2"]
    assert talk.notes == [
        "the turn needs 21 tokens with the system's text, and only 20 of the context "
        "are not kept for the answer; say it shorter, or start with a larger --context "
        "or a smaller --max-new-tokens"
    ]


def test_reset_system_and_undo():
    talk = Talk(*"abcd")
    talk.hear("1", "/system Be kind.", "2", "/undo", "3", "/reset", "/system", "4")
    assert talk.given() == [
        "u1",
        "sBe kind.u1aa u2",
        "sBe kind.u1aa u3",
        "u4",
    ]
    assert talk.notes == [
        "system: Be kind.",
        "taken back: 2",
        "the conversation begins anew",
        "no system text",
    ]


def test_the_temperature_can_be_changed():
    talk = Talk("a", "b")
    talk.hear("1", "/temperature 0", "2")
    assert [r.settings.temperature for r in talk.source.asked] == [1.0, 0.0]
    assert talk.source.asked[1].settings.max_new_tokens == 10
    assert talk.notes == ["temperature 0"]


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("/undo", "/undo: nothing has been said yet"),
        ("/seed x", "/seed: expected a number, got 'x'"),
        ("/seed -1", "seed must be in [0, 2^31), got -1"),
        ("/temperature", "/temperature: expected a number, got ''"),
        ("/temperature -1", "temperature must be 0 (greedy) or at least 1e-30, got -1"),
        ("/temperature nan", "temperature must be finite and at most 1e+30 in size"),
        ("/system bad", "the template knows no system"),
        ("/save", "/save: give it the name of a file"),
        ("/save none/x.jsonl", "none/x.jsonl: No such file or directory"),
        ("/save /", "/save: / exists already; choose another name"),
        (
            "/nope",
            "no command /nope; /help lists them. A turn that begins with / needs",
        ),
    ],
)
def test_a_wrong_command_is_noted_and_changes_nothing(
    line: str, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    talk = Talk("a", system="s")
    talk.hear(line, "1")
    (told,) = talk.notes
    assert told.startswith(note)
    (request,) = talk.source.asked
    assert talk.given() == ["ssu1"]
    assert (request.seed, request.settings) == (3, Settings(max_new_tokens=10))


def test_help_and_quit():
    talk = Talk()
    talk.hear("/help", "/quit ", "never said")
    assert talk.notes == [chat.HELP]
    assert all(
        f"\n/{name}" in f"\n{chat.HELP}"
        for name in ("reset", "system", "undo", "seed", "temperature", "save", "quit")
    )


def test_a_conversation_can_be_saved_and_sampled_from(tmp_path: Path):
    """Its line is one of a prompts file, and of a dataset."""
    from alignjax.data import records
    from alignjax.sampling.commands import prompts

    path = tmp_path / "talk.jsonl"
    talk = Talk("a", "b", system="Be kind.")
    talk.hear("é", f"/save {path}", "2", f"/save {path}")
    messages = [{"role": "system", "content": "Be kind."}] + [
        {"role": role, "content": content} for role, content in talk.said()
    ]
    assert json.loads(path.read_text("utf-8")) == {"messages": messages}
    assert talk.notes == [f"3 messages are in {path}", f"5 messages are in {path}"]
    (prompt,) = prompts.read(str(path))
    assert len(prompt.messages) == 5
    (record,) = records.read(path).records
    assert record.chosen.text == "b "


def test_a_file_of_another_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    path.write_text("mine")
    talk = Talk()
    talk.hear(f"/save {path}")
    assert talk.notes == [f"/save: {path} exists already; choose another name"]
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("is_terminal", "expected"),
    [
        (True, "a\ufffd]0;b\ufffd\tc\nd\ufffd2J é"),
        (False, "a\x1b]0;b\x07\tc\nd\x9b2J é"),
    ],
)
def test_a_terminal_gets_no_control_characters(
    is_terminal: bool, expected: str, capsys: pytest.CaptureFixture[str]
):
    """A model may say what moves the cursor or changes the window's title."""
    chat.printed(is_terminal=is_terminal)("a\x1b]0;b\x07\tc\nd\x9b2J é")
    assert capsys.readouterr().out == expected
