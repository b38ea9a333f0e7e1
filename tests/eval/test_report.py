# SPDX-License-Identifier: Apache-2.0
"""The report of a run: the numbers of its files, one page that loads nothing."""

import base64
import copy
import dataclasses
import hashlib
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from alignjax.eval import page, report, run_files
from alignjax.eval.run_files import visible

# How often an answer passes, before and after, in the made-up run.
RATES = {
    "bullets": (0.25, 0.67),
    "capital_words": (0.17, 0.42),
    "end_question": (0.17, 0.75),
    "forbidden_word": (0.92, 0.92),
    "include_word": (0.58, 0.75),
    "json": (0.00, 0.08),
    "lowercase": (0.25, 0.92),
    "no_commas": (0.42, 0.83),
    "no_digits": (0.92, 0.83),
    "paragraphs": (0.33, 0.33),
    "quoted": (0.00, 0.58),
    "sentences_max": (0.67, 0.83),
    "start_phrase": (0.08, 0.50),
    "uppercase": (0.25, 0.75),
    "words_max": (0.50, 0.75),
    "words_min": (0.58, 0.50),
}
TASKS = {
    "s004": (
        "What is a hammer used for? Answer in a sentence or two.",
        "A hammer is used to drive nails into wood, fit parts together, and break "
        "things apart. Its heavy head turns a small swing into a large force.",
    ),
    "s006": (
        "What was the purpose of the Great Wall of China? Answer briefly.",
        "The Great Wall was built to protect the northern border against raids. It "
        "also helped to control trade and travel along the Silk Road.",
    ),
    "s009": (
        "Why is a good night's sleep important? Answer in one or two sentences.",
        "Sleep lets the body repair itself and the brain sort what it has learned. "
        "Too little of it harms mood, memory and health.",
    ),
    "s011": (
        "When is the best time to water tomatoes? Answer briefly.",
        "Early morning is best, so that the leaves dry during the day. Water deeply "
        "two or three times a week instead of a little every day.",
    ),
    "s012": (
        "What should I pack for a weekend at the beach?",
        "Bring sunscreen, a towel, a hat, swimwear and plenty of water. A light "
        "jacket helps in the evening, and a book passes the time.",
    ),
    "s015": (
        "How does a bicycle stay upright?",
        "A moving bicycle steers itself into a lean, which brings the wheels back "
        "under the rider. Small corrections with the handlebar do the rest.",
    ),
}
PER_TYPE = 12


def make_run(folder: Path) -> Path:
    """A whole run, about as large as the quickstart, with invented numbers."""
    rng = random.Random(7)
    words = {
        when: _evaluation(folder / f"eval-{when}", when) for when in ("before", "after")
    }
    assert words["before"] != words["after"]
    _json(folder / "data" / "report.json", _data(rng))
    steps = 120
    lines = [json.dumps(_step(step, steps, rng)) for step in range(1, steps + 1)]
    (folder / "train").mkdir()
    (folder / "train" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    summary = {
        "objective": "preference",
        "steps": steps,
        "examples": 1210,
        "pairs": 2711,
        "too_long": 4,
        "tokens": 812_344,
        "wall_s": 318.4,
    }
    _json(folder / "train" / "summary.json", summary)
    stages = [
        ("fetch", "alignjax fetch", 0.4),
        ("data", "data-gen run", 412.7),
        ("eval-before", "alignjax eval", 61.9),
        ("train", "alignjax train", 324.1),
        ("eval-after", "alignjax eval", 58.2),
    ]
    pipeline = {
        "model": "smollm2",
        "seed": 0,
        "stages": [
            {
                "name": name,
                "command": command,
                "wall_s": wall_s,
                "status": "run",
                "inputs": {},
                "outputs": {},
            }
            for name, command, wall_s in stages
        ],
        "wall_s": 857.3,
    }
    _json(folder / "pipeline.json", pipeline)
    return folder


def _evaluation(folder: Path, when: str) -> dict[str, Any]:
    rng = random.Random(when)
    rows = []
    for kind, rates in RATES.items():
        rate = rates[when == "after"]
        for index in range(PER_TYPE):
            root = list(TASKS)[index % len(TASKS)]
            task, text = TASKS[root]
            is_pass = index < round(rate * PER_TYPE)
            is_topical = rng.random() < 0.95
            text = f"Sure! {text}" if when == "before" else text.split(". ")[0] + "."
            if kind == "lowercase" and is_pass:
                text = text.lower()
            if kind == "uppercase" and is_pass:
                text = text.upper()
            verdict = "pass" if is_pass else rng.choice(["fail"] * 9 + ["ambiguous"])
            rows.append(
                {
                    "id": f"{kind}-{index:02}",
                    "root_id": root,
                    "type": kind,
                    "task": task,
                    "prompt": f"{task}\nConstraint: {kind.replace('_', ' ')}.",
                    "answer": text,
                    "tokens": round(len(text) / 4.2) + rng.randrange(12),
                    "finish_reason": "length" if rng.random() < 0.03 else "stop",
                    "verdict": verdict,
                    "gates": {
                        "long_enough": True,
                        "not_repetitive": rng.random() < 0.98,
                        "on_topic": is_topical,
                    },
                    "similarity": round(
                        rng.uniform(0.5, 0.95) if is_topical else 0.21, 4
                    ),
                }
            )
    folder.mkdir(parents=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8")
    results = _results(rows, when)
    _json(folder / "results.json", results)
    return results


def _results(rows: list[dict[str, Any]], when: str) -> dict[str, Any]:
    by_type: dict[str, dict[str, int]] = {}
    for row in rows:
        entry = by_type.setdefault(
            row["type"], {"n": 0, "passed": 0, "gated_passed": 0}
        )
        entry["n"] += 1
        entry["passed"] += row["verdict"] == "pass"
        entry["gated_passed"] += row["verdict"] == "pass" and all(row["gates"].values())
    tokens = [row["tokens"] for row in rows]
    is_after = when == "after"
    return {
        "model": "smollm2",
        "adapter": "train/adapter" if is_after else None,
        "split": "test",
        "seed": 0,
        "constraint": {
            "accuracy": sum(e["passed"] for e in by_type.values()) / len(rows),
            "gated_accuracy": sum(e["gated_passed"] for e in by_type.values())
            / len(rows),
            "n": len(rows),
            "ambiguous": sum(row["verdict"] == "ambiguous" for row in rows),
            "by_type": by_type,
        },
        "gates": {
            "thresholds": {
                "min_words": 5,
                "max_repetition": 0.3,
                "min_similarity": 0.35,
            },
            "own_task_pass_rate": 0.9811,
            "other_task_pass_rate": 0.0312,
            "n_own": 53,
            "n_other": 2756,
        },
        "preference": {
            "accuracy": 0.79 if is_after else 0.468,
            "margin": 9.42 if is_after else 0.0,
            "chosen_logprob": -58.31 if is_after else -61.27,
            "rejected_logprob": -66.4 if is_after else -59.9,
            "n": 94,
        },
        "length": {
            "mean_tokens": sum(tokens) / len(tokens),
            "mean_words": 24.0,
            "tokens": tokens,
        },
        "truncated": sum(row["finish_reason"] == "length" for row in rows) / len(rows),
        "wall_s": 58.2,
    }


def _data(rng: random.Random) -> dict[str, Any]:
    ecd = [
        (0, "tasks", 620), (0, "answered", 588),
        (1, "constrained", 588), (1, "sampled", 331), (1, "witness", 240),
        (1, "pairs", 571), (1, "exported", 560),
        (2, "constrained", 571), (2, "sampled", 214), (2, "witness", 301),
        (2, "pairs", 515), (2, "exported", 402),
    ]  # fmt: skip
    contrast = [
        (0, "tasks", 260), (0, "targets", 251), (0, "distinct", 1844),
        (0, "dissimilar", 1372), (0, "pairs", 248), (0, "exported", 248),
    ]  # fmt: skip
    rows = [("ecd", *row) for row in ecd] + [
        ("self_contrast", *row) for row in contrast
    ]
    names = ("strategy", "round", "stage", "count")
    cosines = sorted(min(0.99, max(0.1, rng.gauss(0.72, 0.13))) for _ in range(461))
    fates = {"kept": [], "unused": [], "dropped": []}
    for cosine in cosines:
        is_similar = cosine + rng.gauss(0, 0.06) > 0.81
        fate = "dropped" if is_similar else rng.choice(["kept", "kept", "unused"])
        fates[fate].append(round(cosine, 6))
    return {
        "waterfall": [dict(zip(names, row, strict=True)) for row in rows],
        "rejected": {"most_similar": 472, "violates": 2904, "witness_share": 124},
        "pairs": 1210,
        "by_strategy": {"ecd": 962, "self_contrast": 248},
        "by_type": {kind: 40 for kind in RATES},
        "chosen_kinds": {"sample": 793, "witness": 417, "given": 0},
        "lengths": {
            "chosen_tokens": [40] * 793,
            "rejected_tokens": [41] * 2600,
            "chosen_words": [max(3, round(rng.gauss(31, 11))) for _ in range(242)],
            "rejected_words": [max(3, round(rng.gauss(33, 12))) for _ in range(542)],
        },
        "cosines": fates,
        "tokens_per_s": 911.0,
        "wall_s": 398.0,
    }


def _step(step: int, steps: int, rng: random.Random) -> dict[str, float]:
    done = 1 - math.exp(-3 * step / steps)
    dpo = math.log(2) - 0.4 * done + rng.gauss(0, 0.03) * (step > 1)
    nll = 1.52 - 0.16 * done + rng.gauss(0, 0.05)
    return {
        "step": step,
        "loss": dpo + 0.1 * nll,
        "dpo": dpo,
        "nll": nll,
        "margin": 1.3 * done + rng.gauss(0, 0.1) * (step > 1),
        "accuracy": min(1.0, 0.5 + 0.38 * done + rng.gauss(0, 0.04)),
        "chosen_logprob": -60 + 3 * done + rng.gauss(0, 1.5),
        "rejected_logprob": -60 - 9 * done + rng.gauss(0, 1.5),
        "learning_rate": 1e-4 * (1 - step / steps),
        "grad_norm": 1.0,
        "tokens": 6700,
        "step_s": 2.6,
    }


def _json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and text."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.data: dict[str, tuple[str, str]] = {}
        self.raw: dict[str, str] = {"script": "", "style": ""}
        self.feed(html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        if inside in self.raw:
            self.raw[inside] += data
            return
        self.texts.append(data)
        if inside == "data":
            attributes = self.elements[-1][1]
            key, value = attributes["data-key"], attributes["value"]
            assert key is not None and value is not None
            self.data[key] = (value, data)

    def tags(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in names]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A whole run with its report; tests copy it or only read it."""
    run = make_run(tmp_path_factory.mktemp("runs") / "quickstart")
    report.write_report(run, run / "report.html")
    return run


@pytest.fixture(scope="module")
def found(whole) -> run_files.Run:
    """The files of the whole run."""
    return run_files.read(whole)


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of the run that a test may damage."""
    ignored = shutil.ignore_patterns("report.html")
    folder = shutil.copytree(whole, tmp_path / "quickstart", ignore=ignored)
    (folder / "report.json").unlink()
    return folder


def page_of(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def collected(run: Path) -> dict[str, Any]:
    return report.collect(run_files.read(run))


def with_results(found: run_files.Run, change) -> dict[str, Any]:
    """The report's numbers if eval-after/results.json were another."""
    content = copy.deepcopy(found.after.results.content)
    change(content)
    results = dataclasses.replace(found.after.results, content=content)
    after = dataclasses.replace(found.after, results=results)
    return report.collect(dataclasses.replace(found, after=after))


def test_the_page_shows_the_numbers_of_the_json_file(whole):
    numbers = json.loads((whole / "report.json").read_text())
    found = page_of(whole).data
    for key, (value, _) in found.items():
        expected: Any = numbers
        for name in key.split("."):
            expected = expected[name]
        assert float(value) == expected, key
    before = numbers["constraint_accuracy"]["before"]
    after = numbers["constraint_accuracy"]["after"]
    assert found["constraint_accuracy.before"][1] == f"{100 * before:.1f} %"
    assert found["constraint_accuracy.after"][1] == f"{100 * after:.1f} %"
    assert f"+{100 * (after - before):.1f} points" in page_of(whole).text
    assert found["chosen_logprob.after"][1] == "−58.3"
    assert found["wall_s"][1] == "14 min 17 s"
    assert set(numbers["stages"]) == {
        key.split(".")[1] for key in found if key.startswith("stages.")
    }


def test_the_json_file_holds_the_numbers_of_the_run(whole):
    numbers = json.loads((whole / "report.json").read_text())
    passed = [round(PER_TYPE * rate) for rate, _ in RATES.values()]
    assert numbers["format"] == "alignjax-report/1"
    assert numbers["constraint_accuracy"]["before"] == pytest.approx(
        sum(passed) / (PER_TYPE * len(RATES))
    )
    assert numbers["preference_accuracy"] == {
        "before": 0.468,
        "after": 0.79,
        "change": 0.322,
    }
    assert numbers["preference_margin"]["after"] == 9.42
    assert numbers["chosen_logprob"]["change"] == 2.96  # -58.31 + 61.27
    assert numbers["by_type"]["lowercase"]["n"] == 12
    assert numbers["by_type"]["lowercase"]["before"] == 3 / 12
    assert numbers["by_type"]["lowercase"]["after"] == 11 / 12
    assert numbers["gates"]["thresholds"]["min_similarity"] == 0.35
    assert numbers["gates"]["own_task_pass_rate"] == 0.9811
    assert numbers["gates"]["other_task_pass_rate"] == 0.0312
    assert numbers["pairs"] == 1210
    assert numbers["witness_share"] == 417 / 1210
    assert numbers["wall_s"] == 857.3
    assert numbers["stages"]["train"] == 324.1
    assert (numbers["seed"], numbers["model"]) == (0, "smollm2")
    assert sum(numbers["changes"].values()) == PER_TYPE * len(RATES)


def test_every_plot_has_a_caption_and_its_numbers_as_a_table(whole):
    page = page_of(whole)
    plots = [a for a in page.tags("div") if a.get("role") == "img"]
    assert len(plots) == len(page.tags("figcaption")) == len(page.tags("svg")) == 9
    assert all(attributes["aria-label"] for attributes in plots)
    assert len(page.tags("details")) == 9
    assert "lowercase 12 25.0 91.7" in page.text  # prompts, before, after
    assert "ecd 2 exported 402" in page.text


def test_ids_are_unique_and_every_reference_resolves(whole):
    html = (whole / "report.html").read_text(encoding="utf-8")
    ids = [a["id"] for _, a in page_of(whole).elements if "id" in a]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html))
    assert {a or b for a, b in used} <= set(ids)


def assert_loads_nothing(page: Page) -> None:
    known = "link img iframe object embed base video audio source image foreignobject"
    assert page.tags(*known.split()) == []
    assert [set(attributes) for attributes in page.tags("script")] == [set()]
    loading = {"src", "href", "xlink:href", "srcset", "poster", "data", "action"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in loading:
                assert (value or "").startswith("#"), (tag, name, value)
            if name in ("style", "fill", "stroke", "mask", "filter", "clip-path"):
                assert "url(" not in (value or "").replace("url(#", ""), (tag, name)
    assert "@import" not in page.raw["style"]
    assert "url(" not in page.raw["style"].replace("url(#", "")


def test_the_page_loads_nothing(whole):
    assert_loads_nothing(page_of(whole))


def test_the_content_policy_lets_only_the_pages_own_script_run(whole):
    page = page_of(whole)
    (policy,) = [a["content"] for a in page.tags("meta") if "http-equiv" in a]
    digest = hashlib.sha256(page.raw["script"].encode()).digest()
    assert policy is not None
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert "default-src 'none'" in policy


HOSTILE = (
    "<script>alert(1)</script></p></article><img src=http://x.example onerror=alert(2)>"
    "\x1b[31mred\x1b[0m\x07\x00\x9b2J \u202egnp.exe {{ 7 * 7 }} </style> &lt;b&gt;"
    " <!-- \" onmouseover='alert(3)' url(http://x.example) \u2028 é"
)


def test_hostile_text_is_shown_and_does_nothing(run):
    path = run / "eval-after" / "answers.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    for row in rows:
        row["answer"] = row["prompt"] = HOSTILE
        row["verdict"] = HOSTILE
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def rename(results):
        results["constraint"]["by_type"][HOSTILE] = {
            "n": 1,
            "passed": 1,
            "gated_passed": 1,
        }

    edit(run / "eval-after" / "results.json", rename)
    edit(run / "pipeline.json", lambda p: p["stages"][0].update(name=HOSTILE))
    edit(run / "pipeline.json", lambda p: p.update(model=HOSTILE))
    edit(
        run / "data" / "report.json", lambda d: d["waterfall"][0].update(stage=HOSTILE)
    )
    numbers = report.write_report(run, run / "report.html")
    page = page_of(run)
    assert_loads_nothing(page)
    assert "<script>alert(1)</script></p>" in page.text
    assert "␛[31mred␛[0m␇␀⟨U+009B⟩2J ⟨U+202E⟩gnp.exe {{ 7 * 7 }}" in page.text
    written = (run / "report.html").read_text("utf-8")
    written += (run / "report.json").read_text("utf-8")
    written += "\n".join(report.summary_lines(numbers))
    for character in "\x00\x07\x1b\x9b\u202e":
        assert character not in written


def test_visible_text_keeps_lines_tabs_and_all_scripts():
    text = "a\tb\nc é 東京 👩‍🚀 עברית"
    assert visible(text) == text
    assert visible("\r\x7f\ud800\u2066") == "␍␡⟨U+D800⟩⟨U+2066⟩"


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        (
            ["data", "train", "pipeline.json"],
            {"pairs": None, "witness_share": None, "wall_s": None, "stages": {}},
        ),
        (["eval-after", "eval-before/answers.jsonl"], {"changes": None, "seed": 0}),
    ],
)
def test_missing_parts_are_named_and_are_no_error(run, parts, missing):
    for part in parts:
        path = run / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    numbers = report.write_report(run, run / "report.html")
    assert "not part of this run" in page_of(run).text
    assert {name: numbers[name] for name in missing} == missing
    assert report.summary_lines(numbers)


def test_a_run_without_self_contrast_and_held_out_pairs_says_so(run):
    def only_ecd(data):
        data["waterfall"] = [r for r in data["waterfall"] if r["strategy"] == "ecd"]
        data["cosines"] = {"kept": [], "unused": [], "dropped": []}

    edit(run / "data" / "report.json", only_ecd)
    edit(run / "eval-after" / "results.json", lambda r: r.update(preference=None))
    for part in ("train", "eval-before", "eval-after/answers.jsonl"):
        path = run / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    numbers = report.write_report(run, run / "report.html")
    assert "Self-Contrast: not part of this run" in page_of(run).text
    assert numbers["preference_accuracy"]["after"] is None
    assert numbers["preference_pairs"] is None


def test_one_part_is_enough(run):
    for part in ("data", "eval-before", "eval-after", "pipeline.json"):
        path = run / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    numbers = collected(run)
    assert numbers["pairs"] == 2711
    assert numbers["constraint_accuracy"]["after"] is None


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nothing to report; expected a run's folder"):
        report.write_report(tmp_path, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_page_must_be_named_html(whole, tmp_path):
    with pytest.raises(ValueError, match=r"report\.json: the report is an HTML page"):
        report.write_report(whole, tmp_path / "report.json")


def cut(text: str) -> str:
    return text[: len(text) // 2]


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (
            "eval-after/results.json",
            cut,
            r"results\.json is not valid JSON at line \d+",
        ),
        ("train/metrics.jsonl", lambda t: t + "{", r"metrics\.jsonl:121:\d+: not JSON"),
        (
            "train/metrics.jsonl",
            lambda t: t.replace('"dpo": 0', '"dpo": "0', 1).replace(
                ', "nll', '", "nll', 1
            ),
            r"metrics\.jsonl:1: 'dpo' must be a number, got '0\.",
        ),
        (
            "eval-after/answers.jsonl",
            lambda t: t.replace('"verdict"', '"other"', 1),
            r"answers\.jsonl:1: field 'verdict' is missing",
        ),
        (
            "eval-before/results.json",
            lambda t: t.replace('"gated_accuracy"', '"gated"'),
            r"eval-before/results\.json: field 'constraint\.gated_accuracy' is missing",
        ),
        (
            "pipeline.json",
            lambda t: t.replace('"wall_s": 0.4', '"wall_s": "0.4"'),
            r"pipeline\.json: stages\[0\]: field 'wall_s' is damaged",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_line(run, file, damage, message):
    path = run / file
    path.write_text(damage(path.read_text("utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        report.write_report(run, run / "report.html")
    assert not (run / "report.html").exists()


def test_the_same_run_gives_the_same_bytes_in_another_process(run, whole, tmp_path):
    """Also with another hash seed and with a matplotlibrc of the user's own; pyplot,
    which has global state, stays out."""
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: path\n")
    code = (
        "import pathlib, sys\n"
        "from alignjax.eval import report\n"
        "assert 'matplotlib' not in sys.modules\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "report.write_report(run, run / 'report.html')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'jax' not in sys.modules\n"
    )
    root = Path(report.__file__).parents[2]
    path = os.environ | {
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": str(root),
        "MATPLOTLIBRC": str(tmp_path),
    }
    command = [sys.executable, "-W", "error", "-c", code, str(run)]
    subprocess.run(command, check=True, env=path, timeout=60)
    for name in ("report.html", "report.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def test_a_good_run_has_no_warnings(found):
    numbers = with_results(found, lambda r: r["length"].update(mean_tokens=30))
    assert numbers["warnings"] == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (
            lambda r: r["preference"].update(accuracy=0.4),
            "preference accuracy fell by 6.8 points",  # 46.8 - 40
        ),
        (
            lambda r: r["length"].update(mean_tokens=10),
            "answers became much shorter: 10.0 tokens on average",
        ),
        (
            # 1.2 * -61.27 = -73.5
            lambda r: r["preference"].update(chosen_logprob=-74),
            "preferred answers became much less likely: log p is -74.0",
        ),
        (
            lambda r: r["constraint"].update(gated_accuracy=0.4),
            "points were gained, but only",
        ),
        (
            # before: 3 of 12
            lambda r: r["constraint"]["by_type"]["lowercase"].update(passed=0),
            "types of constraint that are met less often: lowercase 25 % to 0 %",
        ),
        (
            lambda r: r.update(truncated=0.25),
            "25 % of the answers were cut off",
        ),
        (
            lambda r: r["gates"].update(other_task_pass_rate=0.051),
            "5.1 % of those to another task (at most 5 %)",
        ),
        (
            lambda r: r["gates"].update(own_task_pass_rate=0.949),
            "the gates pass 94.9 % of the untrained model's answers to the task",
        ),
        (
            lambda r: r.update(split="validation"),
            "before and after differ in split: 'test' and 'validation'",
        ),
        (
            lambda r: r["constraint"].update(accuracy=0.9),
            "eval-after: results.json says accuracy 0.9000, answers.jsonl",
        ),
    ],
)
def test_what_looks_bad_is_a_warning(found, change, warning):
    warnings = with_results(found, change)["warnings"]
    assert any(warning in text for text in warnings), warnings


def test_many_edited_answers_are_a_warning(found):
    kinds = {"sample": 400, "witness": 600}
    content = {**found.data.content, "chosen_kinds": kinds}
    data = dataclasses.replace(found.data, content=content)
    warnings = report.collect(dataclasses.replace(found, data=data))["warnings"]
    assert any("60 % of the preferred answers are edits" in w for w in warnings)


def test_different_prompts_are_no_comparison(found):
    answers = dict(list(found.before.answers.items())[1:])
    before = dataclasses.replace(found.before, answers=answers)
    warnings = report.collect(dataclasses.replace(found, before=before))["warnings"]
    assert "before and after were measured on different prompts" in warnings


def test_not_a_number_is_a_missing_number(run):
    """numpy's mean of nothing is NaN, which json.dumps writes."""
    for path in run.glob("eval-*/answers.jsonl"):
        path.unlink()
    edit(run / "eval-after" / "results.json", lambda r: r.update(truncated=math.nan))
    assert collected(run)["truncated"]["after"] is None


def answer(name: str, kind: str, verdict: str, root: str = "s1") -> dict[str, Any]:
    gates = {"long_enough": True, "not_repetitive": True, "on_topic": True}
    texts = {"prompt": "", "answer": "", "verdict": verdict, "gates": gates}
    return {"id": name, "root_id": root, "type": kind, **texts}


def test_the_interval_takes_tasks_as_the_draws():
    """Task a changes by +1 and 0, task b by +1 and +1: mean 0.75, n = 4, C = 2.

    Summed deviations 1 - 2 * 0.75 = -0.5 and 2 - 2 * 0.75 = 0.5, squares 0.5, times
    C / (C - 1) = 2: 1.0; standard error sqrt(1) / 4 = 0.25; 0.75 - 1.96 * 0.25 = 0.26,
    and the upper end, 1.24, is cut at 1.
    """
    verdicts = [("a", "fail", "pass"), ("a", "fail", "ambiguous")]
    verdicts += [("b", "fail", "pass"), ("b", "ambiguous", "pass")]
    pairs = [
        (answer("", "", old, root), answer("", "", new, root))
        for root, old, new in verdicts
    ]
    assert report._interval(pairs, run_files.passes) == [0.26, 1.0]


def test_histogram_bins_have_a_round_width():
    """A range of 47 in 24 bins needs 1.96 a bin: 2 is the next round width."""
    found = report._histogram({"a": [1, 2, 3.9, 48], "b": [10]}, least=1)
    assert found is not None
    assert found["edges"][:3] == [0, 2, 4] and found["edges"][-1] == 50
    assert found["counts"]["a"][:2] == [1, 2] and found["counts"]["a"][-1] == 1
    assert found["counts"]["b"][5] == 1 and sum(found["counts"]["b"]) == 1
    assert found["means"]["a"] == pytest.approx(13.725)  # (1 + 2 + 3.9 + 48) / 4


def test_samples_are_balanced_over_changes_and_types():
    """20 fixed, 2 broken and 50 unchanged prompts: six are two of each, and the two
    fixed ones are of different types."""
    changes = [("fail", "pass")] * 20 + [("pass", "fail")] * 2 + [("fail", "fail")] * 50
    before, after = {}, {}
    for index, (old, new) in enumerate(changes):
        kind = "rare" if index == 7 else "common"
        before[f"p{index}"] = answer(f"p{index}", kind, old)
        after[f"p{index}"] = answer(f"p{index}", kind, new)
    chosen = page.choose(before, after, 6)
    assert [s.change for s in chosen] == ["fixed"] * 2 + ["broken"] * 2 + ["same"] * 2
    assert {s.type for s in chosen[:2]} == {"rare", "common"}
    assert len(page.choose(before, after, 100)) == 72


def test_samples_can_be_filtered_by_type_and_change(whole):
    shown = page_of(whole)
    samples = [a for a in shown.tags("article") if a.get("class") == "sample"]
    assert len(samples) == 12
    offered = {a.get("value") for a in shown.tags("option")}
    assert {a["data-type"] for a in samples} <= offered
    assert {a["data-change"] for a in samples} == {"fixed", "broken", "same"} <= offered


def test_long_curves_are_averaged(found):
    """700 steps in stretches of ceil(700 / 300) = 3: the first mean is of 1, 2, 3."""
    metrics = [{"step": step, "loss": float(step)} for step in range(1, 701)]
    numbers = report.collect(dataclasses.replace(found, metrics=metrics))
    curves = numbers["training"]["curves"]
    assert curves["loss"][0] == curves["step"][0] == 2.0
    assert len(curves["loss"]) == 234
    assert set(curves) == {"step", "loss"}


def test_the_summary_is_plain_and_signed(whole):
    numbers = json.loads((whole / "report.json").read_text())
    lines = report.summary_lines(numbers)
    assert all(line.isascii() for line in lines)
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert "preference accuracy 46.8 % -> 79.0 % +32.2 points" in text
    assert "log p of preferred answers -61.3 -> -58.3 +3.0 nats" in text
    assert "pairs, all splits 1,210" in text
    assert "time 14 min 17 s data 6 min 53 s, train 5 min 24 s" in text
    assert lines[-1].startswith("warning: answers became much shorter")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (8.25, "8.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (192, "3 min 12 s"),
        (3839, "1 h 03 min"),
        (None, "–"),
    ],
)
def test_durations(seconds, text):
    assert page.duration(seconds) == text
