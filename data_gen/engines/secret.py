# SPDX-License-Identifier: Apache-2.0
"""Secrets: a key that is sent, and never shown."""

from __future__ import annotations

from collections.abc import Mapping

HIDDEN = "***"
# A shorter key ("EMPTY", say) may well be a word of an answer.
_UNLIKELY_BY_CHANCE = 16


class Secret:
    """An API key; printing it gives ***."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return HIDDEN

    def reveal(self) -> str:
        """The key itself, for the request's header and nothing else."""
        return self._value

    def scrub(self, text: str) -> str:
        """`text` without the key, for errors and notes."""
        return text.replace(self._value, HIDDEN) if self._value else text

    def scrub_answer(self, text: str) -> str:
        """The same for an answer, which is left alone where the key is short."""
        return self.scrub(text) if len(self._value) >= _UNLIKELY_BY_CHANCE else text


def from_environment(name: str, environment: Mapping[str, str]) -> Secret:
    """The key in the environment variable `name`; an empty one for no name.

    Raises:
      ValueError: the variable is not set, or no key; its content is not shown.
    """
    if not name:
        return Secret("")
    value = environment.get(name, "")
    if not value:
        raise ValueError(
            f"the environment variable {name} is not set; put the API key there "
            "(it is never read from a config or a command line)"
        )
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError(
            f"the environment variable {name} holds no API key: it has a space, a line "
            "break or a character outside ASCII"
        )
    return Secret(value)
