# SPDX-License-Identifier: Apache-2.0
"""Couples: families stay in one split, hard negatives are none of the positives."""

import json
from collections import Counter
from pathlib import Path

import pytest

from data_gen.couple_settings import Source
from data_gen.couples import Pool, gather, pair_up
from data_gen.seeds import SplitFractions
from data_gen.tasks import same_answer

HALVES = SplitFractions(0.5, 0.25, 0.25)
WORDS = ["apple", "bridge", "candle", "drum", "engine", "forest", "glove", "harbour"]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def claims(count: int) -> list[dict[str, str]]:
    """Claims that share no content word with each other; answers alternate."""
    return [
        {
            "claim": f"{WORDS[n % 8]}{n} {WORDS[n % 7]}x{n}",
            "answer": ["yes", "no"][n % 2],
        }
        for n in range(count)
    ]


def pool_of(*sources: Source, splits: SplitFractions = HALVES, limit: int = 0) -> Pool:
    return gather(sources, splits, seed=0, limit=limit, near_duplicate=0.6)


def couples_of(pool: Pool, **changes):
    settings = {
        "seed": 0,
        "levels": ("character", "word"),
        "repeats": 1,
        "is_mixed": False,
        "most": {"train": 0, "validation": 0, "test": 0},
    }
    return pair_up(pool, **{**settings, **changes})


def test_hypotheses_of_one_premise_are_in_one_split(tmp_path):
    rows = [
        {
            "premise": f"{WORDS[n % 8]}{n} {WORDS[n % 7]}x{n} stands here",
            "hypothesis": f"h{n}{answer}",
            "answer": answer,
        }
        for n in range(40)
        for answer in ("entailment", "neutral", "contradiction")
    ]
    pool = pool_of(Source("entailment", write(tmp_path / "nli.jsonl", rows)))
    split_of: dict[str, set[str]] = {}
    for split, by_source in pool.sides.items():
        for sides in by_source.values():
            for side in sides:
                premise = side.instance.fields["premise"]
                split_of.setdefault(premise, set()).add(split)
    assert len(split_of) == 40
    assert all(len(splits) == 1 for splits in split_of.values())
    assert {split for splits in split_of.values() for split in splits} == {
        *("train", "validation", "test")
    }
    couples, _ = couples_of(pool)
    for couple in couples:
        for side in (couple.i, couple.j):
            assert split_of[side.instance.fields["premise"]] == {couple.split}


def test_partners_have_the_same_source_and_other_answers(tmp_path):
    """100 alternating answers, about half of them for training: all find partners but
    the surplus of one answer."""
    pool = pool_of(Source("claim", write(tmp_path / "c.jsonl", claims(100))))
    couples, dropped = couples_of(pool)
    for couple in couples:
        assert couple.i.source == couple.j.source
        assert couple.i.instance.answer != couple.j.instance.answer
    used = [side.instance.id for c in couples for side in (c.i, c.j)]
    assert max(Counter(used).values()) == 1
    assert len(used) + len(dropped) == 100
    assert {item.reason for item in dropped} <= {"no_partner"}
    by_split = {
        split: Counter(s.instance.answer for sides in own.values() for s in sides)
        for split, own in pool.sides.items()
    }
    surplus = sum(abs(c["true"] - c["false"]) for c in by_split.values())
    assert len(dropped) == surplus


def test_which_of_two_is_i_does_not_tell_the_frequent_answer(tmp_path):
    pool = pool_of(Source("claim", write(tmp_path / "c.jsonl", claims(200))))
    couples, _ = couples_of(pool)
    share = sum(c.i.instance.answer == "true" for c in couples) / len(couples)
    assert 0.35 < share < 0.65


def test_repeats_pair_again_and_levels_take_turns(tmp_path):
    pool = pool_of(Source("claim", write(tmp_path / "c.jsonl", claims(80))))
    once, _ = couples_of(pool)
    thrice, _ = couples_of(pool, repeats=3)
    assert len(thrice) == 3 * len(once)
    assert len({couple.name for couple in thrice}) == len(thrice)
    pairs = {frozenset((c.i.instance.id, c.j.instance.id)) for c in thrice}
    assert len(pairs) > 2 * len(once)
    for split in pool.sides:
        levels = Counter(c.level for c in thrice if c.split == split)
        assert max(levels.values()) - min(levels.values()) <= 1


def test_numbers_limit_the_couples_of_each_split(tmp_path):
    pool = pool_of(Source("claim", write(tmp_path / "c.jsonl", claims(80))))
    couples, _ = couples_of(pool, most={"train": 5, "test": 2})
    assert Counter(c.split for c in couples) == {"train": 5, "test": 2}


def test_the_same_seed_gives_the_same_couples_and_another_seed_others(tmp_path):
    pool = pool_of(Source("claim", write(tmp_path / "c.jsonl", claims(60))))
    assert couples_of(pool) == couples_of(pool)
    one, other = (couples_of(pool, seed=seed)[0] for seed in (0, 1))
    pairs = [{(c.i.instance.id, c.j.instance.id) for c in own} for own in (one, other)]
    assert pairs[0] != pairs[1]


def test_partners_of_another_task_may_be_asked_for(tmp_path):
    topics = [{"text": f"t{n} u{n}", "answer": "sports"} for n in range(40)]
    pool = pool_of(
        Source("claim", write(tmp_path / "c.jsonl", claims(40))),
        Source("topic", write(tmp_path / "t.jsonl", topics)),
    )
    assert all(c.i.task == c.j.task for c in couples_of(pool)[0])
    couples, _ = couples_of(pool, is_mixed=True)
    assert len(couples) > 10
    assert all({c.i.task, c.j.task} == {"claim", "topic"} for c in couples)


def test_the_same_answer_in_another_task_is_no_hard_negative(tmp_path):
    """Of a paraphrase and of a question, both "yes"."""
    first = [{"question": f"q{n} r{n}?", "answer": "yes"} for n in range(20)]
    second = [{"first": f"a{n}", "second": f"b{n}", "answer": "Yes"} for n in range(20)]
    pool = pool_of(
        Source("yes_no", write(tmp_path / "a.jsonl", first)),
        Source("paraphrase", write(tmp_path / "b.jsonl", second)),
        splits=SplitFractions(1.0, 0.0, 0.0),
    )
    couples, dropped = couples_of(pool, is_mixed=True)
    assert couples == []
    assert Counter(item.reason for item in dropped) == {"same_answer": 20}


def test_free_answers_that_say_the_same_are_not_coupled(tmp_path):
    answers = ["5", "5.0", "$5", "7"]
    rows = [
        {"question": f"{WORDS[n]} {WORDS[n + 1]}?", "answer": answer}
        for n, answer in enumerate(answers)
    ]
    path = write(tmp_path / "p.jsonl", rows)
    pool = pool_of(Source("word_problem", path), splits=SplitFractions(1.0, 0.0, 0.0))
    couples, dropped = couples_of(pool)
    ((one, other),) = [(c.i.instance.answer, c.j.instance.answer) for c in couples]
    assert same_answer(one) != same_answer(other)
    assert [item.reason for item in dropped] == ["no_partner", "no_partner"]


def test_what_cannot_be_used_is_recorded_with_its_reason(tmp_path):
    rows = [
        {"claim": "Birds sing at dawn.", "answer": "yes"},
        {"claim": "Birds sing at dawn.", "answer": "true"},
        {"claim": "Birds sing at dawn.", "answer": "no"},
        {"claim": " ", "answer": "no"},
        {"claim": "Stones float on milk.", "answer": "no"},
        {"claim": "Nobody knows.", "answer": ""},
    ]
    pool = pool_of(Source("claim", write(tmp_path / "c.jsonl", rows)))
    reasons = Counter(item.reason for item in pool.rejected)
    assert reasons == {"duplicate": 1, "contradicted": 1, "empty": 2}
    assert sum(len(s) for own in pool.sides.values() for s in own.values()) == 2


def test_a_training_instance_near_a_held_out_one_is_dropped(tmp_path):
    rows = []
    for n in range(30):
        words = f"{WORDS[n % 8]}{n} {WORDS[n % 7]}x{n} y{n} z{n}"
        rows.append({"claim": words, "answer": "yes"})
        rows.append({"claim": f"{words} too", "answer": "no"})
    pool = pool_of(Source("claim", write(tmp_path / "c.jsonl", rows)))
    near = [item for item in pool.rejected if item.reason == "near_held_out"]
    assert near and all("like " in item.detail for item in near)
    held_out = {
        side.instance.text.removesuffix(" too")
        for split in ("validation", "test")
        for sides in pool.sides[split].values()
        for side in sides
    }
    train = [
        side.instance.text for sides in pool.sides["train"].values() for side in sides
    ]
    assert not {text.removesuffix(" too") for text in train} & held_out


def test_a_limit_takes_the_same_instances_whatever_their_order(tmp_path):
    rows = claims(50)
    taken = []
    for name, own in {"one": rows, "other": rows[::-1]}.items():
        (tmp_path / name).mkdir()
        path = write(tmp_path / name / "c.jsonl", own)
        pool = pool_of(Source("claim", path), limit=10)
        taken.append(
            {
                s.instance.id
                for own in pool.sides.values()
                for v in own.values()
                for s in v
            }
        )
    assert taken[0] == taken[1] and len(taken[0]) == 10


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no task 'clam' \\(known: sentim"):
        Source("clam")
    for task, path in (("open", "builtin"), ("claim", "seeds")):
        with pytest.raises(ValueError, match="the task 'open' and the path 'seeds' go"):
            Source(task, path)
    with pytest.raises(ValueError, match="the answers of choice are texts; leave it"):
        Source("choice", labels={"a": "b"})
    path = write(tmp_path / "c.jsonl", claims(4))
    with pytest.raises(ValueError, match=r"two sources are named claim/c\.jsonl: re"):
        pool_of(Source("claim", path), Source("claim", path))
    shorter = write(tmp_path / "d.jsonl", claims(3))
    with pytest.raises(ValueError, match=r"has 3 instances, .* 4; each line must be"):
        pool_of(Source("claim", path, shorter))
