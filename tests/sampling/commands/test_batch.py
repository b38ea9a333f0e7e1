# SPDX-License-Identifier: Apache-2.0
"""Batches with a scripted sampler: what is asked, what is written, and that a run which
was stopped ends as one which was not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alignjax.sampling import Request, Result
from alignjax.sampling.commands import answers, batch, prompts
from alignjax.sampling.commands.batch import Command, Job, Pace, Summary
from alignjax.sampling.commands.prompts import Prompt
from alignjax.sampling.sampler import Tick

FACTS = {"model": "m", "slots": "4"}
COMMAND = Command(settings={"max_new_tokens": 8}, n=2, seed=5)
LINES = [
    {"prompt": "ab", "id": "x"},
    {"prompt": "abc", "n": 5},
    {"prompt": "no", "settings": {"temperature": -1}},
    {"text": "abcd", "n": 1, "seed": 3, "settings": {"top_k": 2}},
    "broken",
    {"prompt": "", "n": 2},
]


class Scripted:
    """Samples the number of the sample, then as many 7s as the prompt has tokens. The
    last request comes first, a prompt of 99 tokens is refused, and after `most` answers
    the user presses Ctrl-C."""

    def __init__(self, most: int | None = None):
        self.steps = self.useful = 0
        self.on_tick: Callable[[Tick], None] | None = None
        self.asked: list[Request] = []
        self.most = most

    def generate(self, requests: Iterable[Request | None]) -> Iterator[Result]:
        self.asked = [request for request in requests if request is not None]
        wanted = [
            (request, request.first + i)
            for request in self.asked
            for i in range(request.n)
        ]
        for number, (request, sample) in enumerate(reversed(wanted)):
            if number == self.most:
                raise KeyboardInterrupt
            count = len(request.tokens)
            if count == 99:
                yield Result(request.id, sample, (), "", (), "refused", "too long")
                continue
            tokens = (sample, *(7 for _ in request.tokens))
            self.steps += 8
            self.useful += len(tokens)
            if self.on_tick is not None:
                self.on_tick(Tick("decode", 0.0, 1, 4, len(tokens)))
            text = f"{request.seed} {request.settings.top_k} {sample}"
            logprobs = (-0.5, *(-0.25 for _ in request.tokens))
            yield Result(request.id, sample, tokens, text, logprobs, "length")


def encode(prompt: Prompt) -> list[int]:
    text = prompt.text or prompt.messages[0].content
    if text == "refuse":
        raise ValueError("the template does not like it")
    return [1] * len(text)


class Files:
    """A prompts file and its answers, in a folder."""

    def __init__(self, folder: Path):
        self.prompts, self.out = folder / "prompts.jsonl", folder / "answers.jsonl"
        self.write(LINES)

    def write(self, lines: Sequence[Any]) -> None:
        texts = [x if isinstance(x, str) else json.dumps(x) for x in lines]
        self.prompts.write_text("".join(f"{text}\n" for text in texts))

    def jobs(self, command: Command = COMMAND) -> list[Job]:
        return batch.plan(prompts.read(str(self.prompts)), command, FACTS)

    def run(
        self, most: int | None = None, command: Command = COMMAND
    ) -> tuple[Summary, list[Request]]:
        """The summary, and what was asked of the sampler."""
        sampler = Scripted(most)
        jobs = self.jobs(command)
        keys = [key for job in jobs for key in job.keys]
        with answers.opened(self.out, keys) as rows:
            summary = batch.run(
                jobs,
                rows,
                encode=encode,
                source=lambda: sampler,
                logprobs=command.logprobs,
            )
        return summary, sampler.asked

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def shown(request: Request) -> tuple[str, int, int]:
    return request.id, request.first, request.n


def test_every_line_is_answered_or_refused(files: Files):
    """2 + 5 + 1 answers; 1 + 1 lines and 2 samples of the empty prompt are refused. The
    logprobs of "ab" sum to -0.5 - 2 * 0.25 = -1."""
    summary, asked = files.run()
    assert [shown(request) for request in asked] == [
        ("x", 0, 2),
        ("2", 0, 5),
        ("4", 0, 1),
    ]
    rows = files.rows()
    assert [(row["id"], row["sample"]) for row in rows] == [
        *(("x", i) for i in range(2)),
        *(("2", i) for i in range(5)),
        ("3", 0),
        ("4", 0),
        ("5", 0),
        *(("6", i) for i in range(2)),
    ]
    seed = files.jobs()[0].seed
    assert rows[0] == {
        "key": files.jobs()[0].keys[0],
        "id": "x",
        "sample": 0,
        "seed": seed,
        "text": f"{seed} 0 0",
        "finish_reason": "length",
        "tokens": [0, 7, 7],
        "logprob": -1.0,
    }
    assert rows[8]["text"] == "3 2 0"  # the line's own seed and settings
    refused = [row for row in rows if row["finish_reason"] == "refused"]
    assert [row["reason"] for row in refused] == [
        "line 3: settings: temperature must be 0 (greedy) or at least 1e-30, got -1.0",
        "line 5:1: not JSON: Expecting value",
        "line 6: request 6: the prompt is empty",
        "line 6: request 6: the prompt is empty",
    ]
    assert {row["text"] for row in refused} == {""}
    assert (summary.rows, summary.answers, summary.refused) == (12, 8, 4)
    assert summary.tokens == 2 * 3 + 5 * 4 + 5
    assert (summary.steps, summary.useful) == (64, 31)


@pytest.mark.parametrize("most", range(9))
def test_an_interrupted_run_ends_as_one_that_was_not(files: Files, most: int):
    """Wherever it stops; what was there is not asked again."""
    files.run()
    expected = files.out.read_bytes()
    files.out.unlink()
    if most < 8:
        with pytest.raises(KeyboardInterrupt):
            files.run(most)
        assert len(files.rows()) == most + 4  # what is refused comes first
    _, asked = files.run()
    assert sum(request.n for request in asked) == (8 - most or 8)
    assert files.out.read_bytes() == expected


def test_a_kill_at_any_byte_ends_as_a_run_that_was_not(files: Files):
    """The file as it was written, cut anywhere."""
    files.run()
    expected = files.out.read_bytes()
    files.out.unlink()
    with pytest.raises(KeyboardInterrupt):
        files.run(7)
    written = files.out.read_bytes()
    for size in range(0, len(written), 37):
        files.out.write_bytes(written[:size])
        files.run()
        assert files.out.read_bytes() == expected


def test_missing_samples_are_asked_in_runs(files: Files):
    """Of five samples 1 and 4 are there: 0, then 2 and 3."""
    files.run()
    kept = [row for row in files.rows() if row["id"] != "2" or row["sample"] in (1, 4)]
    lines = [json.dumps(row) + "\n" for row in kept]
    expected = files.out.read_bytes()
    files.out.write_text("".join(lines))
    _, asked = files.run()
    assert [shown(request) for request in asked] == [("2", 0, 1), ("2", 2, 2)]
    assert files.out.read_bytes() == expected


def test_a_finished_file_needs_no_sampler(files: Files):
    files.run()
    jobs = files.jobs()
    with answers.opened(files.out, [k for job in jobs for k in job.keys]) as rows:
        summary = batch.run(jobs, rows, encode=encode, source=lambda: pytest.fail("no"))
    assert summary.lines()[0] == "nothing was left to do: all 12 lines are there"
    assert summary.refused == 4


def test_what_cannot_be_encoded_or_sampled_is_refused_alone(files: Files):
    files.write([{"prompt": "refuse"}, {"prompt": "a" * 99}, {"prompt": "a"}])
    summary, _ = files.run()
    reasons = [row.get("reason") for row in files.rows()]
    assert reasons == [
        *["line 1: the template does not like it"] * 2,
        *["line 2: too long"] * 2,
        None,
        None,
    ]
    assert summary.lines() == [
        summary.lines()[0],
        "4 refused, with the reason in the file:",
        "  line 1: the template does not like it",
        "  line 2: too long",
    ]


def test_lines_and_samples_may_be_added(files: Files):
    files.write(LINES[:1])
    files.run()
    first = files.out.read_bytes()
    files.write([LINES[0], {"prompt": "new"}])
    _, asked = files.run()
    assert [shown(request) for request in asked] == [("2", 0, 2)]
    assert files.out.read_bytes().startswith(first)
    _, asked = files.run(command=Command({"max_new_tokens": 8}, n=3, seed=5))
    assert [shown(request) for request in asked] == [("x", 2, 1), ("2", 2, 1)]


def test_the_key_covers_all_that_decides_a_sample(files: Files):
    """Each change of one thing changes all keys of the first line, and of no other
    line where it concerns that line alone."""
    turns = [{"role": "user", "content": "ab"}]
    changes: tuple[dict[str, Any], ...] = (
        {"id": "y"},
        {"seed": 6},
        {"settings": {"stop": ["."]}},
        {"messages": [*turns, {"role": "assistant", "content": "ab"}]},
        {"messages": [{"role": "system", "content": "ab"}]},
        {"messages": None, "text": "ab"},
    )
    lines: list[dict[str, Any]] = [{"messages": turns, "id": "x"}, {"prompt": "abc"}]

    def keys(command: Command = COMMAND, **change: Any) -> list[tuple[str, ...]]:
        files.write([{**lines[0], **change}, lines[1]])
        return [job.keys for job in files.jobs(command)]

    first, second = keys()
    for change in changes:
        changed, other = keys(**change)
        assert not set(changed) & set(first), change
        assert other == second, change
    for command in (
        Command({"max_new_tokens": 9}, n=2, seed=5),
        Command({"max_new_tokens": 8}, n=2, seed=6),
        Command({"max_new_tokens": 8}, n=2, seed=5, logprobs=True),
    ):
        assert not {*first, *second} & {key for each in keys(command) for key in each}
    read = prompts.read(str(files.prompts))
    for facts in ({**FACTS, "slots": "8"}, {"model": "other", "slots": "4"}):
        changed = batch.plan(read, COMMAND, facts)
        assert not {*first, *second} & {key for job in changed for key in job.keys}
    assert len({*first, *second}) == 4


def test_the_same_said_otherwise_has_the_same_key(files: Files):
    """A text or a user's message, an integer or a float, a default spelled out."""
    files.write([{"prompt": "ab", "id": "x", "n": 2}])
    (one,) = files.jobs()
    turns = [{"role": "user", "content": "ab"}]
    settings = {"temperature": 1, "max_new_tokens": 8, "stop": []}
    files.write([{"messages": turns, "id": "x", "settings": settings, "n": 7}])
    (other,) = files.jobs()
    assert one.keys == other.keys[:2]


def test_lines_that_repeat_a_prompt_have_seeds_of_their_own(files: Files):
    """Unless they say so; --seed changes all but those."""
    files.write([{"prompt": "a"}, {"prompt": "a"}, {"prompt": "a", "seed": 9}])
    one, other, own = (job.seed for job in files.jobs())
    assert one != other
    assert own == 9
    for job in files.jobs(Command({}, seed=6)):
        assert (job.seed == 9) == (job.prompt.line == 3)
        assert 0 <= job.seed < 1 << 31
        assert job.seed not in (one, other)


def test_logprobs_are_written_where_asked_for(files: Files):
    files.write([{"prompt": "ab", "n": 1}])
    files.run(command=Command({}, logprobs=True))
    (row,) = files.rows()
    assert row["logprobs"] == [-0.5, -0.25, -0.25]
    assert row["logprob"] == -1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 0}, "samples must be from 1 to 65536, got 0"),
        ({"seed": -1}, r"seed must be in \[0, 2\^31\), got -1"),
        ({"settings": {"temperature": -1}}, "temperature must be 0 .* got -1"),
        ({"settings": {"top_n": 1}}, "no field 'top_n'; did you mean 'top_[kp]'"),
    ],
)
def test_a_wrong_command_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Command(**{"settings": {}, **fields})


class Clock:
    """Stands in for `time`: it moves only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_the_time_left_is_told_when_it_is_known(monkeypatch: pytest.MonkeyPatch):
    """Four slots; 100 answers are left. The first call (compilation, 60 s) does not
    count. Then 40 tokens in 2 s are 20 tokens/s. Three answers of 10 tokens: nothing is
    said, they may be the short ones. A fourth of 30: 15 tokens on average, so 100 * 15
    / 20 = 75 s."""
    clock = Clock()
    monkeypatch.setattr(batch, "time", clock)
    pace = Pace()
    pace.left = 100

    def finish(count: int) -> None:
        pace.add(Result("a", 0, (1,) * count, "", (0.0,) * count, "stop"))

    clock.now += 60
    pace.tick(Tick("prefill", 30.0, 4, 4, 32))
    pace.tick(Tick("decode", 30.0, 4, 4, 16))
    assert (pace.rate(), pace.remaining_s()) == (None, None)
    clock.now += 2
    pace.tick(Tick("decode", 2.0, 4, 4, 40))
    assert pace.rate() == 20.0
    for _ in range(3):
        finish(10)
        assert pace.remaining_s() is None
    finish(30)
    assert pace.remaining_s() == 75.0
    assert pace.note() == "60 tokens, 20 tokens/s"
    pace.add(Result("b", 0, (), "", (), "refused", "too long"))
    assert pace.remaining_s() == 75.0


def test_the_summary_tells_answers_speed_and_use():
    """600 tokens in 4 s; 600 of 800 slot-steps became tokens."""
    summary = Summary(
        rows=70, kept=20, answers=48, tokens=600, wall_s=4.0, steps=800, useful=600
    )
    assert summary.lines() == [
        "48 answers, 600 tokens in 4.0 s: 150 tokens/s, 75% of the slots useful; 20 "
        "lines were there already"
    ]
