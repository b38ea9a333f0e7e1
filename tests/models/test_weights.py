# SPDX-License-Identifier: Apache-2.0
"""Weights: good files are read bit for bit, bad ones are named."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from alignjax.models import weights


def entry(begin: int, end: int, shape: object = None, dtype: object = "F32") -> dict:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def pack(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors") as caught:
        weights.read_file(path)
    return str(caught.value)


def test_reads_what_the_library_writes(tmp_path):
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([1.5, -2.0], np.float16),
        "c": np.array(7, np.int64),
        "d": np.zeros((0, 4), np.float32),
        "e": np.array([True, False]),
    }
    save_file(arrays, tmp_path / "model.safetensors")
    read = weights.read(tmp_path)
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
        assert not read[name].flags.writeable


def test_the_library_reads_what_we_write(tmp_path):
    path = tmp_path / "model.safetensors"
    arrays = {
        "x": np.arange(5, dtype=np.float32)[::-1],  # not contiguous
        "y": np.ones((2, 2), ml_dtypes.bfloat16),
        "z": np.array([[1], [2]], np.int32).T,
    }
    layout = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    weights.write(path, layout, arrays.items())
    read = load_file(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        np.testing.assert_array_equal(weights.read_file(path)[name], array)
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert length % 8 == 0


def test_write_does_not_overwrite(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        weights.write(path, {}, [])
    weights.replace(path, {"a": np.zeros(2, np.float32)})
    assert weights.read_file(path).keys() == {"a"}
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_bfloat16_is_kept(tmp_path):
    """0x3F80 is 1.0 and 0xC000 is -2.0 in bfloat16."""
    header = {"w": entry(0, 4, [2], "BF16")}
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack(header, b"\x80\x3f\x00\xc0"))
    array = weights.read_file(path)["w"]
    assert array.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(array.astype(np.float32), [1.0, -2.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "file is 0 bytes, too short"),
        (b"1234567", "file is 7 bytes, too short"),
        (struct.pack("<Q", 2**63) + b"{}", "limit 100000000"),
        (struct.pack("<Q", 2**64 - 1) + b"{}", "limit 100000000"),
        (struct.pack("<Q", 1000) + b"{}", "header claims 1000 bytes but file has 10"),
        (pack(b"\xff\xfe"), "not valid UTF-8 at byte 0"),
        (pack(b"{,}"), "not valid JSON at line 1 column 2"),
        (pack(b"[]"), "expected a JSON object, got list"),
        (pack(b"[" * 100_000), "nested too deeply"),
        (pack(b'{"a":1,"a":2}'), '"a" appears twice'),
        (pack(b'{"a":' + b"9" * 5000 + b"}"), "a number of 5000 digits"),
        (pack({"a": entry(0, 8), "b": entry(4, 12)}, b"\0" * 12), '"a" and "b" over'),
        (pack({"a": entry(8, 16)}, b"\0" * 16), "8 unclaimed bytes at offset 0"),
        (pack({"a": entry(0, 8)}, b"\0" * 16), "8 unclaimed bytes at offset 8"),
        (pack({"a": entry(0, 16)}, b"\0" * 8), "file is 8 bytes short"),
        (pack({"a": entry(8, 0, [2])}), "is not [begin, end]"),
        (pack({"a": entry(-8, 0, [2])}), "is not [begin, end]"),
        (pack({"a": entry(0, 8, [-2])}, b"\0" * 8), "is not a list of sizes"),
        (pack({"a": entry(0, 8, [2.0])}, b"\0" * 8), "is not a list of sizes"),
        (pack({"a": entry(0, 8, [True])}, b"\0" * 8), "is not a list of sizes"),
        (pack({"a": entry(0, 8, [3])}, b"\0" * 8), "[3] x F32 needs 12 bytes, has 8"),
        (pack({"a": entry(0, 0, [2**40, 2**40])}), "needs"),
        (pack({"a": entry(0, 0, [0, 2**62])}), "dimension 4611686018427387904 over"),
        (pack({"a": entry(0, 8, [1], "OBJECT")}, b"\0" * 8), "supported: BOOL, U8"),
        (pack({"a": entry(0, 8, [1], None)}, b"\0" * 8), "unsupported dtype None"),
        (pack({"a": 3}), "expected dtype, shape and data_offsets"),
        (pack({"../../etc/passwd": entry(0, 0)}), "illegal tensor name"),
        (pack({"": entry(0, 0)}), "illegal tensor name"),
        (pack({"a\0b": entry(0, 0)}), "illegal tensor name"),
        (pack({"x" * 10_000: entry(0, 0)}), "illegal tensor name"),
        (pack({"a": entry(0, 2, [2], "BOOL")}, b"\1\7"), "BOOL value 7"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git-LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"PK\x03\x04" + b"\0\0\x08\x08" * 9, "a PyTorch checkpoint"),
        (b"\x80\x02}q\0(X\1\0\0\0", "a pickle or"),
        (b"GGUF\3\0\0\0\0\0\0\0", "a GGUF file"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    assert message in refusal(tmp_path, content)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64"])
def test_non_finite_values_are_counted(tmp_path, dtype):
    """Two infinities and a NaN among five values."""
    values = np.array([1.0, np.inf, -np.inf, np.nan, -3.0])
    data = values.astype(weights.DTYPES[dtype]).tobytes()
    header = {"x": entry(0, len(data), [5], dtype)}
    assert '"x" holds 3 non-finite values' in refusal(tmp_path, pack(header, data))


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_changed_byte_gives_arrays_or_a_value_error(tmp_path, data):
    content = bytearray(
        pack({"a": entry(0, 8), "b": entry(8, 12)}, struct.pack("<3f", 1, 2, 3))
    )
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    try:
        weights.read_file(path)
    except ValueError as error:
        assert "model.safetensors" in str(error)


def shards(folder: Path, weight_map: object) -> None:
    save_file({"a": np.zeros(2, np.float32)}, folder / "one.safetensors")
    save_file({"b": np.ones(3, np.float32)}, folder / "two.safetensors")
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / weights.INDEX).write_text(json.dumps(index))


def test_shards_are_joined(tmp_path):
    shards(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    read = weights.read(tmp_path)
    np.testing.assert_array_equal(read["a"], [0, 0])
    np.testing.assert_array_equal(read["b"], [1, 1, 1])


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../one.safetensors"}, "not the name of a .safetensors file"),
        ({"a": "/etc/passwd"}, "not the name of a .safetensors file"),
        ({"a": "sub\\one.safetensors"}, "not the name of a .safetensors file"),
        ({"a": "one.safetensors\0"}, "not the name of a .safetensors file"),
        ({"a": "model.bin"}, "not the name of a .safetensors file"),
        ({"a": 3}, "not the name of a .safetensors file"),
        ({}, '"weight_map" should map'),
        ("x", '"weight_map" should map'),
        ({"a": "three.safetensors", "b": "two.safetensors"}, "1 of 2 shards are miss"),
        ({"a": "two.safetensors"}, 'does not hold tensor "a"'),
        ({"a": "one.safetensors", "c": "two.safetensors"}, 'also holds tensor "b"'),
        (
            {"a": "one.safetensors", "x": "one.safetensors", "b": "two.safetensors"},
            'does not hold tensor "x"',
        ),
    ],
)
def test_bad_indexes_are_named(tmp_path, weight_map, message):
    shards(tmp_path, weight_map)
    with pytest.raises(ValueError, match="safetensors") as caught:
        weights.read(tmp_path)
    assert message in str(caught.value)


def test_pickles_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: pickle.*run code"):
        weights.read(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor"):
        weights.read(tmp_path)
