# SPDX-License-Identifier: Apache-2.0
"""IFEval's own reading: each instruction type on texts judged by hand, what counts as a
sentence or a word in capitals, the loose verdict, and wrong arguments."""

import subprocess
import sys
import time

import pytest

from alignjax import constraints
from alignjax.constraints import ifeval
from alignjax.constraints.ifeval import instructions, language, own
from alignjax.constraints.ifeval.sentences import count_sentences
from alignjax.constraints.ifeval.tokens import count_capital_words

PROSE = "The river runs to the sea, and nobody knows where the water began."

# id, kwargs, a text that follows, and texts that do not.
CASES = [
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NASA and I agree.",
        ["NASA agrees.", "Nasa and i agree."],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "NASA agrees.",
        ["NASA and ESA agree."],
    ),
    (
        "change_case:english_capital",
        {},
        PROSE.upper(),
        [PROSE, "DER FLUSS FLIESST INS MEER, UND NIEMAND WEISS, WO ES BEGANN."],
    ),
    (
        "change_case:english_lowercase",
        {},
        PROSE.lower(),
        [PROSE, "der fluss fließt ins meer, und niemand weiß, wo es begann."],
    ),
    (
        "combination:repeat_prompt",
        {"prompt_to_repeat": "Name a bird.  "},
        "\nNAME a bird.\nA wren.",
        ["A wren.", "First: Name a bird.", '"Name a bird." A wren.'],
    ),
    (
        "combination:two_responses",
        {},
        "A wren.\n******\nA tit.\n******",
        ["A wren.", "A.\n******\nA.", "A.******B.******C.", "A.******\n******B."],
    ),
    (
        "detectable_content:number_placeholders",
        {"num_placeholders": 2},
        "Dear [name], see [] there.",
        ["Dear [name].", "[[name]", "[na\nme] [x]"],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        "Bye. p. s. Call me.",
        ["Bye. PS: Call me.", "Bye. P.S Call me."],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.P.S"},
        "Bye.\nP. P.S Call me.",
        ["Bye.\nP.S. Call me."],
    ),
    (
        "detectable_content:postscript",
        {"postscript_marker": "N.B."},
        "Bye. n.b. Call me.",
        ["Bye. NXB. Call me."],
    ),
    (
        "detectable_format:constrained_response",
        {},
        "Well. My answer is maybe.",
        ["my answer is maybe.", "My answer is maybe"],
    ),
    (
        "detectable_format:json_format",
        {},
        '```json\n{"a": [1]}\n```',
        ["{'a': 1}", 'Here: {"a": 1}', "[" * 100_000],
    ),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1\nA\nSECTION2\nB\nSECTION 3",
        ["SECTION 1\nA", "Section 1\nA\nSection 2\nB", "SECTION I SECTION II"],
    ),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        "* one\n\n  - two\n**bold**",
        ["* one", "* one\n- two\n--- three", "1. one\n2. two"],
    ),
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 2},
        "*one* and **two**",
        ["*one*", "*one\ntwo* three", "** ** *one*"],
    ),
    (
        "detectable_format:title",
        {},
        "<<A title>>\nText.",
        ["<A title>", "<<>>", "<< >>", "<<A\ntitle>>", ">> A <<", "<<A title>"],
    ),
    (
        "keywords:existence",
        {"keywords": ["rain", "sun"]},
        "Brains in the SUN.",
        ["Rain.", "Snow."],
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["rain", "a.b"]},
        "Brains, raincoats and axb.",
        ["RAIN.", "So a.b it is."],
    ),
    (
        "keywords:frequency",
        {"keyword": " rain ", "frequency": 2, "relation": "at least"},
        "Rain on brains.",
        ["Rain."],
    ),
    (
        "keywords:frequency",
        {"keyword": "rain", "frequency": 1, "relation": "less than"},
        "Snow.",
        ["Brains."],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "#", "let_frequency": 2, "let_relation": "at least"},
        "#a #b",
        ["#a"],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "A", "let_frequency": 2, "let_relation": "less than"},
        "Ab",
        ["Aba"],
    ),
    (
        "language:response_language",
        {"language": "ta"},
        "நதி கடலுக்குச் செல்கிறது.",
        [PROSE, "नदी समुद्र तक जाती है।"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Rain"},
        "Snow.\n\n'rain, again.",
        ["Rain.\n\nSnow.", "Snow.\n\nRain.\n\nSun.", "Snow.\nRain.", "\n\nSun\n\nRain"],
    ),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        "***\nA\n***\nB\n***",
        ["A\n\nB", "A\n***\nB\n***\nC", "A\n***\n***\nB"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "Dr. Ray left at 5.30.",
        ["Ray left. He did."],
    ),
    (
        "length_constraints:number_words",
        {"num_words": 4, "relation": "at least"},
        "It's well-known.",
        ["It is so."],
    ),
    (
        "punctuation:no_comma",
        {},
        "One; two، three，four.",
        ["One, two."],
    ),
    (
        "startend:end_checker",
        {"end_phrase": "the End."},
        'So. THE END."\n',
        ["The end. Really.", "The end"],
    ),
    (
        "startend:quotation",
        {},
        ' "So it is."\n',
        ['"So" it is.', "“So it is.”", '"'],
    ),
]


@pytest.mark.parametrize(("name", "kwargs", "good", "bad"), CASES)
def test_texts_judged_by_hand(name, kwargs, good, bad):
    assert ifeval.judge(name, kwargs, good) == (True, True)
    assert [text for text in bad if ifeval.judge(name, kwargs, text).strict] == []
    assert ifeval.judge(f"en:{name}", kwargs, good).strict  # M-IFEval's name


def test_each_of_the_25_types_has_a_case_and_types_of_our_own():
    assert len(ifeval.INSTRUCTIONS) == 25
    assert {name for name, *_ in CASES} == set(ifeval.INSTRUCTIONS) == set(own.OWN)


@pytest.mark.parametrize("response", [None, "", " \n\t "])
@pytest.mark.parametrize("name", ["punctuation:no_comma", "keywords:letter_frequency"])
def test_no_response_follows_nothing(name, response):
    """An empty text has no comma and fewer than 3 times an e; it fails all the same."""
    letters = {"letter": "e", "let_frequency": 3, "let_relation": "less than"}
    kwargs = letters if name.startswith("keywords") else {}
    assert ifeval.judge(name, kwargs, response) == (False, False)


def test_the_loose_verdict_forgives_first_line_last_line_and_asterisks():
    def loose(text: str) -> bool:
        found = ifeval.judge("startend:quotation", {}, text)
        assert not found.strict
        return found.loose

    assert loose('Sure:\n"So it is."')
    assert loose('"So it is."\nThat is all.')
    assert loose('Sure:\n\n*"So it is."*\nThat is all.')
    assert loose('**"So it is."**')
    assert not loose('Sure:\nHere it comes:\n"So it is."')
    assert not loose("Sure.")  # what is left of it has no text


def test_a_strict_verdict_is_loose_too():
    """The first line is needed, so that only the response itself follows."""
    assert ifeval.judge("keywords:existence", {"keywords": ["a"]}, "a\nb") == (1, 1)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("One", 1),
        (" \n", 0),
        ("It costs 3.50 at shop.com. Buy it.", 2),  # marks inside words
        ("Dr. Ray and Mrs. Day met at 5 p.m. in Rome.", 1),  # abbreviations
        ("He lives in the U.S. She does not.", 2),  # one that ends a sentence
        ("The book by J. R. Ray is long.", 1),  # initials
        ("A. Introduction\nB. Method", 3),  # an outline's letters: "A.", the rest, "B."
        ("1. One\n2. Two", 3),  # "1.", "One 2.", "Two": list numbers count
        ("No. 5 is alive", 1),
        ("Wait... what?", 1),  # an ellipsis in the middle
        ("Wait... The end.", 2),
        ('He said "Go." Then he went.', 2),  # closers belong to the sentence before
        ("Heading\n\nText without marks\n\nMore", 1),  # lines end nothing
        ("Bye. P.S. Remember me.", 3),
        ("**Bold.** Next.", 2),
        ("Really?! Yes.", 2),
    ],
)
def test_sentences_counted_by_hand(text, count):
    assert count_sentences(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("NASA, ESA and JAXA.", 3),
        ("I'M", 2),  # I, 'M
        ("DON'T", 2),  # DO, N'T
        ("CANNOT", 2),  # CAN, NOT
        ("COVID-19 AND/OR", 2),
        ("U.S.A. 1999 3,000", 1),
        ("**BOLD**:TEXT", 2),
        ("Nasa nASA", 0),
    ],
)
def test_words_in_capitals_counted_by_hand(text, count):
    assert count_capital_words(text) == count


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("keyword:existence", {}, "did you mean 'keywords:existence'?"),
        ("ja:kansuji", {}, "unknown instruction id 'ja:kansuji'"),
        ("punctuation:no_comma", {"n": 1}, "expected the kwargs (none), got (n)"),
        ("keywords:existence", {}, "expected the kwargs (keywords), got (none)"),
        ("keywords:existence", {"keywords": "rain"}, "expected a list of texts"),
        ("keywords:existence", {"keywords": []}, "expected a list of texts"),
        ("keywords:existence", {"keywords": ["a", ""]}, "expected a list of texts"),
        ("startend:end_checker", {"end_phrase": " "}, "expected a text as end_phrase"),
        (
            "length_constraints:number_words",
            {"num_words": 5, "relation": "more than"},
            """expected "at least" or "less than" as relation, got 'more than'""",
        ),
        (
            "length_constraints:number_words",
            {"num_words": True, "relation": "at least"},
            "expected a whole number from 0 as num_words, got True",
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 0, "first_word": "a"},
            "expected a whole number from 1 as nth_paragraph, got 0",
        ),
        (
            "keywords:letter_frequency",
            {"letter": "ab", "let_frequency": 1, "let_relation": "at least"},
            "expected one character as letter, got 'ab'",
        ),
        ("language:response_language", {"language": "tlh"}, "expected one of the lang"),
        ("language:response_language", {"language": ["de"]}, "expected one of the lan"),
    ],
)
def test_wrong_arguments_are_refused_by_name(name, kwargs, message):
    with pytest.raises(ValueError) as caught:
        ifeval.judge(name, kwargs, None)
    assert message in str(caught.value)


def test_arguments_that_are_none_count_as_absent():
    """As in the copy of the benchmark that has a column for every argument."""
    kwargs = {"keywords": ["a"], "num_words": None, "relation": None}
    assert ifeval.arguments("keywords:existence", kwargs) == {"keywords": ["a"]}
    assert ifeval.judge("keywords:existence", kwargs, "a").strict


def test_a_text_without_letters_is_in_every_language():
    assert language.is_written_in("1 + 1 = 2", "ta")
    assert not language.is_written_in(PROSE, "ta")


def test_the_language_of_an_unclear_text_never_changes():
    """The package draws at random: by its draws these names are German, English or
    Somali."""
    names = (
        "JASPER ULYSSES LUCAS MARGARET VICTORIA ISABELLA EVELYN RACHEL ALICE OLIVIA "
        "CAROLINE KAREN BRIAN WALTER XAVIER ALBERT"
    )
    factory = language._profiles.__wrapped__()
    factory.set_seed(None)
    guesses = set()
    for _ in range(60):
        detector = factory.create()
        detector.append(names)
        guesses.add(detector.detect())
    assert len(guesses) > 1
    assert len({language.is_written_in(names, "de") for _ in range(60)}) == 1


def test_reading_one_language_loads_no_heavy_package():
    program = (
        "import sys\n"
        "from alignjax.constraints import ifeval\n"
        "assert 'langdetect' not in sys.modules  # 0.3 s that few need\n"
        "ifeval.judge('language:response_language', {'language': 'de'}, 'Guten Tag.')\n"
        "assert not {'jax', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


HOSTILE = [
    piece * 60_000
    for piece in (". ", ".", "A. ", "\n", "[", "<", "*", " ", "a'", "a.", "?!", "-")
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:2]))
def test_no_text_takes_long(text):
    """60,000 to 180,000 characters: what is quadratic in them takes minutes."""
    began = time.process_time()
    count_sentences(text)
    count_capital_words(text)
    for judge in (instructions.title, instructions.two_responses):
        judge(text)
    instructions.number_placeholders(text, num_placeholders=1)
    instructions.number_bullet_lists(text, num_bullets=1)
    instructions.number_highlighted_sections(text, num_highlights=1)
    instructions.number_paragraphs(text, num_paragraphs=1)
    instructions.postscript(text, postscript_marker="P.P.S")
    assert time.process_time() - began < 5


# Parameters that IFEval leaves open.
OPEN = {"json": {"keys"}}


@pytest.mark.parametrize("name", own.OWN)
def test_each_instruction_has_types_of_our_own(name):
    for item in own.OWN[name]:
        schema = {param.name for param in constraints.TYPES[item.type].schema}
        assert set(item.params) == schema - OPEN.get(item.type, set()), item


@pytest.mark.parametrize(
    ("name", "kwargs", "expected"),
    [
        (
            "length_constraints:number_words",
            {"num_words": 50, "relation": "less than"},
            [constraints.Constraint("words_max", {"n": 49})],
        ),
        (
            "length_constraints:number_words",
            {"num_words": 50, "relation": "at least"},
            [constraints.Constraint("words_min", {"n": 50})],
        ),
        (
            "keywords:existence",
            {"keywords": ["rain", "sun"]},
            [
                constraints.Constraint("include_word", {"word": "rain"}),
                constraints.Constraint("include_word", {"word": "sun"}),
            ],
        ),
        (
            "language:response_language",
            {"language": "kn"},
            [constraints.Constraint("language", {"language": "Kannada"})],
        ),
        (
            "length_constraints:number_paragraphs",
            {"num_paragraphs": 3},
            [constraints.Constraint("parts", {"n": 3, "separator": "***"})],
        ),
    ],
)
def test_an_instruction_becomes_constraints_of_our_own(name, kwargs, expected):
    assert list(own.own_constraints(name, kwargs)) == expected


def test_each_language_code_has_a_name():
    codes = ifeval.INSTRUCTIONS["language:response_language"].kwargs["language"]
    assert all(codes.accepts(code) for code in own.LANGUAGE_NAMES)
    assert len(own.LANGUAGE_NAMES) == 30
