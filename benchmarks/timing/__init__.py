# SPDX-License-Identifier: Apache-2.0
"""What the timing scripts share: records of what was measured, peers, and work."""
