# SPDX-License-Identifier: Apache-2.0
"""Exports: a dataset folder in the form that another program reads."""
