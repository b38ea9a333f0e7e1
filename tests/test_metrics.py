# SPDX-License-Identifier: Apache-2.0
"""Metrics files: each step once, however often the run was killed."""

import pytest

from alignjax.metrics import JsonlWriter, read_jsonl


def test_rows_are_readable_before_the_file_is_closed(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"step": 1, "loss": 0.5, "note": "é"})
        assert read_jsonl(path) == [{"step": 1, "loss": 0.5, "note": "é"}]


@pytest.mark.parametrize("resume_step", [0, 1, 2, 3])
@pytest.mark.parametrize("torn", ["", '{"step":4,"lo', '{"step":4,"loss":4.0}', "\0\0"])
def test_resume_keeps_the_steps_done_and_writes_the_rest_once(
    tmp_path, resume_step, torn
):
    """Killed after step 3, resumed from any checkpoint: as if never killed."""
    path = tmp_path / "metrics.jsonl"
    with JsonlWriter(path) as writer:
        for step in (1, 2, 3):
            writer.write({"step": step, "loss": float(step)})
    with path.open("a") as file:
        file.write(torn)
    with JsonlWriter(path, resume_step) as writer:
        for step in range(resume_step + 1, 6):
            writer.write({"step": step, "loss": float(step)})
    expected = [{"step": step, "loss": float(step)} for step in (1, 2, 3, 4, 5)]
    assert read_jsonl(path) == expected


def test_a_new_run_starts_the_file_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"step": 1})
    JsonlWriter(path).close()
    assert path.read_bytes() == b""


def test_steps_rise(tmp_path):
    with JsonlWriter(tmp_path / "m.jsonl", resume_step=4) as writer:
        for step in (4, None, "5", True):
            with pytest.raises(ValueError, match="integer step greater than 4"):
                writer.write({"step": step})
        writer.write({"step": 7})
        with pytest.raises(ValueError, match="greater than 7"):
            writer.write({"step": 7})


def test_nonfinite_values_are_null_and_named(tmp_path):
    path = tmp_path / "m.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"step": 1, "loss": float("nan"), "lr": 1.0})
    assert read_jsonl(path) == [
        {"step": 1, "loss": None, "lr": 1.0, "nonfinite": ["loss"]}
    ]


def test_arrays_are_refused_by_name(tmp_path):
    writer = JsonlWriter(tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match="'loss' is list, expected a plain number"):
        writer.write({"step": 1, "loss": [1.0]})  # pyright: ignore[reportArgumentType]
    writer.close()


def test_a_damaged_row_before_the_resumed_step_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"step":1}\n{"step":1}\n')
    with pytest.raises(ValueError, match=r"m\.jsonl:2: expected an integer step"):
        JsonlWriter(path, resume_step=5)
    assert path.read_text() == '{"step":1}\n{"step":1}\n'


def test_only_newline_ends_a_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a":"x\u2028y\u0085z"}\r\n\n{"a":"b"}'.encode())
    assert read_jsonl(path) == [{"a": "x\u2028y\u0085z"}, {"a": "b"}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": ', "rows.jsonl:2:7: not JSON: Expecting value"),
        (b'{"a": 1} {"a": 2}', "rows.jsonl:2:10: not JSON: Extra data"),
        (b"[1]", "rows.jsonl:2: expected a JSON object, got list"),
        (b'{"a": "\xff"}', "rows.jsonl:2: byte 8 is not UTF-8"),
        (b'{"a": "\\ud800"}', "rows.jsonl:2: invalid Unicode (a lone surrogate)"),
        (b'{"a": NaN}', "rows.jsonl:2: NaN is not a finite number; use null"),
        (b'{"a": 1e999}', "rows.jsonl:2: 1e999 is not a finite number; use null"),
        (b'{"a": {"b": 1, "b": 2}}', "rows.jsonl:2: the key 'b' is there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "rows.jsonl:2: Exceeds the limit"),
        (b'{"a": ' + b"[" * 100_000, "rows.jsonl:2: "),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 0}\n' + line + b"\n")
    with pytest.raises(ValueError) as error:
        read_jsonl(path)
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.jsonl: no such file"):
        read_jsonl(tmp_path / "absent.jsonl")
