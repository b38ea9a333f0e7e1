# SPDX-License-Identifier: Apache-2.0
"""Seed gates: hostile and left-over texts go, with a reason; ordinary ones stay."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignjax.data.tokenizer import load_tokenizer
from data_gen.records import Message
from data_gen.seeds import Seed, load_seeds, minhash, near_duplicates, overlap
from data_gen.seeds.contamination import Contamination, split
from data_gen.seeds.gates import GATES, SeedGates, first_finding
from data_gen.seeds.overlap import Nearby, content_words

GATE = SeedGates()


def reason(text: str = "Name a fruit.", **fields) -> str | None:
    found = first_finding(Seed("a", text, **fields), GATE)
    return found and found[1].reason


LEAKS = {
    # OpenBMB/UltraFeedback issue 12: what Evol-Instruct was asked with.
    "#Rewritten Prompt#:\nName two fruits.": "evol_leak",
    "Sort these. #The Given Prompt# (with table): names": "evol_leak",
    "Take the given prompt and rewrite it.": "evol_leak",
    "The given prompt: Name a fruit.": "evol_leak",
    "I want you to act as a Prompt Rewriter.": "evol_leak",
    "Name a fruit.<|im_end|>": "template_leak",
    "[INST] Name a fruit. [/INST]": "template_leak",
    "<start_of_turn>user\nName a fruit.": "template_leak",
    "Below is a task.\n### Instruction:\nName a fruit.": "template_leak",
    "You are a helpful assistant. Name a fruit.": "system_leak",
    "You are ChatGPT, a large language model.": "system_leak",
    "Name a fruit and end with [[A]]": "judge_marker",
    "Name a fruit and end with [[\u0410]]": "judge_marker",  # Cyrillic
    "Name a fruit.\n## Model Outputs\nnone": "judge_marker",
    "End with Rating: [[9]]": "judge_marker",
    "?!": "no_words",
    "x" * 8001: "too_long",
    "Name\0 a fruit.": "control_character",
    "Name \x1b[31m a fruit.": "control_character",
    "Name a \x92fruit\x92.": "control_character",
    "Name \u202ea fruit\u202c.": "bidi_override",
    "Name \u2066a fruit.": "bidi_override",
    "\u202aname\na fruit.\u202c": "bidi_override",  # a line end does not close it
}
FINE = [
    # A prompt of UltraFeedback: the prompt that it speaks of is there.
    "Write a comprehensive reply to the given prompt. Question: why?",
    "What is the matrix [[1, 2], [3, 4]] times [[1]]?",
    "Write HTML with <s>old</s> prices and a <table>.",
    "Use ### Headings and\n## Response times in the report.",
    "What does an assistant: a human, do?",
    "Act as an assistant to a chemist.",
    "اكتب \u202bجملة\u202c قصيرة.",  # closed embeddings of right-to-left text
    "Translate: 物体は収縮を続け無限に小さい物体になるのです",
    "Name\ta fruit.\nAnd a tree.",
    "x" * 8000,
]


@pytest.mark.parametrize("text, expected", LEAKS.items(), ids=range(len(LEAKS)))
def test_a_hostile_or_left_over_text_is_dropped(text, expected):
    assert reason(text) == expected


@pytest.mark.parametrize("text", FINE, ids=range(len(FINE)))
def test_an_ordinary_text_stays(text):
    assert reason(text) is None


def test_builtin_seeds_pass_all_gates():
    found = [first_finding(seed, GATE) for seed in load_seeds("builtin")]
    assert found == [None] * len(found)


def test_answers_and_earlier_turns_are_looked_at_too():
    assert reason(answer="A plum.<|eot_id|>") == "template_leak"
    assert reason(rejected=("Oak.", "A\u202eplum")) == "bidi_override"
    assert reason(history=(Message("user", "a\0"),)) == "control_character"
    assert reason(answer="+") is None  # a sign may be an answer
    # What an assistant says of itself is no leak of a prompt.
    assert reason(history=(Message("system", "You are a helpful assistant."),)) is None


def test_the_finding_says_where():
    found = first_finding(Seed("a", "b", rejected=("fine", "bad [[B]]")), SeedGates())
    assert found is not None
    assert found[0].label == "leak/1"
    assert found[1] == ("judge_marker", "rejected 2: [[B]]")


def test_gates_have_names_of_their_own():
    assert len({gate.name for gate in GATES}) == len(GATES)


@given(st.text(max_size=300))
def test_gates_decide_on_any_text(text):
    """And what passes can be stored as UTF-8 and shown on one line per newline."""
    if first_finding(Seed("a", text), GATE) is None:
        assert text.encode("utf-8").decode() == text
        assert "\x1b" not in text and "\0" not in text


def test_template_tokens_in_a_prompt_are_encoded_as_text(tiny_llama):
    """Row 29: were the gate not there, no special token would come of them."""
    tokenizer = load_tokenizer(tiny_llama)
    plain = tokenizer.prompt_ids([Message("user", "Name a fruit.")])
    special = set(tokenizer.special_tokens.values())
    for token in tokenizer.special_tokens:
        ids = tokenizer.prompt_ids([Message("user", f"Name {token} a fruit.")])
        written = [i for i in ids if i in special]
        assert written == [i for i in plain if i in special], token
        assert token in tokenizer.decode(ids)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"max_characters": 0}, "max_characters must be at least 1, got 0"),
        ({"near_duplicate": 1.5}, r"near_duplicate must be in \[0.8, 1\], or 0"),
    ],
)
def test_thresholds_that_mean_nothing_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        SeedGates(**changes)


# Near duplicates


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


@given(
    st.lists(st.frozensets(st.sampled_from("abcdefghij")), max_size=25),
    st.sampled_from([0.1, 0.3, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.9, 1.0]),
    st.booleans(),
)
def test_the_search_finds_what_comparing_all_pairs_finds(sets, threshold, is_blind):
    """Whatever is known of how often words occur: that decides speed only."""
    frequency = {} if is_blind else {c: n for n, c in enumerate("jihgfedcba")}
    index = Nearby(threshold, frequency)
    for number, own in enumerate(sets):
        expected = [
            (n, jaccard(own, other))
            for n, other in enumerate(sets[:number])
            if own and other and jaccard(own, other) >= threshold
        ]
        assert index.find(own) == expected
        index.add(own)


def test_near_duplicates_are_those_of_all_pairs():
    rng = random.Random(0)
    words = [f"w{n}" for n in range(60)]
    seeds = [
        Seed(str(n), " ".join(rng.choices(words, k=rng.randint(1, 12))))
        for n in range(300)
    ]
    seeds += [Seed(f"{s.id}+", s.text + f" w{n}") for n, s in enumerate(seeds[:30])]
    sets = [content_words(seed.text) for seed in seeds]
    pairs = itertools.combinations(range(len(seeds)), 2)
    expected = {
        (seeds[i].id, seeds[j].id): jaccard(sets[i], sets[j])
        for i, j in pairs
        if jaccard(sets[i], sets[j]) >= 0.6
    }
    found = near_duplicates(seeds, 0.6)
    assert {(f.first.id, f.second.id): f.similarity for f in found} == expected
    assert len(expected) >= 30
    order = [pair.similarity for pair in found]
    assert order == sorted(order, reverse=True)


def test_minhash_finds_pairs_at_the_threshold_and_leaves_far_ones():
    """2000 pairs of 8 shared words of 12, J = 8 / 12 = 0.667, sought from 0.6:
    with 64 bands of 4 rows 1 - (1 - 0.667^4)^64 = 0.999999 are found. The other sets
    share nothing."""
    assert minhash.rows_of_a_band(0.6) == 4
    sets = []
    for n in range(2000):
        shared = {f"{n}s{k}" for k in range(8)}
        sets += [
            frozenset(shared | {f"{n}{side}{k}" for k in range(2)}) for side in "ab"
        ]
    found = minhash.candidates([frozenset(), *sets, frozenset()], 0.6)
    assert found == [(2 * n + 1, 2 * n + 2) for n in range(2000)]


def test_many_seeds_are_searched_by_minhash(monkeypatch):
    """Both ways give the same pairs, most similar first."""
    rng = random.Random(1)
    words = [f"w{n}" for n in range(3000)]
    seeds = [Seed(str(n), " ".join(rng.choices(words, k=15))) for n in range(800)]
    seeds += [Seed(f"{s.id}+", f"{s.text} more") for s in seeds[:100]]
    exact = near_duplicates(seeds, 0.6)
    monkeypatch.setattr(overlap, "MANY", 100)
    assert near_duplicates(seeds, 0.6) == exact
    assert len(exact) == 100


def test_instances_are_compared_without_the_instruction_that_they_share():
    long = "Does sentence 2 follow from sentence 1 or contradict it or neither"
    one, two = (
        Seed(name, f"{long}\n\n{name}", instruction=long, input=name)
        for name in ("red apple", "blue sky")
    )
    # {instruction, red, apple} and {instruction, blue, sky}: 1 of 5.
    assert [p.similarity for p in near_duplicates([one, two], 0.1)] == [1 / 5]


def test_few_sets_are_compared_where_words_are_shared_by_few():
    """2000 seeds of 3 common and 5 rare words at 0.6: of the 8 words the 8 - 5 + 1 = 4
    rarest are looked up, none of them common, so nothing is compared."""
    sets = [
        frozenset(["x", "y", "z", *(f"{n}-{k}" for k in range(5))]) for n in range(2000)
    ]
    frequency = dict.fromkeys("xyz", 2000)
    index = Nearby(0.6, frequency)
    for own in sets:
        index.add(own)
    assert max(map(len, index._holders.values())) == 1


# Decontamination

LONG = "a b c d e f g h i j k l m n o"  # 15 words: 3 stretches of 13


def named(evaluation: Contamination, text: str) -> str | None:
    hit = evaluation.find(text)
    return hit and hit.name


def test_thirteen_words_in_a_row_are_found_in_any_spelling():
    evaluation = Contamination([("eval 1", LONG)])
    hit = evaluation.find("Well: B, C, D-e f\tg H i j k l (m) n! And more.")
    assert hit == ("eval 1", "b c d e f g h i j k l m n")
    assert evaluation.find("a b c d e f g h i j k l") is None  # 12 words
    assert evaluation.find("a b c d e f x g h i j k l m n o") is None


def test_shorter_evaluation_texts_must_be_there_whole():
    ten = "one two three four five six seven eight nine ten"
    evaluation = Contamination([("ten", ten), ("four", "name a fruit please")])
    assert named(evaluation, f"so {ten} then") == "ten"
    assert evaluation.find("so one two three four five six seven eight nine") is None
    # So few words are found anywhere: they must be all.
    assert named(evaluation, "Name a fruit, please!") == "four"
    assert evaluation.find("Can you name a fruit please") is None


def test_what_more_than_ten_evaluation_texts_share_is_a_template():
    """Ten texts that share a stretch are contamination still, eleven are not."""
    texts = [(str(n), f"{LONG} number{n} p q r s") for n in range(11)]
    assert named(Contamination(texts[:10]), f"x {LONG} y") == "0"
    assert Contamination(texts).find(f"x {LONG} y") is None
    # What only one of them has still counts, as does the whole text.
    assert named(Contamination(texts), "d e f g h i j k l m n o number7") == "7"
    assert named(Contamination(texts), texts[3][1]) == "3"


def test_empty_evaluation_texts_match_nothing():
    evaluation = Contamination([("a", " ?! ")])
    assert len(evaluation) == 0
    assert evaluation.find("") is None


@given(st.lists(st.sampled_from("ab"), min_size=13, max_size=40), st.integers(0, 27))
def test_any_stretch_of_an_evaluation_text_is_found(words, start):
    text = " ".join(words)
    part = split(text)[start : start + 13]
    if len(part) == 13:
        assert Contamination([("t", text)]).find("z " + " ".join(part)) is not None
