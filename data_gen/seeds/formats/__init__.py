# SPDX-License-Identifier: Apache-2.0
"""Formats: how the rows of known data sets become seeds, and what to know about each.

A reader takes one row and gives its seeds, or says why the row gives none; it raises
ValueError for a row that is not of its format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_gen.seeds.formats import chats, rankings, tasks
from data_gen.seeds.formats.turns import Found, Options, Unusable
from data_gen.seeds.plain import FIELDS

__all__ = ["FORMATS", "Format", "Found", "Options", "Unusable", "detect"]


@dataclass(frozen=True)
class Format:
    """A kind of rows.

    Args:
      read: gives the seeds of a row.
      rows: what a row holds.
      fits: whether a row may be of this format; no row fits two of them.
      licence: of the data set that it is named after.
      traps: what goes wrong with it, and what the reader does about it.
      hub: names on the hub of data sets in this format.
      options: fields of `Options` that it reads.
      is_evaluation: an evaluation set: never seeds, only to decontaminate by.
    """

    read: Callable[[Any, Options], Iterator[Found]]
    rows: str
    fits: Callable[[Any], bool]
    licence: str
    traps: tuple[str, ...] = ()
    hub: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    is_evaluation: bool = False


def detect(row: Any) -> str:
    """The name of the one format that a row fits.

    Raises:
      ValueError: none fits; lists those there are.
    """
    fitting = [name for name, known in FORMATS.items() if known.fits(row)]
    if len(fitting) != 1:
        fields = ", ".join(row) if isinstance(row, Mapping) else type(row).__name__
        found = " and ".join(fitting) or "no known format"
        raise ValueError(
            f"rows with the fields {fields} fit {found}; name one with format: "
            f"{', '.join(fitting or FORMATS)}"
        )
    return fitting[0]


def _has(row: Any, *names: str) -> bool:
    return isinstance(row, Mapping) and all(row.get(name) is not None for name in names)


def _lacks(row: Any, *names: str) -> bool:
    return not any(row.get(name) is not None for name in names)


def _is_hh(row: Any) -> bool:
    return (
        _has(row, "chosen", "rejected")
        and _lacks(row, "prompt")
        and all(
            isinstance(row[name], str) and row[name].startswith("\n\nHuman:")
            for name in ("chosen", "rejected")
        )
    )


def _is_preference(row: Any) -> bool:
    return _has(row, "prompt", "chosen", "rejected")


def _is_binarized(row: Any) -> bool:
    return _is_preference(row) and _has(row, "score_chosen", "score_rejected")


def _is_rephrased(row: Any) -> bool:
    return (
        isinstance(row, Mapping)
        and set(row) == {"text"}
        and isinstance(row["text"], str)
        and row["text"].startswith("Question:")
        and "####" in row["text"]
    )


def _is_seed(row: Any) -> bool:
    return _has(row, "text") and set(row) <= set(FIELDS) and not _is_rephrased(row)


FORMATS: Mapping[str, Format] = {
    "seeds": Format(
        tasks.seeds,
        '{"text", "id"?, "domain"?, "answer"?, "rejected"?, "history"?, "instruction"?,'
        ' "input"?, "label"?, "constraints"?}',
        _is_seed,
        "your own; those that come with data_gen are Apache-2.0",
    ),
    "text": Format(
        tasks.text,
        "one instruction a line",
        lambda row: isinstance(row, str),
        "your own",
        ("an instruction of several lines becomes several: use JSON Lines",),
    ),
    "prompts": Format(
        tasks.prompts,
        '{"prompt"}: a text or messages',
        lambda row: (
            _has(row, "prompt")
            and _lacks(
                row,
                "chosen",
                "rejected",
                "answers",
                "messages",
                "instruction_id_list",
            )
        ),
        "as the file's",
        ("other fields are not read: answers in them are lost",),
    ),
    "messages": Format(
        chats.messages,
        '{"messages": [{"role", "content"}, ...]}',
        lambda row: _has(row, "messages") and _lacks(row, "prompt_id", "chosen"),
        "as the file's",
        (
            "the last answer is the given one, all before it the prompt; turn: first "
            "takes the first exchange only",
        ),
        options=("turn",),
    ),
    "preference": Format(
        rankings.preference,
        '{"prompt", "chosen", "rejected"}: texts or messages; rejected may be a list',
        lambda row: _is_preference(row) and not _is_binarized(row),
        "as the file's",
        (
            "where chosen and rejected are messages they repeat the prompt: only their "
            "last turn is the answer",
            "metadata.score_chosen and metadata.score_rejected are read where they are "
            "there: ties are dropped",
        ),
    ),
    "hh_rlhf": Format(
        rankings.hh_rlhf,
        '{"chosen", "rejected"}: dialogues as one text, "\\n\\nHuman: ... '
        '\\n\\nAssistant: ..."',
        _is_hh,
        "MIT",
        (
            "the prompt is all up to and including the last Human turn; what follows "
            "the last Assistant marker is the answer. Cutting at the first one makes "
            "answers of whole dialogues",
            "a few pairs part earlier than at the last answer, so they have no common "
            "prompt: dropped",
            "some turns hold a speaker's name where a break was lost, so another turn "
            "hides in them: dropped",
            "both answers can be bad, and in the harmless part the preferred one is "
            "often a refusal",
        ),
        hub=("Anthropic/hh-rlhf",),
    ),
    "ultrafeedback_binarized": Format(
        rankings.preference,
        '{"prompt", "chosen": messages, "rejected": messages, "score_chosen", '
        '"score_rejected"}',
        _is_binarized,
        "MIT",
        (
            "some prompts hold leftovers of Evol-Instruct (#Given Prompt#, #Rewritten "
            "Prompt#) whose referent is missing: the gate leak drops them",
            "the first release chose by overall_score, in which a 1 could become a 10: "
            "some chosen answers are the worst",
            "in some rows both scores, or both answers, are the same: dropped",
            "prompts of TruthfulQA are in it: decontaminate before you evaluate there",
        ),
        hub=("HuggingFaceH4/ultrafeedback_binarized",),
    ),
    "ultrafeedback": Format(
        rankings.ultrafeedback,
        '{"instruction", "source", "completions": [{"response", "annotations"}, ...]}',
        lambda row: _has(row, "instruction", "completions"),
        "MIT",
        (
            "a 1 could become a 10 in overall_score: answers are ranked by the mean of "
            "the four ratings instead",
            "a rating may be N/A: that completion is left out",
            "source truthful_qa is an evaluation set: dropped",
            "each completion was asked for under a principle (custom_system_prompt) "
            "that is no part of the prompt here",
            "leftovers of Evol-Instruct: the gate leak drops them",
        ),
        hub=("openbmb/UltraFeedback",),
    ),
    "nectar": Format(
        rankings.nectar,
        '{"prompt": "\\n\\nHuman: ... \\n\\nAssistant: ", '
        '"answers": [{"answer", "rank", "model"}, ...]}',
        lambda row: _has(row, "prompt", "answers"),
        "Apache-2.0, on the condition that it is not used to compete with OpenAI",
        (
            "the prompt ends with an empty Assistant turn, which is no part of it",
            "rank 1 is the best; answers that share the first rank are not rejected",
            "ranked by GPT-4, and the first rank is mostly GPT-4's own answer",
            "prompts come from HH-RLHF, UltraFeedback, ShareGPT, FLAN and others: "
            "beside one of those it repeats seeds",
        ),
        hub=("berkeley-nest/Nectar",),
    ),
    "ultrachat": Format(
        chats.ultrachat,
        '{"prompt", "prompt_id", "messages"}, or {"id", "data": [text, ...]}',
        lambda row: (
            (_has(row, "messages", "prompt_id") and _lacks(row, "chosen"))
            or (_has(row, "data") and isinstance(row["data"], list))
        ),
        "MIT",
        (
            "both sides were written by ChatGPT",
            "the first exchange is taken: later turns answer ChatGPT's own questions; "
            "turn: last takes the whole conversation as the prompt",
        ),
        hub=("HuggingFaceH4/ultrachat_200k", "stingning/ultrachat"),
        options=("turn",),
    ),
    "sharegpt": Format(
        chats.sharegpt,
        '{"conversations": [{"from", "value"}, ...]}',
        lambda row: _has(row, "conversations"),
        "none stated: conversations that users shared, with ChatGPT's answers",
        (
            "long conversations are cut in segments, of which the later ones begin "
            "with an answer: dropped",
            "the first exchange is taken; turn: last takes the whole conversation",
            "answers may hold HTML, or end where the page was cut",
            "names and addresses of people are in it",
        ),
        options=("turn",),
    ),
    "alpaca": Format(
        tasks.alpaca,
        '{"instruction", "input"?, "output"}',
        lambda row: _has(row, "instruction", "output"),
        "CC-BY-NC-4.0 (Stanford Alpaca; output of text-davinci-003)",
        (
            'an empty input may be written "<noinput>", "No input", "N/A" or "None": '
            "read as none",
            'some outputs are empty or "<nooutput>": dropped',
            "some instructions speak of an image or a link that is not there, and some "
            "results of arithmetic are wrong",
        ),
        hub=("tatsu-lab/alpaca",),
    ),
    "self_instruct": Format(
        tasks.self_instruct,
        '{"id", "instruction", "instances": [{"input", "output"}, ...], '
        '"is_classification"}',
        lambda row: (
            _has(row, "instruction", "instances") and _lacks(row, "motivation_app")
        ),
        "Apache-2.0",
        (
            "a task with several instances gives a seed for each, which share its "
            "instruction",
        ),
    ),
    "user_oriented_instructions": Format(
        tasks.self_instruct,
        '{"id", "motivation_app", "instruction", "instances": [{"input", "output"}]}',
        lambda row: _has(row, "instruction", "instances", "motivation_app"),
        "Apache-2.0",
        (
            "Self-Instruct evaluates on these 252: a model trained on them cannot be "
            "compared there",
            "one instruction is there twice, with other instances",
        ),
    ),
    "flan": Format(
        tasks.flan,
        '{"inputs", "targets", "_task_name"?, "_template_type"?}',
        lambda row: _has(row, "inputs", "targets"),
        "Apache-2.0 (the collection); each task has the licence of its source",
        (
            "templates named fs_... put solved examples before the question: dropped",
            "GLUE, SuperGLUE and others that models are evaluated on are among the "
            "tasks: decontaminate",
            "instruction and instance are one text: CoIN needs a format that keeps "
            "them apart (glue, alpaca, self_instruct)",
        ),
    ),
    "flan_cot": Format(
        tasks.flan_cot,
        "tab-separated without a header: question, result, reasoning",
        lambda row: isinstance(row, list),
        "Apache-2.0 (the repository); each task has the licence of its source",
        (
            'a line end is written as "\\n" in the text, and nothing else is escaped: '
            "quotes are quotes, backslashes of formulae stay",
            "a question may be there twice with other results (StrategyQA has one)",
            "some of the reasoning is wrong, most of all in aqua",
        ),
        options=("task",),
    ),
    "glue": Format(
        tasks.glue,
        '{"sentence", "label"}: GLUE and SuperGLUE tasks as O-LoRA has them',
        lambda row: _has(row, "sentence", "label"),
        "MIT (the repository); each task has the licence of its source",
        (
            "the rows do not say their task: it is read from the file's name "
            "(RTE_train.json.gz), or from task",
            'in MNLI_dev 131 rows have the label "-", where annotators did not agree: '
            "dropped",
            "the dev files are what GLUE results are reported on: use the train files",
            "SST-2 and others are lower case with blanks around punctuation",
        ),
        options=("task",),
    ),
    "gsm8k": Format(
        tasks.gsm8k,
        '{"question", "answer"}: the answer ends with "#### RESULT"',
        lambda row: (
            _has(row, "question", "answer")
            and isinstance(row["answer"], str)
            and "####" in row["answer"]
        ),
        "MIT",
        (
            "calculator notes such as <<48/2=24>> are not part of the answer: removed",
            "test.jsonl is an evaluation set: use it under decontaminate",
        ),
        hub=("openai/gsm8k",),
    ),
    "rephrase_gsm8k": Format(
        tasks.rephrase_gsm8k,
        '{"text": "Question: ...\\nAnswer: ...\\n#### RESULT"}',
        _is_rephrased,
        "Apache-2.0 (LLM Decontaminator); GSM8K is MIT",
        (
            "read as plain seeds, the result would stand in the prompt",
            "these are GSM8K's test questions in other words: n-gram overlap does not "
            "find most of them, so a model trained on them cannot be compared there",
            "there is no reasoning in it, only the result (as the label); four rows "
            "have no question: dropped",
        ),
    ),
    "ifeval": Format(
        tasks.ifeval,
        '{"key", "prompt", "instruction_id_list", "kwargs"}',
        lambda row: _has(row, "prompt", "instruction_id_list"),
        "Apache-2.0",
        ("an evaluation set: refused as seeds",),
        hub=("google/IFEval",),
        is_evaluation=True,
    ),
    "mt_bench": Format(
        tasks.mt_bench,
        '{"question_id", "category", "turns": [text, ...]}',
        lambda row: _has(row, "question_id", "turns"),
        "Apache-2.0",
        ("an evaluation set: refused as seeds",),
        is_evaluation=True,
    ),
}
