# SPDX-License-Identifier: Apache-2.0
"""Splits: which seeds train, validate and test."""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class SplitFractions:
    """Share of the seeds that each split gets; the three sum to 1."""

    train: float = 0.6
    validation: float = 0.15
    test: float = 0.25

    def __post_init__(self):
        shares = {
            "train": self.train,
            "validation": self.validation,
            "test": self.test,
        }
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(
                    f"split fraction {name} must be in [0, 1], got {share}; "
                    "give each split its share of the seeds, e.g. 0.6, 0.15, 0.25"
                )
        total = sum(shares.values())
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(
                f"split fractions must sum to 1, got {self.train} + "
                f"{self.validation} + {self.test} = {total:g}; change one of "
                "train, validation, test"
            )


def split_of(seed_id: str, fractions: SplitFractions) -> Split:
    """The split of a seed and of everything derived from it.

    A pure function of the id: SHA-256 gives a number that is uniform in [0, 1), and
    the cumulative fractions cut that interval into train, validation and test. Adding,
    removing or reordering seeds moves no other seed.
    """
    digest = hashlib.sha256(seed_id.encode("utf-8")).digest()
    # 53 bits: what a double holds exactly, so the quotient stays below 1.
    uniform = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    if uniform < fractions.train:
        return "train"
    if uniform < fractions.train + fractions.validation:
        return "validation"
    return "test"
