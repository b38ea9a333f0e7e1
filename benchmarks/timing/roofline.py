# SPDX-License-Identifier: Apache-2.0
"""How close decoding comes to the memory bandwidth, and to transformers.

A decoding step reads every weight once and the keys and values of every answer in
progress. With prompts of P tokens and answers of N, the steps of one answer read
P N + N (N - 1) / 2 tokens of cache. The roofline is the time that these bytes take at
the device's bandwidth, the published one and that of a copy measured here.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from alignjax.sampling import Request
from timing import parts, record, subject, traffic
from timing.peers import Peer, Work
from timing.record import Compilations
from timing.subject import Subject
from timing.works import Timeline

# Bytes/s by how JAX names the device; the first name that it begins with counts.
BANDWIDTHS = {
    "NVIDIA H200": 4.8e12,
    "NVIDIA H100 NVL": 3.9e12,
    "NVIDIA H100 PCIe": 2.0e12,
    "NVIDIA H100": 3.35e12,  # SXM
    "NVIDIA A100-SXM4-40GB": 1.555e12,
    "NVIDIA A100-PCIE-40GB": 1.555e12,
    "NVIDIA A100": 2.0e12,  # 80 GB
}
_COPIED_BYTES = 1 << 29
_REPEATS = 10


def roofline(
    it: Subject,
    *,
    rows: int,
    prompt: int,
    new: int,
    options: Mapping[str, Any],
    against: Sequence[Peer],
    is_profiled: bool,
    seed: int,
    compilations: Compilations,
) -> Iterator[dict[str, Any]]:
    """Decodes `rows` answers at once.

    Yields:
      A line for ours and one per peer, and with `is_profiled` one of the parts.
    """
    work = Work(prompts=rows, samples=1, prompt=prompt, new=new)
    chosen = {
        "slots": rows,
        "context": prompt + new,
        "answer": new,
        "prompts": rows,
        **options,
    }
    config = it.model.config
    measured = copy_bandwidth()
    sampler = it.sampler(**chosen)

    def requests(seed: int) -> list[Request]:
        return traffic.even(work, vocab=it.vocab, banned=it.end_ids, seed=seed)

    record.say(f"roofline, {rows} rows: warm-up")
    subject.run(sampler, requests(seed))
    warm = compilations.total
    timeline = Timeline(sampler)
    record.say(f"roofline, {rows} rows: measures")
    run = subject.run(sampler, requests(seed + 1))
    spent = timeline.seconds()
    steps = run.steps // chosen["slots"]
    weights = weight_bytes(it)
    token = subject.cache_bytes(config, chosen.get("cache_dtype"))
    cached = token * rows * (prompt * new + new * (new - 1) // 2)
    # Steps that no answer can do without; what is decoded beside them is our loss.
    needed = weights * new + cached
    published = published_bandwidth(jax.devices()[0].device_kind)
    line = {
        "system": "alignjax",
        "work": {"name": "roofline", "model": it.name, **work._asdict()},
        "dtype": config.dtype,
        "mean_context": prompt + new // 2,
        "tokens_per_s": round(run.tokens_per_s, 1),
        "decode_tokens_per_s": round(work.tokens / spent["decode"], 1),
        "seconds": {
            **{kind: round(s, 3) for kind, s in spent.items()},
            "all": round(run.seconds, 3),
        },
        "steps": steps,
        "step_ms": round(1000 * spent["decode"] / steps, 3),
        "weight_bytes": weights,
        "mean_cache_bytes": cached // new,
        "copy_bandwidth": float(f"{measured:.3g}"),
        "share_of_copy_roofline": round(needed / measured / spent["decode"], 4),
        "useful_share": round(subject.useful_share([run]), 4),
        "sampler": dataclasses.asdict(sampler.shapes),
        "seed": seed,
        "compilations": {
            "total": compilations.total,
            "after_warm_up": compilations.total - warm,
        },
        "peak_memory_mib": record.peak_memory_mib(),
        "versions": record.versions(),
    }
    if published is not None:
        line |= {
            "bandwidth": published,
            "roofline_tokens_per_s": round(work.tokens * published / needed, 1),
            "share_of_roofline": round(needed / published / spent["decode"], 4),
        }
    theirs = {peer.name: _peer_rates(it, work, peer) for peer in against}
    line["ratio"] = {
        name: round(run.tokens_per_s / max(rates), 2) for name, rates in theirs.items()
    }
    yield line
    for peer in against:
        yield {
            "system": peer.name,
            "work": line["work"],
            "dtype": config.dtype,
            "tokens_per_s": record.rates(theirs[peer.name]),
            "versions": peer.versions(),
        }
    if is_profiled:
        shapes = sampler.shapes
        del sampler, timeline  # their memory
        found = parts.profile(
            it,
            shapes,
            prompt=prompt,
            answer=max(new // 2, 1),
            run_ms=1000 * spent["decode"] / steps,
        )
        record.say(parts.table(found, published or measured))
        yield {
            "system": "alignjax",
            "work": {"name": "profile", "model": it.name, **work._asdict()},
            "dtype": config.dtype,
            "mean_context": prompt + new // 2,
            "parts_ms": {part.name: round(part.ms, 3) for part in found.parts},
            "rest_ms": round(found.rest_ms, 3),
            "device_ms": round(found.device_ms, 3),
            "host_ms": round(found.host_ms, 3),
            "step_ms": round(found.run_ms, 3),
            "versions": record.versions(),
        }


def weight_bytes(it: Subject) -> int:
    """What a step reads of the parameters: all but the rows of an embedding that is
    not the head as well."""
    total = subject.parameter_bytes(it.params)
    if it.model.config.is_tied:
        return total
    return total - subject.parameter_bytes({"embedding": it.params["embedding"]})


def published_bandwidth(device_kind: str) -> float | None:
    """Bytes/s of the device's memory, by its maker; None where it is not known here."""
    found = (x for name, x in BANDWIDTHS.items() if device_kind.startswith(name))
    return next(found, None)


def copy_bandwidth() -> float:
    """Bytes/s that an addition reads and writes, the best of some."""
    change = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = change(jnp.zeros(_COPIED_BYTES // 4, jnp.int32))
    seconds = []
    for _ in range(_REPEATS):
        jax.block_until_ready(array)
        began = time.perf_counter()
        array = jax.block_until_ready(change(array))
        seconds.append(time.perf_counter() - began)
    return 2 * _COPIED_BYTES / statistics.median(seconds)


def _peer_rates(it: Subject, work: Work, peer: Peer) -> list[float]:
    """Tokens/s of each of the peer's repeats."""
    dtype = it.model.config.dtype
    with tempfile.TemporaryDirectory() as scratch:
        folder = it.folder
        if folder is None:
            folder = Path(scratch)
            subject.write_folder(it, folder)
        spent = peer.seconds(folder, work, dtype=dtype)
    rates = [work.tokens / s for s in spent]
    record.say(f"{peer.name}: {max(rates):.1f} tokens/s")
    return rates
