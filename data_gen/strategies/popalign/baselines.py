# SPDX-License-Identifier: Apache-2.0
"""Baselines that PopAlign is compared with, on the same prompts, with the same gates.

RLCD lies with the contrasts, since it is one. Of SPIN this is one iteration; for the
next, train, and run again with the trained model.
"""

from __future__ import annotations

import itertools

from data_gen.strategies.answers import Answer, judged
from data_gen.strategies.popalign import oracle
from data_gen.strategies.popalign.case import Case, Found, Side, is_same
from data_gen.strategies.popalign.contrasts import Contrast, affixes
from data_gen.strategies.popalign.oracle import Comparison

_NOT_MEASURED = Comparison("none", "undecided")


def context_distillation(case: Case) -> Contrast:
    """Context distillation (Askell et al. 2021, arXiv:2112.00861): RLCD's preferred
    answer alone, for supervised training."""
    shown, _ = affixes(case)
    side = Side(tuple(shown), is_told=True, may_refuse=case.config.keep_refusals)
    found = yield from case.answers({"better": side})
    if found:
        case.trail.count(0, "answered")
        case.export(found["better"], None, _NOT_MEASURED)


def rlaif(case: Case) -> Contrast:
    """RLAIF (Bai et al. 2022, arXiv:2212.08073): two samples, a judge says which is
    preferred; where its choice follows the order it says nothing."""
    side = Side(case.prompt.bare)
    found = yield from case.answers({"first": side, "second": side})
    if len(found) < 2:
        return
    case.trail.count(0, "answered")
    better, worse = found["first"], found["second"]
    label = yield from case.judge(better.answer.text, worse.answer.text, "label")
    if label.verdict == "lost":
        better, worse, label = worse, better, _turned(label)
    _labelled(case, better, worse, label)


def best_of_n(case: Case) -> Contrast:
    """The best and the worst of n samples, as verifiers, a reward or a judge order
    them. The judge compares all pairs; points are wins minus losses."""
    side = Side(case.prompt.bare)
    request = case.request("samples", side, case.config.samples)
    (samples,) = yield (request,)
    answers: list[Answer] = []
    for sample in samples:
        answer = case.accept(sample, request, side, "samples")
        if answer and not any(is_same(answer.text, own.text) for own in answers):
            answers.append(answer)
    if len(answers) < 2:
        case.trail.drop(0, "pair", "too_few_survivors", detail=f"{len(answers)} left")
        return
    case.trail.count(0, "answered")
    points = yield from _points(case, answers)
    better = answers[points.index(max(points))]
    worse = answers[points.index(min(points))]
    if max(points) == min(points):
        case.trail.drop(0, "oracle", "no_preference", detail="all are equal")
        return
    label = yield from case.compare(better.text, worse.text, "label")
    _labelled(case, Found(better, request), Found(worse, request), label)


def spin(case: Case) -> Contrast:
    """SPIN (Chen et al. 2024, arXiv:2401.01335): the seed's answer is preferred to the
    model's own."""
    if case.task.answer is None:
        case.trail.drop(0, "target", "no_target")
        return
    given = Found(Answer(case.task.answer, "given"), None)
    side = Side(case.prompt.bare)
    found = yield from case.answers({"worse": side}, taken=[case.task.answer])
    if found:
        case.trail.count(0, "answered")
        yield from case.measured(given, found["worse"])


def _labelled(case: Case, better: Found, worse: Found, label: Comparison) -> None:
    """The end of a case whose label is an oracle's. What gave the label does not
    measure it; verifiers measure a judge's."""
    if label.verdict != "won":
        case.trail.drop(
            0,
            "oracle",
            "no_preference",
            text=better.answer.text,
            generation=better.answer.generation,
            detail=f"{label.oracle}: {label.verdict}",
        )
        return
    measure = _NOT_MEASURED
    if case.prompt.asked and label.oracle != "verifiers":
        measure = oracle.verify(
            case.prompt.asked, better.answer.text, worse.answer.text
        )
        case.trail.count(0, oracle.stage(measure))
        if measure.verdict == "lost" and case.config.drop != "none":
            case.trail.drop(
                0,
                "oracle",
                "contradicted",
                text=better.answer.text,
                generation=better.answer.generation,
                detail="by the verifiers",
            )
            return
    case.export(better, worse, measure, label=label)


def _points(case: Case, answers: list[Answer]):
    """A number for each answer, higher is better."""
    config, context = case.config, case.context
    texts = [answer.text for answer in answers]
    if case.prompt.asked:
        return [_verified(judged(answer, case.prompt.asked)) for answer in answers]
    if config.oracle == "reward" and context.reward is not None:
        return oracle.scores(context.reward, case.prompt.messages, texts)
    points = [0.0] * len(answers)
    for first, second in itertools.combinations(range(len(answers)), 2):
        step = f"tournament/{first}/{second}"
        found = yield from case.judge(texts[first], texts[second], step)
        won = {"won": 1, "lost": -1}.get(found.verdict, 0)
        points[first] += won
        points[second] -= won
    return points


def _verified(answer: Answer) -> float:
    """1 for an answer that passes everything; at most 0 for one that clearly fails,
    lower the less it meets; a half where it is in doubt."""
    if answer.passes:
        return 1.0
    return answer.hardness - 1.0 if answer.violates else 0.5


def _turned(label: Comparison) -> Comparison:
    """The judge's comparison with the answers in the other order."""
    facts = {
        **label.facts,
        "choices": label.facts["choices"][::-1],
        "generations": label.facts["generations"][::-1],
    }
    return Comparison(label.oracle, "won", facts)
