# SPDX-License-Identifier: Apache-2.0
"""Demonstrations: worked examples shown to the model while it samples an answer.

A small model meets a constraint several times as often after seeing it met once for
another task (numbers in docs/design.md). The demonstration is in the request only: the
example's prompt stays bare, so training distils the context into the weights (Askell
et al. 2021, arXiv:2112.00861, section 2.2; PopAlign's demonstration contrast,
arXiv:2410.13785).

The tasks here belong to no dataset. Their answers are made to meet the constraints by
the constraints' own witnesses, so no demonstration can be wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from alignjax import constraints
from alignjax.constraints import Constraint
from data_gen.prompts import instruct
from data_gen.records import Message

STOCK: tuple[tuple[str, str], ...] = (
    (
        "What does an umbrella do? Be brief.",
        "An umbrella opens above your head and keeps the rain off your clothes. "
        "It folds up small when the sky is clear.",
    ),
    (
        "Say in a sentence or two why people put curtains on windows.",
        "Curtains keep a room dark and private at night. They also hold some warmth "
        "inside when it is cold.",
    ),
    (
        "Briefly describe a lighthouse.",
        "A lighthouse is a tall tower by the sea with a bright lamp on top. Its light "
        "shows ships where the rocks are.",
    ),
    (
        "Give a short tip for peeling an orange.",
        "Cut a small circle from the top and pull the skin down in strips. Warm fruit "
        "peels more easily than cold fruit.",
    ),
    (
        "How does a zipper work? Keep it short.",
        "A zipper has two rows of small teeth and a slider. The slider presses the "
        "teeth together or pulls them apart.",
    ),
    (
        "Describe a quiet library in a couple of sentences.",
        "Rows of books stand under soft lamps and people turn pages slowly. Now and "
        "then a chair creaks on the wooden floor.",
    ),
)


def turns(asked: Sequence[Constraint], *, count: int, name: str) -> tuple[Message, ...]:
    """User and assistant turns that show `asked`'s types being met for other tasks.

    Args:
      asked: constraints of the instruction to come; parameters are drawn anew.
      count: how many demonstrations, at most; 0 to 6.
      name: decides tasks, parameters and wordings.

    Returns:
      Two messages per demonstration; fewer where no witness was found, or none that
      still answers the task.
    """
    rng = random.Random(name)
    messages: list[Message] = []
    for task, answer in rng.sample(STOCK, len(STOCK)):
        if len(messages) == 2 * count:
            break
        drawn = [constraints.sample(c.type, rng, topic=task) for c in asked]
        shown = constraints.compose(drawn, answer, keep_content=True)
        instruction = instruct(task, drawn, f"{name}/{task}")
        if shown is not None and instruction is not None:
            messages.append(Message("user", instruction.text))
            messages.append(Message("assistant", shown))
    return tuple(messages)


def sentences(shown: Sequence[Message]) -> tuple[str, ...]:
    """What an answer must not repeat: the sentences behind `shown`, all of them.

    Those of the stock, not of the turns: a turn may end in a phrase that the
    instruction asks for too. () where nothing was shown.
    """
    if not shown:
        return ()
    texts = [text for pair in STOCK for text in pair]
    return tuple(part for text in texts for part in re.split(r"(?<=[.?!]) ", text))
