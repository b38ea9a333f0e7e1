# SPDX-License-Identifier: Apache-2.0
"""The 25 instruction types of IFEval (Zhou et al. 2023, arXiv:2311.07911), each as the
benchmark itself reads it, oddities included: its scores are comparable only so.

A function takes a response that has more than whitespace, and the benchmark's own
keyword arguments. Keywords and section names are taken literally, where the published
checker takes them for regular expressions; no published prompt tells the two apart.
"""

from __future__ import annotations

import json
import re

from alignjax.constraints.ifeval.language import is_written_in
from alignjax.constraints.ifeval.sentences import count_sentences
from alignjax.constraints.ifeval.tokens import count_capital_words

AT_LEAST, LESS_THAN = "at least", "less than"
ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")

_FENCE_OPENINGS = ("```json", "```Json", "```JSON", "```")
_PARAGRAPH_RULE = re.compile(r"\s?\*\*\*\s?")
_RESPONSE_RULE = "*" * 6
_STAR_BULLET = re.compile(r"^[^\S\n]*\*[^*].*$", re.MULTILINE)
_DASH_BULLET = re.compile(r"^[^\S\n]*-.*$", re.MULTILINE)
_SINGLE_STARS = re.compile(r"\*[^\n*]*\*")
_DOUBLE_STARS = re.compile(r"\*\*[^\n*]*\*\*")
_WORD = re.compile(r"\w+")
# The two published markers may be written with blanks, "P.S." also without the last
# full stop; any other is taken as it is.
_POSTSCRIPTS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}


def no_comma(text: str) -> bool:
    """No ASCII comma; those of other scripts are allowed."""
    return "," not in text


def quotation(text: str) -> bool:
    """Begins and ends with an ASCII double quote."""
    text = text.strip()
    return len(text) > 1 and text[0] == '"' == text[-1]


def end_checker(text: str, *, end_phrase: str) -> bool:
    """Ends with the phrase in any case; quotes around the response are ignored."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """Begins with the text to repeat, in any case."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def two_responses(text: str) -> bool:
    """Two different parts around six asterisks; nothing empty between such rules."""
    parts = [part.strip() for part in text.split(_RESPONSE_RULE)]
    if not all(parts[1:-1]):
        return False
    filled = [part for part in parts if part]
    return len(filled) == 2 and filled[0] != filled[1]


def keywords_existence(text: str, *, keywords: list[str]) -> bool:
    """Each keyword occurs somewhere, in any case, also inside a word."""
    return all(_times(keyword, text) for keyword in keywords)


def keyword_frequency(
    text: str, *, keyword: str, frequency: int, relation: str
) -> bool:
    """The keyword occurs so often, in any case, also inside words."""
    return _holds(_times(keyword.strip(), text), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: list[str]) -> bool:
    """None of the words occurs, in any case, between word boundaries."""
    return not any(
        re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)
        for word in forbidden_words
    )


def letter_frequency(
    text: str, *, letter: str, let_frequency: int, let_relation: str
) -> bool:
    """The character occurs so often, in any case.

    For "#" and "!", which two published prompts ask for, the published checker counts
    a letter drawn at random instead.
    """
    return _holds(text.lower().count(letter.lower()), let_relation, let_frequency)


def capital_word_frequency(
    text: str, *, capital_frequency: int, capital_relation: str
) -> bool:
    """So many tokens have a letter and no lower-case one ("I" and "DO" count)."""
    return _holds(count_capital_words(text), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    """No lower-case letter, and English."""
    return text.isupper() and is_written_in(text, "en")


def english_lowercase(text: str) -> bool:
    """No upper-case letter, and English."""
    return text.islower() and is_written_in(text, "en")


def response_language(text: str, *, language: str) -> bool:
    """Written in the language of the ISO 639-1 code."""
    return is_written_in(text, language)


def number_words(text: str, *, num_words: int, relation: str) -> bool:
    """So many runs of letters, digits and underscores ("it's" is two)."""
    return _holds(len(_WORD.findall(text)), relation, num_words)


def number_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """So many sentences; see `count_sentences`."""
    return _holds(count_sentences(text), relation, num_sentences)


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """Exactly so many parts around three asterisks; nothing empty between them."""
    parts = [part.strip() for part in _PARAGRAPH_RULE.split(text)]
    return all(parts[1:-1]) and len([part for part in parts if part]) == num_paragraphs


def nth_paragraph_first_word(
    text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """Exactly so many paragraphs at empty lines, and the nth begins with the word.

    An empty paragraph does not count, but takes a place where the nth is looked for.
    """
    parts = [part.strip() for part in text.split("\n\n")]
    n_filled = len([part for part in parts if part])
    if nth_paragraph > n_filled or not parts[nth_paragraph - 1]:
        return False
    word = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    found = re.split("[.,?!'\"]", word)[0].lower()
    return n_filled == num_paragraphs and found == first_word.lower()


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """At least so many pairs of square brackets on one line."""
    closed = (line.split("]")[:-1] for line in text.split("\n"))
    return sum("[" in part for parts in closed for part in parts) >= num_placeholders


def postscript(text: str, *, postscript_marker: str) -> bool:
    """The marker occurs anywhere, in any case."""
    literal = re.escape(postscript_marker.lower())
    pattern = _POSTSCRIPTS.get(postscript_marker, literal)
    return re.search(pattern, text.lower()) is not None


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """Exactly so many lines begin with "-", or with "*" and something else."""
    found = len(_STAR_BULLET.findall(text)) + len(_DASH_BULLET.findall(text))
    return found == num_bullets


def constrained_response(text: str) -> bool:
    """One of the `ANSWERS` occurs, letter by letter."""
    return any(answer in text for answer in ANSWERS)


def number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    """At least so many *texts* and **texts** on one line.

    What is in double asterisks counts; so does what `*...*` finds from the left.
    """
    single = [found.strip("*").strip() for found in _SINGLE_STARS.findall(text)]
    double = [found[2:-2].strip() for found in _DOUBLE_STARS.findall(text)]
    return len([found for found in single + double if found]) >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many times the section's name with a number; "spliter" is theirs."""
    heading = rf"{re.escape(section_spliter)}\s?\d+"
    return len(re.findall(heading, text)) >= num_sections


def json_format(text: str) -> bool:
    """JSON of any kind, with or without a code fence."""
    text = text.strip()
    for opening in _FENCE_OPENINGS:
        text = text.removeprefix(opening)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """Something in double angle brackets on one line."""
    for line in text.split("\n"):
        begin, end = line.find("<<"), line.rfind(">>")
        if 0 <= begin < end and line[begin:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def _holds(count: int, relation: str, n: int) -> bool:
    return count >= n if relation == AT_LEAST else count < n


def _times(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))
