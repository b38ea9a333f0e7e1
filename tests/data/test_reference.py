# SPDX-License-Identifier: Apache-2.0
"""The reference cache: exact, keyed by all that decides it, and never half written."""

import dataclasses
import errno

import numpy as np
import pytest

from alignjax import whole_file
from alignjax.data import reference
from alignjax.data.rows import Tokens

EXAMPLES = [Tokens("a", (1, 2), ((3, 4), (5,))), Tokens("b", (6,), ((7, 8, 9),))]
LOGPROBS = [
    (np.array([-1.5, -0.25], np.float32), np.array([-3.0], np.float32)),
    (np.array([-1e-7, -20.0, -0.1], np.float32),),
]


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    assert reference.load(tmp_path, "n", EXAMPLES) is None
    reference.save(tmp_path / "new", "n", LOGPROBS)
    found = reference.load(tmp_path / "new", "n", EXAMPLES)
    assert found is not None
    for mine, theirs in zip(LOGPROBS, found, strict=True):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_key_follows_weights_type_and_tokens():
    def key(model="m", examples=EXAMPLES, dtype="float32"):
        return reference.key(model, examples, dtype=dtype)

    renamed = [dataclasses.replace(e, id="z", weight=2.0) for e in EXAMPLES]
    moved = [Tokens("a", (1,), ((2, 3, 4), (5,))), EXAMPLES[1]]
    split = [Tokens("a", (1, 2), ((3,), (4, 5))), EXAMPLES[1]]
    assert key() == key(examples=renamed)
    different = [
        key(model="other"),
        key(dtype="bfloat16"),
        key(examples=EXAMPLES[::-1]),
        key(examples=EXAMPLES[:1]),
        key(examples=moved),
        key(examples=split),
    ]
    assert len({key(), *different}) == 7


@pytest.mark.parametrize("position", [0, 40, 160, -30])
def test_a_changed_byte_is_noticed(tmp_path, position):
    reference.save(tmp_path, "n", LOGPROBS)
    path = tmp_path / "n.npz"
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"n\.npz: .*remove the file"):
        reference.load(tmp_path, "n", EXAMPLES)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01."])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "n.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"n\.npz: .* damaged .*remove the file"):
        reference.load(tmp_path, "n", EXAMPLES)


def test_values_of_other_examples_are_refused(tmp_path):
    reference.save(tmp_path, "n", LOGPROBS[:1])
    with pytest.raises(ValueError, match=r"expected 6 finite .* found shape \(3,\)"):
        reference.load(tmp_path, "n", EXAMPLES)


def test_nan_is_refused(tmp_path):
    bad = [LOGPROBS[0], (np.array([np.nan, 0, 0], np.float32),)]
    reference.save(tmp_path, "n", bad)
    with pytest.raises(ValueError, match="expected 6 finite"):
        reference.load(tmp_path, "n", EXAMPLES)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "n.npz"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        reference.save(tmp_path, "n", LOGPROBS)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
