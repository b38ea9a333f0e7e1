# SPDX-License-Identifier: Apache-2.0
"""Files of seeds: whatever is in them, records or one line that says what is wrong."""

import gzip
import json
import os
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.seeds import files


@pytest.fixture
def write(tmp_path):
    def write_file(content: bytes, name: str = "rows.jsonl"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_file


def values(path):
    found = list(files.rows(path))
    assert [row.problem for row in found] == [None] * len(found)
    return [row.value for row in found]


RECORDS = [{"text": f'Task {n}: [{{\\"é\u2028"', "n": n} for n in range(300)]


def lines(ending: str = "\n") -> bytes:
    return ending.join(json.dumps(r, ensure_ascii=False) for r in RECORDS).encode()


def test_every_kind_of_file_gives_the_same_records(write, tmp_path):
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "rows.parquet")
    array = json.dumps(RECORDS, ensure_ascii=False, indent=1).encode()
    paths = [
        write(lines(), "a.jsonl"),
        write(gzip.compress(lines()), "a.jsonl.gz"),
        write(lines(), "lines.json"),
        write(array, "a.json"),
        write(gzip.compress(array), "a.json.gz"),
        tmp_path / "rows.parquet",
    ]
    for path in paths:
        assert values(path) == RECORDS, path


def test_members_of_a_gzip_file_are_read_one_after_the_other(write):
    content = gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n')
    assert values(write(content, "a.jsonl.gz")) == [{"a": 1}, {"a": 2}]


def test_text_and_tab_separated_lines(write):
    assert values(write(b"one\r\n\n two \n", "a.txt")) == ["one", "two"]
    found = values(write(b'a\t\t"c\n\tb\tc', "a.tsv"))
    assert found == [["a", "", '"c'], ["", "b", "c"]]


def test_crlf_blank_lines_and_no_last_newline_are_fine(write):
    """Row 30; a byte-order mark is an error that says what to do."""
    assert values(write(b"\r\n" + lines("\r\n\r\n"))) == RECORDS
    with pytest.raises(ValueError, match=r":1: starts with a byte-order mark; save it"):
        list(files.rows(write(b"\xef\xbb\xbf{}")))


DEEP = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD_LINES = {
    "cut": (b'{"text": "A', "not JSON at column 10: Unterminated string"),
    "raw NUL": (b'{"text": "A\0"}', "not JSON at column 12: Invalid control char"),
    "lone surrogate": (
        b'{"prompt": "\\ud800"}',
        'invalid Unicode (lone surrogate) in "prompt"',
    ),
    "surrogate in a list": (
        b'{"turns": ["a", "\\udc00"]}',
        'invalid Unicode (lone surrogate) in "turns"',
    ),
    "NaN": (b'{"score": NaN}', '"score" is not finite'),
    "1e999": (b'{"a": {"score": 1e999}}', '"score" is not finite'),
    "key twice": (b'{"chosen": "a", "chosen": "b"}', "key 'chosen' twice"),
    "digits": (b'{"a": ' + b"9" * 5000 + b"}", "a number has thousands of digits"),
    "deep": (DEEP, "nested more than 64 deep"),
    "65 deep": (
        b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}",
        "nested more than 64 deep",
    ),
    "array": (b'["a"]', "expected a JSON object, got list"),
    "string": (b'"a"', "expected a JSON object, got str"),
    "two objects": (b'{"a": 1} {"a": 2}', "Extra data (one object a line)"),
    "long": (
        b'{"a": "' + b"x" * files.MAX_RECORD + b'"}',
        "the line is longer than 4000000 bytes",
    ),
    "not UTF-8": (b'{"a": "\xff"}', "byte 8 of the line is not UTF-8"),
}


@pytest.mark.parametrize("line, message", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_has_a_problem_and_the_next_one_is_read(write, line, message):
    """Rows 31 to 35 of the table of bad inputs, and F18."""
    first, bad, last = files.rows(write(b'{"a": 1}\n' + line + b'\n{"a": 3}\n'))
    assert (first.value, last.value, last.number) == ({"a": 1}, {"a": 3}, 3)
    assert bad.value is None or "deep" in message
    assert message in bad.problem
    assert bad.where("f.jsonl") == "f.jsonl:2"


def test_64_deep_is_read_and_brackets_in_texts_do_not_count(write):
    nested = b'{"a": ' + b"[" * 63 + b"]" * 63 + b"}"
    text = json.dumps({"a": "[{" * 500 + '\\"'}).encode()
    assert len(values(write(nested + b"\n" + text))) == 2


BAD_FILES = {
    "truncated gzip": ("a.jsonl.gz", gzip.compress(lines())[:-9], "truncated gzip"),
    "not gzip": ("a.jsonl.gz", b'{"a": 1}\n', "not a whole gzip file: Not a gzipped"),
    "damaged gzip": (
        "a.jsonl.gz",
        (lambda g: g[:40] + b"\0\0\0\0" + g[44:])(gzip.compress(lines())),
        "not a whole gzip file",
    ),
    "LFS pointer": (
        "a.jsonl.gz",
        gzip.compress(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        "is a git-LFS pointer, not the file itself; fetch it",
    ),
    "cut array": ("a.json", b'[{"a": 1}, {"a": 2', "after item 1: the array is cut"),
    "array of texts": ("a.json", b'["a"]', "after item 0: expected an object"),
    "no comma": ("a.json", b'[{"a": 1} {"a": 2}]', "after item 1: expected ','"),
    "two arrays": ("a.json", b'[{"a": 1}] []', "the file goes on after its array"),
    "array in latin-1": ("a.json", b'[{"a": "\xe9"}]', "not UTF-8 after item 0"),
    "not parquet": ("a.parquet", b"PAR1 and no more", "not a readable parquet file"),
    "csv": ("a.csv", b"a,b\n", "not a kind of file that seeds are read from"),
    "parquet.gz": ("a.parquet.gz", b"", "not a kind of file that seeds are read from"),
}


@pytest.mark.parametrize("name, content, message", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_line(write, name, content, message):
    """Row 36 and F18."""
    path = write(content, name)
    with pytest.raises(ValueError, match=name) as caught:
        list(files.rows(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_lfs_pointer_that_was_never_packed_is_known_too(write):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    with pytest.raises(ValueError, match="git-LFS pointer"):
        list(files.rows(write(pointer)))


@pytest.mark.parametrize("unit", [b" " * 99_999 + b"\n", b"x" * 100_000])
def test_a_gzip_bomb_is_refused_in_little_memory(write, unit):
    """20 MB of one byte pack to less than 20 kB: more than 1000 times their size."""
    path = write(gzip.compress(unit * 200), "a.jsonl.gz")
    assert path.stat().st_size * files.MAX_RATIO < 20_000_000
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 1000 times its size"):
        for row in files.rows(path):
            assert "longer than" in (row.problem or "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_places_that_are_no_file_are_one_line(tmp_path):
    """Row 39: a folder, nothing, a pipe, a device, a loop."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "folder.jsonl").mkdir()
    messages = {
        "pipe.jsonl": "is a pipe or a device, not a file",
        "zero.jsonl": "is a pipe or a device, not a file",
        "loop.jsonl": "symbolic links",
        "folder.jsonl": "is a folder; give one of the files in it",
        "none.jsonl": "no such file; check the path",
        "*.jsonl": "no such file; check the path",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=message):
            list(files.rows(tmp_path / name))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json", "a.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    """10,000 records of 3 kB are 30 MB; a tenth of that is held at once."""
    record = {"text": "x" * 3000}
    path = tmp_path / name
    if name == "a.parquet":
        with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
            for _ in range(10):
                writer.write_table(pa.Table.from_pylist([record] * 1000))
    elif name == "a.json":
        path.write_text("[" + ",".join([json.dumps(record)] * 10_000) + "]")
    else:
        # Random bytes, so that the ratio of gzip stays what it is for texts.
        body = "\n".join(
            json.dumps({"text": os.urandom(1500).hex()}) for _ in range(10_000)
        )
        path.write_bytes(gzip.compress(body.encode(), 1))
    tracemalloc.start()
    count = sum(len(row.value["text"]) == 3000 for row in files.rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 3_000_000


@given(content=st.binary(max_size=200), name=st.sampled_from(["jsonl", "json", "tsv"]))
def test_any_bytes_give_rows_or_a_value_error(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("any") / f"a.{name}"
    path.write_bytes(content)
    try:
        for row in files.rows(path):
            assert (row.value is None) <= (row.problem is not None)
    except ValueError as error:
        assert "\n" not in str(error)


@given(
    records=st.lists(
        st.dictionaries(st.text(max_size=3), st.text() | st.integers(), max_size=3)
    ),
    indent=st.sampled_from([None, 0, 2]),
    chunk=st.integers(1, 40),
)
def test_an_array_read_in_any_chunks_is_the_array(
    tmp_path_factory, records, indent, chunk
):
    clean = json.loads(json.dumps(records).encode("utf-8", "replace"))
    clean = [r for r in clean if "\\ud" not in json.dumps(r)]
    path = tmp_path_factory.mktemp("any") / "a.json"
    path.write_text(json.dumps(clean, indent=indent), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        assert values(path) == clean


def test_the_digest_is_of_the_bytes(write):
    path = write(b"abc")
    assert files.sha256(path).startswith("ba7816bf")  # of FIPS 180's example
