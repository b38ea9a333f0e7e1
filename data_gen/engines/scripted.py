# SPDX-License-Identifier: Apache-2.0
"""A scripted engine: answers come from a function. For tests, docs and demos."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from data_gen.engines import Generate, Generation, Message

Rule = Callable[[tuple[Message, ...], int], str]


@dataclass
class ScriptedEngine:
    """Answers `rule(messages, sample)`; deterministic as long as the rule is.

    Args:
      rule: the text of sample number `sample` for these messages.
      name: stands in for the model's weights in the fingerprint; change it when the
        rule changes.
      asked: every sample that was produced, in order, as (request key, sample).
    """

    rule: Rule
    name: str = "scripted"
    asked: list[tuple[str, int]] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"scripted/{self.name}".encode()).hexdigest()

    @property
    def facts(self) -> Mapping[str, str]:
        model = hashlib.sha256(self.name.encode()).hexdigest()
        return {"kind": "scripted", "model": model, "template": "none"}

    def generate(self, requests: Iterable[Generate | None]) -> Iterator[Generation]:
        """One "token" per word (two bytes of its hash); cut at max_new_tokens words."""
        for request in requests:
            if request is None:
                continue
            for sample in request.wanted:
                words = self.rule(request.messages, sample).split(" ")
                limit = request.settings.max_new_tokens
                kept = words[:limit]
                self.asked.append((request.key, sample))
                yield Generation(
                    key=request.key,
                    sample=sample,
                    text=" ".join(kept),
                    token_ids=tuple(_token(word) for word in kept),
                    finish_reason="length" if len(words) > limit else "stop",
                    sum_logprob=-0.5 * len(kept),
                )


def _token(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big")
