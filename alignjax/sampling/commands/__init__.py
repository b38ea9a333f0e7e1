# SPDX-License-Identifier: Apache-2.0
"""What `alignjax sample` and `alignjax chat` do with their options and the sampler."""
