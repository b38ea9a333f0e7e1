# SPDX-License-Identifier: Apache-2.0
"""alignjax: preference data and preference training for JAX on GPU and TPU.

Importing this package imports nothing else: `alignjax.losses` pulls in JAX only, and
every other subpackage is imported where it is used.
"""

__version__ = "0.1.0"
