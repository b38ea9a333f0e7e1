# SPDX-License-Identifier: Apache-2.0
"""Answer gates: what is dropped, and that good answers are not."""

import pytest

from alignjax.eval import gates
from data_gen import filters
from data_gen.filters import Gates

GOOD = [
    "A hammer drives nails into wood, and its claw pulls them out again.",
    "sorry seems to be the hardest word in the song, as many listeners agree.",
    "- Pack sunscreen.\n- Pack a towel.\n- Pack plenty of water.",
    "I can help a plant grow: water it in the morning and give it light.",
    "The user opens the lid, and the system starts: that is all.",
]
BAD = [
    ("", "stop", "empty"),
    ("... -- !", "stop", "empty"),
    ("A hammer drives nails into", "length", "truncated"),
    ("", "context", "no_room"),
    ("", "filtered", "content_filter"),
    ("", "refused", "server_refused"),
    ("A hammer drives nails into wood, they", "other", "unknown_finish"),
    ("A hammer.", "stop", "too_short"),
    ("I'm sorry, but that is not something to talk about here.", "stop", "refusal"),
    ("SORRY, THIS IS NOT POSSIBLE FOR ME TO DO NOW.", "stop", "refusal"),
    ("as an ai language model i have no hands to hold one.", "stop", "refusal"),
    ("I cannot help with hammers or with any other tool.", "stop", "refusal"),
    ("Sure! Please provide the name of the tool you mean.", "stop", "refusal"),
    ("It drives nails.<|im_end|> And more words after it.", "stop", "template_leak"),
    ("It drives nails.\nUser: and what else can it do?", "stop", "template_leak"),
    ("Here is the rewritten prompt you asked me for today.", "stop", "template_leak"),
    ("What is a hammer used for? It is used for nails.", "stop", "echo"),
    ("it drives the nail " * 10, "stop", "repetitive"),
    ("ha" * 300 + " ha ha ha ha", "stop", "repetitive"),
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_answer_passes_every_gate(text):
    assert filters.answer(text, "stop", ["What is a hammer used for?"], Gates()) is None


@pytest.mark.parametrize(("text", "finish_reason", "reason"), BAD)
def test_a_bad_answer_is_dropped_for_its_reason(text, finish_reason, reason):
    parts = ["What is a hammer used for?"]
    assert filters.answer(text, finish_reason, parts, Gates()) == reason


def test_repetition_is_the_share_of_word_triples_seen_before():
    """20 words in a loop of 4: 18 triples, 4 distinct, so 1 - 4/18 = 0.7778; in 16
    words 14 triples, 1 - 4/14 = 0.7143. Two words make no triple."""
    assert gates.repetition("a b c d " * 5) == pytest.approx(14 / 18)
    assert gates.repetition("a b c d " * 4) == pytest.approx(10 / 14)
    assert gates.repetition("a a") == gates.repetition("") == 0.0


def test_repetition_counts_a_contraction_as_one_word_and_as_two():
    """The larger share counts. "it's on it's on" whole: 2 triples, both new; split
    (it s on it s on): 4, the last as the first, so 1/4. The loop below whole: 15
    words, 13 triples, of which the 9 words in front repeat 4; split: 21 words, 19
    triples, 4 repeated. 4/13 > 4/19."""
    assert gates.repetition("it's on it's on") == pytest.approx(1 / 4)
    loop = "go on and " * 3 + "I'm you're we're they're he's she's"
    assert gates.repetition(loop) == pytest.approx(4 / 13)


def test_a_long_loop_without_blanks_is_repetitive():
    """600 bytes of one word of two letters compress to next to nothing."""
    assert gates.repetition("ha" * 300) > 0.85
    assert gates.repetition("ha" * 99) == 0.0  # 198 bytes: too few to tell


def test_data_and_evaluation_count_the_same_repetition():
    assert filters.repetition is gates.repetition


def test_a_short_part_of_the_instruction_is_no_echo():
    assert filters.echo("Name a fruit: apple.", ["Name a fruit."]) is None
    assert filters.echo("Please name a fruit for me.", ["Name a fruit for me."])


def test_off_topic_compares_with_the_threshold():
    assert filters.off_topic(0.2, 0.25) == "off_topic"
    assert filters.off_topic(0.25, 0.25) is None


@pytest.mark.parametrize(
    "wrong", [{"min_words": 0}, {"max_repetition": 1.5}, {"min_similarity": 2.0}]
)
def test_thresholds_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Gates(**wrong)
