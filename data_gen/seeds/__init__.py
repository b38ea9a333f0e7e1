# SPDX-License-Identifier: Apache-2.0
"""Seeds: the instructions that a run starts from, and the split each belongs to."""

from data_gen.seeds.overlap import Overlap, near_duplicates
from data_gen.seeds.plain import BUILTIN, FIELDS, fingerprint, load_seeds
from data_gen.seeds.seed import Dropped, Seed, normalise
from data_gen.seeds.source import Loaded, SeedSource, load
from data_gen.seeds.splits import Split, SplitFractions, split_of

__all__ = [
    "BUILTIN",
    "FIELDS",
    "Dropped",
    "Loaded",
    "Overlap",
    "Seed",
    "SeedSource",
    "Split",
    "SplitFractions",
    "fingerprint",
    "load",
    "load_seeds",
    "near_duplicates",
    "normalise",
    "split_of",
]
