# SPDX-License-Identifier: Apache-2.0
"""Contrasts: the six of PopAlign, each a coroutine of one case.

In the paper's letters, for an instruction q and a model M:

    prefix         r+ = M([p+, q])          r- = M([p-, q])
    demonstration  r+ = M([d+, q])          r- = M([d-, q])
    elicitive      (t+, r+) = M(T+(q))      (t-, r-) = M(T-(q))     t is removed
    parameters     r+ = M_large(q)          r- = M_small(q)
    leaderboard    r+ = M_first(q)          r- = M_second(q)
    refine         r+ = M([q, r-, I])       r- = M(q)
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from data_gen.engines import Generate
from data_gen.records import Message
from data_gen.strategies import draw
from data_gen.strategies.popalign import wording
from data_gen.strategies.popalign.case import Case, Side
from data_gen.strategies.popalign.oracle import Replies
from data_gen.strategies.popalign.settings import Gap

Contrast = Generator[tuple[Generate, ...], Replies, None]


def prefix(case: Case) -> Contrast:
    """The same model behind a word of praise and behind one of blame."""
    return _told(case, *wording.prefixed(case.prompt.text, case.config.variant))


def demonstration(case: Case) -> Contrast:
    """The same model after well answered questions and after badly answered ones."""
    shown = wording.demonstrated(case.prompt.text, case.config.demonstrations)
    return _told(case, *shown)


def elicitive(case: Case) -> Contrast:
    """The same model, told to think first of what makes a response good, or bad."""
    config = case.config
    shown = wording.elicited(
        case.prompt.text, config.variant, shows_form=config.shows_form
    )
    return _told(case, *shown, is_elicited=True)


def parameters(case: Case) -> Contrast:
    """A model with more parameters and one with fewer."""
    return _models(case)


def leaderboard(case: Case) -> Contrast:
    """A model of a higher rank and one of a lower."""
    return _models(case)


def refine(case: Case) -> Contrast:
    """An answer, and what the same model makes of it when asked for a better one."""
    draft = yield from case.answers({"worse": Side(case.prompt.bare)})
    if not draft:
        return
    worse = draft["worse"]
    messages = wording.refinement(
        case.prompt.text, worse.answer.text, case.config.variant
    )
    side = Side(tuple(messages), is_refined=True)
    refined = yield from case.answers({"better": side}, taken=[worse.answer.text])
    if refined:
        case.trail.count(0, "answered")
        yield from case.measured(refined["better"], worse)


def rlcd(case: Case) -> Contrast:
    """RLCD (Yang et al. 2023, arXiv:2307.12950): one affix pair of several by hash."""
    return _told(case, *affixes(case))


def affixes(case: Case) -> tuple[list[Message], list[Message]]:
    """The task with RLCD's affix for the preferred and for the other side."""
    number = draw(case.context.seed, "affix", case.task.id)
    return wording.affixed(case.prompt.text, case.config.variant, number)


def _told(
    case: Case,
    better: Sequence[Message],
    worse: Sequence[Message],
    *,
    is_elicited: bool = False,
) -> Contrast:
    return _pair(
        case,
        Side(
            tuple(better),
            is_told=True,
            is_elicited=is_elicited,
            may_refuse=case.config.keep_refusals,
        ),
        Side(tuple(worse), is_told=True, is_elicited=is_elicited),
    )


def _models(case: Case) -> Contrast:
    """Two engines that are far enough apart, drawn by hash; the same bare prompt."""
    gaps = case.config.gaps(case.name)
    gap = gaps[draw(case.context.seed, case.name, case.task.id) % len(gaps)]
    messages = case.prompt.bare
    return _pair(case, Side(messages, gap.better), Side(messages, gap.worse), gap)


def _pair(case: Case, better: Side, worse: Side, gap: Gap | None = None) -> Contrast:
    found = yield from case.answers({"better": better, "worse": worse})
    if len(found) == 2:
        case.trail.count(0, "answered")
        yield from case.measured(found["better"], found["worse"], gap)
