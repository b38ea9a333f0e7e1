# SPDX-License-Identifier: Apache-2.0
"""Constraints together: certificates, conflicts, proposals and minimal violations."""

from __future__ import annotations

import random

import pytest

from alignjax import constraints
from alignjax.constraints import TYPES, Constraint, Verdict
from alignjax.constraints import text as texts

TASK = "Explain briefly why leaves fall in autumn."
ANSWERS = (
    "Leaves fall because trees save water in the cold season. When days get shorter, "
    "the tree stops making food (e.g. sugar), and the leaf stem weakens. Soon the "
    "wind can carry it away.",
    "Sure! Here are some reasons:\n\n1. **Light**: Days get shorter.\n2. **Water**: "
    "Roots take up less of it.\n3. **Cold**: Ice would harm the leaf cells!",
    "trees let go of their leaves",
)
LOWER, UPPER = Constraint("lowercase"), Constraint("uppercase")


def end(phrase: str) -> Constraint:
    return Constraint("end_phrase", {"phrase": phrase})


MANY = {"n": 80}  # words, which would be added in English
CONFLICTS = [
    (LOWER, UPPER),
    (LOWER, Constraint("title_case")),
    (LOWER, end("Hope this helps!")),
    (LOWER, Constraint("capital_words", {"n": 1})),
    (Constraint("words_max", {"n": 10}), Constraint("words_min", {"n": 20})),
    (
        Constraint("include_word", {"word": "water"}),
        Constraint("forbidden_word", {"word": "water"}),
    ),
    (
        Constraint("include_word", {"word": "puzzle"}),
        Constraint("forbidden_letter", {"letter": "z"}),
    ),
    (Constraint("no_digits"), Constraint("numbers_min", {"n": 1})),
    (Constraint("single_line"), Constraint("paragraphs", {"n": 2})),
    (Constraint("no_commas"), Constraint("comma_list", {"n": 3})),
    (end("Good luck!"), Constraint("end_question")),
    (Constraint("quoted"), Constraint("json", {"keys": ("a", "b")})),
    (Constraint("csv", {"columns": ("a", "b"), "n": 2}), Constraint("no_commas")),
    (Constraint("json_array", {"n": 2}), Constraint("two_answers")),
    (
        Constraint("letter_max", {"letter": "e", "n": 2}),
        Constraint("letter_min", {"letter": "e", "n": 3}),
    ),
    (Constraint("code", {"pattern": "[A-Z]{3}[0-9]"}), LOWER),
    (Constraint("arithmetic", {"expression": "2 * 3"}), Constraint("no_digits")),
    (Constraint("language", {"language": "German"}), Constraint("words_min", MANY)),
]

SUM = Constraint("arithmetic", {"expression": "17 * 24 + 5"})
HARMONIES = [
    (LOWER, Constraint("first_word", {"word": "Today"})),
    (LOWER, Constraint("no_commas"), Constraint("end_question")),
    (end("Hope this helps!"), Constraint("words_max", {"n": 15})),
    (end("Hope this helps!"), Constraint("sentences_exact", {"n": 3})),
    (Constraint("bullets", {"n": 3}), Constraint("words_max", {"n": 20})),
    (Constraint("words_max", {"n": 30}), Constraint("words_min", {"n": 25})),
    (Constraint("json", {"keys": ("reason",)}), LOWER),
    (Constraint("parts", {"n": 2, "separator": "---"}), Constraint("no_digits")),
    (SUM, Constraint("words_max", {"n": 20}), end("Hope this helps!")),
    (SUM, LOWER, Constraint("bullets", {"n": 2})),
    (SUM, Constraint("table_size", {"columns": 2, "rows": 2})),
    (Constraint("weekday", {"day": "Friday", "n": 3}), SUM, Constraint("quoted")),
    (Constraint("sections", {"n": 2, "marker": "Part"}), Constraint("no_commas")),
    (Constraint("acrostic", {"word": "RAIN"}), Constraint("words_max", {"n": 24})),
    (Constraint("language", {"language": "French"}), Constraint("quoted")),
    (Constraint("repeat_request", {"request": TASK}), end("Good luck!")),
]


@pytest.mark.parametrize("pair", CONFLICTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_conflicting_pairs_have_no_composition(pair, answer):
    assert constraints.compose(pair, answer) is None
    assert constraints.compose(pair[::-1], answer) is None


@pytest.mark.parametrize("wanted", HARMONIES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_compatible_sets_have_a_composition(wanted, answer):
    composed = constraints.compose(wanted, answer)
    assert composed is not None
    assert constraints.check_all(wanted, composed) == [Verdict.PASS] * len(wanted)


def test_compose_leaves_a_text_that_passes_alone():
    assert constraints.compose([LOWER], "leaves fall.") == "leaves fall."


def test_composition_of_random_triples_passes_all_three():
    """Of 120 triples at least 40 are compatible, so that the claim has content."""
    rng, found = random.Random(0), 0
    for _ in range(120):
        kinds = rng.sample(sorted(TYPES), 3)
        wanted = [constraints.sample(name, rng, topic=TASK) for name in kinds]
        composed = constraints.compose(wanted, rng.choice(ANSWERS))
        if composed is not None:
            found += 1
            verdicts = constraints.check_all(wanted, composed)
            assert verdicts == [Verdict.PASS] * 3, (wanted, composed)
    assert found >= 40


@pytest.mark.parametrize("answer", ANSWERS)
def test_proposed_constraint_fails_on_the_answer_and_joins_the_existing(answer):
    for seed in range(6):
        rng, existing = random.Random(seed), []
        for _ in range(3):
            new = constraints.propose(rng, answer, existing, TYPES, topic=TASK)
            assert new is not None
            assert constraints.check(new, answer) is Verdict.FAIL
            assert new.type not in {constraint.type for constraint in existing}
            existing.append(new)
            assert constraints.compose(existing, answer) is not None
        assert not {LOWER, UPPER} <= set(existing)


def test_propose_never_gives_what_conflicts_or_already_passes():
    rng = random.Random(0)
    text = "leaves fall, as trees rest."
    assert constraints.propose(rng, text, [], ["lowercase"]) is None
    assert constraints.propose(rng, text, [LOWER], ["uppercase"]) is None
    assert constraints.propose(rng, "Leaves.", [LOWER], ["lowercase"]) is None
    assert constraints.propose(rng, "", [], TYPES) is None
    assert constraints.propose(rng, text, [], ["uppercase"]) == UPPER


def test_propose_is_a_function_of_the_generator():
    def chain(seed: int) -> list[Constraint | None]:
        rng = random.Random(seed)
        return [constraints.propose(rng, a, [], TYPES, topic=TASK) for a in ANSWERS]

    assert chain(7) == chain(7)
    assert len({tuple(map(str, chain(seed))) for seed in range(10)}) > 1


@pytest.mark.parametrize("name", TYPES)
def test_every_type_can_be_proposed_for_some_answer(name):
    rng = random.Random(0)
    loud = "OK! 1, 2 zones: don't jump, quickly! Why not! Very good.\n\nSee you..."
    answers = (*ANSWERS, loud, "WE REST.")
    found = [constraints.propose(rng, a, [], [name], topic=TASK) for a in answers]
    assert any(constraint is not None for constraint in found)


def test_forbidden_words_are_taken_from_the_answer_and_keywords_are_not():
    for seed in range(20):
        rng = random.Random(seed)
        forbidden = constraints.propose(
            rng, ANSWERS[0], [], ["forbidden_word"], topic=TASK
        )
        assert forbidden is not None
        assert forbidden.params["word"] in ANSWERS[0].lower()
        keyword = constraints.propose(rng, ANSWERS[0], [], ["include_word"], topic=TASK)
        assert keyword is not None
        assert keyword.params["word"] not in ANSWERS[0].lower()


def test_only_a_text_in_another_language_would_be_replaced():
    french = Constraint("language", {"language": "French"})
    text = "Les arbres perdent leurs feuilles parce que l'eau est rare en hiver."
    assert constraints.compose([LOWER, french], ANSWERS[0]) is not None
    assert constraints.compose([LOWER, french], ANSWERS[0], keep_content=True) is None
    kept = constraints.compose([LOWER, french], text, keep_content=True)
    assert kept == text.lower()
    # Words are added in English, so the text would have to be replaced again.
    longer = Constraint("words_min", MANY)
    assert constraints.compose([french, longer], text, keep_content=True) is None
    replacing = [name for name, kind in TYPES.items() if not kind.keeps_content]
    assert replacing == ["language"]


def test_what_repairs_keep_of_an_answer():
    """Of the words of four letters or more that the answer has, most are still there;
    where few are, a list of words or few words were asked for."""
    words = set(texts.content_words(ANSWERS[0]))
    kept = {}
    for name, kind in TYPES.items():
        if kind.keeps_content:
            constraint = constraints.sample(name, random.Random(1), topic=TASK)
            found = texts.content_words(constraints.witness(constraint, ANSWERS[0]))
            kept[name] = len(words & set(found)) / len(words)
    shortening = {name for name, share in kept.items() if share < 0.6}
    assert shortening <= {"words_max", "sentences_max", "sentences_exact", "comma_list"}


def test_violation_can_keep_the_other_constraints():
    """The mutant fails the newest constraint only: a minimal-violation negative."""
    older = [LOWER, Constraint("words_max", {"n": 40})]
    newest = Constraint("end_phrase", {"phrase": "good luck!"})
    text = "trees save water. good luck!"
    mutant = constraints.violate(newest, text, older)
    assert mutant == "trees save water."
    assert constraints.check_all([*older, newest], mutant) == [
        Verdict.PASS,
        Verdict.PASS,
        Verdict.FAIL,
    ]
    impossible = [Constraint("end_phrase", {"phrase": "luck!"})]
    assert constraints.violate(newest, text, impossible) is None


def test_mutate_refuses_a_text_that_does_not_pass():
    with pytest.raises(ValueError, match="expected a text that passes"):
        constraints.mutate(LOWER, "Leaves fall.")
