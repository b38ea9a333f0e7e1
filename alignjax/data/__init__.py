# SPDX-License-Identifier: Apache-2.0
"""Data: records on disk -> token ids -> packed rows -> an order that is a function of
(seed, step)."""
