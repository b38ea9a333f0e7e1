# SPDX-License-Identifier: Apache-2.0
"""Claims: settings and the content of inputs decide whose a dataset folder is."""

import json

import pytest

from data_gen import claim

CONFIG = {
    "out": "data",
    "cache": "",
    "model": "m",
    "embedder": "e",
    "seeds": "s.txt",
    "seed": 0,
    "engine": {"slots": 16, "dtype": "float32"},
    "ecd": {"samples": 8, "types": ["lowercase"]},
}
INPUTS = {
    "seeds_fingerprint": "txt:a",
    "model_fingerprint": "b",
    "template_fingerprint": "c",
    "engine_fingerprint": "d",
    "embedder_fingerprint": "e",
}


def take(out, *, config=None, inputs=None, is_fresh=False):
    said = []
    claim.take(
        out,
        {**CONFIG, **(config or {})},
        {**INPUTS, **(inputs or {})},
        is_fresh=is_fresh,
        say=said.append,
    )
    return said


@pytest.mark.parametrize("name", ["out", "cache", "model", "embedder", "seeds"])
def test_where_files_lie_is_no_part_of_the_digest(name):
    moved = {**CONFIG, name: "./elsewhere"}
    assert claim.digest(moved, INPUTS) == claim.digest(CONFIG, INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_each_input_is_part_of_the_digest(name):
    changed = {**INPUTS, name: "changed"}
    assert claim.digest(CONFIG, changed) != claim.digest(CONFIG, INPUTS)


def test_the_same_run_at_other_places_goes_on(tmp_path):
    take(tmp_path)
    assert take(tmp_path, config={"model": "./m", "seeds": "/home/me/s.txt"}) == []
    known = json.loads((tmp_path / "run.json").read_text())
    assert known["config"]["model"] == "./m"
    assert known["digest"] == claim.digest(CONFIG, INPUTS)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": {"seed": 1}}, "seed"),
        ({"config": {"ecd": None}}, "ecd"),
        ({"config": {"ecd": {"samples": 3, "types": []}}}, "ecd.samples, ecd.types"),
        ({"inputs": {"seeds_fingerprint": "txt:z"}}, "the content of the seeds"),
        ({"inputs": {"embedder_fingerprint": ""}}, "the embedder"),
        (
            {
                "config": {"seed": 1},
                "inputs": {"template_fingerprint": "z", "engine_fingerprint": "z"},
            },
            "seed, the model's tokenizer or chat template",
        ),
        (
            {"inputs": {"engine_fingerprint": "z"}},
            "the model's config.json, or the engine's version or address",
        ),
    ],
)
def test_what_differs_is_named(tmp_path, changes, named):
    take(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError, match="another configuration") as caught:
        take(tmp_path, **changes)
    assert f"(what differs: {named}; digest " in str(caught.value)
    assert (tmp_path / "run.json").read_bytes() == before
    (line,) = take(tmp_path, **changes, is_fresh=True)
    assert line.startswith(f"replacing the run {claim.digest(CONFIG, INPUTS)[:12]} in")


def test_a_copied_dataset_is_known_by_its_manifest(tmp_path):
    """A folder without run.json: the manifest has the digest and the fingerprints."""
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"config": claim.digest(CONFIG, INPUTS), **INPUTS}))
    with pytest.raises(ValueError, match=r"\(what differs: the model's weights; "):
        take(tmp_path, inputs={"model_fingerprint": "z"})
    take(tmp_path)
    path.write_text("{}")
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match=r"manifest\.json is no dataset's manifest"):
        take(tmp_path)


def test_what_a_killed_claim_leaves_is_taken_over(tmp_path):
    for name in (".lock", ".run.json.partial", "cache.sqlite"):
        (tmp_path / name).write_text("")
    take(tmp_path)
    assert (tmp_path / "run.json").is_file()
