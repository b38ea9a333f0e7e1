# SPDX-License-Identifier: Apache-2.0
"""A scripted model for tests: on topic, and obeys an instruction now and then."""

import hashlib
import sys
import time
from pathlib import Path

from alignjax import constraints
from data_gen.engines.scripted import ScriptedEngine
from data_gen.prompts import Evaluation
from data_gen.records import Message
from data_gen.run import RunConfig, run
from data_gen.strategies.ecd import ECD
from data_gen.strategies.self_contrast import SelfContrast

TYPES = ("lowercase", "no_commas", "words_max", "end_question", "include_word")
WORDS = [
    *("steady", "quiet", "early", "simple", "useful", "warm", "bright", "local"),
    *("common", "daily", "careful", "gentle", "modern", "natural", "public", "recent"),
]


def answer(messages: tuple[Message, ...], sample: int) -> str:
    """Two sentences about the first words of the task; every third sample of a task
    with constraints is edited until it passes them."""
    prompt = messages[-1].content
    asked = constraints.parse(prompt)
    number = int.from_bytes(hashlib.sha256(f"{prompt}/{sample}".encode()).digest()[:4])
    picked = [WORDS[(number >> shift) % len(WORDS)] for shift in (0, 4, 8, 12)]
    topic = " ".join(prompt.split()[:4]).strip(".,?")
    text = (
        f"Regarding {topic}, the {picked[0]} and {picked[1]} way is best, as you know. "
        f"It stays {picked[2]}, {picked[3]}, and easy to follow from the start."
    )
    if asked and number % 3 == 0:
        return constraints.compose(asked, text) or text
    return text


def config(out: Path, **changes) -> RunConfig:
    """A small run of all strategies on two dozen of the seeds of the package."""
    settings = {
        "model": "scripted",
        "out": str(out),
        "embedder": "hashed-ngrams",
        "limit": 24,
        "ecd": ECD(
            types=TYPES,
            samples=4,
            held_out=3,
            max_new_tokens=60,
            max_witness_share=0.8,
        ),
        "self_contrast": SelfContrast(prompts=6, samples=6, max_new_tokens=60),
        "evaluation": Evaluation(types=TYPES, prompts_per_type=3),
    }
    return RunConfig(**{**settings, **changes})


def engine() -> ScriptedEngine:
    return ScriptedEngine(answer)


def slow_answer(messages: tuple[Message, ...], sample: int) -> str:
    """As `answer`, slow enough to be killed in the middle."""
    time.sleep(0.01)
    return answer(messages, sample)


if __name__ == "__main__":  # a run in a process of its own: python scripts.py OUT
    slow = ScriptedEngine(slow_answer)
    run(config(Path(sys.argv[1])), engine=slow, say=print)
    print(f"sampled {len(slow.asked)}")
