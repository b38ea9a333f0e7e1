# SPDX-License-Identifier: Apache-2.0
"""The commands `alignjax sample` and `alignjax chat`: their options, and what they
join. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignjax.sampling.commands.prompts import Prompt

SAMPLE_EXAMPLES = """\
PROMPTS is a .jsonl file, a .txt file with a prompt a line, or - (standard input):
  {"prompt": "Name a bird."}
  {"id": "b", "messages": [{"role": "user", "content": "Name a bird."}], "n": 4}
  {"text": "Once upon a time", "settings": {"temperature": 0, "stop": ["."]}}

Stopped or killed, the same command goes on where it was; the finished file is the same
bytes. Prompts may be added to PROMPTS later, and samples where --share is given and
stays. A line that is wrong is refused, with the reason in the file; the others go on.

examples:
  alignjax sample prompts.jsonl --model smollm2 --out answers.jsonl
  alignjax sample prompts.txt --model smollm2 --adapter runs/quickstart/train/adapter \\
    --samples 8 --temperature 0.8 --top-p 0.95 --out answers.jsonl
  echo "Name a bird." | alignjax sample - --model smollm2 --out -
"""
CHAT_EXAMPLES = """\
/help in the chat lists its commands. From a pipe, each line is a turn.

examples:
  alignjax chat --model smollm2
  alignjax chat --model smollm2 --adapter runs/quickstart/train/adapter --temperature 0
  printf 'Name a bird.\\nAnother.\\n' | alignjax chat --model smollm2 --seed 1
"""
_CONTEXT = 1024
_CHAT_CONTEXT = 4096
_CHAT_ANSWER = 512
# Fields of `Settings` that have an option of the same name.
_SETTINGS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "max_new_tokens",
    "stop",
)


def add_sample(parser: argparse.ArgumentParser) -> None:
    """The options of `alignjax sample`."""
    parser.add_argument("prompts", metavar="PROMPTS", help="a file, or -")
    _add_model(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="answers, a line each; - writes them to standard output as they finish",
    )
    parser.add_argument(
        "--samples", type=int, default=1, metavar="N", help="of each prompt (1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides all samples (0)")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="take the first N prompts"
    )
    parser.add_argument(
        "--logprobs",
        action="store_true",
        help="write the log-probability of each token, not only their sum",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="take over a file of another model, settings or prompts: keep the answers "
        "that fit, drop the others",
    )
    _add_settings(parser, "128; a line of PROMPTS may ask for fewer")
    memory = parser.add_argument_group("memory and speed")
    memory.add_argument(
        "--slots", type=int, default=32, help="answers in progress at once (32)"
    )
    memory.add_argument(
        "--context",
        type=int,
        metavar="N",
        help=f"most tokens of prompt and answer ({_CONTEXT}, or the model's if less)",
    )
    memory.add_argument(
        "--share",
        type=int,
        metavar="N",
        help="samples that read one copy of their prompt (--samples, at most --slots)",
    )
    memory.add_argument(
        "--cache-dtype",
        choices=("int8",),
        help="keys and values in fewer bits; the answers differ a little",
    )
    memory.add_argument(
        "--tensor",
        type=int,
        default=1,
        metavar="N",
        help="split the model over N devices (1)",
    )


def add_chat(parser: argparse.ArgumentParser) -> None:
    """The options of `alignjax chat`."""
    _add_model(parser)
    parser.add_argument("--system", default="", metavar="TEXT", help="system's text")
    parser.add_argument("--seed", type=int, default=0, help="decides the answers (0)")
    _add_settings(parser, f"{_CHAT_ANSWER}, or half the context if less")
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help=f"most tokens of a conversation ({_CHAT_CONTEXT}, or the model's if less)",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="a name, a folder or a hub id")
    parser.add_argument("--adapter", type=Path, metavar="FOLDER", help="a PEFT adapter")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of weights and arithmetic (float32)",
    )


def _add_settings(parser: argparse.ArgumentParser, max_new_tokens: str) -> None:
    group = parser.add_argument_group("settings of the sampler")
    group.add_argument("--temperature", type=float, metavar="X", help="0 = greedy (1)")
    group.add_argument("--top-k", type=int, metavar="K", help="0 = all (0)")
    group.add_argument("--top-p", type=float, metavar="P", help="1 = all (1)")
    group.add_argument(
        "--min-p",
        type=float,
        metavar="P",
        help="drop tokens less probable than P times the most probable (0)",
    )
    group.add_argument("--repetition-penalty", type=float, metavar="X", help="1 = none")
    group.add_argument("--presence-penalty", type=float, metavar="X", help="0 = none")
    group.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help=f"most tokens of an answer ({max_new_tokens})",
    )
    group.add_argument(
        "--stop",
        action="append",
        metavar="TEXT",
        help="ends the answer, which is cut before it; may be given several times",
    )


def sample(
    arguments: argparse.Namespace,
    *,
    resolve: Callable[[str], Path],
    start_jax: Callable[[], None],
    say: Callable[[str], None],
) -> int:
    """Runs `alignjax sample`.

    Args:
      resolve: the folder of a model.
      start_jax: called once, before anything is computed.
      say: gets lines for the user that are no results.

    Returns:
      0; 1 where not one line could be sampled.
    """
    from alignjax.sampling import requests
    from alignjax.sampling.commands import answers, batch, prompts
    from alignjax.sampling.setup import Setup, model_context

    command = batch.Command(
        settings=_settings(arguments),
        n=arguments.samples,
        seed=arguments.seed,
        logprobs=arguments.logprobs,
    )
    lines = prompts.read(arguments.prompts, limit=arguments.limit)
    folder = resolve(arguments.model)
    context = _context(arguments, min(_CONTEXT, model_context(folder)))
    answer = requests.settings(command.settings).max_new_tokens
    if answer >= context:
        raise ValueError(
            f"--max-new-tokens {answer} leaves no room for a prompt in a context of "
            f"{context}; lower it, or raise --context"
        )
    from alignjax.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    setup = Setup(
        folder,
        adapter=arguments.adapter,
        dtype=arguments.dtype,
        tensor=arguments.tensor,
        slots=arguments.slots,
        context=context,
        answer=answer,
        share=_share(arguments),
        cache_dtype=arguments.cache_dtype,
    )
    start_jax()
    jobs = batch.plan(lines, command, setup.facts(tokenizer))

    def encode(prompt: Prompt) -> list[int]:
        if prompt.messages:
            return tokenizer.prompt_ids(prompt.messages)
        return tokenizer.sentence_ids(prompt.text)

    if arguments.out == "-":
        opened = answers.stream(sys.stdout.buffer)
    else:
        keys = [key for job in jobs for key in job.keys]
        opened = answers.opened(Path(arguments.out), keys, is_fresh=arguments.fresh)
    try:
        with opened as rows, _memory("--slots or --context"):
            summary = batch.run(
                jobs,
                rows,
                encode=encode,
                source=lambda: setup.load(tokenizer),
                logprobs=command.logprobs,
            )
    except BrokenPipeError:
        return _read_enough()
    except OSError as error:
        if arguments.out != "-":
            raise
        raise ValueError(f"standard output: {error.strerror}") from error
    except KeyboardInterrupt:
        if arguments.out != "-":
            raise
        say("interrupted")
        return 130
    shown = summary.lines()
    if arguments.out != "-":
        shown[0] += f": {arguments.out}"
    for line in shown:
        (say if arguments.out == "-" else print)(line)
    return 1 if summary.refused == summary.rows else 0


def chat(
    arguments: argparse.Namespace,
    *,
    resolve: Callable[[str], Path],
    start_jax: Callable[[], None],
    say: Callable[[str], None],
) -> int:
    """Runs `alignjax chat`; the arguments are those of `sample`."""
    from alignjax.data.records import Message
    from alignjax.data.tokenizer import load_tokenizer
    from alignjax.sampling import requests
    from alignjax.sampling.commands import chat as chats
    from alignjax.sampling.setup import Setup, model_context

    given = _settings(arguments)
    folder = resolve(arguments.model)
    tokenizer = load_tokenizer(folder)
    context = _context(arguments, min(_CHAT_CONTEXT, model_context(folder)))
    answer = min(_CHAT_ANSWER, max(context // 2, 1))
    settings = requests.settings({"max_new_tokens": answer, **given})
    if settings.max_new_tokens >= context:
        raise ValueError(
            f"max_new_tokens {settings.max_new_tokens} leaves no room for the "
            f"conversation in a context of {context}; lower it, or raise --context"
        )
    system = [Message("system", arguments.system)] if arguments.system else []
    tokenizer.prompt_ids([*system, Message("user", "Hello.")])  # before weights load
    began = time.monotonic()
    start_jax()
    setup = Setup(
        folder,
        adapter=arguments.adapter,
        dtype=arguments.dtype,
        slots=1,
        context=context,
        answer=settings.max_new_tokens,
        replicas=1,
    )
    with _memory("--context"):
        conversation = chats.Chat(
            setup.load(tokenizer),
            tokenizer.prompt_ids,
            context=context,
            settings=settings,
            seed=arguments.seed,
            system=arguments.system,
            show=chats.printed(is_terminal=sys.stdout.isatty()),
            note=chats.noted,
        )
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # told of the turn, later
        lines = chats.typed("> ") if sys.stdin.isatty() else sys.stdin
        try:
            conversation.prepare()
            passed = time.monotonic() - began
            say(f"{arguments.model} is ready ({passed:.1f} s); /help lists commands")
            chats.converse(conversation, lines, note=chats.noted)
        except BrokenPipeError:
            return _read_enough()
        except KeyboardInterrupt:
            return 130
    return 0


def _read_enough() -> int:
    """After `| head` has closed the pipe: nothing is left to flush to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    given = vars(arguments)
    return {name: given[name] for name in _SETTINGS if given[name] is not None}


def _context(arguments: argparse.Namespace, default: int) -> int:
    if arguments.context is None:
        return default
    if arguments.context < 1:
        raise ValueError(f"--context must be > 0, got {arguments.context}")
    return arguments.context


def _share(arguments: argparse.Namespace) -> int:
    if arguments.share is not None:
        return arguments.share
    return max(1, min(arguments.samples, arguments.slots))


@contextmanager
def _memory(remedy: str) -> Iterator[None]:
    """Says what to do where the device has no memory left."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ValueError(
            f"the device has not enough memory; lower {remedy}, or use --dtype bfloat16"
        ) from error
