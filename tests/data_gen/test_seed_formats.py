# SPDX-License-Identifier: Apache-2.0
"""Formats of seeds: a row as each data set has it, the seed it gives, its traps."""

from pathlib import Path

import pytest

from data_gen.records import Message
from data_gen.seeds import Seed, normalise, show
from data_gen.seeds.formats import FORMATS, Options, Unusable, detect
from data_gen.seeds.seed import content_id

USER, ANSWER, SYSTEM = "user", "assistant", "system"


def rating(value):
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    return {name: {"Rating": value, "Rationale": "..."} for name in aspects}


def hh(*turns):
    return "".join(
        f"\n\n{('Human', 'Assistant')[n % 2]}: {turn}" for n, turn in enumerate(turns)
    )


def turns(*texts, role="role", content="content", names=(USER, ANSWER)):
    return [{role: names[n % 2], content: text} for n, text in enumerate(texts)]


ROWS = {
    "seeds": {"text": "Name a fruit.", "answer": "Plum.", "label": "plum"},
    "text": "Name a fruit.",
    "prompts": {"prompt": "Name a fruit.", "key": 7},
    "messages": {"messages": turns("Hi", "Hello.", "Name a fruit.", "Plum.")},
    "preference": {"prompt": "Name a fruit.", "chosen": "Plum.", "rejected": "Oak."},
    "hh_rlhf": {
        "chosen": hh("Hi", "Hello.", "Name a fruit.", "Plum."),
        "rejected": hh("Hi", "Hello.", "Name a fruit.", "Oak."),
    },
    "ultrafeedback_binarized": {
        "prompt": "Name a fruit.",
        "prompt_id": "0a",
        "chosen": turns("Name a fruit.", "Plum."),
        "rejected": turns("Name a fruit.", "Oak."),
        "messages": turns("Name a fruit.", "Plum."),
        "score_chosen": 8.5,
        "score_rejected": 3.0,
    },
    "ultrafeedback": {
        "source": "sharegpt",
        "instruction": "Name a fruit.",
        "models": ["a", "b", "c", "d"],
        "completions": [
            # The worst has the largest overall_score: a 1 that became a 10.
            {"response": "Oak.", "annotations": rating("1"), "overall_score": 10},
            {"response": "Tomato.", "annotations": rating("3"), "overall_score": 6},
            {"response": "Fig?", "annotations": rating("N/A"), "overall_score": 9},
            {"response": "Plum.", "annotations": rating("5"), "overall_score": 9},
        ],
    },
    "nectar": {
        "prompt": hh("Name a fruit.", ""),
        "answers": [
            {"answer": "Oak.", "model": "x", "rank": 3.0},
            {"answer": "Plum.", "model": "y", "rank": 1.0},
            {"answer": "Tomato.", "model": "z", "rank": 2.0},
            {"answer": "A plum.", "model": "z", "rank": 1.0},
        ],
        "turns": 1,
        "num_responses": 4,
        "source": ["lmsys-chat-1m"],
        "good_natured": True,
    },
    "ultrachat": {
        "prompt": "Name a fruit.",
        "prompt_id": "0a",
        "messages": turns("Name a fruit.", "Plum.", "Another?", "Fig."),
    },
    "sharegpt": {
        "id": "QWJhYvA_0",
        "conversations": turns(
            "Name a fruit.",
            "Plum.",
            "Another?",
            role="from",
            content="value",
            names=("human", "gpt"),
        ),
    },
    "alpaca": {
        "instruction": "Name a fruit.",
        "input": "Its colour: blue",
        "output": "Plum.",
    },
    "self_instruct": {
        "id": "seed_task_1",
        "name": "fruit",
        "instruction": "Name a fruit.",
        "instances": [
            {"input": "blue", "output": "Plum."},
            {"input": "", "output": "Fig."},
        ],
        "is_classification": True,
    },
    "user_oriented_instructions": {
        "id": "user_oriented_task_1",
        "motivation_app": "Shop",
        "instruction": "Name a fruit.",
        "instances": [{"input": "blue", "output": "Plum."}],
    },
    "flan": {
        "inputs": "Name a fruit.",
        "targets": "Plum.",
        "_task_name": "fruit",
        "_template_type": "zs_opt",
    },
    "flan_cot": [
        'Which is "a fruit"?\\nOptions:\\n(A) oak\\n(B) plum \\frac',
        "(B)",
        "Oaks are trees",
    ],
    "glue": {"sentence": "sentence 1: A\nsentence 2: B", "label": "entailment"},
    "gsm8k": {
        "question": "Two plums and two?",
        "answer": "2+2 = <<2+2=4>>4 plums.\n#### 4",
    },
    "rephrase_gsm8k": {
        "text": "Question: Two plums and two?\nAnswer: \n#### 1,000",
    },
    "ifeval": {
        "key": 1,
        "prompt": "Name a fruit.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{}],
    },
    "mt_bench": {
        "question_id": 81,
        "category": "writing",
        "turns": ["Name a fruit.", "Now a tree."],
    },
}


def seed(text="Name a fruit.", **fields):
    made = Seed("", text, **fields)
    return Seed(content_id(made.whole), text, **fields)


HISTORY = (Message(USER, "Hi"), Message(ANSWER, "Hello."))
PLUM = seed(answer="Plum.")
PAIR = seed(answer="Plum.", rejected=("Oak.",))
RTE = (
    "Does sentence 2 follow from sentence 1? "
    "Answer with entailment or contradiction only."
)
SEEDS = {
    "seeds": [seed(answer="Plum.", label="plum")],
    "text": [seed()],
    "prompts": [seed()],
    "messages": [seed(answer="Plum.", history=HISTORY)],
    "preference": [PAIR],
    "hh_rlhf": [seed(answer="Plum.", rejected=("Oak.",), history=HISTORY)],
    "ultrafeedback_binarized": [PAIR],
    "ultrafeedback": [
        seed(answer="Plum.", rejected=("Tomato.", "Oak."), domain="sharegpt")
    ],
    "nectar": [seed(answer="Plum.", rejected=("Tomato.", "Oak."))],
    "ultrachat": [PLUM],
    "sharegpt": [PLUM],
    "alpaca": [
        seed(
            "Name a fruit.\n\nIts colour: blue",
            answer="Plum.",
            instruction="Name a fruit.",
            input="Its colour: blue",
        )
    ],
    "self_instruct": [
        Seed(
            "seed_task_1/0",
            "Name a fruit.\n\nblue",
            answer="Plum.",
            label="Plum.",
            instruction="Name a fruit.",
            input="blue",
        ),
        Seed("seed_task_1/1", "Name a fruit.", answer="Fig.", label="Fig."),
    ],
    "user_oriented_instructions": [
        Seed(
            "user_oriented_task_1",
            "Name a fruit.\n\nblue",
            answer="Plum.",
            instruction="Name a fruit.",
            input="blue",
        )
    ],
    "flan": [seed(answer="Plum.", domain="fruit")],
    "flan_cot": [
        seed(
            'Which is "a fruit"?\nOptions:\n(A) oak\n(B) plum \\frac',
            answer="Oaks are trees.\nThe answer is (B).",
            label="(B)",
            domain="RTE",
        )
    ],
    "glue": [
        seed(
            f"{RTE}\n\nsentence 1: A\nsentence 2: B",
            answer="entailment",
            label="entailment",
            domain="RTE",
            instruction=RTE,
            input="sentence 1: A\nsentence 2: B",
        )
    ],
    "gsm8k": [
        seed("Two plums and two?", answer="2+2 = 4 plums.\n#### 4", label="4"),
    ],
    "rephrase_gsm8k": [seed("Two plums and two?", label="1,000")],
    "ifeval": [seed(constraints=("punctuation:no_comma",))],
    "mt_bench": [seed(), seed("Now a tree.")],
}


def read(name, row, /, **options):
    given = {"name": "RTE_train.json.gz", **options}
    return list(FORMATS[name].read(row, Options(**given)))


def one(name, row, **options) -> Seed:
    """The only seed of a row."""
    (found,) = read(name, row, **options)
    assert isinstance(found, Seed)
    return found


def test_every_format_has_a_row_here():
    assert set(ROWS) == set(SEEDS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_gives_its_seeds(name):
    assert read(name, ROWS[name]) == SEEDS[name]


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_fits_its_own_format_and_no_other(name):
    assert detect(ROWS[name]) == name
    assert [n for n, known in FORMATS.items() if known.fits(ROWS[name])] == [name]


def test_an_unknown_row_lists_the_formats():
    with pytest.raises(ValueError, match=r"fields a, b fit no known format.*alpaca"):
        detect({"a": 1, "b": 2})


def dialogue(text):
    return {"chosen": text, "rejected": text}


UNUSABLE = {
    "prompts part early": (
        "hh_rlhf",
        {"chosen": hh("a", "b", "c", "d"), "rejected": hh("a", "x", "c", "d")},
        "prompts_differ",
    ),
    "no last answer": ("hh_rlhf", dialogue(hh("a", "b", "c")), "no_answer"),
    "empty answer": (
        "hh_rlhf",
        {"chosen": hh("a", ""), "rejected": hh("a", "b")},
        "empty_answer",
    ),
    "same answers": ("hh_rlhf", dialogue(hh("a", "b")), "same_answers"),
    "lost break": ("hh_rlhf", dialogue(hh("a", "b  Human: c")), "lost_turn"),
    "two turns by one": (
        "hh_rlhf",
        {
            "chosen": "\n\nHuman: a\n\nHuman: b\n\nAssistant: c",
            "rejected": "\n\nHuman: a\n\nHuman: b\n\nAssistant: d",
        },
        "same_speaker",
    ),
    "equal scores": (
        "ultrafeedback_binarized",
        {**ROWS["ultrafeedback_binarized"], "score_rejected": 8.5},
        "tie",
    ),
    "scores in metadata": (
        "preference",
        {
            **ROWS["preference"],
            "metadata": {"score_chosen": 3, "score_rejected": 4},
        },
        "tie",
    ),
    "identical sides": (
        "preference",
        {"prompt": "p", "chosen": "a", "rejected": " a\r\n"},
        "same_answers",
    ),
    "empty chosen": (
        "preference",
        {"prompt": "p", "chosen": " ", "rejected": "a"},
        "empty_answer",
    ),
    "other prompt": (
        "preference",
        {"prompt": "p", "chosen": turns("p", "a"), "rejected": turns("q", "b")},
        "prompts_differ",
    ),
    "TruthfulQA": (
        "ultrafeedback",
        {**ROWS["ultrafeedback"], "source": "truthful_qa"},
        "evaluation_source",
    ),
    "all rated alike": (
        "ultrafeedback",
        {
            "instruction": "a",
            "completions": [
                {"response": r, "annotations": rating("4")} for r in ("x", "y")
            ],
        },
        "tie",
    ),
    "segment": (
        "sharegpt",
        {"conversations": [{"from": "gpt", "value": "a"}]},
        "no_user_turn",
    ),
    "nobody answers": (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "a"}]},
        "no_answer",
    ),
    "late system turn": (
        "messages",
        {
            "messages": [
                {"role": USER, "content": "a"},
                {"role": SYSTEM, "content": "b"},
                {"role": ANSWER, "content": "c"},
            ]
        },
        "system_turns",
    ),
    "no output": (
        "alpaca",
        {"instruction": "a", "input": "", "output": "<nooutput>"},
        "empty_answer",
    ),
    "few-shot": (
        "flan",
        {**ROWS["flan"], "_template_type": "fs_noopt"},
        "few_shot",
    ),
    "no gold label": ("glue", {"sentence": "a", "label": "-"}, "no_label"),
    "no reasoning": ("flan_cot", ["a", "b", " "], "empty_answer"),
}


@pytest.mark.parametrize("name, row, reason", UNUSABLE.values(), ids=UNUSABLE)
def test_a_trap_gives_no_seed_and_a_reason(name, row, reason):
    (found,) = read(name, row)
    assert isinstance(found, Unusable)
    assert found.reason == reason


BAD = {
    "not a dialogue": (
        "hh_rlhf",
        dialogue("Human: a"),
        r'does not begin with "\\n\\nH',
    ),
    "missing rejected": (
        "preference",
        {"prompt": "p", "chosen": "a"},
        "must be a text",
    ),
    "prompt is a number": (
        "preference",
        {"prompt": 3, "chosen": "a", "rejected": "b"},
        '"prompt" must be a text or messages, got int',
    ),
    "no rank": (
        "nectar",
        {"prompt": hh("a", ""), "answers": [{"answer": "b"}]},
        'needs a "rank"',
    ),
    "unknown speaker": (
        "sharegpt",
        {"conversations": [{"from": "wizard", "value": "a"}]},
        "is by 'wizard'; known: human, user, gpt",
    ),
    "unknown label": ("glue", {"sentence": "a", "label": "Good"}, "none of entailment"),
    "unknown task": (
        "glue",
        {"sentence": "a", "label": "b"},
        "set task to one of SST-2",
    ),
    "two columns": ("flan_cot", ["a", "b"], r"expected 3 columns .* got 2"),
    "no result": ("gsm8k", {"question": "a", "answer": "4"}, 'no line "#### RESULT"'),
    "missing field": ("alpaca", {"instruction": "a"}, r'no "output" \(fields: instr'),
    "wrong type": (
        "flan",
        {"inputs": 3, "targets": "a"},
        '"inputs" must be a text, got',
    ),
}


@pytest.mark.parametrize("name, row, message", BAD.values(), ids=BAD)
def test_a_row_of_another_shape_is_an_error(name, row, message):
    options = {"name": "train.json"} if "set task" in message else {}
    with pytest.raises(ValueError, match=message):
        read(name, row, **options)


def test_the_answer_of_hh_follows_the_last_assistant_marker():
    """Up to and including the last Human turn: 3 turns of history, then the prompt."""
    found = one(
        "hh_rlhf",
        {
            "chosen": hh("a", "b", "c\n\nd", "e", "f", "g"),
            "rejected": hh("a", "b", "c\n\nd", "e", "f", "h"),
        },
    )
    assert [turn.content for turn in found.history] == ["a", "b", "c\n\nd", "e"]
    assert (found.text, found.answer, found.rejected) == ("f", "g", ("h",))


def test_turn_says_which_answer_of_a_conversation_is_given():
    row = ROWS["ultrachat"]
    first, last = (one("ultrachat", row, turn=t) for t in ("first", "last"))
    assert (first.text, first.answer, first.history) == ("Name a fruit.", "Plum.", ())
    assert (last.text, last.answer, len(last.history)) == ("Another?", "Fig.", 2)
    old = {"id": "0", "data": ["Name a fruit.", "Plum.", "Another?", "Fig."]}
    assert detect(old) == "ultrachat"
    assert read("ultrachat", old, turn="last") == [last]


def test_a_system_turn_stays_in_front_of_the_prompt():
    system = [{"role": SYSTEM, "content": "Be brief."}]
    found = one("messages", {"messages": system + turns("Name a fruit.", "Plum.")})
    assert found.messages == (
        Message(SYSTEM, "Be brief."),
        Message(USER, "Name a fruit."),
    )
    both = {
        "prompt": "p",
        "chosen": system + turns("p", "a"),
        "rejected": system + turns("p", "b"),
    }
    found = one("preference", both)
    assert found.history == (Message(SYSTEM, "Be brief."),)


def test_several_rejected_answers_are_kept_in_order_without_repeats():
    row = {"prompt": "p", "chosen": "a", "rejected": ["b", "a", "c", "b", " "]}
    found = one("preference", row)
    assert found.rejected == ("b", "c")


@pytest.mark.parametrize("nothing", ["", "<noinput>", "No input", "N/A", "none."])
def test_alpaca_has_many_ways_to_say_that_there_is_no_input(nothing):
    row = {"instruction": "Name a fruit.", "input": nothing, "output": "Plum."}
    assert read("alpaca", row) == [PLUM]


def test_none_is_an_answer():
    row = {"instruction": "Who is named?", "input": "No name here.", "output": "None"}
    found = one("alpaca", row)
    assert found.answer == "None"


def test_a_seed_without_history_is_compared_by_its_text_alone():
    assert PLUM.whole == "Name a fruit."
    assert seed(history=HISTORY).whole == (
        "user: Hi\n\nassistant: Hello.\n\nuser: Name a fruit."
    )
    assert (
        seed(history=HISTORY).id != seed().id == content_id(normalise(" name A fruit."))
    )


def test_the_page_says_what_the_formats_say():
    page = Path(__file__).parents[2] / "docs" / "seeds.md"
    shown = page.read_text("utf-8").split("<!-- formats -->\n")[1]
    assert shown.split("\n<!-- /formats -->")[0] == show.formats(is_markdown=True)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_states_its_licence(name):
    assert FORMATS[name].licence
    assert f"licence  {FORMATS[name].licence}" in show.formats([name])
