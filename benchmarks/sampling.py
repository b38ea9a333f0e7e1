# SPDX-License-Identifier: Apache-2.0
"""How fast the sampler is and what its answers depend on.

    python benchmarks/sampling.py even --bench ../bench \\
        --peer transformers=../torch/bin/python --peer tunix=../tunix/bin/python
    python benchmarks/sampling.py shared          # 32 samples of each prompt
    python benchmarks/sampling.py uneven          # share of slots that are useful
    python benchmarks/sampling.py long            # rate and memory stay flat
    python benchmarks/sampling.py int8            # what keys and values in int8 cost
    python benchmarks/sampling.py fingerprints    # other slots: other tokens?
    python benchmarks/sampling.py roofline --rows 64 256 --profile    # on a GPU

Each prints JSON lines, one per system and piece of work, and appends them to
benchmarks/results/sampling.jsonl. `sampling.py WORK --help` lists its options. For a
trial add --layers 2 --out trial.jsonl and make the numbers small. Options of the
sampler itself: --sampler slots=32 chunk=8 (see alignjax.sampling.Sampler).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from timing import peers, precision, record, roofline, subject, works
from timing.peers import Peer, Work

# Prompts, samples, tokens in and out, as in the comparison that the peers were first
# timed on.
WORKS = {"even": Work(8, 4, 64, 96), "shared": Work(4, 32, 256, 96)}


def main() -> None:
    arguments = _parser().parse_args()
    if "peer" in arguments and arguments.peer:
        # A peer on the same card needs memory too; read when JAX first meets the card.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        for line in _lines(arguments):
            record.write(arguments.out, line)
    except ValueError as error:
        sys.exit(f"sampling.py: {error}")


def _lines(arguments: argparse.Namespace) -> Iterable[Mapping[str, Any]]:
    options = subject.sampler_options(arguments.sampler)
    is_random = arguments.name == "roofline" and arguments.model is None
    dtype = arguments.dtype or ("bfloat16" if is_random else "float32")
    against: list[Peer] = []
    if "peer" in arguments:
        against = peers.find(arguments.peer, arguments.bench, dtype=dtype)
    compilations = record.Compilations()
    if is_random:
        it = subject.llama_1b(dtype=dtype, layers=arguments.layers)
    else:
        if against and arguments.layers:
            raise ValueError("--layers: the peers time the whole model; leave one out")
        model = arguments.model or "smollm2"
        it = subject.load(model, dtype=dtype, layers=arguments.layers)
    shared = {
        "options": options,
        "seed": arguments.seed,
        "compilations": compilations,
    }
    match arguments.name:
        case "even" | "shared":
            work = Work(
                arguments.prompts, arguments.samples, arguments.prompt, arguments.new
            )
            yield from works.side_by_side(
                it,
                work,
                name=arguments.name,
                against=against,
                rounds=arguments.rounds,
                repeats=arguments.repeats,
                **shared,
            )
        case "uneven":
            yield from works.uneven(
                it,
                answers=arguments.answers,
                samples=arguments.samples,
                picture=arguments.out.with_name("slots.json"),
                **shared,
            )
        case "long":
            yield works.long(it, tokens=arguments.tokens, **shared)
        case "int8":
            yield from precision.int8(
                it, prompts=arguments.prompts, new=arguments.new, **shared
            )
        case "fingerprints":
            yield from precision.fingerprints(
                it, prompts=arguments.prompts, new=arguments.new, **shared
            )
        case _:
            for rows in arguments.rows:
                yield from roofline.roofline(
                    it,
                    rows=rows,
                    prompt=arguments.prompt,
                    new=arguments.new,
                    against=against,
                    is_profiled=arguments.profile,
                    **shared,
                )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sampling.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    works = parser.add_subparsers(dest="name", required=True, metavar="WORK")
    for name, work in WORKS.items():
        one = _work(
            works,
            name,
            f"{work.prompts} prompts x {work.samples} samples, "
            f"{work.prompt} tokens in, {work.new} out, none ends early",
        )
        _add_counts(
            one,
            prompts=(work.prompts, "prompts"),
            samples=(work.samples, "samples of each"),
            prompt=(work.prompt, "tokens of a prompt"),
            new=(work.new, "tokens of an answer"),
            rounds=(3, "rounds of ours and the peers in turn"),
            repeats=(3, "of ours in a round; peers have their own"),
        )
        _add_peers(one)
    one = _work(works, "uneven", "answers of realistic, uneven lengths")
    _add_counts(one, answers=(600, "answers"))
    one.add_argument(
        "--samples",
        type=_count,
        nargs="+",
        default=[1, 4],
        help="of a prompt, for each of the runs (1 4)",
    )
    one = _work(works, "long", "mixed requests for long: rate, memory, compilations")
    _add_counts(one, tokens=(100_000, "tokens to make"))
    one = _work(works, "int8", "accuracy, memory and speed of keys and values in int8")
    _add_counts(one, prompts=(64, "prompts"), new=(96, "tokens of an answer"))
    text = "the same requests under other slots and buckets"
    one = _work(works, "fingerprints", text)
    _add_counts(one, prompts=(60, "prompts"), new=(96, "tokens of an answer"))
    one = _work(works, "roofline", "decoding against the memory bandwidth")
    one.add_argument(
        "--rows",
        type=_count,
        nargs="+",
        default=[64, 256],
        help="answers at once, for each of the runs (64 256)",
    )
    _add_counts(
        one, prompt=(512, "tokens of a prompt"), new=(512, "tokens of an answer")
    )
    one.add_argument("--profile", action="store_true", help="time the parts of a step")
    _add_peers(one)
    return parser


def _work(
    works: argparse._SubParsersAction, name: str, text: str
) -> argparse.ArgumentParser:
    one = works.add_parser(name, help=text, description=text)
    is_random = name == "roofline"
    usual = "a Llama of 1B with random weights" if is_random else "smollm2"
    one.add_argument("--model", help=f"name, folder or hub id ({usual})")
    usual = "bfloat16; float32 with --model" if is_random else "float32"
    one.add_argument("--dtype", help=f"of weights and activations ({usual})")
    one.add_argument("--layers", type=_count, default=0, help="only so many (all)")
    one.add_argument("--seed", type=_natural, default=0, help="%(default)s")
    one.add_argument(
        "--sampler",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="its slots, context, answer, share, prompts, prefill_tokens, chunk, "
        "cache_dtype (what suits the work)",
    )
    one.add_argument(
        "--out",
        type=Path,
        default=record.RESULTS / "sampling.jsonl",
        help="where lines are appended (benchmarks/results/sampling.jsonl)",
    )
    return one


def _add_counts(parser: argparse.ArgumentParser, **options: tuple[int, str]) -> None:
    for name, (default, text) in options.items():
        parser.add_argument(
            f"--{name}", type=_count, default=default, help=f"{text} ({default})"
        )


def _add_peers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help=f"time it too ({', '.join(peers.SCRIPTS)}), with that Python",
    )
    parser.add_argument(
        "--bench",
        type=Path,
        metavar="FOLDER",
        help=f"where {' and '.join(peers.SCRIPTS.values())} lie",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


if __name__ == "__main__":
    main()
