# SPDX-License-Identifier: Apache-2.0
"""Real data sets as seeds: how many there are, why others are not, records by hand."""

from collections import Counter

import pytest

from data_gen.seeds import Loaded, SeedSource, load
from data_gen.seeds.gates import SeedGates

# file: format, seeds, what was dropped
FILES = {
    "hh_rlhf/harmless-base_test.jsonl.gz": (
        "hh_rlhf",
        2243,
        {
            "lost_turn": 49,
            "near_repeat": 9,
            "empty_answer": 4,
            "same_speaker": 3,
            "repeated_seed": 2,
            "prompts_differ": 1,
            "no_words": 1,
        },
    ),
    "ultrafeedback_sample/train_clean.jsonl.gz": (
        "preference",
        881,
        {
            "tie": 111,
            "same_answers": 3,
            "empty_answer": 2,
            "control_character": 1,
            "evol_leak": 1,
            "near_repeat": 1,
        },
    ),
    "ultrafeedback_sample/eval_clean.jsonl.gz": (
        "preference",
        174,
        {"tie": 25, "template_leak": 1},
    ),
    "self_instruct/seed_tasks.jsonl": ("self_instruct", 175, {}),
    "self_instruct/user_oriented_instructions.jsonl": (
        "user_oriented_instructions",
        252,
        {},
    ),
    "gsm8k/train.jsonl.gz": ("gsm8k", 7473, {}),
    "rephrase_gsm8k/rephrase_gsm8k.jsonl": ("rephrase_gsm8k", 1315, {"no_words": 4}),
    "flan_cot/qasc_train.tsv.gz": ("flan_cot", 1084, {}),
    "flan_cot/strategyqa_train.tsv.gz": ("flan_cot", 2060, {"repeated_seed": 1}),
    "flan_cot/aqua_train.tsv.gz": (
        "flan_cot",
        2391,
        {"near_repeat": 335, "control_character": 2},
    ),
    "flan_cot/creak_train.tsv.gz": ("flan_cot", 6908, {"near_repeat": 7}),
    "glue_olora/SST-2_train.json.gz": ("glue", 1957, {"near_repeat": 43}),
    "glue_olora/RTE_train.json.gz": (
        "glue",
        1972,
        {"near_repeat": 25, "repeated_seed": 2, "control_character": 1},
    ),
    "glue_olora/QQP_train.json.gz": ("glue", 1999, {"near_repeat": 1}),
    "glue_olora/MNLI_train.json.gz": ("glue", 3000, {}),
    "glue_olora/MNLI_dev.json.gz": (
        "glue",
        7402,
        {"no_label": 131, "near_repeat": 67},
    ),
    "glue_olora/CB_train.json.gz": ("glue", 250, {}),
    "glue_olora/WiC_train.json.gz": ("glue", 1994, {"near_repeat": 6}),
    "glue_olora/COPA_train.json.gz": ("glue", 400, {}),
}


@pytest.fixture(scope="module")
def take(shared_data):
    loaded: dict[str, Loaded] = {}

    def load_file(name: str) -> Loaded:
        if name not in loaded:
            loaded[name] = load(SeedSource(str(shared_data / name)))
        return loaded[name]

    return load_file


@pytest.mark.parametrize("name", FILES)
def test_the_seeds_of_a_file_and_why_there_are_no_more(take, shared_data, name):
    format, count, dropped = FILES[name]
    found = take(name)
    assert len(found.seeds) == count
    assert Counter(item.reason for item in found.dropped) == dropped
    named = load(SeedSource(str(shared_data / name), format, limit=9))
    assert named.seeds == found.seeds[:9]


def test_hh_the_last_answer_is_what_the_pair_differs_in(take):
    found = take("hh_rlhf/harmless-base_test.jsonl.gz")
    pens = found.seeds[0]
    assert [turn.role for turn in pens.history] == ["user", "assistant"] * 2
    assert pens.history[0].content == "what are some pranks with a pen i can do?"
    assert pens.history[2].content == "yep"
    assert pens.text == "okay some of these do not have anything to do with pens"
    assert pens.answer.startswith("No, sorry!  All of these involve a pen")
    assert pens.rejected[0].startswith("There are lots of funny things you can do")
    places = {
        reason: [item.place for item in found.dropped if item.reason == reason]
        for reason in ("empty_answer", "prompts_differ", "lost_turn")
    }
    # Line 87: asked for an address again, the chosen answer is empty.
    assert places["empty_answer"] == [f"line {n}" for n in (87, 517, 926, 1104)]
    assert places["prompts_differ"] == ["line 1953"]
    assert places["lost_turn"][0] == "line 30"  # "Assistant: Human: So she doesn't"
    assert not any("Assistant:" in seed.whole for seed in found.seeds)


def test_ultrafeedback_the_one_leftover_of_evol_instruct_goes(take):
    """And the prompt that rightly speaks of "the given prompt" stays."""
    found = take("ultrafeedback_sample/train_clean.jsonl.gz")
    (leak,) = [item for item in found.dropped if item.reason == "evol_leak"]
    assert (leak.place, leak.detail) == ("line 926", "#The Given Prompt#")
    kept = [s for s in found.seeds if "reply to the given prompt" in s.text]
    assert len(kept) == 1
    first = found.seeds[0]
    assert first.text == "how to cook t-bone in the oven"
    assert first.answer.startswith("To cook a delicious T-bone steak in the oven")
    assert first.rejected[0].startswith("To cook a T-bone steak in the oven, you will")


def test_self_instruct_keeps_instruction_and_instance_apart(take):
    found = take("self_instruct/seed_tasks.jsonl")
    relation = found.seeds[1]
    assert relation.id == "seed_task_1"
    assert relation.instruction == "What is the relation between the given pairs?"
    assert relation.input == "Night : Day :: Right : Left"
    assert relation.text == f"{relation.instruction}\n\n{relation.input}"
    assert sum(bool(seed.input) for seed in found.seeds) == 125
    assert sum(bool(seed.label) for seed in found.seeds) == 26
    user = take("self_instruct/user_oriented_instructions.jsonl")
    assert user.seeds[-1].id == "user_oriented_task_251"
    assert sum(bool(seed.input) for seed in user.seeds) == 252 - 44


def test_flan_cot_line_ends_and_quotes(take):
    first = take("flan_cot/creak_train.tsv.gz").seeds[0]
    assert first.text.startswith('Claim: "Only people named Floyd wearing pink')
    assert first.text.endswith("\nOptions:\n- yes\n- no")
    assert (first.label, first.domain) == ("no", "creak")
    assert first.answer.endswith("concerts.\nThe answer is no.")
    (again,) = take("flan_cot/strategyqa_train.tsv.gz").dropped
    assert (again.place, again.detail) == ("line 1470", "the prompt of line 115")
    assert again.text == "Can you find Bob Marley's face in most smoke shops?"


def test_glue_instances_share_an_instruction_and_differ_in_label(take):
    found = take("glue_olora/RTE_train.json.gz")
    assert len({seed.instruction for seed in found.seeds}) == 1
    (bulls,) = [s for s in found.seeds if "Michael Jordan, coach Phil" in s.input]
    assert bulls.input.endswith(
        "sentence 2: The Bulls basketball team is based in Chicago."
    )
    assert bulls.answer == bulls.label == "entailment"
    assert {seed.label for seed in found.seeds} == {"entailment", "contradiction"}


def test_gsm8k_without_its_calculator(take):
    first = take("gsm8k/train.jsonl.gz").seeds[0]
    assert first.answer == (
        "Natalia sold 48/2 = 24 clips in May.\n"
        "Natalia sold 48+24 = 72 clips altogether in April and May.\n#### 72"
    )
    assert first.label == "72"


def test_the_result_of_a_rephrased_question_is_not_in_the_prompt(take):
    found = take("rephrase_gsm8k/rephrase_gsm8k.jsonl")
    janet = found.seeds[0]
    assert janet.text.endswith("that she earns at the farmers' market?")
    assert (janet.label, janet.answer) == ("18", None)
    assert not any("####" in seed.text for seed in found.seeds)
    places = [item.place for item in found.dropped]
    assert places == [f"line {n}" for n in (310, 670, 728, 949)]  # no question there


def test_training_questions_that_repeat_test_questions_are_found(shared_data):
    """13 words in a row: 4 of 7,473 questions. Rephrased ones are not found at all,
    which the documentation says."""
    test = (str(shared_data / "gsm8k" / "test.jsonl"),)
    found = load(
        SeedSource(str(shared_data / "gsm8k" / "train.jsonl.gz"), decontaminate=test)
    )
    assert [(item.place, item.reason) for item in found.dropped] == [
        (f"line {n}", "contaminated") for n in (21, 407, 1315, 5163)
    ]
    own = load(SeedSource(test[0], decontaminate=(), gates=SeedGates(near_duplicate=0)))
    assert len(own.seeds) == 1319
    with pytest.raises(ValueError, match=r"gives no seeds \(1319 contaminated\)"):
        load(SeedSource(test[0], decontaminate=test))
    rephrased = str(shared_data / "rephrase_gsm8k" / "rephrase_gsm8k.jsonl")
    found = load(SeedSource(rephrased, decontaminate=test))
    assert [i for i in found.dropped if i.reason == "contaminated"] == []


@pytest.mark.parametrize("name", ["ifeval/input_data.jsonl", "mt_bench/question.jsonl"])
def test_evaluation_sets_are_refused(shared_data, name):
    with pytest.raises(ValueError, match="is an evaluation set: no seeds are taken"):
        load(SeedSource(str(shared_data / name)))
    held_out = (str(shared_data / name),)
    seeds = str(shared_data / "self_instruct" / "seed_tasks.jsonl")
    assert len(load(SeedSource(seeds, decontaminate=held_out)).seeds) == 175
