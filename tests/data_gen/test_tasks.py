# SPDX-License-Identifier: Apache-2.0
"""Tasks: wordings that mean the same, instances from files as they are found."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from alignjax import perturb
from alignjax.perturb import LEVELS, Limits
from data_gen.tasks import OPEN, TASKS, Instance, families, fill, listed, same_answer
from data_gen.tasks.read import instances
from data_gen.tasks.recorded import Recorded, recorded

WORDED = [name for name in TASKS if name != OPEN]
DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real data beside it")


@pytest.mark.parametrize("name", WORDED)
def test_every_wording_is_a_paraphrase_of_every_other(name):
    task = TASKS[name]
    labels = tuple(dict.fromkeys(task.labels.values()))
    assert len(task.wordings) >= 6
    for one, other in itertools.permutations(task.wordings, 2):
        script = perturb.script("template", one, other)
        limits = Limits(growth=5.0)
        found = perturb.flaw(
            one, other, script, "semantic", labels=labels, limits=limits
        )
        assert found is None, (one, other)


@pytest.mark.parametrize("name", WORDED)
@pytest.mark.parametrize("level", LEVELS)
def test_some_wordings_of_a_task_can_be_reworded_at_each_level(name, level):
    wordings = TASKS[name].wordings
    others = wordings if level == "semantic" else ()
    made = [perturb.perturb(w, level, name="n", alternatives=others) for w in wordings]
    assert len([item for item in made if item]) >= 2


@pytest.mark.parametrize("name", WORDED)
def test_the_builtin_instances_of_a_task_differ_and_have_each_answer(name):
    found = instances(name, "builtin", {})
    assert len({own.id for own in found}) == len(found) >= 12
    answers = Counter(own.answer for own in found)
    words = set(TASKS[name].labels.values())
    assert set(answers) == words if words else len(answers) > 10
    for own in found:
        for wording in TASKS[name].wordings:
            prompt = fill(wording, TASKS[name], own.fields, ("a", "b"))
            assert all(value in prompt for value in own.fields.values())
            assert own.fields.get("choices") is None or own.answer in prompt


def test_what_stands_in_a_slot_is_not_filled_again():
    task = TASKS["claim"]
    prompt = fill("Is it {options}? {claim}", task, {"claim": "{options}"}, ("x", "y"))
    assert prompt == "Is it x or y? {options}"


def test_under_a_wording_without_slots_the_fields_follow():
    fields = {"premise": "It rains.", "hypothesis": "It is wet."}
    prompt = fill("Say {options}.", TASKS["entailment"], fields, ("a", "b", "c"))
    assert prompt == "Say a, b or c.\nPremise: It rains.\nHypothesis: It is wet."
    with pytest.raises(ValueError, match=r"has a slot \{claim\}; this task fills pr"):
        fill("{claim}", TASKS["entailment"], fields, ())
    assert listed(["one"]) == "one"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Yes.", "yes", True),
        ("The  cat", "a cat!", True),
        ("1,000", "1000.0", True),
        ("$18", "18", True),
        ("-5", "5", False),
        ("10", "100", False),
        ("3/4", "34", False),
        ("not positive", "positive", False),
        ("24a8", "24a4", False),
        ("+", "-", False),
    ],
)
def test_answers_are_compared_by_what_they_say(one, other, is_same):
    assert (same_answer(one) == same_answer(other)) is is_same


def test_instances_that_share_a_text_are_one_family():
    """b and c share a premise, c and d (through another field) a hypothesis; the short
    text of a and e ties nothing."""
    long, other = "A premise that is long enough.", "Another text of enough letters."

    def own(name: str, *values: str) -> Instance:
        return Instance(name, dict(zip(("x", "y"), values, strict=True)), "yes")

    found = families(
        [
            own("a", "short", "one text that only a has, so far"),
            own("d", "p", other.upper()),
            own("c", long, other),
            own("b", long + " ", "q"),
            own("e", "short", "r"),
        ]
    )
    assert found == {"a": "a", "b": "b", "c": "b", "d": "b", "e": "e"}


FORMATS = {
    "sst.json": (
        "sentiment",
        [{"sentence": "Text: fine . ", "label": "Good"}],
        {"text": "fine ."},
        "positive",
    ),
    "rte.json": (
        "entailment",
        [{"sentence": "sentence 1: P: x\nsentence 2: H", "label": "neutral"}],
        {"premise": "P: x", "hypothesis": "H"},
        "neutral",
    ),
    "qqp.json": (
        "paraphrase",
        [{"sentence": "first sentence: A?\nsecond sentence: B?", "label": "True"}],
        {"first": "A?", "second": "B?"},
        "yes",
    ),
    "wic.json": (
        "word_sense",
        [{"sentence": "word: w\nOne w.\nTwo w.", "label": "False"}],
        {"word": "w", "first": "One w.", "second": "Two w."},
        "no",
    ),
    "copa.json": (
        "choice",
        [
            {
                "sentence": 'Which sentence is the effect of "He fell."? Choose one '
                "between A and B.\nA: It hurt.\nB: It rained.",
                "label": "A",
            }
        ],
        {
            "question": "What is the effect of this? He fell.",
            "choices": "- It hurt.\n- It rained.",
        },
        "It hurt.",
    ),
    "qasc.tsv": (
        "choice",
        "What flies?\\nOptions:\\n- (A) a stone\\n- (B) a bird\t(B)\tBirds fly.",
        {"question": "What flies?", "choices": "- a stone\n- a bird"},
        "a bird",
    ),
    "creak.tsv": (
        "claim",
        'Claim: "Cats "sing"."\\nIs the claim above correct?\tno\tThey do not.',
        {"claim": 'Cats "sing".'},
        "false",
    ),
    "strategy.tsv": ("yes_no", "Is it?\tyes\tSo.", {"question": "Is it?"}, "yes"),
    "gsm.jsonl": (
        "word_problem",
        '{"question": "How many?", "answer": "2 + 2 = <<2+2=4>>4\\n#### 4"}',
        {"question": "How many?"},
        "4",
    ),
    "text.jsonl": (
        "word_problem",
        '{"text": "Question: How many?\\nAnswer: \\n#### 4"}',
        {"question": "How many?"},
        "4",
    ),
    "own.jsonl": (
        "topic",
        '\n{"text": "A match.", "answer": "Sports"}\n',
        {"text": "A match."},
        "sports",
    ),
}


def write(path: Path, content) -> str:
    raw = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_read_as_it_is_found(name, ending, tmp_path):
    task, content, fields, answer = FORMATS[name]
    (own,) = instances(task, write(tmp_path / (name + ending), content), {})
    assert (own.fields, own.answer) == (fields, answer)


def test_labels_say_what_to_ask_for(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "x", "answer": "POS"}')
    (own,) = instances("sentiment", path, {"pos": "great"})
    assert own.answer == "great"


def test_an_instance_without_a_gold_label_has_no_answer(tmp_path):
    rows = [{"sentence": "sentence 1: a\nsentence 2: b", "label": "-"}]
    (own,) = instances("entailment", write(tmp_path / "m.json", rows), {})
    assert own.answer == ""


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("claim", "a.csv", "x", "are a .jsonl, .json or .tsv file"),
        ("claim", "a.jsonl", "{", "a.jsonl:1: not JSON"),
        ("claim", "a.jsonl", "[1]", "a.jsonl:1: expected an object, got list"),
        ("claim", "a.jsonl", '{"answer": "yes"}', "no 'claim' (has: answer)"),
        ("claim", "a.jsonl", '{"claim": 3}', "'claim' must be a text, got 3"),
        ("claim", "a.jsonl", '{"claim": "\\ud800"}', "lone surrogate"),
        (
            "claim",
            "a.jsonl",
            '{"claim": "x", "answer": "may"}',
            "'may' is none of",
        ),
        ("claim", "a.json", "{}", "expected a list, got dict"),
        ("claim", "a.json", [{"sentence": "x"}], "a claim task is not read from this"),
        ("sentiment", "a.json", [{"sentence": "x"}], "is not that of a sentiment task"),
        ("claim", "a.tsv", "x", "a.tsv:1: expected question, tab, answer"),
        ("choice", "a.tsv", "x\\nOptions:\\n(A) y\t(B)", "none of the options A"),
        ("claim", "a.jsonl", "", "no instance of claim in it"),
        ("claim", "b.jsonl.gz", None, "is damaged, or not gzip"),
        ("claim", "none.jsonl", None, "no such file"),
    ],
)
def test_a_bad_file_is_named(task, name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    elif path.suffix == ".gz":
        path.write_text("plain")
    with pytest.raises(ValueError) as error:
        instances(task, str(path), {})
    assert message in str(error.value)
    assert name in str(error.value)


PROMPTBENCH = """\
# sst2
## 10 prompts
Acc: 90.00%, prompt: Say 'positive' or 'negative':
Acc: 80.00%, prompt: Is it 'positive' or 'negative':
## textfooler
Original prompt: Say 'positive' or 'negative':
Attacked prompt: b"Tell 'positive' or 'negative':"
Original acc: 90.00%, attacked acc: 10.00%, dropped acc: 80.00%
## translation
Language: french, acc: 72.00%, prompt: Dites:
# un_multi
## checklist
Original prompt: Translate:
Attacked prompt: b'Translate x8:'
"""


def test_lists_of_promptbench_are_read(tmp_path):
    first, second = "Say 'positive' or 'negative':", "Is it 'positive' or 'negative':"
    assert recorded(write(tmp_path / "a.md.gz", PROMPTBENCH)) == (
        Recorded("sentiment", "semantic", first, second),
        Recorded("sentiment", "word", first, "Tell 'positive' or 'negative':"),
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.md", "# sst2\n## textfooler\nAttacked prompt: 3", "a.md:3: expected bytes"),
        ("a.md", "nothing", "no recorded wording in it"),
        ("a.txt", "x", "recorded wordings are a .jsonl or .md file"),
        ("a.jsonl", '{"task": "claim"}', "'original' must be a text, got None"),
        (
            "a.jsonl",
            '{"task": "clam", "original": "a", "paraphrase": "b"}',
            "no task 'clam' (known: sentiment, ",
        ),
        (
            "a.jsonl",
            '{"task": "claim", "original": "a", "paraphrase": "b", "score": "c"}',
            "has fields other than",
        ),
    ],
)
def test_a_bad_file_of_wordings_is_named(name, content, message, tmp_path):
    with pytest.raises(ValueError) as error:
        recorded(write(tmp_path / name, content))
    assert message in str(error.value)


@needs_data
@pytest.mark.parametrize(
    ("task", "name", "count"),
    [
        ("sentiment", "glue_olora/SST-2_train.json.gz", 2000),
        ("entailment", "glue_olora/MNLI_dev.json.gz", 7600),
        ("entailment", "glue_olora/CB_dev.json.gz", 56),
        ("paraphrase", "glue_olora/QQP_dev.json.gz", 7600),
        ("word_sense", "glue_olora/WiC_train.json.gz", 2000),
        ("choice", "glue_olora/COPA_dev.json.gz", 100),
        ("choice", "flan_cot/qasc_train.tsv.gz", 1084),
        ("choice", "flan_cot/aqua_train.tsv.gz", 2728),
        ("yes_no", "flan_cot/strategyqa_train.tsv.gz", 2061),
        ("claim", "flan_cot/creak_train.tsv.gz", 6915),
        ("word_problem", "gsm8k/train.jsonl.gz", 7473),
        ("word_problem", "rephrase_gsm8k/rephrase_gsm8k.jsonl", 1319),
    ],
)
def test_real_files_are_read_to_the_last_row(task, name, count):
    found = instances(task, str(DATA / name), {})
    assert len(found) == count
    assert sum(not all(own.fields.values()) for own in found) <= 4  # of GSM8K's


@needs_data
def test_most_real_attacks_leave_the_answers_and_some_do_not():
    """What PromptBench's attacks did, judged by the checks that our own are held to."""
    path = DATA / "coin_promptbench/adv_prompts/t5_zeroshot.md.gz"
    reasons: Counter[str | None] = Counter()
    for item in recorded(str(path)):
        if item.task != "sentiment":
            continue
        script = perturb.script("recorded", item.original, item.paraphrase)
        labels = ("positive", "negative")
        limits = Limits(edits=20, distance=200)
        found = perturb.flaw(
            item.original,
            item.paraphrase,
            script,
            item.level,
            labels=labels,
            limits=limits,
        )
        reasons[found] += 1
    assert reasons[None] > 40
    assert reasons["labels"] == 0  # its attacks were told to leave them alone
