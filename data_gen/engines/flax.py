# SPDX-License-Identifier: Apache-2.0
"""The local engine: a Flax decoder behind alignjax's continuous-batching sampler."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from alignjax import fetch
from alignjax.data.tokenizer import load_tokenizer
from data_gen.engines import Generate, Generation
from data_gen.records import digest

if TYPE_CHECKING:
    from alignjax import sampling

_VERSION = "2"  # raise it when the sampler gives other tokens for the same request


class FlaxEngine:
    """Samples from the model in `folder`, whose weights load at the first request.

    Args:
      folder: a model folder with tokenizer and chat template.
      slots: answers in progress at once.
      context: tokens of prompt and answer together, at most.
      dtype: of weights and activations, "float32" or "bfloat16".
      share: samples of a prompt that read one copy of its keys and values.

    The fingerprint covers weights, template and these four. It does not cover the
    kind of device: a run that moves from a GPU to a CPU reuses its samples, but would
    not sample the very same ones again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        slots: int,
        context: int,
        dtype: str = "float32",
        share: int = 1,
    ) -> None:
        self.folder, self.slots, self.context = folder, slots, context
        self.dtype, self.share = dtype, share
        config = (folder / "config.json").read_bytes()
        self._tokenizer = load_tokenizer(folder)
        self.facts: Mapping[str, str] = {
            "kind": "flax",
            "version": _VERSION,
            "model": fetch.fingerprint(folder),
            "config": hashlib.sha256(config).hexdigest(),
            "template": self._tokenizer.fingerprint,
            "dtype": dtype,
            "slots": str(slots),
            "context": str(context),
            "share": str(share),
        }
        self.fingerprint: str = digest(self.facts)
        self._sampler: sampling.Sampler | None = None

    def generate(self, requests: Iterable[Generate | None]) -> Iterator[Generation]:
        """Streams samples as they finish; loads the weights if there is a request.

        A prompt that leaves no room for max_new_tokens is not sampled: its samples
        come back empty, with the finish reason "context". All samples of a request are
        made, the known ones too, since they are made from one prompt.
        """
        incoming = iter(requests)
        refused: deque[Generation] = deque()
        known: dict[str, frozenset[int]] = {}
        in_flight = 0
        is_open = True

        def encoded() -> Iterator[sampling.Request | None]:
            nonlocal in_flight, is_open
            for request in incoming:
                if request is None:
                    if not in_flight:
                        return  # only refused samples can lead to more requests
                    yield None
                    continue
                tokens = self._tokenizer.prompt_ids(list(request.messages))
                if len(tokens) + request.settings.max_new_tokens > self.context:
                    refused.extend(
                        Generation(request.key, sample, "", (), "context", 0.0)
                        for sample in request.wanted
                    )
                    continue
                if request.known:
                    known[request.key] = request.known
                in_flight += request.n
                yield self._request(request, tokens)
            is_open = False

        while is_open:
            first = next(encoded(), None)
            if first is None and is_open and not refused:
                raise RuntimeError(
                    "the requests gave nothing while no sample was missing"
                )
            if first is not None:
                later = itertools.chain([first], encoded())
                for result in self._loaded().generate(later):
                    in_flight -= 1
                    if result.finish_reason == "refused":
                        raise ValueError(f"request {result.id}: {result.reason}")
                    if result.sample in known.get(result.id, ()):
                        continue
                    yield Generation(
                        key=result.id,
                        sample=result.sample,
                        text=result.text,
                        token_ids=result.tokens,
                        finish_reason=result.finish_reason,
                        sum_logprob=float(sum(result.logprobs)),
                    )
                    while refused:
                        yield refused.popleft()
            while refused:
                yield refused.popleft()

    def _request(self, request: Generate, tokens: list[int]) -> sampling.Request:
        from alignjax import sampling

        return sampling.Request(
            id=request.key,
            tokens=tuple(tokens),
            n=request.n,
            seed=request.seed,
            settings=sampling.Settings(**asdict(request.settings)),
        )

    def _loaded(self) -> sampling.Sampler:
        if self._sampler is None:
            from alignjax.sampling.setup import Setup  # jax: only where text is sampled

            setup = Setup(
                self.folder,
                slots=self.slots,
                context=self.context,
                answer=self.context,
                dtype=self.dtype,
                share=self.share,
            )
            self._sampler = setup.load(self._tokenizer)
        return self._sampler
