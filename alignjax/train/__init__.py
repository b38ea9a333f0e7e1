# SPDX-License-Identifier: Apache-2.0
"""Training: objectives, one step, one loop.

`find` gives an objective by the name of its loss; `options_of` lists the options that
it reads. Any other is refused.
"""

from alignjax.train.table import NAMES, Objective, find, options_of

__all__ = ["NAMES", "Objective", "find", "options_of"]
