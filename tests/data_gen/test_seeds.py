# SPDX-License-Identifier: Apache-2.0
"""Seeds: the builtin ones keep their promises, and bad files say what to do."""

import hashlib
import json
import re
from collections import Counter
from importlib import resources

import pytest

from data_gen.seeds import (
    Seed,
    SplitFractions,
    fingerprint,
    load_seeds,
    near_duplicates,
    split_of,
)


@pytest.fixture(scope="module")
def builtin():
    return load_seeds("builtin")


@pytest.fixture
def write(tmp_path):
    def write_file(content: bytes, name: str = "seeds.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_file


def test_builtin_has_many_distinct_seeds(builtin):
    assert len(builtin) >= 240
    assert len({seed.id for seed in builtin}) == len(builtin)
    assert len({seed.text for seed in builtin}) == len(builtin)


def test_builtin_covers_many_domains_evenly(builtin):
    domains = Counter(seed.domain for seed in builtin)
    assert len(domains) >= 14
    assert min(domains.values()) >= 10
    assert "" not in domains


def test_builtin_takes_domains_in_turn_so_a_limit_keeps_variety(builtin):
    domains = {seed.domain for seed in builtin}
    assert {seed.domain for seed in builtin[: len(domains)]} == domains


def test_builtin_texts_are_ascii_with_6_to_22_words(builtin):
    for seed in builtin:
        assert seed.text.isascii(), seed
        assert 6 <= len(seed.text.split()) <= 22, seed
        assert seed.text[0].isupper(), seed
        assert seed.text[-1] in ".?", seed


def test_builtin_texts_ask_for_a_short_answer(builtin):
    wish = re.compile(r"\b(brief|briefly|short|shortly|few|quick|tiny|sentences?)\b")
    assert [seed for seed in builtin if not wish.search(seed.text.lower())] == []


def test_builtin_texts_ask_for_no_checkable_format(builtin):
    demand = re.compile(
        r"\b(lists?|bullets?|numbered|uppercase|lowercase|capitals?|quot\w*|exactly|"
        r"json|markdown|commas?|paragraphs|(start|begin|end) (with|by)|include|"
        r"at (least|most)|(more|less|fewer) than|\d+)\b|[\"']\w+[\"']"
    )
    assert [seed for seed in builtin if demand.search(seed.text.lower())] == []


def test_builtin_has_no_near_duplicates(builtin):
    assert near_duplicates(builtin, threshold=0.4) == []


def test_near_duplicates_is_jaccard_of_content_words():
    """{boil, egg} and {boil, egg, quickly}: 2 / 3. {egg, fresh}: 1 / 3 and 1 / 4."""
    seeds = [
        Seed("a", "How do I boil an egg? Be brief."),
        Seed("b", "In a short answer: how to boil an EGG quickly?"),
        Seed("c", "Is the egg fresh?"),
    ]
    # "be" is a function word and "brief" a short-answer word.
    found = near_duplicates(seeds, threshold=0.3)
    assert [(pair.first.id, pair.second.id) for pair in found] == [
        ("a", "b"),
        ("a", "c"),
    ]
    assert [pair.similarity for pair in found] == [2 / 3, 1 / 3]
    assert len(near_duplicates(seeds, threshold=0.25)) == 3


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_near_duplicates_refuses_thresholds_that_mean_nothing(threshold):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\]"):
        near_duplicates([], threshold)


def test_limit_keeps_the_first(builtin):
    assert load_seeds("builtin", limit=7) == builtin[:7]
    assert load_seeds("builtin", limit=10**6) == builtin


def test_limit_below_one_is_an_error():
    with pytest.raises(ValueError, match="seed limit must be at least 1, got 0"):
        load_seeds("builtin", limit=0)


def test_all_fields_are_read(write):
    record = {"id": "x", "text": "Name a fruit.", "domain": "food", "answer": "Plum."}
    path = write(json.dumps(record).encode() + b"\r\n\n")
    assert load_seeds(path) == (Seed("x", "Name a fruit.", "food", "Plum."),)


def test_lines_end_at_newline_only(write):
    """U+2028 and U+0085 end a line for str.splitlines, not for JSON Lines."""
    text = "Name a fruit,\u2028then a tree."
    path = write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
    assert load_seeds(path)[0].text == text


def test_text_file_has_one_instruction_a_line(write):
    path = write(b"Name a fruit.\r\n\n  Name a tree.", "seeds.txt")
    assert [seed.text for seed in load_seeds(path)] == ["Name a fruit.", "Name a tree."]


def test_missing_ids_depend_on_the_text_only(write):
    forward = load_seeds(write(b"Name a fruit.\nName a tree.\n", "a.txt"))
    reverse = load_seeds(write(b'{"text": "Name a tree."}\n{"text": "Name a  FRUIT."}'))
    assert [seed.id for seed in forward] == [seed.id for seed in reversed(reverse)]
    digest = hashlib.sha256(b"name a fruit.").hexdigest()
    assert forward[0].id == "h" + digest[:16]


ERRORS = {
    "broken json": (b'{"text": "A."}\n{"text": ', r":2: not JSON: .*one object a line"),
    "deep json": (b"[" * 100_000, r":1: not JSON: .*one object a line"),
    "repeated key": (b'{"text": "A.", "text": "B."}', r":1: .*'text' is given twice"),
    "not an object": (b'["A."]', r":1: expected a JSON object, got list; write "),
    "no text": (b'{"id": "a"}', r':1: no "text" in the object; add the instruction'),
    "empty text": (b'{"text": " "}', r':1: "text" is empty; fill it in or remove it'),
    "text type": (b'{"text": 3}', r':1: "text" must be a string, got int \(3\); put'),
    "id type": (b'{"id": 3, "text": "A."}', r':1: "id" must be a string, got int'),
    "answer type": (b'{"text": "A.", "answer": null}', r':1: "answer" must be a str'),
    "unknown field": (
        b'{"txt": "A."}',
        r":1: a seed has no field 'txt'; did you mean 'text'\? \(fields: id, text, ",
    ),
    "foreign field": (b'{"text": "A.", "n": 1}', r":1: .* 'n'; remove it \(fields: "),
    "same id": (
        b'{"id": "a", "text": "A."}\n\n{"id": "a", "text": "B."}',
        r":3: id 'a' is already on line 1; give each seed its own id",
    ),
    "same text": (
        b'{"id": "a", "text": "Name a fruit."}\n{"id": "b", "text": "NAME  a fruit."}',
        r":2: same text as line 1 .*: remove one of them",
    ),
    "not utf-8": (
        b'{"text": "A."}\n{"text": "\xff"}',
        r":2: byte 11 of the line is not UTF-8 \(.*\); save the file as UTF-8",
    ),
    "byte-order mark": (
        b'\xef\xbb\xbf{"text": "A."}',
        r":1: starts with a byte-order mark; save it as UTF-8 without one",
    ),
    "control character": (
        b'{"text": "A\\u0007."}',
        r':1: "text" has a control character, U\+0007, at character 2; remove it',
    ),
    "surrogate": (
        b'{"text": "\\ud800"}',
        r':1: "text" has a lone surrogate, U\+D800, at character 1; remove it',
    ),
    "empty file": (b"", r": no seeds in it; add one instruction a line"),
    "blank file": (b"\n \r\n", r": no seeds in it; add one instruction a line"),
}


@pytest.mark.parametrize("content, message", ERRORS.values(), ids=ERRORS.keys())
def test_bad_file_is_one_line_with_file_line_and_remedy(write, content, message):
    path = write(content)
    with pytest.raises(ValueError, match=re.escape(str(path)) + message) as caught:
        load_seeds(path)
    assert "\n" not in str(caught.value)


def test_control_character_in_a_text_file_is_an_error(write):
    path = write(b"Name a fruit.\nName\x00 a tree.\n", "seeds.txt")
    with pytest.raises(ValueError, match=r"txt:2: the instruction has a control char"):
        load_seeds(path)


def test_missing_file_and_unknown_kind_say_what_to_use(tmp_path):
    with pytest.raises(ValueError, match=r"no such seed file; check the path.*builtin"):
        load_seeds(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match=r"\.jsonl file .* or 'builtin'; rename or"):
        load_seeds(tmp_path / "seeds.csv")


def test_the_fingerprint_is_the_kind_and_the_sha256_of_the_bytes(write):
    """The same bytes are other seeds in a .txt than in a .jsonl file."""
    content = b'{"text": "Name a fruit."}\n'
    sha256 = hashlib.sha256(content).hexdigest()
    first, moved = write(content), write(content, "moved.jsonl")
    assert fingerprint(first) == fingerprint(moved) == f"jsonl:{sha256}"
    assert fingerprint(write(content, "seeds.txt")) == f"txt:{sha256}"
    packaged = resources.files("data_gen").joinpath("data", "seeds.jsonl").read_bytes()
    assert fingerprint("builtin") == fingerprint(write(packaged))


def test_split_compares_the_hash_with_cumulative_fractions():
    """SHA-256 of "a" is ca97..., so u = 0xca97 / 2**16 = 0.7914."""
    assert hashlib.sha256(b"a").hexdigest().startswith("ca97")
    assert split_of("a", SplitFractions(0.80, 0.10, 0.10)) == "train"
    assert split_of("a", SplitFractions(0.79, 0.01, 0.20)) == "validation"
    assert split_of("a", SplitFractions(0.70, 0.09, 0.21)) == "test"


def test_split_shares_are_near_the_fractions():
    """10,000 ids: the standard deviation of a share is at most 0.005; 4 of them."""
    fractions = SplitFractions()
    counts = Counter(split_of(f"seed-{n}", fractions) for n in range(10_000))
    assert counts["train"] / 10_000 == pytest.approx(0.6, abs=0.02)
    assert counts["validation"] / 10_000 == pytest.approx(0.15, abs=0.02)
    assert counts["test"] / 10_000 == pytest.approx(0.25, abs=0.02)


def test_builtin_splits_are_disjoint_and_near_the_fractions(builtin):
    """300 ids: a share of 0.6 has standard deviation 0.028; 3 of them are 0.085."""
    splits = {"train": set(), "validation": set(), "test": set()}
    for seed in builtin:
        splits[split_of(seed.id, SplitFractions())].add(seed.text)
    assert sum(len(texts) for texts in splits.values()) == len(builtin)
    assert len(set.union(*splits.values())) == len(builtin)
    shares = {name: len(texts) / len(builtin) for name, texts in splits.items()}
    assert shares == pytest.approx(
        {"train": 0.6, "validation": 0.15, "test": 0.25}, abs=0.085
    )


def test_more_training_moves_no_seed_out_of_training():
    small, large = SplitFractions(0.5, 0.2, 0.3), SplitFractions(0.7, 0.2, 0.1)
    ids = [f"seed-{n}" for n in range(500)]
    trained = {name for name in ids if split_of(name, small) == "train"}
    assert trained < {name for name in ids if split_of(name, large) == "train"}


@pytest.mark.parametrize(
    "shares, message",
    [
        ((0.6, 0.2, 0.25), r"must sum to 1, got 0\.6 \+ 0\.2 \+ 0\.25 = 1\.05; change"),
        ((1.2, -0.2, 0.0), r"train must be in \[0, 1\], got 1\.2; give each split"),
        ((float("nan"), 0.5, 0.5), r"train must be in \[0, 1\], got nan"),
    ],
)
def test_bad_fractions_are_errors(shares, message):
    with pytest.raises(ValueError, match=message):
        SplitFractions(*shares)
