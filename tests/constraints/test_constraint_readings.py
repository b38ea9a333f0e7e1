# SPDX-License-Identifier: Apache-2.0
"""Verdicts worked out by hand, above all where two readings disagree."""

from __future__ import annotations

import pytest

from alignjax.constraints import Constraint, Verdict, check, measure

PASS, FAIL, AMBIGUOUS = Verdict.PASS, Verdict.FAIL, Verdict.AMBIGUOUS

CASES = [
    # case
    ("lowercase", {}, "leaves fall.", PASS),
    ("lowercase", {}, "leaves Fall.", FAIL),
    ("lowercase", {}, "1 + 1 = 2", AMBIGUOUS),  # no capitals, but no letters either
    ("uppercase", {}, "LEAVES FALL 2.", PASS),
    ("uppercase", {}, "LEAVES FALL x.", FAIL),
    ("capital_words", {"n": 1}, "It is VERY cold.", PASS),
    ("capital_words", {"n": 1}, "Then I left.", AMBIGUOUS),  # is "I" in capitals?
    ("capital_words", {"n": 1}, "then we left.", FAIL),
    ("title_case", {}, "Leaves Fall", PASS),
    ("title_case", {}, "The Fall of Leaves", AMBIGUOUS),  # "of": titles do that
    ("title_case", {}, "Leaves fall", FAIL),
    # length: "well-known" is one word or two
    ("words_max", {"n": 4}, "Leaves are well-known.", PASS),  # 3, 3, 4
    ("words_max", {"n": 3}, "Leaves are well-known.", AMBIGUOUS),
    ("words_max", {"n": 2}, "Leaves are well-known.", FAIL),
    ("words_min", {"n": 4}, "Leaves are well-known.", AMBIGUOUS),
    ("words_min", {"n": 2}, "- one two", PASS),  # "-" counts as 1 or 0: 3, 2, 2
    ("words_min", {"n": 3}, "- one two", AMBIGUOUS),
    ("sentences_exact", {"n": 2}, "It is cold. Leaves fall.", PASS),
    ("sentences_exact", {"n": 1}, "Eat fruit, e.g. apples.", AMBIGUOUS),  # 2, 1, 1
    ("sentences_exact", {"n": 3}, "Eat fruit, e.g. apples.", FAIL),
    ("sentences_exact", {"n": 1}, "Ask Dr. Smith.", AMBIGUOUS),
    ("sentences_exact", {"n": 1}, "It costs 3.50 today", PASS),
    ("sentences_exact", {"n": 1}, "Autumn\nIt is cold.", AMBIGUOUS),  # 1, 1, 2
    ("sentences_exact", {"n": 2}, 'He said "Go!" Then he left.', PASS),
    ("sentences_max", {"n": 1}, "It is cold. Leaves fall.", FAIL),
    ("single_line", {}, "one line", PASS),
    ("single_line", {}, "two\nlines", FAIL),
    ("lines_exact", {"n": 2}, "one\ntwo", PASS),
    ("lines_exact", {"n": 2}, "one\n\ntwo", AMBIGUOUS),  # 3 lines, 2 with words
    # keywords
    ("include_word", {"word": "water"}, "Water is wet.", PASS),
    ("include_word", {"word": "water"}, "A water-based paint.", AMBIGUOUS),
    ("include_word", {"word": "art"}, "It will start.", AMBIGUOUS),
    ("include_word", {"word": "water"}, "Ice is wet.", FAIL),
    ("word_times", {"word": "ice", "n": 2}, "Ice is ice.", PASS),
    ("word_times", {"word": "ice", "n": 2}, "Ice is nice.", AMBIGUOUS),
    ("word_times", {"word": "ice", "n": 3}, "Ice is nice.", FAIL),
    ("include_words", {"words": ("ice", "snow")}, "Snow is not ice.", PASS),
    ("include_words", {"words": ("ice", "snow")}, "It is snow.", FAIL),  # 1 of 2
    ("forbidden_word", {"word": "leaf"}, "It rains.", PASS),
    ("forbidden_word", {"word": "leaf"}, "A Leaf fell.", FAIL),
    ("forbidden_word", {"word": "leaf"}, "Two leafs fell.", AMBIGUOUS),
    ("forbidden_word", {"word": "leaf"}, "A leaf-like thing.", AMBIGUOUS),
    ("forbidden_letter", {"letter": "z"}, "It rains.", PASS),
    ("forbidden_letter", {"letter": "z"}, "Zebras.", FAIL),
    ("include_phrase", {"phrase": "for example"}, "For example, ice.", PASS),
    ("include_phrase", {"phrase": "for example"}, "Ice, for\nexample.", AMBIGUOUS),
    ("include_phrase", {"phrase": "for example"}, "An example.", FAIL),
    # punctuation
    ("no_commas", {}, "Red and green.", PASS),
    ("no_commas", {}, "Red, green.", FAIL),
    ("no_commas", {}, "红，绿", AMBIGUOUS),  # a full-width comma only
    ("no_digits", {}, "Two trees.", PASS),
    ("no_digits", {}, "2 trees.", FAIL),
    ("no_digits", {}, "10 m²"[3:], AMBIGUOUS),  # "m²": a digit in Unicode
    ("numbers_min", {"n": 1}, "There are 3.", PASS),
    ("numbers_min", {"n": 2}, "It is 3.5 m.", AMBIGUOUS),  # 2 runs, 1 number
    ("numbers_min", {"n": 1}, "1. Trees", AMBIGUOUS),  # only a list number
    ("numbers_min", {"n": 1}, "There are three.", FAIL),
    ("exclamations_min", {"n": 2}, "Yes! Go!", PASS),
    ("exclamations_min", {"n": 2}, "Yes!!", AMBIGUOUS),  # 2 marks, 1 run
    ("exclamations_max", {"n": 1}, "Yes!!", AMBIGUOUS),
    ("exclamations_max", {"n": 0}, "Yes.", PASS),
    ("exclamations_max", {"n": 0}, "Yes!", FAIL),
    ("questions_min", {"n": 1}, "Why? Because.", PASS),
    ("end_question", {}, "Is it?", PASS),
    ("end_question", {}, 'She asked: "Is it?"', AMBIGUOUS),
    ("end_question", {}, "Is it? Yes.", FAIL),
    # position
    ("start_phrase", {"phrase": "In short,"}, "In short, yes.", PASS),
    ("start_phrase", {"phrase": "In short,"}, "in short, yes.", AMBIGUOUS),
    ("start_phrase", {"phrase": "In short,"}, '"In short, yes."', AMBIGUOUS),
    ("start_phrase", {"phrase": "In short,"}, "Well. In short, yes.", FAIL),
    ("end_phrase", {"phrase": "Good luck!"}, "Go on. Good luck!", PASS),
    ("end_phrase", {"phrase": "Good luck!"}, "Go on. Good luck.", AMBIGUOUS),
    ("end_phrase", {"phrase": "Good luck!"}, "Good luck! Bye.", FAIL),
    ("first_word", {"word": "Today"}, "**Today** it rains.", PASS),
    ("first_word", {"word": "To"}, "To-do lists help.", AMBIGUOUS),
    ("first_word", {"word": "Today"}, "It rains today.", FAIL),
    ("last_word", {"word": "done"}, "It is done!", PASS),
    ("last_word", {"word": "done"}, "It is well-done.", AMBIGUOUS),
    ("last_word", {"word": "done"}, "It is over.", FAIL),
    ("label", {"label": "Note"}, "[Note] It rains.", PASS),
    ("label", {"label": "Note"}, "**[note]** It rains.", AMBIGUOUS),
    ("label", {"label": "Note"}, "Note: it rains.", FAIL),
    ("postscript", {}, "It rains.\nP.S. Take care.", PASS),
    ("postscript", {}, "It rains. P.S. Take care.", AMBIGUOUS),  # not its own line
    ("postscript", {}, "It rains.", FAIL),
    ("sentence_start", {"word": "So"}, "So it is. So be it.", PASS),
    ("sentence_start", {"word": "So"}, "So use e.g. tea.", AMBIGUOUS),
    ("sentence_start", {"word": "So"}, "So it is. Be it.", FAIL),
    ("line_start", {"prefix": ">"}, "> a\n\n> b", PASS),
    ("line_start", {"prefix": ">"}, ">a\n> b", AMBIGUOUS),
    ("line_start", {"prefix": ">"}, "> a\nb", FAIL),
    # structure
    ("bullets", {"n": 2}, "Reasons:\n- cold\n- wind", PASS),
    ("bullets", {"n": 2}, "* cold\n* wind", AMBIGUOUS),  # 0 hyphens, 2 bullets
    ("bullets", {"n": 1}, "- cold\n  - wind", AMBIGUOUS),  # 1, 2, 2
    ("bullets", {"n": 3}, "- cold\n- wind", FAIL),
    ("numbered", {"n": 2}, "1. cold\n2. wind", PASS),
    ("numbered", {"n": 2}, "1. cold\n1. wind", AMBIGUOUS),  # 2 items, not in order
    ("numbered", {"n": 2}, "1) cold\n2) wind", AMBIGUOUS),
    ("numbered", {"n": 2}, "cold and wind", FAIL),
    ("parts", {"n": 2, "separator": "***"}, "cold\n***\nwind", PASS),
    ("parts", {"n": 2, "separator": "***"}, "cold *** wind", AMBIGUOUS),
    ("parts", {"n": 3, "separator": "***"}, "cold\n***\nwind", FAIL),
    ("paragraphs", {"n": 2}, "cold\n\nwind", PASS),
    ("paragraphs", {"n": 2}, "cold\nwind", AMBIGUOUS),  # 1 block, 2 lines
    ("paragraphs", {"n": 2}, "cold", FAIL),
    # markup
    ("highlights", {"n": 1}, "It is *cold*.", PASS),
    ("highlights", {"n": 1}, "It is **cold**.", AMBIGUOUS),
    ("highlights", {"n": 1}, "It is 2 * 3 * 4.", FAIL),
    ("placeholders", {"n": 1}, "Dear [name],", PASS),
    ("placeholders", {"n": 1}, "As shown [1].", AMBIGUOUS),  # a citation
    ("placeholders", {"n": 1}, "As shown.", FAIL),
    ("hashtags", {"n": 1}, "Rain #wet", PASS),
    ("hashtags", {"n": 1}, "Rain is #1", AMBIGUOUS),
    ("hashtags", {"n": 1}, "# Rain", FAIL),
    ("title", {}, "<<Autumn>> It rains.", PASS),
    ("title", {}, "<<title>> It rains.", AMBIGUOUS),  # the example copied
    ("title", {}, "<Autumn> It rains.", FAIL),
    ("bold_title", {}, "**Autumn**\nIt rains.", PASS),
    ("bold_title", {}, "**Autumn** is wet.", AMBIGUOUS),
    ("bold_title", {}, "Autumn\nIt rains.", FAIL),
    ("heading", {}, "# Autumn\nIt rains.", PASS),
    ("heading", {}, "## Autumn\nIt rains.", AMBIGUOUS),
    ("heading", {}, "Autumn\nIt rains.", FAIL),
    # wrap
    ("quoted", {}, '"It rains."', PASS),
    ("quoted", {}, "“It rains.”", AMBIGUOUS),
    ("quoted", {}, '"Yes" and "no"', AMBIGUOUS),  # not one pair
    ("quoted", {}, "It rains.", FAIL),
    ("parentheses", {}, "(It (really) rains.)", PASS),
    ("parentheses", {}, "(Yes) and (no)", AMBIGUOUS),
    ("parentheses", {}, "It rains.", FAIL),
    ("tag", {"tag": "answer"}, "<answer>Rain.</answer>", PASS),
    ("tag", {"tag": "answer"}, "So: <answer>Rain.</answer>", AMBIGUOUS),
    ("tag", {"tag": "answer"}, "<answer>Rain.", FAIL),
    # shape
    ("json", {"keys": ("a",)}, '{"a": 1}', PASS),
    ("json", {"keys": ("a",)}, '{"a": 1, "b": 2}', AMBIGUOUS),  # an extra key
    ("json", {"keys": ("a",)}, '```json\n{"a": 1}\n```', AMBIGUOUS),
    ("json", {"keys": ("a",)}, '{"a": NaN}', FAIL),
    ("json", {"keys": ("a",)}, '{"a": 1, "a": 2}', FAIL),  # duplicate key
    ("json", {"keys": ("a", "b")}, '{"a": 1}', FAIL),
    ("comma_list", {"n": 3}, "oak, elm, ash", PASS),
    ("comma_list", {"n": 3}, "oak, elm, and ash", PASS),  # ", and" is one comma
    ("comma_list", {"n": 3}, "oak, elm, ash and fir", AMBIGUOUS),  # 3 or 4
    ("comma_list", {"n": 2}, "When it gets cold outside, trees rest", AMBIGUOUS),
    ("comma_list", {"n": 3}, "oak, elm", FAIL),
]

TABLE = "| Point | Detail |\n|---|---|\n| cold | rest |"
TABLE_CASES = [
    (TABLE, PASS),
    (f"Here it is:\n{TABLE}", AMBIGUOUS),
    (TABLE.replace("|---|---|\n", ""), AMBIGUOUS),
    (TABLE.replace("Detail", "Fact"), FAIL),
    ("Point and detail", FAIL),
]


@pytest.mark.parametrize(("name", "params", "text", "verdict"), CASES)
def test_verdict_by_hand(name, params, text, verdict):
    constraint = Constraint(name, params)
    assert check(constraint, text) is verdict, measure(constraint, text)


@pytest.mark.parametrize(("text", "verdict"), TABLE_CASES)
def test_table_verdict_by_hand(text, verdict):
    constraint = Constraint("table", {"left": "Point", "right": "Detail"})
    assert check(constraint, text) is verdict, measure(constraint, text)


def test_every_type_has_a_case_by_hand():
    from alignjax.constraints import TYPES

    assert {case[0] for case in CASES} | {"table"} == set(TYPES)


def test_measure_shows_the_readings_behind_a_verdict():
    """ "Leaves are well-known." has 3 words, or 4 if the hyphen separates."""
    constraint = Constraint("words_max", {"n": 3})
    assert measure(constraint, "Leaves are well-known.") == {
        "whitespace": {"value": 3, "passes": True},
        "alphanumeric": {"value": 3, "passes": True},
        "hyphens_split": {"value": 4, "passes": False},
    }


def test_what_cannot_be_judged_is_ambiguous():
    unknown = Constraint("haiku", {})
    assert check(unknown, "leaves fall") is AMBIGUOUS
    assert "unknown constraint type 'haiku'" in measure(unknown, "x")["error"]["value"]
    invalid = Constraint("words_max", {"n": "ten"})
    assert check(invalid, "leaves fall") is AMBIGUOUS
    assert "whole number from 1" in measure(invalid, "x")["error"]["value"]
    deep = "[" * 100_000
    assert check(Constraint("json", {"keys": ("a",)}), deep) is AMBIGUOUS
