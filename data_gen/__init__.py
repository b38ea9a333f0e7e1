# SPDX-License-Identifier: Apache-2.0
"""data_gen: preference data that carries its proof, sampled from Flax models."""
