# SPDX-License-Identifier: Apache-2.0
"""The timing scripts: their arithmetic, and that they run."""

import dataclasses
import json
import math
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "sampling.py"
PICTURE = ROOT / "docs" / "images" / "slots.svg"


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize(
    ("uniform", "tokens", "expected"),
    [
        # p = 1/2, 1/4, 1/4, so F = 1/2, 3/4, 1: one boundary between neighbours.
        (0.6, (0, 1), logit(0.6) - logit(0.5)),
        (0.6, (2, 1), logit(0.75) - logit(0.6)),
        # Tokens 0 and 2: u lies between their boundaries 1/2 and 3/4, or outside.
        (0.6, (0, 2), 0.0),
        (0.8, (0, 2), logit(0.8) - logit(0.75)),
        (0.0, (0, 1), math.inf),
    ],
)
def test_the_gap_is_the_way_from_the_uniform_to_the_boundary(uniform, tokens, expected):
    from timing import precision

    scores = np.log([0.5, 0.25, 0.25]) + 3
    found = precision.gap(scores, uniform, tokens, temperature=1.0)
    assert found == pytest.approx(expected)


def test_the_gap_knows_temperature_and_banned_tokens():
    """At temperature 1/2 the probabilities are p^2, normalised: 4/5 and 1/5. Greedy:
    the difference of the two scores."""
    from timing import precision

    scores = np.array([math.log(2), 0.0, -math.inf])
    found = precision.gap(scores, 0.9, (1, 0), temperature=0.5)
    assert found == pytest.approx(logit(0.9) - logit(0.8))
    found = precision.gap(scores, 0.9, (1, 0), temperature=0.0)
    assert found == pytest.approx(math.log(2))


def test_a_gap_is_what_one_score_must_move_for_the_other_token():
    """Raising token 0 by the gap moves the boundary onto the uniform number."""
    from timing import precision

    scores = np.random.default_rng(0).normal(size=50)
    weights = np.exp(scores)
    uniform = weights[:1].sum() / weights.sum() * 1.3
    moved = scores.copy()
    moved[0] += precision.gap(scores, uniform, (0, 1), temperature=1.0)
    weights = np.exp(moved)
    assert weights[0] / weights.sum() == pytest.approx(uniform)


def test_lengths_are_log_normal_and_clipped():
    from timing import traffic

    drawn = np.array(traffic.lengths(20_000, np.random.default_rng(0)))
    assert np.median(drawn) == traffic.MEDIAN
    assert (drawn.min(), drawn.max()) == (traffic.SHORTEST, traffic.LONGEST)
    inner = np.percentile(drawn, [16, 84])
    np.testing.assert_allclose(
        np.log(inner / traffic.MEDIAN), [-traffic.SIGMA, traffic.SIGMA], atol=0.03
    )


def test_requests_end_at_a_token_that_no_other_sample_has_before_its_end():
    """Wanted 2 and 2 tokens long: 4 is only in the first and 6 only in the second.
    Wanted 3 and 3: 1 is in the first before, so 4 it is; 5 is in the other only after
    its end. Wanted 1 and 4: of the second, 3 is in the first already, so 5 it is."""
    from alignjax.sampling import Request, Result, Settings
    from timing import traffic

    samples = (3, 1, 4, 1, 5), (9, 2, 6, 5, 3)
    results = [
        Result("a", i, tokens, "", (0.0,) * 5, "length")
        for i, tokens in enumerate(samples)
    ]
    request = Request("a", (7,), n=2, settings=Settings(max_new_tokens=5, banned=(8,)))
    for wanted, expected in (((2, 2), (4, 6)), ((3, 3), (4, 5)), ((1, 4), (1, 5))):
        (made,) = traffic.ended([request], [wanted], results)
        assert made.settings == Settings(
            max_new_tokens=5, banned=(8,), stop_ids=expected
        )


def test_ratios_are_taken_round_by_round():
    from timing import peers

    found = peers.ratios([300, 200, 330], {"tunix": [100, 100, 110]})
    assert found == {
        "tunix": {"median": 3.0, "of_the_best": 3.0, "rounds": [3.0, 2.0, 3.0]}
    }


def test_a_peer_is_a_script_whose_last_line_tells_its_seconds(tmp_path):
    from timing import peers

    script = "import json, sys; print('noise'); "
    script += "print(json.dumps({'all_s': [2.0, 1.0], 'work': sys.argv[1:]}))"
    (tmp_path / "hf_sample.py").write_text(script)
    (peer,) = peers.find([f"transformers={sys.executable}"], tmp_path, dtype="float32")
    work = peers.Work(prompts=2, samples=3, prompt=4, new=5)
    assert work.tokens == 30
    assert peer.seconds(tmp_path, work, dtype="float32") == [2.0, 1.0]


def test_a_peer_that_fails_is_told_with_its_last_words(tmp_path):
    from timing import peers

    (tmp_path / "hf_sample.py").write_text("raise SystemExit('no torch here')")
    (peer,) = peers.find([f"transformers={sys.executable}"], tmp_path, dtype="float32")
    with pytest.raises(ValueError, match=r"ended with 1: no torch here"):
        peer.seconds(tmp_path, peers.Work(1, 1, 1, 1), dtype="float32")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("vllm=python", "NAME out of transformers, tunix"),
        ("tunix", "expected NAME=PYTHON"),
        ("tunix=python", "timed in float32 only, not in bfloat16"),
        ("transformers=python", "hf_sample.py does not exist"),
    ],
)
def test_a_wrong_peer_is_refused(given, expected, tmp_path):
    from timing import peers

    with pytest.raises(ValueError, match=expected):
        peers.find([given], tmp_path, dtype="bfloat16")
    with pytest.raises(ValueError, match="--peer needs --bench"):
        peers.find([given], None, dtype="bfloat16")


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("NVIDIA H200", 4.8e12),
        ("NVIDIA H100 80GB HBM3", 3.35e12),
        ("NVIDIA H100 PCIe", 2.0e12),
        ("NVIDIA A100-SXM4-80GB", 2.0e12),
        ("cpu", None),
    ],
)
def test_the_bandwidth_is_that_of_the_device(device, expected):
    from timing import roofline

    assert roofline.published_bandwidth(device) == expected


def test_a_llama_1b_is_as_large_as_it_should_be():
    """16 layers of 2048 x (2048 + 512 + 512 + 2048 + 3 x 8192) kernels and 2 norms, a
    tied head, a last norm; 16 x 2 x 8 x 64 entries of 2 bytes a token of cache."""
    from alignjax.models import decoder
    from timing import subject

    config = dataclasses.replace(subject.LLAMA_1B, dtype="bfloat16")
    shapes = decoder.abstract(config)
    layers = 16 * 2048 * (2 * 2048 + 2 * 512 + 3 * 8192 + 2)
    expected = 2 * (layers + 128_256 * 2048 + 2048)
    assert subject.parameter_bytes(shapes) == expected
    assert subject.cache_bytes(config, None) == 32_768
    assert subject.cache_bytes(config, "int8") == 16_384 + 16 * 2 * 8 * 4


def test_wrong_options_of_the_sampler_are_refused():
    from timing import subject

    assert subject.sampler_options(["slots=4", "cache_dtype=int8"]) == {
        "slots": 4,
        "cache_dtype": "int8",
    }
    with pytest.raises(ValueError, match=r"slot=4: it has slots, context"):
        subject.sampler_options(["slot=4"])
    with pytest.raises(ValueError, match="'many' is not a number"):
        subject.sampler_options(["slots=many"])


def test_the_picture_of_the_slots_is_what_its_script_draws(tmp_path):
    """Byte for byte, with the locked matplotlib. `python docs/plots.py` renews it."""
    runpy.run_path(str(ROOT / "docs" / "plots.py"))["draw_slots"](tmp_path / "x.svg")
    assert (tmp_path / "x.svg").read_bytes() == PICTURE.read_bytes()


def lines(folder: Path, model: Path, *arguments: str) -> list[dict]:
    out = folder / "out.jsonl"
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments, "--model", model, "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert out.read_text() == done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_uneven_answers_are_timed_and_drawn(tiny_llama, tmp_path):
    """The smallest run of all, with its timeline."""
    arguments = ("uneven", "--answers", "4", "--samples", "2", "--sampler", "slots=8")
    (line,) = lines(tmp_path, tiny_llama, *arguments)
    assert line["work"]["answers"] == 4 and line["work"]["samples"] == 2
    assert 0 < line["useful_share"] <= 1 and line["tokens_per_s"] > 0
    assert line["compilations"]["total"] > 0
    (run,) = json.loads((tmp_path / "slots.json").read_text())["runs"]
    assert run["slots"] == 8 and run["prefill"] and run["decode"]
    assert all(busy <= 4 for _, _, busy in run["decode"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "arguments", "expected"),
    [
        ("even", "--prompts 2 --samples 2 --prompt 8 --new 4 --rounds 1", 2),
        ("shared", "--prompts 1 --samples 4 --prompt 8 --new 4 --rounds 1", 2),
        ("long", "--tokens 200 --sampler slots=4", 1),
        ("int8", "--prompts 2 --new 4", 2),
        ("fingerprints", "--prompts 3 --new 4", 5),
        ("roofline", "--rows 2 --prompt 8 --new 8 --profile", 2),
    ],
)
def test_every_work_runs(work, arguments, expected, tiny_llama, tmp_path):
    found = lines(tmp_path, tiny_llama, work, *arguments.split())
    assert len(found) == expected
    systems = [line["system"] for line in found]
    assert systems[0] == "alignjax" and set(systems[1:]) <= {"alignjax", "products"}
    for line in found:
        assert line["machine"] and line["versions"]
        assert line["work"]["name"] in (work, "profile")
