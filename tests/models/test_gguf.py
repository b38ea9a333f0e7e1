# SPDX-License-Identifier: Apache-2.0
"""GGUF conversion: what llama.cpp's converter did is undone exactly."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf as gguf_package
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny_models
from alignjax.models import gguf, gguf_header, weights


def convert(path: Path) -> Path:
    folder = path.parent / "converted"
    folder.mkdir()
    gguf.convert(path, folder)
    return folder


def test_unpermute_puts_rotary_pairs_half_a_head_apart():
    """One head of width 4: llama.cpp stores pairs (0, 2), (1, 3) as rows 0 2 1 3."""
    stored = np.array([[0.0], [2.0], [1.0], [3.0]])
    np.testing.assert_array_equal(
        gguf.unpermute(stored, heads=1)[:, 0], [0.0, 1.0, 2.0, 3.0]
    )


@pytest.mark.parametrize("is_tied", [True, False])
def test_converted_weights_equal_the_original_bitwise(write_gguf, is_tied):
    path, original = write_gguf(is_tied=is_tied)
    converted = weights.read(convert(path))
    assert converted.keys() == original.keys()
    assert ("lm_head.weight" in converted) != is_tied
    for name, array in original.items():
        np.testing.assert_array_equal(converted[name], array, err_msg=name)


def test_q8_0_weights_differ_by_at_most_half_a_step(write_gguf):
    """Q8_0: 32 values share a scale max|w| / 127, stored as float16 (2^-11)."""
    path, original = write_gguf(quantised=True)
    converted = weights.read(convert(path))
    for name, array in original.items():
        step = np.abs(array).max() / 127
        bound = 0.5 * step + 2**-11 * np.abs(array).max() if array.ndim == 2 else 0
        assert np.abs(converted[name] - array).max() <= bound, name


def test_config_follows_the_metadata(write_gguf):
    folder = convert(write_gguf()[0])
    config = json.loads((folder / "config.json").read_text())
    expected = {
        **tiny_models.LLAMA,  # of its rms_norm_eps, float32 holds 9.99999974e-06
        "tie_word_embeddings": True,
        "vocab_size": 3 + 256 + 6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    assert {key: config[key] for key in expected} == expected


def test_tokenizer_splits_digits_and_merges_by_rank(write_gguf):
    """ "1 2" is a merge, but digits stand alone; Ġhello merges across five rules."""
    from tokenizers import Tokenizer

    folder = convert(write_gguf()[0])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("hello hello12").tokens == ["hello", "Ġhello", "1", "2"]
    assert tokenizer.encode("<|im_end|>").ids == [2]
    text = "Écris 日本語\n\t🙂  x"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"general.architecture": "qwen2"}, 'architecture is "qwen2"'),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type = 'yarn'"),
        ({"llama.expert_count": 8}, "expert_count = 8"),
        ({"llama.attention.head_count": 5}, "5 and 2 must divide 64 and 5"),
        ({"llama.attention.head_count_kv": 0}, "4 and 0 must divide"),
        ({"llama.block_count": 3}, "9 tensors missing"),
        ({"llama.block_count": 1}, "9 unexpected"),
        ({"llama.block_count": 10**9}, "block_count must be in 1..1024"),
        ({"llama.feed_forward_length": 95}, "the metadata says"),
        ({"llama.rope.dimension_count": 8}, "partial rotation"),
        ({"llama.context_length": None}, "llama.context_length should be int"),
        ({"tokenizer.ggml.model": "llama"}, 'tokenizer "llama"'),
        ({"tokenizer.ggml.pre": "qwen2"}, "'smollm'"),
        ({"tokenizer.ggml.eos_token_id": 9999}, "eos token id 9999 is outside"),
        ({"tokenizer.ggml.merges": ["a"]}, "merge rule is not two symbols"),
        ({"tokenizer.ggml.token_type": [1]}, "1 token types"),
        ({"tokenizer.chat_template": "x" * 300_000}, "300000 characters"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(write_gguf, changed, message):
    path, _ = write_gguf(changed=changed)
    with pytest.raises(ValueError, match=r"tiny\.gguf") as caught:
        convert(path)
    assert message in str(caught.value)


def test_a_bias_is_refused(write_gguf):
    bias = {"blk.0.attn_q.bias": np.zeros(64, np.float32)}
    path, _ = write_gguf(extra=bias)
    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.bias.*bias-free"):
        convert(path)


def header(*, version: int = 3, tensors: int = 0, keys: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with b''"),
        (b"PK\x03\x04", "not a GGUF file"),
        (b"GGUF", "ends inside the version"),
        (header(version=1), "version 1"),
        (header(version=0x03000000), "versions 2 and 3 work"),  # big-endian
        (header(keys=2**63), "key count is 9223372036854775808; limit 4096"),
        (header(tensors=2**40), "tensor count is 1099511627776"),
        (header(keys=1), "ends inside the length of a name"),
        (header(keys=1) + struct.pack("<Q", 2**62), "length of a name"),
        (header(keys=1) + string(b"a") + struct.pack("<I", 77), "value type 77"),
        (
            header(keys=1) + string(b"a") + struct.pack("<IQ", 8, 2**50),
            "length of a string is",
        ),
        (
            header(keys=1) + string(b"a") + struct.pack("<IIQ", 9, 4, 2**60),
            "array length is",
        ),
        (
            header(keys=1) + string(b"a") + struct.pack("<IIQ", 9, 10, 4_000_000),
            "ends inside a value",
        ),
        (
            header(keys=2) + 2 * (string(b"a") + struct.pack("<IB", 0, 1)),
            '"a" appears twice',
        ),
        (header(tensors=1) + string(b"t") + struct.pack("<I", 5), "limit 4"),
        (
            header(tensors=1) + string(b"t") + struct.pack("<IQ", 1, 2**40),
            "a dimension of t",
        ),
        (
            header(tensors=1) + string(b"t") + struct.pack("<IQIQ", 1, 4, 0, 10**9),
            "offset of t is 1000000000",
        ),
    ],
)
def test_damaged_headers_are_named(tmp_path, data, message):
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.gguf") as caught:
        gguf_header.check(path)
    assert message in str(caught.value)


def test_nested_arrays_end_at_two_levels(tmp_path):
    """An array of arrays of arrays ... costs 12 bytes a level; level 3 is refused."""
    levels = b"".join(struct.pack("<IQ", 9, 1) for _ in range(100))
    path = tmp_path / "deep.gguf"
    path.write_bytes(header(keys=1) + string(b"a") + struct.pack("<I", 9) + levels)
    with pytest.raises(ValueError, match="value type 9"):
        gguf_header.check(path)


def test_a_cut_file_is_damaged_not_a_crash(write_gguf):
    path, _ = write_gguf()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 1000])
    with pytest.raises(ValueError, match="damaged GGUF file"):
        convert(path)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_any_changed_header_byte_passes_or_is_a_value_error(tmp_path, place, value):
    path = tmp_path / "fuzz.gguf"
    writer = gguf_package.GGUFWriter(path, "llama")
    writer.add_array("tokens", ["a", "bc"])
    writer.add_string("template", "x" * 100)
    writer.add_tensor("t", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    try:
        gguf_header.check(path)
    except ValueError as error:
        assert "fuzz.gguf" in str(error)
