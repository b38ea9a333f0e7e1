# SPDX-License-Identifier: Apache-2.0
"""The file engine: answers that somebody recorded, looked up by their prompt.

With it the outputs of ranked models, downloaded or sampled elsewhere, take the place of
models that nobody here can run. Every line of the file is one prompt with one output
(or several), and may name its model or its rank.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data_gen.engines import Generate, Generation
from data_gen.records import digest

_VERSION = "1"  # raise it when the same file and request give another answer
Key = tuple[tuple[str, str], ...]  # (role, words with single spaces) of each turn


@dataclass(frozen=True)
class Recorded:
    """Which outputs of which file answer.

    Args:
      path: .jsonl or .jsonl.gz file, one object a line.
      prompt: fields that make the prompt. One field: a text, or a list of messages
        with role and content. Several: texts, joined by an empty line; those that are
        empty or missing are left out.
      output: field of the answer: a text, or a list of texts, which count as samples
        number 0, 1, ...
      model: only lines whose field "model" is this; "" takes all.
      rank: only lines whose field "rank" is this, 1 for the best; 0 takes all.
    """

    path: str
    kind: Literal["recorded"] = "recorded"
    prompt: tuple[str, ...] = ("prompt",)
    output: str = "output"
    model: str = ""
    rank: int = 0

    def __post_init__(self) -> None:
        if not self.path.endswith((".jsonl", ".jsonl.gz")):
            raise ValueError(
                f"recorded outputs are a .jsonl or .jsonl.gz file, got {self.path!r}"
            )
        if not self.prompt:
            raise ValueError("prompt must name one field of the file at least")
        if self.rank < 0:
            raise ValueError(f"rank must be 0 (all) or above, got {self.rank}")


class RecordedEngine:
    """Answers a request with what is recorded for its messages.

    Two prompts are the same if they have the same words in the same order: white space
    does not count. The lines of one prompt are its samples, in file order; a sample
    that is not there comes back empty, with the finish reason "missing". White space
    around an output is removed, since it tells models apart and nothing else. Settings
    and seeds are ignored. Token ids are unknown.

    Raises:
      ValueError: names the file, the line, what is wrong there and what to do.
    """

    def __init__(self, config: Recorded) -> None:
        self._config = config
        path = Path(config.path)
        if not path.is_file():
            raise ValueError(f"{path}: no such file of recorded outputs")
        raw = path.read_bytes()
        selection = {k: v for k, v in asdict(config).items() if k != "path"}
        self.facts: Mapping[str, str] = {
            "kind": "recorded",
            "version": _VERSION,
            "model": digest([hashlib.sha256(raw).hexdigest(), selection]),
            "template": "none",
            "name": config.model or path.name.partition(".")[0],
        }
        self.fingerprint: str = digest(self.facts)
        self._outputs: Mapping[Key, Sequence[str]] = _read(config, raw)

    def generate(self, requests: Iterable[Generate | None]) -> Iterator[Generation]:
        """One Generation per sample, in the order of the requests."""
        for request in requests:
            if request is None:
                continue
            key = tuple(_turn(m.role, m.content) for m in request.messages)
            found = self._outputs.get(key, ())
            for sample in request.wanted:
                is_there = sample < len(found)
                yield Generation(
                    key=request.key,
                    sample=sample,
                    text=found[sample] if is_there else "",
                    token_ids=(),
                    finish_reason="stop" if is_there else "missing",
                    sum_logprob=None,
                )


def _read(config: Recorded, raw: bytes) -> dict[Key, list[str]]:
    if config.path.endswith(".gz"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{config.path}: not a whole gzip file ({error}); fetch it again"
            ) from error
    found: dict[Key, list[str]] = defaultdict(list)
    models: set[str] = set()
    ranks: set[str] = set()
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{config.path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where}: expected a JSON object")
        models.add(str(row.get("model")))
        ranks.add(str(row.get("rank")))
        if config.model and row.get("model") != config.model:
            continue
        if config.rank and row.get("rank") != config.rank:
            continue
        found[_prompt(row, config, where)] += _outputs(row, config, where)
    if not found:
        raise ValueError(
            f"{config.path}: no line has model {config.model or 'any'!r} and rank "
            f"{config.rank or 'any'}; models there: {', '.join(sorted(models))[:200]}; "
            f"ranks there: {', '.join(sorted(ranks))[:200]}"
        )
    return dict(found)


def _prompt(row: Mapping[str, Any], config: Recorded, where: str) -> Key:
    if len(config.prompt) == 1 and isinstance(row.get(config.prompt[0]), list):
        turns = row[config.prompt[0]]
        for turn in turns:
            is_turn = isinstance(turn, dict) and all(
                isinstance(turn.get(name), str) for name in ("role", "content")
            )
            if not is_turn:
                raise ValueError(
                    f"{where}: a message of {config.prompt[0]!r} must have a role and "
                    f"a content, both texts; got {json.dumps(turn)[:60]}"
                )
        return tuple(_turn(turn["role"], turn["content"]) for turn in turns)
    parts = [row.get(name) or "" for name in config.prompt]
    for name, part in zip(config.prompt, parts, strict=True):
        if not isinstance(part, str):
            raise ValueError(
                f"{where}: field {name!r} must be a text, got {json.dumps(part)[:60]}"
            )
    text = "\n\n".join(part for part in parts if part.strip())
    if not text:
        raise ValueError(
            f"{where}: nothing in the fields {', '.join(config.prompt)} (fields: "
            f"{', '.join(row)}); name the prompt's fields in `prompt`"
        )
    return (_turn("user", text),)


def _outputs(row: Mapping[str, Any], config: Recorded, where: str) -> list[str]:
    value = row.get(config.output)
    given = value if isinstance(value, list) else [value]
    texts = [text.strip() for text in given if isinstance(text, str)]
    if not given or len(texts) < len(given):
        raise ValueError(
            f"{where}: field {config.output!r} must be a text or a list of texts, got "
            f"{json.dumps(value)[:60]} (fields: {', '.join(row)}); name the answer's "
            "field in `output`"
        )
    return texts


def _turn(role: str, content: str) -> tuple[str, str]:
    return role, " ".join(content.split())
