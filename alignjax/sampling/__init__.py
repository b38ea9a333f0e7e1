# SPDX-License-Identifier: Apache-2.0
"""Sampling from a decoder, and scoring given answers with it."""

from alignjax.sampling.requests import Request, Result, Settings
from alignjax.sampling.sampler import Piece, Sampler, Tick
from alignjax.sampling.scoring import score

__all__ = ["Piece", "Request", "Result", "Sampler", "Settings", "Tick", "score"]
