# SPDX-License-Identifier: Apache-2.0
"""Verdicts worked out by hand, above all where two readings disagree."""

from __future__ import annotations

import json

import pytest

from alignjax.constraints import TYPES, Constraint, Verdict, check, measure
from alignjax.constraints.language import LANGUAGES
from alignjax.constraints.notation import Schema
from alignjax.constraints.samples import SAMPLES

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
    ("words_min", {"n": 4}, "- one two", FAIL),
    ("sentences_max", {"n": 2}, "It is cold. Leaves fall.", PASS),
    ("sentences_max", {"n": 1}, "Eat fruit, e.g. apples.", AMBIGUOUS),  # 2, 1, 1
    ("uppercase", {}, "1 + 1 = 2", AMBIGUOUS),
    ("include_words", {"words": ("ice", "snow")}, "Ice is snowy.", AMBIGUOUS),
    ("questions_min", {"n": 2}, "Why??", AMBIGUOUS),  # 2 marks, 1 run
    ("lines_exact", {"n": 2}, "one", FAIL),
    ("exclamations_min", {"n": 1}, "Yes.", FAIL),
    ("questions_min", {"n": 1}, "Because.", FAIL),
    # case, length: the other directions
    ("capital_words_max", {"n": 1}, "It is VERY cold.", PASS),
    ("capital_words_max", {"n": 1}, "I am VERY cold.", AMBIGUOUS),  # "I" is one letter
    ("capital_words_max", {"n": 0}, "It is VERY cold.", FAIL),
    ("sentences_min", {"n": 2}, "It is cold. Leaves fall.", PASS),
    ("sentences_min", {"n": 2}, "Eat fruit, e.g. apples.", AMBIGUOUS),  # 2, 1, 1
    ("sentences_min", {"n": 3}, "It is cold. Leaves fall.", FAIL),
    ("sentence_words_max", {"n": 5}, "Leaves fall in autumn here. Why?", PASS),  # 5, 1
    ("sentence_words_max", {"n": 5}, "A well-known tree is tall.", AMBIGUOUS),  # 5 or 6
    ("sentence_words_max", {"n": 5}, "See e.g. the big old tree.", AMBIGUOUS),  # 2+4
    ("sentence_words_max", {"n": 5}, "Leaves fall in autumn over here.", FAIL),
    # word choice
    ("word_times_max", {"word": "ice", "n": 1}, "Ice is cold.", PASS),
    ("word_times_max", {"word": "ice", "n": 1}, "Ice is nice.", AMBIGUOUS),
    ("word_times_max", {"word": "ice", "n": 1}, "Ice is ice.", FAIL),
    ("forbidden_words", {"words": ("leaf", "ice")}, "It rains.", PASS),
    ("forbidden_words", {"words": ("leaf", "ice")}, "It is iced.", AMBIGUOUS),
    ("forbidden_words", {"words": ("leaf", "ice")}, "Ice melts.", FAIL),
    ("word_order", {"first": "sun", "second": "rain"}, "Sun, then rain.", PASS),
    ("word_order", {"first": "sun", "second": "rain"}, "Sun, rain, sun.", AMBIGUOUS),
    ("word_order", {"first": "sun", "second": "rain"}, "Rain, then sun.", FAIL),
    ("word_order", {"first": "sun", "second": "rain"}, "Only sun.", FAIL),
    ("phrase_choice", {"phrases": ("I agree.", "I doubt it.")}, "Yes. I agree.", PASS),
    (
        "phrase_choice",
        {"phrases": ("I agree.", "I doubt it.")},
        "Yes, i agree.",
        AMBIGUOUS,
    ),
    (
        "phrase_choice",
        {"phrases": ("I agree.", "I doubt it.")},
        "I agree. I doubt it.",
        FAIL,
    ),
    # letters
    ("letter_min", {"letter": "e", "n": 3}, "Every tree", PASS),  # E, e, e, e
    ("letter_min", {"letter": "e", "n": 2}, "Café e", AMBIGUOUS),  # is é an e?
    ("letter_min", {"letter": "z", "n": 1}, "Every tree", FAIL),
    ("letter_max", {"letter": "e", "n": 4}, "Every tree", PASS),
    ("letter_max", {"letter": "e", "n": 1}, "Café e", AMBIGUOUS),
    ("letter_max", {"letter": "e", "n": 3}, "Every tree", FAIL),
    # marks
    ("semicolons_min", {"n": 1}, "It rains; it pours.", PASS),
    ("semicolons_min", {"n": 1}, "Salt &amp; pepper.", AMBIGUOUS),  # of an entity
    ("semicolons_min", {"n": 2}, "Why;; not", AMBIGUOUS),  # 2 marks, 1 run
    ("semicolons_min", {"n": 1}, "It rains, it pours.", FAIL),
    ("no_contractions", {}, "It is cold. Do not go.", PASS),
    ("no_contractions", {}, "The tree's leaves fall.", AMBIGUOUS),  # a possessive
    ("no_contractions", {}, "Don’t go.", FAIL),
    ("no_contractions", {}, "It's cold.", FAIL),
    ("emoji_min", {"n": 2}, "Sun 🌞 and rain 🌧", PASS),
    ("emoji_min", {"n": 1}, "Family 👨‍👩‍👧 time 👍🏽", PASS),
    ("emoji_min", {"n": 2}, "A 👨‍👩‍👧 family", AMBIGUOUS),  # 1 joined, 3 pictures
    ("emoji_min", {"n": 1}, "Done ✓", AMBIGUOUS),  # a symbol
    ("emoji_min", {"n": 1}, "Sun :-)", FAIL),
    # position
    ("repeat_request", {"request": "Why?"}, "Why?\nBecause of the cold.", PASS),
    ("repeat_request", {"request": "Why so?"}, '"why so?" It is cold.', AMBIGUOUS),
    ("repeat_request", {"request": "Why?"}, "Why?", AMBIGUOUS),  # and the answer?
    ("repeat_request", {"request": "Why?"}, "Because. Why?", FAIL),
    # sections
    ("sections", {"n": 2, "marker": "Part"}, "Part 1\ncold\nPart 2\nwind", PASS),
    (
        "sections",
        {"n": 2, "marker": "Part"},
        "## part 1\ncold\n## part 2\nwind",
        AMBIGUOUS,
    ),
    (
        "sections",
        {"n": 2, "marker": "Part"},
        "Part 1\ncold\nPart 3\nwind",
        AMBIGUOUS,
    ),  # 2, not in order
    ("sections", {"n": 2, "marker": "Part"}, "Part 1\ncold", FAIL),
    ("two_answers", {}, "It is cold.\n******\nIt is windy.", PASS),
    ("two_answers", {}, "It is cold. ****** It is windy.", AMBIGUOUS),
    ("two_answers", {}, "It is cold.\n******\nIt is COLD!", FAIL),  # the same words
    ("two_answers", {}, "a\n******\nb\n******\nc", FAIL),
    ("paragraph_start", {"n": 2, "k": 2, "word": "So"}, "It is.\n\nSo be it.", PASS),
    ("paragraph_start", {"n": 2, "k": 2, "word": "So"}, "It is.\nSo be it.", AMBIGUOUS),
    ("paragraph_start", {"n": 2, "k": 2, "word": "So"}, "So it is.\n\nBe it.", FAIL),
    ("paragraph_sentences", {"n": 2, "size": 1}, "It is.\n\nBe it.", PASS),
    ("paragraph_sentences", {"n": 2, "size": 1}, "It is.\nBe it.", AMBIGUOUS),
    ("paragraph_sentences", {"n": 1, "size": 1}, "See e.g. this.", AMBIGUOUS),  # 2 or 1
    ("paragraph_sentences", {"n": 2, "size": 1}, "It is. No.\n\nBe it.", FAIL),
    # lists
    ("checklist", {"n": 2}, "- [ ] cold\n- [ ] wind", PASS),
    ("checklist", {"n": 2}, "- [ ] cold\n- [x] wind", AMBIGUOUS),  # one is ticked
    ("checklist", {"n": 2}, "- cold\n- wind", FAIL),
    ("lettered", {"n": 2}, "a) cold\nb) wind", PASS),
    ("lettered", {"n": 2}, "A. cold\nB. wind", AMBIGUOUS),
    ("lettered", {"n": 2}, "a) cold\nc) wind", AMBIGUOUS),  # 2, not in order
    ("lettered", {"n": 2}, "1) cold\n2) wind", FAIL),
    ("bullets_sorted", {"n": 2}, "- Cold\n- wind", PASS),
    ("bullets_sorted", {"n": 2}, "- The cold\n- A wind", AMBIGUOUS),  # cold < wind
    ("bullets_sorted", {"n": 2}, "- wind\n- cold", FAIL),
    ("bullets_sorted", {"n": 3}, "- cold\n- wind", FAIL),
    ("acrostic", {"word": "ICE"}, "In winter\nCold comes\nEarly.", PASS),
    ("acrostic", {"word": "ICE"}, "**In** winter\n- Cold\n> Early", AMBIGUOUS),
    ("acrostic", {"word": "ICE"}, "Cold winter\nIs\nEarly.", FAIL),
    # markup, wrap
    ("subheadings", {"n": 1}, "## Autumn\nIt rains.", PASS),
    ("subheadings", {"n": 1}, "# Autumn\nIt rains.", AMBIGUOUS),
    ("subheadings", {"n": 1}, "##Autumn\nIt rains.", FAIL),
    ("code_block", {}, "```text\nIt rains.\n```", PASS),
    ("code_block", {}, "So:\n```\nIt rains.\n```", AMBIGUOUS),
    ("code_block", {}, "`It rains.`", FAIL),
    # formats
    ("json_array", {"n": 2}, '["oak", "elm"]', PASS),
    ("json_array", {"n": 2}, '```json\n["oak", "elm"]\n```', AMBIGUOUS),
    ("json_array", {"n": 2}, '["oak", 2]', FAIL),
    ("json_array", {"n": 2}, '["oak"]', FAIL),
    ("csv", {"columns": ("tree", "why"), "n": 1}, 'tree,why\noak,"big, old"', PASS),
    ("csv", {"columns": ("tree", "why"), "n": 1}, "tree, why\noak, big", AMBIGUOUS),
    ("csv", {"columns": ("tree", "why"), "n": 1}, "Tree,Why\noak,big", AMBIGUOUS),
    ("csv", {"columns": ("tree", "why"), "n": 1}, "tree,why\noak,big, old", FAIL),
    ("csv", {"columns": ("tree", "why"), "n": 1}, 'tree,why\noak,"big', FAIL),  # no end
    ("csv", {"columns": ("tree", "why"), "n": 2}, "tree,why\noak,big", FAIL),
    ("code", {"pattern": "[A-Z]{2}-[0-9]{3}"}, "Here:\nAB-123", PASS),
    ("code", {"pattern": "[A-Z]{2}-[0-9]{3}"}, "It is AB-123, here.", AMBIGUOUS),
    ("code", {"pattern": "[A-Z]{2}-[0-9]{3}"}, "ab-123", FAIL),
    # computed: 17 * 24 + 5 = 413
    ("arithmetic", {"expression": "17 * 24 + 5"}, "Hot.\nResult: 413", PASS),
    ("arithmetic", {"expression": "100 * 24 - 5"}, "Hot.\nresult: 2,395.", PASS),
    ("arithmetic", {"expression": "17 * 24 + 5"}, "The result is **413**.", AMBIGUOUS),
    ("arithmetic", {"expression": "17 * 24 + 5"}, "It makes 413.", AMBIGUOUS),
    ("arithmetic", {"expression": "17 * 24 + 5"}, "413!\nResult: 408", FAIL),
    ("arithmetic", {"expression": "17 * 24 + 5"}, "Result: 413.5", FAIL),
    ("arithmetic", {"expression": "5 - 17"}, "Result: -12", PASS),
    # 50 - 3 * 12 = 14
    ("purchase", {"item": "cups", "n": 3, "price": 12, "paid": 50}, "Change: 14", PASS),
    (
        "purchase",
        {"item": "cups", "n": 3, "price": 12, "paid": 50},
        "You get 14 back.",
        AMBIGUOUS,
    ),
    ("purchase", {"item": "cups", "n": 3, "price": 12, "paid": 50}, "Change: 36", FAIL),
    ("sort_numbers", {"numbers": (42, 7, 19)}, "Sorted: 7, 19, 42", PASS),
    ("sort_numbers", {"numbers": (42, 7, 19)}, "They are 7, 19, 42.", AMBIGUOUS),
    ("sort_numbers", {"numbers": (42, 7, 19)}, "Sorted: 42, 19, 7", FAIL),
    ("count_letters", {"letter": "r", "word": "strawberry"}, "Letters: 3", PASS),
    ("count_letters", {"letter": "r", "word": "strawberry"}, "It has 3.", AMBIGUOUS),
    ("count_letters", {"letter": "r", "word": "strawberry"}, "Letters: 2", FAIL),
    # 10 days after a Monday: 10 - 7 = 3 days later
    ("weekday", {"day": "Monday", "n": 10}, "Weekday: Thursday", PASS),
    ("weekday", {"day": "Monday", "n": 10}, "On a Thursday.", AMBIGUOUS),
    ("weekday", {"day": "Monday", "n": 10}, "Weekday: Friday", FAIL),
    # 18:45 + 2:10 = 20:55
    ("end_time", {"hour": 18, "minute": 45, "duration": 130}, "Ends: 20:55", PASS),
    ("end_time", {"hour": 18, "minute": 45, "duration": 130}, "At 20:55.", AMBIGUOUS),
    ("end_time", {"hour": 18, "minute": 45, "duration": 130}, "Ends: 20:45", FAIL),
    ("end_time", {"hour": 23, "minute": 45, "duration": 30}, "Ends: 00:15", PASS),
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


SIZED = "| a | b |\n|:--|--:|\n| 1 | 2 |\n| 3 | 4 |"
SIZED_CASES = [
    (f"So:\n{SIZED}\nDone.", PASS),
    (SIZED.replace("| 3 |", "|   |"), AMBIGUOUS),  # an empty cell
    (f"{SIZED}\n\n{SIZED}", AMBIGUOUS),  # two tables of that size
    (SIZED.replace("\n| 3 | 4 |", ""), FAIL),
    (SIZED.replace("| 4 |", "| 4 | 5 |"), FAIL),  # a row of three
    (SIZED.replace("|:--|--:|\n", ""), FAIL),  # no rule
]


@pytest.mark.parametrize(("text", "verdict"), SIZED_CASES)
def test_table_size_verdict_by_hand(text, verdict):
    constraint = Constraint("table_size", {"columns": 2, "rows": 2})
    assert check(constraint, text) is verdict, measure(constraint, text)


CITIES = ("City | Visitors | Parks", "Lima | 33 | 4", "Oslo | 8 | 9", "Cairo | 21 | 2")
LOOKUP_CASES = [
    ("table_value", {"column": "Visitors", "row": "Oslo"}, "Value: 8", PASS),
    ("table_value", {"column": "Visitors", "row": "Oslo"}, "Oslo has 8.", AMBIGUOUS),
    ("table_value", {"column": "Visitors", "row": "Oslo"}, "Value: 9", FAIL),
    ("table_total", {"column": "Visitors"}, "Total: 62", PASS),  # 33 + 8 + 21
    ("table_total", {"column": "Visitors"}, "The total = 62 people", AMBIGUOUS),
    ("table_total", {"column": "Parks"}, "Total: 16", FAIL),  # 4 + 9 + 2 = 15
    ("table_rows", {"column": "Visitors", "n": 8}, "Rows: 2", PASS),  # 33 and 21
    ("table_rows", {"column": "Visitors", "n": 8}, "There are 2.", AMBIGUOUS),
    ("table_rows", {"column": "Visitors", "n": 7}, "Rows: 2", FAIL),
    ("table_extreme", {"column": "Parks", "end": "largest"}, "Name: oslo", PASS),
    ("table_extreme", {"column": "Parks", "end": "largest"}, "It is Oslo.", AMBIGUOUS),
    ("table_extreme", {"column": "Parks", "end": "smallest"}, "Name: Oslo", FAIL),
]


@pytest.mark.parametrize(("name", "params", "text", "verdict"), LOOKUP_CASES)
def test_answers_from_a_table_by_hand(name, params, text, verdict):
    constraint = Constraint(name, {"table": CITIES, **params})
    assert check(constraint, f"It is hot.\n{text}") is verdict


SCHEMA = json.dumps(
    Schema.of(
        {
            "title": {"type": "string"},
            "tags": {
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "maxItems": 2,
            },
            "score": {"type": "integer", "minimum": 1, "maximum": 5},
        }
    )
)
SCHEMA_CASES = [
    ('{"title": "Oak", "tags": ["a"], "score": 5}', PASS),
    ('```json\n{"title": "Oak", "tags": ["a"], "score": 5}\n```', AMBIGUOUS),
    ('{"title": "Oak", "tags": ["a"], "score": 6}', FAIL),  # above the maximum
    ('{"title": "Oak", "tags": [], "score": 5}', FAIL),  # too short a list
    ('{"title": "Oak", "tags": ["a"], "score": true}', FAIL),
    ('{"title": "Oak", "tags": ["a"], "score": 5, "more": 1}', FAIL),
    ('{"title": "Oak", "title": "Elm", "tags": ["a"], "score": 5}', FAIL),  # twice
]


@pytest.mark.parametrize(("text", "verdict"), SCHEMA_CASES)
def test_json_schema_verdict_by_hand(text, verdict):
    assert check(Constraint("json_schema", {"schema": SCHEMA}), text) is verdict


FRENCH = "Les feuilles tombent parce que les arbres économisent l'eau pour l'hiver."
GERMAN = "Die Blätter fallen, weil die Bäume im Winter nicht genug Wasser haben."
ENGLISH = "Leaves fall because the trees have to save water for the cold season."
LANGUAGE_CASES = [
    ("French", FRENCH, PASS),
    ("French", FRENCH.upper(), PASS),
    ("French", f"{FRENCH}\n{ENGLISH}", AMBIGUOUS),  # a line is English
    ("French", ENGLISH, FAIL),
    ("German", GERMAN, PASS),
    ("German", FRENCH, FAIL),
    ("English", ENGLISH, PASS),
    ("English", GERMAN, FAIL),
    ("Hindi", "पत्ते गिरते हैं क्योंकि पेड़ सर्दी में पानी बचाते हैं।", PASS),
    ("Hindi", ENGLISH, FAIL),
    ("Japanese", "木は冬に水を節約するので、葉が落ちます。", PASS),
    ("Chinese", "树木在冬天节约用水，所以叶子会落下来。", PASS),
    ("Chinese", "木は冬に水を節約するので、葉が落ちます。", FAIL),
    ("Russian", "Листья падают, потому что деревья не могут найти воду.", PASS),
]


@pytest.mark.parametrize(("language", "text", "verdict"), LANGUAGE_CASES)
def test_language_verdict_by_hand(language, text, verdict):
    constraint = Constraint("language", {"language": language})
    assert check(constraint, text) is verdict, measure(constraint, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sample_of_a_language_is_in_it_and_in_no_other(language):
    for name in LANGUAGES:
        verdict = check(Constraint("language", {"language": name}), SAMPLES[language])
        assert verdict is (PASS if name == language else FAIL)


def test_hostile_text_has_a_language_or_none_but_no_error():
    for text in ("\ud800 lone", "\0", "🙂" * 50, "़" * 50, "1 2 3"):
        measured = measure(Constraint("language", {"language": "French"}), text)
        assert "error" not in measured
        assert check(Constraint("language", {"language": "French"}), text) is FAIL


def test_every_type_has_cases_by_hand_of_each_verdict():
    """Two types can only pass or fail: nothing about them can be read in two ways."""
    found = {(name, verdict) for name, _, _, verdict in [*CASES, *LOOKUP_CASES]}
    for name, cases in (
        ("table", TABLE_CASES),
        ("table_size", SIZED_CASES),
        ("json_schema", SCHEMA_CASES),
        ("language", LANGUAGE_CASES),
    ):
        found |= {(name, case[-1]) for case in cases}
    missing = {(name, v) for name in TYPES for v in (PASS, FAIL)} - found
    assert missing == set()
    plain = {name for name in TYPES if (name, AMBIGUOUS) not in found}
    assert plain == {"single_line", "forbidden_letter"}


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
