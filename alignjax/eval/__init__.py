# SPDX-License-Identifier: Apache-2.0
"""Evaluation: held-out prompts and pairs, gates, and the report of a run."""
