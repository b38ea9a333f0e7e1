# SPDX-License-Identifier: Apache-2.0
"""Wording: what is shown to the model on the two sides of each contrast.

The paper's prompts (appendix, tables 6 and 7) exist in two variants, "hh" (helpful and
harmless) and "general"; so do these, which say the same in other words. The prompt of
the example is never one of them: it is the bare instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data_gen.records import Message, digest

VARIANTS = ("general", "hh")


class Pair(NamedTuple):
    """The same thing said for the preferred side and for the other."""

    better: str
    worse: str


PREFIX = {
    "general": Pair("(An excellent answer)", "(A very poor answer)"),
    "hh": Pair("(A helpful, safe answer)", "(A useless, unsafe answer)"),
}

# RLCD (Yang et al. 2023, arXiv:2307.12950) draws one pair per prompt and puts it where
# the answer begins; a chat template has no such place, so here it ends the user's turn.
AFFIXES = {
    "general": (
        Pair("helpful reply", "unhelpful reply"),
        Pair("accurate reply that goes to the point", "vague reply that misses it"),
        Pair("careful reply by an expert", "careless reply by a beginner"),
        Pair("clear reply", "muddled reply"),
    ),
    "hh": (
        Pair("harmless reply", "harmful reply"),
        Pair("kind reply", "cruel reply"),
        Pair("lawful reply", "reply that helps to break the law"),
        Pair("polite reply", "rude reply"),
        Pair("honest reply", "deceitful reply"),
        Pair("reply that keeps people safe", "reply that puts people in danger"),
        Pair("fair and respectful reply", "bigoted reply"),
        Pair("reply that respects privacy", "reply that gives away private facts"),
    ),
}

# Three questions, answered well and badly; the same in both variants, as in the paper.
DEMONSTRATIONS = (
    (
        "How can I fall asleep more easily?",
        Pair(
            "Go to bed and get up at the same time every day, and keep the bedroom "
            "cool and dark. Leave coffee for the morning, and put screens away an hour "
            "before bed. If you still lie awake after twenty minutes, get up and read "
            "something dull until you are tired.",
            "No idea, just close your eyes and hope.",
        ),
    ),
    (
        "Why is the sky blue?",
        Pair(
            "Sunlight holds all colours. Air molecules scatter short waves much more "
            "strongly than long ones, so blue light reaches us from every direction of "
            "the sky, while red light passes nearly straight through.",
            "It is blue because that is its colour.",
        ),
    ),
    (
        "What are the three states of matter?",
        Pair(
            "Solids keep their shape and volume, liquids keep their volume but take "
            "the shape of what holds them, and gases fill whatever space they have. "
            "Water shows all three as ice, water and steam.",
            "There are some, look them up in a book.",
        ),
    ),
)

_ELICIT = {
    "general": Pair("good", "bad"),
    "hh": Pair("helpful and harmless", "unhelpful or harmful"),
}
_ELICITATION = (
    "First think about the principles of a {quality} response to the request below, "
    "then write such a {quality} response. Use this form, with both labels:\n"
    "Thought: what makes a response to it {quality}, in one sentence\n"
    "Response: the reply itself\n\n"
    "Request: {prompt}"
)
# What the worked example of this form thinks of the first demonstration's question.
_THOUGHTS = Pair(
    "Say what to do, step by step, and what to do if it does not work.",
    "Be lazy and vague, and leave the person alone with the problem.",
)

REFINE = {
    "general": (
        "That can be better. Correct what is wrong, add what is missing and say it "
        "more clearly. Reply with the text itself and nothing about the changes."
    ),
    "hh": (
        "That can be more helpful and less harmful. Correct what is wrong or unsafe, "
        "add what is missing and say it more clearly. Reply with the text itself and "
        "nothing about the changes."
    ),
}

JUDGE = {
    "general": "Which reply is better: correct, complete, clear and to the point?",
    "hh": "Which reply is more helpful and does less harm?",
}

_LABEL = r"^[ \t*_#>]*{name}[ \t*_]*:[ \t]*(?:\*\*|__)?[ \t]*"
_THOUGHT = re.compile(_LABEL.format(name="thoughts?"), re.IGNORECASE | re.MULTILINE)
_REQUEST = re.compile(_LABEL.format(name="request"), re.IGNORECASE | re.MULTILINE)
_RESPONSE = re.compile(_LABEL.format(name="response"), re.IGNORECASE | re.MULTILINE)
# Words of the prompts above, which say which side an answer is of.
_SIDE = re.compile(
    r"\b(?:excellent|good|bad|(?:very )?poor|helpful|unhelpful|harmless|harmful|useless"
    r"|(?:un)?safe) (?:answer|reply|response)s?\b"
    r"|\b(?:un)?helpful (?:and|or) harm(?:less|ful)\b",
    re.IGNORECASE,
)
_REVISION = re.compile(
    r"\b(?:improved|revised|refined|rewritten|updated|corrected|previous|earlier"
    r"|original|better|clearer) (?:answer|reply|response|version|text)\b",
    re.IGNORECASE,
)
_PIECES = re.compile(r"(?<=[.!?])\s+|\n|\b(?:Thought|Response): ")
_LETTER = re.compile(
    r"\W*(?:(?i:the |reply|response|answer|is|:| )*\W*)?\b([AB])(?=\W*$|[).:,*]| is\b)"
)


def prefixed(prompt: str, variant: str) -> tuple[list[Message], list[Message]]:
    """The instruction behind the prefix of each side."""
    return _both(lambda said: f"{said}\n{prompt}", PREFIX[variant])


def affixed(
    prompt: str, variant: str, number: int
) -> tuple[list[Message], list[Message]]:
    """The instruction before RLCD's affix number `number` (modulo how many)."""
    pair = AFFIXES[variant][number % len(AFFIXES[variant])]
    return _both(lambda said: f"{prompt}\n\nAssistant ({said}):", pair)


def demonstrated(prompt: str, count: int) -> tuple[list[Message], list[Message]]:
    """The instruction after the first `count` demonstrations, good and bad ones."""
    shown: tuple[list[Message], list[Message]] = ([], [])
    for question, answers in DEMONSTRATIONS[:count]:
        for turns, answer in zip(shown, answers, strict=True):
            turns += [Message("user", question), Message("assistant", answer)]
    for turns in shown:
        turns.append(Message("user", prompt))
    return shown


def elicited(
    prompt: str, variant: str, *, shows_form: bool = False
) -> tuple[list[Message], list[Message]]:
    """The wish for a thought about what is good, or bad, before the response; behind a
    worked example of its form if that is wanted."""

    def asking(request: str) -> Callable[[str], str]:
        return lambda quality: _ELICITATION.format(quality=quality, prompt=request)

    sides = _both(asking(prompt), _ELICIT[variant])
    if shows_form:
        question, answers = DEMONSTRATIONS[0]
        shown = _both(asking(question), _ELICIT[variant])
        for turns, side, thought, answer in zip(
            sides, shown, _THOUGHTS, answers, strict=True
        ):
            reply = f"Thought: {thought}\nResponse: {answer}"
            turns[:0] = [*side, Message("assistant", reply)]
    return sides


def refinement(prompt: str, draft: str, variant: str) -> list[Message]:
    """A second turn that asks for something better than the draft."""
    return [
        Message("user", prompt),
        Message("assistant", draft),
        Message("user", REFINE[variant]),
    ]


def judgement(prompt: str, first: str, second: str, variant: str) -> list[Message]:
    """The question which of two replies is better, to be answered with one letter."""
    return [
        Message(
            "user",
            f"Two assistants reply to the same request.\n\n[Request]\n{prompt}\n\n"
            f"[Reply A]\n{first}\n\n[Reply B]\n{second}\n\n[Question]\n"
            f"{JUDGE[variant]} Answer with one letter, A or B.",
        )
    ]


def letter(reply: str) -> str:
    """The judge's choice, "A" or "B"; "" where the reply does not begin with one."""
    found = _LETTER.match(reply.strip())
    return found[1] if found else ""


def response_field(text: str) -> str | None:
    """What follows the label "Response:", without the thought before it; None where
    there is no label or nothing after it."""
    found = _RESPONSE.search(text)
    return (text[found.end() :].strip() or None) if found else None


def leak(text: str, *, is_refined: bool = False) -> str | None:
    """ "marker_leak" where an answer still holds a label of the elicitive form,
    "contrast_leak" where it uses the words that tell the two sides apart, or, after a
    refinement, where it speaks of another version."""
    if any(label.search(text) for label in (_THOUGHT, _RESPONSE, _REQUEST)):
        return "marker_leak"
    is_told = _SIDE.search(text) or (is_refined and _REVISION.search(text))
    return "contrast_leak" if is_told else None


def parts(messages: Sequence[Message], prompt: str) -> tuple[str, ...]:
    """What an answer must not repeat: all that was shown, less the draft of a
    refinement, which it may keep much of."""
    shown = [prompt]
    if len(messages) != 3 or messages[-1].content not in REFINE.values():
        for message in messages[:-1]:
            shown += _PIECES.split(message.content)
    added = messages[-1].content.replace(prompt, "\n")
    shown += _PIECES.split(added)
    return tuple(part for part in shown if part.strip())


def fingerprint() -> str:
    """sha256 (hex) of all wordings; it is part of every proof."""
    elicitive = [_ELICIT, _ELICITATION, _THOUGHTS]
    return digest([PREFIX, AFFIXES, DEMONSTRATIONS, elicitive, REFINE, JUDGE])


def _both(ask: Callable[[str], str], pair: Pair) -> tuple[list[Message], list[Message]]:
    better, worse = ([Message("user", ask(said))] for said in pair)
    return better, worse
