# SPDX-License-Identifier: Apache-2.0
"""Sources of seeds: from a data set to the tasks of a run, and what is dropped."""

import gzip
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from alignjax import config as configs
from alignjax.stages import StageConfig
from data_gen import cli
from data_gen import run as runs
from data_gen.records import Message, read_examples, read_rejected
from data_gen.seeds import (
    BUILTIN,
    FIELDS,
    Dropped,
    Seed,
    SeedSource,
    load,
    load_seeds,
)
from data_gen.seeds.gates import SeedGates
from data_gen.seeds.plain import read_seed, write_seed
from data_gen.seeds.source import read
from data_gen.strategies.self_contrast import SelfContrast
from data_gen.verify import verify

sys.path.insert(0, str(Path(__file__).parent))
import scripts

WORDS = [f"word{n}" for n in range(50)]


def row(number: int, **fields) -> dict:
    """An Alpaca row; any two share "write" and "about", which are no content words."""
    text = f"Write about apple{number}, pear{number} and plum{number}."
    return {"instruction": text, "output": f"Answer {number}.", **fields}


@pytest.fixture
def write(tmp_path):
    def write_rows(rows, name="rows.jsonl") -> str:
        text = "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write_rows


def reasons(found) -> list[tuple[str, str, str]]:
    return [(item.place, item.gate, item.reason) for item in found.dropped]


def test_a_plain_source_gives_what_it_always_gave():
    found = load(BUILTIN, 5)
    assert (found.seeds, found.dropped) == (load_seeds(BUILTIN, 5), ())
    assert found.fingerprint.startswith("jsonl:")


def test_the_format_is_found_by_the_first_record_or_named(write):
    path = write([row(0), row(1)])
    assert load(SeedSource(path)).seeds == load(SeedSource(path, "alpaca")).seeds
    assert [seed.answer for seed in load(SeedSource(path)).seeds] == [
        "Answer 0.",
        "Answer 1.",
    ]
    with pytest.raises(ValueError, match=r'rows.jsonl:1: no "inputs" \(fields: instr'):
        load(SeedSource(path, "flan"))
    with pytest.raises(ValueError, match="format is 'alpacca', expected one of seeds"):
        SeedSource(path, "alpacca")


def test_everything_that_gives_no_seed_is_dropped_with_gate_and_reason(write):
    near = row(0, instruction="Write about apple0 and pear0 and plum0, please.")
    path = write(
        [
            row(0),
            row(1, output=""),
            row(2, instruction="#Rewritten Prompt#: write."),
            row(0),
            near,
            row(3),
        ]
    )
    found = load(SeedSource(path))
    assert [seed.answer for seed in found.seeds] == ["Answer 0.", "Answer 3."]
    assert reasons(found) == [
        ("line 2", "alpaca/1", "empty_answer"),
        ("line 3", "leak/1", "evol_leak"),
        ("line 4", "duplicate/1", "repeated_seed"),
        ("line 5", "near_duplicate/1", "near_repeat"),
    ]
    assert found.dropped[2].detail == "the prompt of line 1"
    assert found.dropped[3].detail == "like line 1 (1.00)"
    exact = replace(SeedSource(path), gates=SeedGates(near_duplicate=0))
    assert len(load(exact).seeds) == 3


def test_instances_with_other_labels_are_no_repeats(write):
    """CoIN's hard negatives: all but one word the same, and another result."""
    words = " ".join(WORDS)
    rows = [
        {"sentence": f"sentence 1: {words}\nsentence 2: {end}", "label": label}
        for end, label in [
            ("yes", "entailment"),
            ("no way", "contradiction"),
            ("yep", "entailment"),
        ]
    ]
    found = load(SeedSource(write(rows, "RTE_train.jsonl")))
    assert [seed.label for seed in found.seeds] == ["entailment", "contradiction"]
    assert reasons(found) == [("line 3", "near_duplicate/1", "near_repeat")]


def test_ids_that_repeat_are_dropped(write):
    tasks = [
        {
            "id": "t",
            "instruction": f"Do {n}.",
            "instances": [{"input": "", "output": n}],
        }
        for n in ("one", "two")
    ]
    found = load(SeedSource(write(tasks)))
    assert reasons(found) == [("line 2", "duplicate/1", "repeated_id")]


def test_a_limit_counts_seeds_and_stops_reading(write):
    path = write([row(0), row(0), row(1), row(2), "not JSON"])
    found = load(SeedSource(path, limit=2))
    assert [seed.answer for seed in found.seeds] == ["Answer 0.", "Answer 1."]
    assert reasons(found) == [("line 2", "duplicate/1", "repeated_seed")]
    assert load(SeedSource(path, limit=2), 1).seeds == found.seeds[:1]
    with pytest.raises(ValueError, match="limit must be 0"):
        SeedSource(path, limit=-1)


def test_more_records_change_no_earlier_seed(write):
    """Seeds are decided in order, so a longer file begins with the same ones."""
    rows = [row(n % 70, output=f"{n}") for n in range(120)]
    short = load(SeedSource(write(rows[:60], "short.jsonl")))
    long = load(SeedSource(write(rows, "long.jsonl")))
    assert long.seeds[: len(short.seeds)] == short.seeds
    assert len(long.seeds) == 70


def test_the_fingerprint_is_of_what_comes_out(write, tmp_path):
    """Not of where the file lies or how it is packed; of what is dropped, too."""
    rows = [row(n) for n in range(3)]
    path = write(rows)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(path).read_bytes()))
    one = load(SeedSource(path)).fingerprint
    assert load(SeedSource(str(packed))).fingerprint == one
    assert load(SeedSource(path, limit=2)).fingerprint != one
    repeated = write([*rows, rows[0]], "repeated.jsonl")
    assert load(SeedSource(repeated)).fingerprint != one


def test_one_bad_record_in_a_thousand(write):
    """F18: an error with file and line; or dropped and counted, up to a share."""
    rows: list = [row(n) for n in range(1000)]
    rows[499] = rows[499] | {"output": 3}
    path = write(rows)
    message = r'rows.jsonl:500: "output" must be a text, got int; mend or remove it'
    with pytest.raises(ValueError, match=message):
        load(SeedSource(path))
    found = load(SeedSource(path, max_bad_share=0.001))
    assert len(found.seeds) == 999
    assert reasons(found) == [("line 500", "format/1", "bad_record")]
    assert "must be a text" in found.dropped[0].detail
    rows[700] = '{"instruction": "cut'
    message = (
        "2 of 1000 records are bad, more than max_bad_share 0.001; the first: .*:500"
    )
    with pytest.raises(ValueError, match=message):
        load(SeedSource(write(rows), max_bad_share=0.001))


def test_a_file_of_bad_records_is_not_read_to_its_end(write):
    """After 100 bad ones, and where most are bad: 101 of the first 191."""
    rows = [row(n) for n in range(90)] + ["{"] * 100_000
    with pytest.raises(ValueError, match="101 of 191 records are bad"):
        load(SeedSource(write(rows), max_bad_share=0.1))


def test_a_source_that_gives_nothing_says_why(write):
    with pytest.raises(ValueError, match=r"gives no seeds \(2 empty_answer\)"):
        load(SeedSource(write([row(0, output=""), row(1, output="")])))
    with pytest.raises(ValueError, match=r"gives no seeds \(it is empty\)"):
        load(SeedSource(write([])))


def test_evaluation_sets_are_refused_as_seeds(write):
    path = write([{"prompt": "Name a fruit.", "instruction_id_list": []}])
    message = "ifeval is an evaluation set: no seeds are taken from it; name its file"
    with pytest.raises(ValueError, match=message):
        load(SeedSource(path))
    with pytest.raises(ValueError, match=message):
        SeedSource(path, "ifeval")


def test_seeds_that_hold_a_stretch_of_an_evaluation_file_are_dropped(write):
    text = " ".join(WORDS[:20])
    held_out = write([{"question_id": 1, "turns": ["Hello.", text]}], "mt.jsonl")
    rows = [
        row(0),
        row(1, instruction=f"Say {' '.join(WORDS[3:17])}."),
        row(2, output=f"It is {text}."),
    ]
    found = load(SeedSource(write(rows), decontaminate=(held_out,)))
    assert [seed.answer for seed in found.seeds] == ["Answer 0."]
    assert reasons(found) == [
        ("line 2", "contamination/1", "contaminated"),
        ("line 3", "contamination/1", "contaminated"),
    ]
    stretch = " ".join(WORDS[3:16])
    assert found.dropped[0].detail == f"prompt: mt.jsonl line 1: {stretch}"
    assert found.dropped[1].detail.startswith("answer: mt.jsonl line 1: word0 ")


def test_a_bad_evaluation_file_is_an_error(write):
    path = write([row(0)])
    bad = write([{"prompt": "a"}, "{"], "eval.jsonl")
    with pytest.raises(ValueError, match=r"eval.jsonl:2: not JSON at column 2"):
        load(SeedSource(path, decontaminate=(bad,)))
    with pytest.raises(ValueError, match=r"none.jsonl: no such file"):
        load(SeedSource(path, decontaminate=("none.jsonl",)))


def test_settings_that_nothing_reads_are_refused(write):
    path = write([row(0)])
    for name in ("split", "subset", "revision"):
        with pytest.raises(ValueError, match=f"{name} is not read of a file or folder"):
            load(configs.parse(SeedSource, {"source": path, name: "a"}))
    with pytest.raises(ValueError, match="turn is not read by the format alpaca: rem"):
        load(SeedSource(path, turn="last"))
    with pytest.raises(ValueError, match="task is not read by the format alpaca"):
        load(SeedSource(path, task="RTE"))


# The hub


def test_a_data_set_of_the_hub_is_read_by_its_name(monkeypatch):
    asked = []

    def load_dataset(name, subset, *, split, revision):
        asked.append((name, subset, split, revision))
        return [row(0), row(1)]

    fake = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    found = load(SeedSource("owner/name", subset="a", split="test", revision="f00d"))
    assert [seed.answer for seed in found.seeds] == ["Answer 0.", "Answer 1."]
    assert [item.place for item in found.dropped] == []
    load(SeedSource("owner/name"))
    assert asked == [
        ("owner/name", "a", "test", "f00d"),
        ("owner/name", None, "train", None),
    ]


def test_a_folder_that_datasets_saved_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([row(0), row(1)])
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": rows}).save_to_disk(tmp_path / "splits")
    one = load(SeedSource(str(tmp_path / "one"))).seeds
    assert load(SeedSource(str(tmp_path / "splits"), split="test")).seeds == one
    assert len(one) == 2
    with pytest.raises(ValueError, match="has no split 'train'; it has test"):
        load(SeedSource(str(tmp_path / "splits")))


def test_without_a_network_the_hub_is_one_line(root, tmp_path):
    pytest.importorskip("datasets")
    done = subprocess.run(
        [sys.executable, "-m", "data_gen.cli", "seeds", "owner/name"],
        cwd=root,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("data-gen: the data set 'owner/name' cannot be had (")
    assert line.endswith("or download a file of it and give the path")
    assert "Traceback" not in done.stderr


def test_datasets_is_not_imported_for_files(root, write):
    path = write([row(0)])
    code = (
        "import sys; from data_gen.seeds import SeedSource, load\n"
        f"assert load(SeedSource({path!r})).seeds\n"
        "assert 'datasets' not in sys.modules and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=120)


# Configs, commands and runs


def test_a_config_names_a_file_or_a_source(tmp_path):
    path = tmp_path / "run.yaml"
    base = "model: m\nout: o\necd: {}\nseeds:"
    path.write_text(f"{base} my.jsonl\n")
    assert configs.load(runs.RunConfig, path).seeds == "my.jsonl"
    path.write_text(
        f"{base} {{source: a/b, format: hh_rlhf, gates: {{max_characters: 9}},\n"
        "  decontaminate: [eval.jsonl]}\n"
    )
    config = configs.load(runs.RunConfig, path)
    assert config.seeds == SeedSource(
        "a/b",
        "hh_rlhf",
        gates=SeedGates(max_characters=9),
        decontaminate=("eval.jsonl",),
    )
    assert configs.parse(runs.RunConfig, configs.plain(config)) == config
    with pytest.raises(ValueError, match="did you mean 'format'"):
        configs.load(runs.RunConfig, path, ["seeds.fromat=alpaca"])


def test_a_pipeline_knows_the_files_of_a_source():
    seeds = {"source": "a.jsonl", "decontaminate": ["b.jsonl"]}
    stage = StageConfig("data", "data-gen run", {"seeds": seeds})
    assert stage.paths() == ["a.jsonl", "b.jsonl"]


def test_the_command_counts_shows_and_writes(write, tmp_path, capsys):
    path = write([row(0, output="\u202dA\u202c"), row(1), row(1), row(2)])
    out = tmp_path / "seeds.jsonl"
    assert cli.main(["seeds", path, "--out", str(out), "--show", "1"]) == 0
    first, count, *dropped = capsys.readouterr().out.splitlines()
    assert json.loads(first)["answer"] == "Answer 1."
    assert count == f"{path}: 2 seeds, written to {out}; 2 dropped"
    assert sorted(line.split(maxsplit=1)[1] for line in dropped) == [
        "bidi_override (characters/1)",
        "repeated_seed (duplicate/1)",
    ]
    assert load_seeds(out) == load(SeedSource(path)).seeds


def test_what_is_shown_is_ascii(write, capsys):
    path = write([row(0, output="Ein Apfel \u00fc \u2028.")])
    cli.main(["seeds", path, "--show", "1"])
    assert capsys.readouterr().out.splitlines()[0].isascii()


def test_a_source_that_fails_leaves_no_file(write, tmp_path, capsys):
    path = write([row(0), "{"])
    out = tmp_path / "out" / "seeds.jsonl"
    out.parent.mkdir()
    assert cli.main(["seeds", path, "--out", str(out)]) == 2
    assert "rows.jsonl:2: not JSON" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []
    assert cli.main(["seeds", path, "--out", str(tmp_path / "a.csv")]) == 2
    assert "seeds are written as .jsonl" in capsys.readouterr().err
    assert cli.main(["seeds", path, "limti=3"]) == 2
    assert "did you mean 'limit'?" in capsys.readouterr().err


def test_formats_are_listed_and_an_unknown_one_is_an_error(capsys):
    assert cli.main(["formats"]) == 0
    assert "\nhh_rlhf\n" in capsys.readouterr().out
    assert cli.main(["formats", "glue"]) == 0
    assert capsys.readouterr().out.startswith("glue\n  rows     ")
    assert cli.main(["formats", "glu"]) == 2
    assert "no format 'glu'; expected some of seeds, text" in capsys.readouterr().err


def test_a_seed_file_holds_all_that_a_seed_has(tmp_path):
    """And a field that is empty is left out."""
    full = Seed(
        "a",
        "Name a fruit.\n\nblue",
        "food",
        "Plum.",
        ("Oak.", "Fir."),
        (Message("user", "Hi"), Message("assistant", "Hello.")),
        "Name a fruit.",
        "blue",
        "plum",
        ("no_comma",),
    )
    assert set(json.loads(write_seed(full))) == set(FIELDS)
    assert read_seed(json.loads(write_seed(full))) == full
    bare = Seed("a", "Name a fruit.")
    assert json.loads(write_seed(bare)) == {"id": "a", "text": "Name a fruit."}
    path = tmp_path / "seeds.jsonl"
    path.write_text(f"{write_seed(full)}\n")
    assert load_seeds(path) == (full,)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("rejected", "Oak.", '"rejected" must be a list of texts'),
        ("rejected", [3], 'an item of "rejected" must be a string, got int'),
        ("constraints", [""], 'an item of "constraints" is empty'),
        ("history", {}, '"history" must be a list of'),
        ("history", [{"role": "user"}], 'needs "role" and "content" only'),
        (
            "history",
            [{"role": "user", "content": "a\u0007"}],
            '"content" in "history" has a control character, U[+]0007',
        ),
    ],
)
def test_fields_of_a_seed_file_are_checked(field, value, message):
    with pytest.raises(ValueError, match=message):
        read_seed({"text": "Name a fruit.", field: value})


DIALOGUES = [
    {
        "messages": [
            {"role": "user", "content": f"Tell me of sea{n} and hill{n}."},
            {"role": "assistant", "content": f"The sea{n} is wide."},
            {"role": "user", "content": f"And how high is the hill{n} over there?"},
            {"role": "assistant", "content": f"Hill{n} is a hundred metres high."},
        ][: 2 if n % 2 else 4]
    }
    for n in range(60)
]


def test_a_run_on_conversations_records_what_it_cannot_use(write, tmp_path):
    """Self-Contrast answers the whole conversation; ECD takes single turns first, and
    says of the others that it cannot."""
    path = write([*DIALOGUES, {"messages": [{"role": "user", "content": "Hi"}]}])
    source = SeedSource(path)
    config = scripts.config(
        tmp_path / "out",
        seeds=source,
        limit=None,
        self_contrast=SelfContrast(samples=6, max_new_tokens=60),
    )
    engine = scripts.engine()
    runs.run(config, engine=engine)
    folder = Path(config.out)
    examples = read_examples(folder)
    rejected = read_rejected(folder)
    contrasts = [e for e in examples if e.strategy == "self_contrast"]
    long = [e for e in contrasts if len(e.prompt) == 3]
    assert len(long) > 5
    assert long[0].prompt[1].role == "assistant"
    assert long[0].chosen.kind == "given"
    assert long[0].provenance["task"].startswith("user: Tell me of sea")
    refused = [r for r in rejected if r.reason == "multi_turn"]
    assert len(refused) > 5
    assert {(r.strategy, r.stage) for r in refused} == {("ecd", "plan")}
    assert refused[0].detail == "2 turns before the instruction"
    evolved = {e.root_id for e in examples if e.strategy == "ecd"}
    assert evolved and not evolved & {r.root_id for r in refused}
    (hi,) = [r for r in rejected if r.stage == "seed"]
    assert (hi.reason, hi.detail) == (
        "no_answer",
        "line 61; messages/1; nobody answers",
    )
    assert verify(folder).failures == ()
    # Nothing but single turns where there are enough of them.
    assert config.ecd is not None
    few = replace(config, ecd=replace(config.ecd, prompts=3), out=str(tmp_path / "few"))
    runs.run(few, engine=scripts.engine())
    dropped = read_rejected(Path(few.out))
    assert [r for r in dropped if r.reason == "multi_turn" and r.split == "train"] == []


def test_a_run_is_the_same_wherever_its_data_lies(write, tmp_path):
    source = SeedSource(write(DIALOGUES, "a.jsonl"))
    moved = SeedSource(write(DIALOGUES, "b.jsonl"), "messages")
    folders = []
    for number, seeds in enumerate((source, moved)):
        config = scripts.config(
            tmp_path / str(number), seeds=seeds, limit=None, ecd=None
        )
        runs.run(config, engine=scripts.engine())
        folders.append(Path(config.out))
    for name in ("manifest.json", "examples.parquet", "rejected.parquet"):
        first, second = (folder / name for folder in folders)
        assert first.read_bytes() == second.read_bytes()


def test_read_gives_seeds_and_dropped_records_in_order(write):
    kinds = [type(item) for item in read(SeedSource(write([row(0), row(0), row(1)])))]
    assert kinds == [Seed, Dropped, Seed]
