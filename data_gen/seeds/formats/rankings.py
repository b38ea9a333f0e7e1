# SPDX-License-Identifier: Apache-2.0
"""Rankings: rows with better and worse answers to one prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_gen.records import Message
from data_gen.seeds.formats.turns import (
    Found,
    Options,
    Unusable,
    asked,
    cleaned,
    hh_flaw,
    hh_turns,
    list_of,
    messages_of,
    text_of,
)

_ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def hh_rlhf(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"chosen", "rejected"}: two whole dialogues that part at their last answer."""
    texts = []
    for name in ("chosen", "rejected"):
        text_of(row, name)
        texts.append(hh_turns(row[name]))
    chosen, rejected = texts
    flaw = hh_flaw([*chosen, *rejected])
    if flaw is not None:
        yield flaw._replace(text=chosen[0].content)
    elif chosen[:-1] != rejected[:-1]:
        yield Unusable("prompts_differ", "", chosen[0].content)
    elif chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        yield Unusable("no_answer", "ends with a Human turn", chosen[0].content)
    else:
        yield _ranked(chosen[:-1], [chosen[-1].content, rejected[-1].content])


def preference(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"prompt", "chosen", "rejected"}: texts or messages; rejected may be a list."""
    shared = _turns(row, "prompt")
    given = row.get("rejected")
    several = isinstance(given, list) and all(isinstance(item, str) for item in given)
    worse: list[Any] = given if several else [given]  # type: ignore[assignment]
    answers = []
    for value in (row.get("chosen"), *worse):
        turns = _turns({"answer": value}, "answer", role="assistant")
        if not turns or turns[-1].role != "assistant":
            raise ValueError(
                "an answer must be a text, or end with an assistant's turn"
            )
        before, answer = turns[:-1], turns[-1].content
        if before and before[-len(shared) :] != shared:
            yield Unusable("prompts_differ", "", shared[-1].content)
            return
        shared = before or shared  # may begin with a system's turn
        answers.append(answer)
    scores = row["metadata"] if isinstance(row.get("metadata"), Mapping) else row
    better = _number(scores.get("score_chosen"))
    less = _number(scores.get("score_rejected"))
    if better is not None and less is not None and better <= less:
        yield Unusable("tie", f"scores {better:g} and {less:g}", shared[-1].content)
        return
    yield _ranked(shared, answers)


def ultrafeedback(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"instruction", "source", "completions": [{"response", "annotations"}, ...]}.

    Ranked by the mean of the four ratings; `overall_score` is not read.
    """
    text = text_of(row, "instruction")
    source = text_of(row, "source") if "source" in row else ""
    if source == "truthful_qa":
        yield Unusable("evaluation_source", "from TruthfulQA, an evaluation set", text)
        return
    rated = []
    for completion in list_of(row, "completions"):
        mean = _mean_rating(completion)
        if mean is not None:
            rated.append((mean, text_of(completion, "response")))
    rated.sort(key=lambda pair: -pair[0])  # stable: ties keep their order
    if not rated:
        yield Unusable("no_answer", "no completion has a rating", text)
        return
    best = rated[0][0]
    worse = [answer for mean, answer in rated if mean < best]
    if not worse:
        yield Unusable("tie", f"all completions are rated {best:g}", text)
        return
    yield _ranked([Message("user", text)], [rated[0][1], *worse], domain=source)


def nectar(row: Mapping[str, Any], options: Options) -> Iterator[Found]:
    """{"prompt", "answers": [{"answer", "rank"}, ...]}; the prompt as in HH-RLHF."""
    text_of(row, "prompt")
    turns = hh_turns(row["prompt"])
    if turns[-1] == Message("assistant", ""):
        turns.pop()
    if flaw := hh_flaw(turns):
        yield flaw._replace(text=turns[0].content)
        return
    ranked = []
    for answer in list_of(row, "answers"):
        rank = answer.get("rank") if isinstance(answer, Mapping) else None
        rank = _number(rank)
        if rank is None:
            raise ValueError('each of "answers" needs a "rank", a number')
        ranked.append((rank, text_of(answer, "answer")))
    ranked.sort(key=lambda pair: pair[0])
    if not ranked:
        yield Unusable("no_answer", "", turns[-1].content)
        return
    best = ranked[0][0]
    worse = [answer for rank, answer in ranked if rank > best]
    yield _ranked(turns, [ranked[0][1], *worse])


def _ranked(turns: Sequence[Message], answers: Sequence[str], **fields: Any) -> Found:
    """The seed with the first of the answers preferred; repeated ones go."""
    text = turns[-1].content if turns else ""
    chosen, *worse = answers
    kept = [answer for answer in dict.fromkeys(worse) if answer and answer != chosen]
    if not chosen or (worse and not any(worse)):
        return Unusable("empty_answer", "", text)
    if not kept:
        return Unusable(
            "same_answers", "the preferred answer is the other one too", text
        )
    return asked(turns, answer=chosen, rejected=tuple(kept), **fields)


def _turns(row: Mapping[str, Any], name: str, role: str = "user") -> list[Message]:
    """A field that is a text, said by `role`, or messages."""
    value = row.get(name)
    if isinstance(value, str):
        return [Message(role, cleaned(value))]
    if not isinstance(value, list) or not value:
        raise ValueError(
            f'"{name}" must be a text or messages, got {type(value).__name__}'
        )
    return messages_of(row, name)


def _mean_rating(completion: Any) -> float | None:
    """Of the four aspects; None where one of them has no number."""
    if not isinstance(completion, Mapping):
        raise ValueError('each of "completions" must be an object')
    notes = completion.get("annotations")
    if not isinstance(notes, Mapping):
        raise ValueError('a completion has no "annotations"')
    ratings = []
    for aspect in _ASPECTS:
        note = notes.get(aspect)
        rating = note.get("Rating") if isinstance(note, Mapping) else None
        try:
            ratings.append(float(rating))  # type: ignore[arg-type]
        except (TypeError, ValueError):  # "N/A"
            return None
    mean = sum(ratings) / len(ratings)
    return mean if math.isfinite(mean) else None


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
