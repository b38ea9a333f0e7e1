# SPDX-License-Identifier: Apache-2.0
"""Parameters, rendering errors, parsing of instructions, and small text edits."""

from __future__ import annotations

import random

import pytest

from alignjax import constraints
from alignjax.constraints import Constraint, computed, lookup
from alignjax.constraints import text as texts
from alignjax.constraints.computed import evaluate
from alignjax.constraints.stated import Statement

TABLE = ("a | b", "c | 1", "d | 1")
BAD = [
    (Constraint("haiku"), "unknown constraint type 'haiku'"),
    (Constraint("words_max", {}), r"expected parameters \(n\), got \(none\)"),
    (Constraint("lowercase", {"n": 1}), r"expected parameters \(none\), got \(n\)"),
    (Constraint("words_max", {"n": 0}), "from 1 to 1000, got 0"),
    (Constraint("words_max", {"n": True}), "from 1 to 1000, got True"),
    (Constraint("words_max", {"n": 2.0}), "from 1 to 1000, got 2.0"),
    (Constraint("include_word", {"word": "two words"}), "one word of letters"),
    (Constraint("include_word", {"word": "cafe\u0301"}), "form NFC"),
    (Constraint("end_phrase", {"phrase": 'Say "hi"'}), "without double quotes"),
    (Constraint("end_phrase", {"phrase": " hi"}), "without outer spaces"),
    (Constraint("tag", {"tag": "script"}), "expected one of answer, response"),
    (Constraint("include_words", {"words": ("a", "A")}), "2 to 4 different words"),
    (Constraint("json", {"keys": []}), "1 to 4 different words"),
    (Constraint("phrase_choice", {"phrases": ("Yes.", "yes. No")}), "none inside"),
    (Constraint("sort_numbers", {"numbers": (3, 3)}), "2 to 12 different whole"),
    (Constraint("sort_numbers", {"numbers": (1, True)}), "2 to 12 different whole"),
    (Constraint("arithmetic", {"expression": "1 / 2"}), "2 to 5 whole numbers"),
    (Constraint("arithmetic", {"expression": "01 + 2"}), "2 to 5 whole numbers"),
    (Constraint("arithmetic", {"expression": "1 + 2\n"}), "2 to 5 whole numbers"),
    (Constraint("code", {"pattern": "(a+)+b"}), "a class, and no punctuation"),
    (Constraint("code", {"pattern": "abc"}), "a class, and no punctuation"),
    (Constraint("json_schema", {"schema": "{}"}), "expected the JSON Schema"),
    (Constraint("json_schema", {"schema": '{"$ref": "a"}'}), "expected the JSON"),
    (Constraint("json_schema", {"schema": "[" * 100_000}), "expected the JSON Schema"),
    (Constraint("table_total", {"table": ("a | b",), "column": "b"}), "2 to 9 rows"),
    (
        Constraint(
            "table_total", {"table": ("a | b", "c | 1", "d | x"), "column": "b"}
        ),
        "the others numbers",
    ),
    (Constraint("table_total", {"table": TABLE, "column": "a"}), "a column of numbers"),
    (
        Constraint("table_value", {"table": TABLE, "column": "b", "row": "e"}),
        "a row that the table has",
    ),
    (
        Constraint("table_extreme", {"table": TABLE, "column": "b", "end": "largest"}),
        "one row with the largest",
    ),
    (Constraint("paragraph_start", {"n": 2, "k": 3, "word": "So"}), "k <= n"),
    (
        Constraint("purchase", {"item": "cups", "n": 3, "price": 5, "paid": 14}),
        "enough is paid",
    ),
    (Constraint("word_order", {"first": "ice", "second": "Nice"}), "none is inside"),
    (Constraint("acrostic", {"word": "I"}), "2 to 12 letters"),
]


@pytest.mark.parametrize(("constraint", "message"), BAD)
def test_invalid_constraints_are_refused_with_the_reason(constraint, message):
    for use in (
        lambda: constraints.validate(constraint),
        lambda: constraints.render(constraint),
        lambda: constraints.witness(constraint, "text"),
        lambda: constraints.compose([constraint], "text"),
    ):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize(
    "value", [{}, {"type": "x"}, {"type": 1, "params": {}}, {"type": "x", "params": 1}]
)
def test_from_json_refuses_other_shapes(value):
    with pytest.raises(ValueError, match="constraint: "):
        Constraint.from_json(value)


def test_equal_constraints_have_equal_ids_whatever_the_order_of_parameters():
    one = Constraint("word_times", {"word": "ice", "n": 2})
    other = Constraint("word_times", {"n": 2, "word": "ice"})
    assert one == other
    assert len({one, other}) == 1
    assert one.id == other.id != Constraint("word_times", {"n": 3, "word": "ice"}).id


def test_parse_reads_several_constraints_in_order():
    wanted = (
        Constraint("end_phrase", {"phrase": "Hope this helps!"}),
        Constraint("sentences_max", {"n": 1}),
        Constraint("json", {"keys": ("a", "b", "c")}),
    )
    for variant in range(3):
        sentences = [constraints.render(c, variant) for c in wanted]
        instruction = "Explain why leaves fall. " + " ".join(sentences)
        assert constraints.parse(instruction) == wanted


def test_plurals_follow_the_number():
    one, two = (Constraint("sentences_max", {"n": n}) for n in (1, 2))
    assert constraints.render(one) == "Use at most 1 sentence."
    assert constraints.render(two) == "Use at most 2 sentences."
    assert constraints.parse("Use at most 1 sentences.") == ()


def test_parse_ignores_other_text_and_invalid_values():
    assert constraints.parse("Explain why leaves fall in lowercase regions.") == ()
    assert constraints.parse("Use at most 0 words.") == ()
    assert constraints.parse("Use at most 99999999999999999999 words.") == ()
    assert constraints.parse("PleaseUse at most 5 words.") == ()


def test_a_wording_inside_a_phrase_is_not_a_second_constraint():
    outer = Constraint("end_phrase", {"phrase": "Use at most 5 words."})
    assert constraints.parse(constraints.render(outer)) == (outer,)


def test_a_task_that_can_be_quoted_is_the_request_to_repeat():
    def request(topic: str) -> str:
        drawn = constraints.sample("repeat_request", random.Random(0), topic=topic)
        return drawn.params["request"]

    assert request("Explain photosynthesis.") == "Explain photosynthesis."
    assert request('Say "hi".\nBe kind to her.') == "Be kind to her."
    assert request("") == request('"') != ""


def test_expressions_are_evaluated_by_hand():
    """Products first: 2 + 3 * 4 = 14, and 20 - 2 * 3 * 2 + 1 = 9."""
    assert evaluate("2 + 3 * 4") == 14
    assert evaluate("20 - 2 * 3 * 2 + 1") == 9
    assert evaluate("5 - 17") == -12


@pytest.mark.parametrize("seed", range(40))
def test_drawn_expressions_are_evaluated_as_python_does(seed):
    drawn = constraints.sample("arithmetic", random.Random(seed)).params["expression"]
    assert evaluate(drawn) == eval(drawn) >= 0  # noqa: S307  three numbers


def test_a_sentence_is_not_appended_to_a_stated_answer():
    assert texts.append("Cold.\nResult: 42", "Bye.") == "Cold.\nResult: 42\nBye."
    assert texts.append("Cold.\nNote: old", "Bye.") == "Cold.\nNote: old. Bye."
    labels = {value.label for value in vars(computed).values() if is_statement(value)}
    labels |= {value.label for value in vars(lookup).values() if is_statement(value)}
    assert labels | {"Code"} == set(texts.LABELS)


def is_statement(value: object) -> bool:
    return isinstance(value, Statement)


def test_sampled_keywords_may_come_from_the_topic():
    topic = "Explain photosynthesis."
    words = {
        constraints.sample("include_word", random.Random(s), topic=topic).params["word"]
        for s in range(30)
    }
    assert "photosynthesis" in words
    assert len(words) > 5


def test_word_counts_by_hand():
    """ "- well-known, e.g. tea": 4 tokens, 3 with letters, and well|known|e|g|tea."""
    assert texts.word_counts("- well-known, e.g. tea") == {
        "whitespace": 4,
        "alphanumeric": 3,
        "hyphens_split": 5,
    }


def test_plain_sentences_agree_in_all_readings():
    messy = "- Ask Dr. Smith, e.g. today\n2. Plan B. It costs 3.50!\nSo: 7."
    plain = texts.plain_sentences(messy)
    counts = set(texts.sentence_counts(" ".join(plain)).values())
    assert counts == {len(plain)}
    assert plain[0] == "Ask Dr Smith, for example today."


def test_cut_words_prefers_the_end_of_a_sentence():
    """Of 8 words 5 fit; the first sentence has 3 of them, which is half or more."""
    assert texts.cut_words("Leaves fall down. It is cold out here.", 5) == (
        "Leaves fall down."
    )
    assert texts.cut_words("Yes. It is very cold out here today.", 6) == (
        "Yes. It is very cold out."
    )


def test_long_texts_take_linear_time():
    """20 000 characters without a break must not make any pattern backtrack."""
    for text in ("a" * 20_000, "a." * 10_000, "*" * 20_000, "\n" * 20_000 + "x"):
        for name in constraints.TYPES:
            constraint = constraints.sample(name, random.Random(0))
            assert "error" not in constraints.measure(constraint, text)
