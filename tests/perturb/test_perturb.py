# SPDX-License-Identifier: Apache-2.0
"""Perturbations: what decides the meaning stays, changes are bounded and repeatable."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignjax import constraints, perturb
from alignjax.perturb import LEVELS, Limits, edits, meaning, spans
from alignjax.perturb.edits import Edit

LABELS = ("positive", "negative")
WORDS = [
    *(
        "Decide",
        "consider",
        "the",
        "opinion",
        "of",
        "a",
        "brief",
        "review",
        "carefully",
    ),
    *("movie", "question", "whether", "its", "author", "following", "describe", "read"),
]
FACTS = ["42", "$3.50", "20%", '"as it is"', "{text}", "https://a.org/x?y=1", "`f(x)`"]
DECISIVE = ["not", "only", "two", "never", "isn't", "Positive", "negative"]

ASKED = [  # each type of constraint, in several wordings
    constraints.render(constraints.sample(name, random.Random(variant)), variant)
    for name in constraints.TYPES
    for variant in range(4)
]


@st.composite
def instructions(draw) -> str:
    """One to three sentences of words, facts and decisive words, and sometimes a
    constraint in one of its wordings."""
    pieces = st.sampled_from([*WORDS * 3, *FACTS, *DECISIVE])
    sentences = draw(st.lists(st.lists(pieces, min_size=4, max_size=12), max_size=3))
    text = " ".join(" ".join(words) + "." for words in sentences)
    if not text or draw(st.booleans()):
        text = f"{text} {draw(st.sampled_from(ASKED))}".strip()
    return text


names = st.text("abc", max_size=4)


@settings(max_examples=60, deadline=None)
@given(instructions(), st.sampled_from(LEVELS), names)
def test_what_decides_the_meaning_survives(text, level, name):
    made = perturb.perturb(text, level, name=name, labels=LABELS)
    if made is None:
        return
    assert constraints.parse(made.text) or not constraints.parse(text)
    before, after = (spans.without_constraints(t) for t in (text, made.text))
    assert spans.facts(before) == spans.facts(after)
    assert spans.named(text, LABELS) == spans.named(made.text, LABELS)
    if level != "semantic":
        assert constraints.parse(made.text) == constraints.parse(text)
        kept = [text[s.start : s.end] for s in perturb.protected(text, LABELS)]
        place = 0
        for part in kept:  # in the same order, each where the one before it ends
            place = made.text.index(part, place) + len(part)


@settings(max_examples=60, deadline=None)
@given(instructions(), st.sampled_from(LEVELS), names, st.integers(1, 4))
def test_the_edits_give_the_text_and_keep_to_the_budget(text, level, name, most):
    limits = Limits(edits=most, distance=25)
    made = perturb.perturb(text, level, name=name, labels=LABELS, limits=limits)
    if made is None:
        return
    assert perturb.apply(text, made.edits) == made.text != text
    if level != "semantic":
        assert len(made.edits) <= most
        assert levenshtein(text, made.text) <= perturb.distance(made.edits) <= 25


@settings(max_examples=60, deadline=None)
@given(instructions(), st.sampled_from(LEVELS), names)
def test_equal_names_give_equal_texts(text, level, name):
    first, second = (
        perturb.perturb(text, level, name=name, labels=LABELS) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("level", LEVELS)
def test_other_names_give_other_texts(level):
    text = "Read the following review carefully and decide what its author conveys."
    made = [perturb.perturb(text, level, name=str(n)) for n in range(40)]
    assert None not in made
    assert len({item.text for item in made if item}) >= 5


@settings(max_examples=200, deadline=None)
@given(st.text("ab c", max_size=12), st.text("ab c", max_size=12))
def test_a_script_turns_one_text_into_the_other_at_no_less_than_its_distance(a, b):
    script = perturb.script("x", a, b)
    assert perturb.apply(a, script) == b
    assert perturb.distance(script) >= levenshtein(a, b)


def levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_spans_are_found_once_each():
    text = "Say 'positive' or negative in two words for 3.5% of {text} at http://a.b/c"
    found = [(text[s.start : s.end], s.kind) for s in perturb.protected(text, LABELS)]
    assert found == [
        ("'positive'", "quotation"),
        ("negative", "label"),
        ("two", "decisive"),
        ("3.5%", "number"),
        ("{text}", "placeholder"),
        ("http://a.b/c", "address"),
    ]


def test_a_constraint_is_one_span_with_its_parameters():
    text = "Write a note on cats. Use at most 15 words."
    (span,) = perturb.protected(text)
    assert text[span.start : span.end] == "Use at most 15 words."
    assert span.kind == "constraint"


def test_a_constraint_is_reworded_at_the_semantic_level_and_asks_the_same():
    text = "Write a note on cats. Use at most 15 words."
    made = [perturb.perturb(text, "semantic", name=str(n)) for n in range(10)]
    assert any(item and "Use at most" not in item.text for item in made)
    for item in made:
        assert item and constraints.parse(item.text) == constraints.parse(text)


def test_slips_leave_the_first_and_last_letter():
    text = "Carefully examine everything"
    for n in range(30):
        made = perturb.perturb(text, "character", name=str(n))
        assert made
        for before, after in zip(text.split(), made.text.split(), strict=True):
            assert (before[0], before[-1]) == (after[0], after[-1])


def test_a_slip_is_not_another_word():
    """Of "from", the swap would give "form"; of "read" and "lead", each the other."""
    for text in ("from", "read, lead"):
        made = [perturb.perturb(text, "character", name=str(n)) for n in range(60)]
        found = {word for item in made if item for word in item.text.split(", ")}
        assert len(found) > 5
        assert found & {"form", "read", "lead"} <= set(text.split(", "))


def test_an_article_follows_its_noun():
    """ "opinion" becomes "view", so "an" becomes "a"."""
    made = perturb.perturb("State an opinion.", "word", name="n")
    assert made and made.text == "State a view."


def test_nothing_to_change_is_none():
    assert perturb.perturb("{text}", "character", name="n") is None
    assert perturb.perturb("Is 7 odd?", "word", name="n") is None


ORIGINAL = "Decide whether 3 of these are positive or negative: {text}"


@pytest.mark.parametrize(
    ("text", "level", "reason"),
    [
        ("decide whether 3 of these are positive or  negative: {text}", 0, "unchanged"),
        ("Decide whether 4 of these are positive or negative: {text}", 3, "facts"),
        ("Judge if 3 of these are positive or negative: it", 3, "facts"),
        ("Judge if 3 of these are positive: {text}", 3, "labels"),
        ("Judge if 3 of these are never positive or negative: {text}", 3, "negation"),
        ("3 positive or negative: {text}?", 3, None),
        ("3 positive negative {text}", 3, "growth"),
        ("Decide whether 3 of these are negative or positive: {text}", 1, "protected"),
        ("Determine if 3 of those were positive or negative: {text}", 1, "edits"),
        ("Ddcide whether 3 of these are positive or negative: {text}", 0, None),
        (ORIGINAL + " and so on, and so on, and so on, and so on", 2, "distance"),
    ],
)
def test_a_flaw_is_named(text, level, reason):
    limits = Limits(growth=2.0) if reason == "growth" else None
    script = perturb.script("x", ORIGINAL, text)
    found = perturb.flaw(
        ORIGINAL, text, script, LEVELS[level], labels=LABELS, limits=limits
    )
    assert found == reason


def test_another_constraint_is_a_flaw():
    asked = constraints.sample("words_max", random.Random(0))
    longer = constraints.Constraint(asked.type, {"n": asked.params["n"] + 1})
    texts = [f"Name a cat. {constraints.render(c, 0)}" for c in (asked, longer)]
    script = perturb.script("x", texts[0], texts[1])
    assert perturb.flaw(texts[0], texts[1], script, "semantic") == "constraints"


def test_edits_of_another_text_are_a_flaw():
    wrong = [Edit("x", 0, 3, "Sum", "Add")]
    assert perturb.flaw("Add it up", "Sum it up", wrong, "word") == "script"
    right = perturb.script("x", "Add it up", "Sum it up")
    assert perturb.flaw("Add it up", "Sum it upp", right, "word") == "script"
    with pytest.raises(ValueError, match="does not fit the text at 0: 'Add'"):
        edits.apply("Add it up", wrong)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="no level 'letter' \\(known: character, wo"):
        perturb.perturb("a", "letter", name="n")
    with pytest.raises(ValueError, match="edits must be at least 1, got 0"):
        meaning.Limits(edits=0)
    with pytest.raises(ValueError, match="growth must be at least 1"):
        meaning.Limits(growth=0.5)
