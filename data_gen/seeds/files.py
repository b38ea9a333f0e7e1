# SPDX-License-Identifier: Apache-2.0
"""Files: their records one by one, whatever they hold, in memory for one record.

A record that cannot be read comes as a row with a problem, so that the reader decides
whether one bad line ends the run. What makes the whole file unreadable is raised.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import math
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

SUFFIXES = (".jsonl", ".json", ".tsv", ".txt", ".parquet")
MAX_RECORD = 4_000_000  # bytes of a line, or of an item of a JSON array
MAX_DEPTH = 64
MAX_RATIO = 1000  # bytes out of a gzip file for each byte in it
_CHUNK = 1 << 16
_GROWN = 1 << 24  # a small gzip file may always give so many bytes
_SPACES = (" ", "\t", "\r", "\n")
_LFS = b"version https://git-lfs.github.com/spec/"


class Row(NamedTuple):
    """A record and where it stands; `problem` says why it could not be read."""

    unit: str  # "line" | "item" | "row"
    number: int
    value: Any
    problem: str | None = None

    @property
    def place(self) -> str:
        return f"{self.unit} {self.number}"

    def where(self, source: str) -> str:
        """As an error message names it: file:line, or "file: item 3"."""
        if self.unit == "line":
            return f"{source}:{self.number}"
        return f"{source}: {self.place}"


def kind(path: Path) -> str:
    """The suffix that says what a file holds, without .gz; ValueError for others."""
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix not in SUFFIXES or (suffix == ".parquet" and path.suffix == ".gz"):
        known = ", ".join(SUFFIXES)
        raise ValueError(
            f"{path}: not a kind of file that seeds are read from; expected {known} "
            "(all but parquet also with .gz): rename or convert it"
        )
    return suffix


def rows(path: Path) -> Iterator[Row]:
    """The records of a file, in order.

    A line of .txt gives a text, of .tsv a list of texts, of .jsonl an object; .json
    is an array of objects, or lines; .parquet gives a dict for each row. Blank lines
    are skipped.

    Raises:
      ValueError: missing, not a file, of another kind, not the gzip or parquet that its
        name says, cut off, or growing beyond all bounds as it is unpacked.
    """
    check(path)
    suffix = kind(path)
    if suffix == ".parquet":
        yield from _parquet(path)
        return
    if suffix == ".json" and _begins_with_bracket(path):
        yield from _array(path)
        return
    for number, line, problem in lines(path):
        if problem is None and suffix == ".tsv":
            yield Row("line", number, line.split("\t"))
        elif problem is None and suffix == ".txt":
            yield Row("line", number, line)
        elif problem is None:
            yield _parsed("line", number, line)
        else:
            yield Row("line", number, None, problem)


def lines(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """(number, text, problem) of the lines that are not blank.

    Lines end at the byte "\\n" only: str.splitlines would also cut at U+2028 and
    U+0085, which JSON strings may hold.

    Raises:
      ValueError: as in `rows`, and for a byte-order mark.
    """
    with _opened(path) as file:
        for number, line in enumerate(_raw_lines(file), start=1):
            if number == 1 and line.startswith(codecs.BOM_UTF8):
                raise ValueError(
                    f"{path}:1: starts with a byte-order mark; save it as UTF-8 "
                    "without one"
                )
            if number == 1 and line.startswith(_LFS):
                raise ValueError(
                    f"{path}: is a git-LFS pointer, not the file itself; fetch it "
                    "(git lfs pull), or download it"
                )
            if len(line) > MAX_RECORD:
                yield number, "", f"the line is longer than {MAX_RECORD} bytes"
                continue
            try:
                text = line.decode("utf-8").strip(" \r\n")
            except UnicodeDecodeError as error:
                problem = f"byte {error.start + 1} of the line is not UTF-8"
                yield number, "", f"{problem} ({error.reason}); save the file as UTF-8"
                continue
            if text.strip(" \t\r"):
                yield number, text, None


def sha256(path: Path) -> str:
    """Of the bytes of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path) -> None:
    """Raises ValueError unless `path` is a regular file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise ValueError(f"{path}: is a folder; give one of the files in it")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: is a pipe or a device, not a file")


class _Bounded:
    """The bytes of an unpacked gzip file, as long as they stay in proportion."""

    def __init__(self, path: Path):
        self._path = path
        self._file = gzip.open(path, "rb")  # noqa: SIM115
        self._most = max(path.stat().st_size * MAX_RATIO, _GROWN)
        self._seen = 0

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except EOFError as error:
            raise ValueError(
                f"{self._path}: truncated gzip, after {self._seen} unpacked bytes; "
                "download it again"
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self._path}: not a whole gzip file: {error}") from error
        self._seen += len(data)
        if self._seen > self._most:
            raise ValueError(
                f"{self._path}: unpacks to more than {MAX_RATIO} times its size; this "
                "is no text: unpack it yourself if you trust it"
            )
        return data

    def __enter__(self) -> _Bounded:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _opened(path: Path) -> _Bounded | IO[bytes]:
    return _Bounded(path) if path.suffix == ".gz" else path.open("rb")


def _raw_lines(file: _Bounded | IO[bytes]) -> Iterator[bytes]:
    """Lines without their end; of one that is too long, its beginning."""
    held, is_skipping = b"", False
    while chunk := file.read(_CHUNK):
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            if not is_skipping:
                yield held + part
            held, is_skipping = b"", False
        if not is_skipping:
            held += rest
            if len(held) > MAX_RECORD:
                yield held
                held, is_skipping = b"", True
    if held:
        yield held


def _begins_with_bracket(path: Path) -> bool:
    with _opened(path) as file:
        while chunk := file.read(_CHUNK):
            if chunk.strip():
                return chunk.lstrip().startswith(b"[")
    return False


def _array(path: Path) -> Iterator[Row]:
    """The items of a JSON array of objects, decoded one after the other."""
    number = 0
    with _opened(path) as file:
        array = _Array(file)
        try:
            while (text := array.item()) is not None:
                number += 1
                yield _parsed("item", number, text)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: not UTF-8 after item {number} ({error.reason})"
            ) from error
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: after item {number}: {error.msg}") from error


class _Array:
    """The text of a JSON array, of which only an item or so is held."""

    def __init__(self, file: _Bounded | IO[bytes]):
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._scan = json.JSONDecoder(
            object_pairs_hook=lambda pairs: None, parse_int=str, parse_float=str
        ).raw_decode
        self._text, self._at, self._is_end = "", 0, False
        self._wanted = "["

    def item(self) -> str | None:
        """The text of the next item, None after the last one.

        Raises:
          json.JSONDecodeError: this is no array of objects; its message says why.
        """
        if self._wanted == "[":
            self._take("[")
            is_first = True
        else:
            is_first = False
        self._wanted = ","
        if self._peek() == "]":
            self._take("]")
            if self._peek():
                raise self._error("the file goes on after its array")
            return None
        if not is_first:
            self._take(",")
        if self._peek() not in ("{", ""):
            raise self._error("expected an object")
        while True:
            try:
                _, end = self._scan(self._text, self._at)
            except RecursionError:
                raise self._error(f"nested more than {MAX_DEPTH} deep") from None
            except json.JSONDecodeError as error:
                held = len(self._text) - self._at
                if self._is_end or held > MAX_RECORD:
                    why = "the array is cut off" if self._is_end else "too long"
                    raise self._error(f"{why}, or not JSON: {error.msg}") from None
                self._more(max(_CHUNK, held))
            else:
                text, self._at = self._text[self._at : end], end
                return text

    def _take(self, expected: str) -> None:
        if self._peek() != expected:
            why = f"expected {expected!r}" if self._peek() else "the array is cut off"
            raise self._error(why)
        self._at += 1

    def _peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            while self._text[self._at : self._at + 1] in _SPACES:
                self._at += 1
            if self._at < len(self._text) or self._is_end:
                return self._text[self._at : self._at + 1]
            self._more(_CHUNK)

    def _more(self, size: int) -> None:
        chunk = self._file.read(size)
        self._is_end = not chunk
        self._text = self._text[self._at :] + self._decode(chunk, final=self._is_end)
        self._at = 0

    def _error(self, why: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(why, "", 0)


def _parsed(unit: str, number: int, text: str) -> Row:
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        problem = f"not JSON at column {error.colno}: {error.msg}"
        if error.msg == "Extra data":
            problem += " (one object a line)"
        return Row(unit, number, None, problem)
    except (ValueError, RecursionError) as error:
        return Row(unit, number, None, _told(error))
    if not isinstance(value, dict):
        kind_of = type(value).__name__
        return Row(unit, number, None, f"expected a JSON object, got {kind_of}")
    return Row(unit, number, value, _too_deep(text))


def _told(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"nested more than {MAX_DEPTH} deep"
    return "a number has thousands of digits" if "digits" in str(error) else str(error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} twice")
    for name, value in pairs:
        _check_value(name, value)
    return record


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f'"{name}" is not finite')
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f'invalid Unicode (lone surrogate) in "{name}"') from error
    elif isinstance(value, list):
        for item in value:
            _check_value(name, item)


def _too_deep(text: str) -> str | None:
    """Whether arrays and objects are nested beyond the limit, brackets in texts not
    counted."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return None
    depth, is_text, is_escaped = 0, False, False
    for character in text:
        if is_text:
            if is_escaped:
                is_escaped = False
            elif character == "\\":
                is_escaped = True
            elif character == '"':
                is_text = False
        elif character == '"':
            is_text = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return f"nested more than {MAX_DEPTH} deep"
        elif character in "]}":
            depth -= 1
    return None


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    yield Row("row", number, value)
    except (OSError, pa.ArrowException) as error:
        told = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: not a readable parquet file, after row {number}: {told}"
        ) from error
