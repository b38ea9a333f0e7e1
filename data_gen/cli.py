# SPDX-License-Identifier: Apache-2.0
"""The command `data-gen`."""

import argparse
import errno
import sys
from collections.abc import Sequence

_EXAMPLES = """\
examples:
  data-gen run my.yaml
  data-gen run my.yaml --out data/small --limit 40 ecd.rounds=1 engine.slots=32
  data-gen verify runs/quickstart/data
  data-gen report runs/quickstart/data

A run that was stopped goes on where it was: give the same command again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    0: done. 1: `verify` found something wrong. 2: a user's mistake or an operating
    system error, told in one line. 130: interrupted; finished work is kept.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse leaves here what follows an option: `run a.yaml --out b ecd.rounds=1`.
    if arguments.command in (_run, _seeds):
        arguments.overrides += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return arguments.command(arguments)
    except KeyboardInterrupt:
        print(
            "data-gen: interrupted; finished samples are kept, give the same command "
            "again to go on",
            file=sys.stderr,
        )
        return 130
    except OSError as error:
        hint = ""
        if error.errno == errno.ENOSPC:
            hint = "; finished work is kept: free some space and run it again"
        print(f"data-gen: {error}{hint}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"data-gen: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="data-gen",
        description="Make preference data that carries its proof, from a local model "
        "or a server.",
        epilog=_EXAMPLES,
        formatter_class=layout,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="make a dataset folder as a YAML config says",
        description="Make a dataset folder: plan, sample, check, export.",
        epilog=_EXAMPLES,
        formatter_class=layout,
    )
    run.set_defaults(command=_run)
    run.add_argument("config", metavar="CONFIG", help="YAML file, see docs/howto.md")
    run.add_argument(
        "overrides",
        nargs="*",
        metavar="FIELD=VALUE",
        help="change a field of the config, e.g. ecd.samples=8",
    )
    run.add_argument("--out", help="dataset folder to write")
    run.add_argument("--model", help="model: folder, hub id or known name")
    run.add_argument("--embedder", help="sentence encoder: the same")
    run.add_argument("--seeds", help='"builtin", a .jsonl or a .txt file of seeds')
    run.add_argument("--limit", type=int, help="use the first so many seeds")
    run.add_argument("--seed", type=int, help="decides everything random")
    run.add_argument(
        "--fresh",
        action="store_true",
        help="take over a folder with another configuration's run: replace its "
        "exported files, keep and reuse its samples",
    )
    run.add_argument(
        "--check",
        action="store_true",
        help="only say whether the config is valid and the API keys are there; "
        "connects to nothing",
    )

    verify = commands.add_parser(
        "verify",
        help="check a dataset folder and run its proofs again, without a model",
        description="Check hashes, schema, splits and negatives of a dataset folder, "
        "and run every stored proof again. Needs no model. Exit status 1 if anything "
        "is wrong.",
    )
    verify.set_defaults(command=_verify)
    verify.add_argument("folder", metavar="DIR", help="dataset folder")

    formats = commands.add_parser(
        "formats",
        help="list the data sets that seeds are read from, their licences and traps",
        description="List the formats of seeds: what a row holds, the licence of the "
        "data set, and what goes wrong with it.",
    )
    formats.set_defaults(command=_formats)
    formats.add_argument("names", nargs="*", metavar="NAME", help="only these")
    formats.add_argument(
        "--markdown", action="store_true", help="as docs/seeds.md has them"
    )

    seeds = commands.add_parser(
        "seeds",
        help="read a data set as seeds: count, show or write them; no model",
        description="Read a data set as a run with these `seeds:` would, and say what "
        "was dropped and why.",
    )
    seeds.set_defaults(command=_seeds)
    seeds.add_argument("source", metavar="SOURCE", help="file, folder or hub name")
    seeds.add_argument(
        "overrides",
        nargs="*",
        metavar="FIELD=VALUE",
        help="another field of the source, e.g. format=alpaca gates.near_duplicate=0",
    )
    seeds.add_argument("--out", metavar="FILE.jsonl", help="write them as a seed file")
    seeds.add_argument("--show", type=int, default=0, metavar="N", help="print N seeds")

    report = commands.add_parser(
        "report",
        help="show what a run made and what it dropped",
        description="Show report.json of a dataset folder as tables.",
    )
    report.set_defaults(command=_report)
    report.add_argument("folder", metavar="DIR", help="dataset folder")

    accuracy = commands.add_parser(
        "accuracy",
        help="how often one file of judged answers is better than another",
        description="Compare two files of verdicts (JSONL with "
        "follow_instruction_list) prompt by prompt: wins over wins plus losses.",
    )
    accuracy.set_defaults(command=_accuracy)
    accuracy.add_argument("better", metavar="BETTER", help="of the model preferred")
    accuracy.add_argument("worse", metavar="WORSE", help="of the other model")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    import os
    from pathlib import Path

    from rich.console import Console

    from alignjax import config as configs
    from alignjax import fetch
    from data_gen import summary
    from data_gen.engines import choice
    from data_gen.run import RunConfig, run

    options = {
        "out": arguments.out,
        "model": arguments.model,
        "embedder": arguments.embedder,
        "seeds": arguments.seeds,
        "limit": arguments.limit,
        "seed": arguments.seed,
    }
    overrides = [
        *arguments.overrides,
        *(f"{name}={_quoted(v)}" for name, v in options.items() if v is not None),
    ]
    config = configs.load(RunConfig, arguments.config, overrides)
    choice.check_keys(config.choices, os.environ)
    if arguments.check:
        return 0
    home = fetch.home(os.environ)

    def locate(model: str) -> Path:
        return fetch.resolve(model, home, progress=_say)

    report = run(
        config,
        is_fresh=arguments.fresh,
        environment=os.environ,
        locate=locate,
        say=_say,
    )
    summary.show(report, Console())
    print(f"wrote {config.out}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from data_gen.verify import verify

    found = verify(Path(arguments.folder))
    for line in found.notes:
        print(f"note: {line}")
    for line in found.failures:
        print(f"FAIL: {line}")
    verdict = f"{len(found.failures)} failures" if found.failures else "all good"
    print(
        f"{arguments.folder}: {found.examples} examples, {found.proofs} proofs, "
        f"{found.prompts} prompts checked: {verdict}"
    )
    return 1 if found.failures else 0


def _formats(arguments: argparse.Namespace) -> int:
    from data_gen.seeds import show

    print(show.formats(arguments.names, is_markdown=arguments.markdown))
    return 0


def _seeds(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from alignjax import config as configs
    from data_gen.seeds import SeedSource, show

    given = {"source": arguments.source}
    source = configs.parse(
        SeedSource, configs.overridden(given, arguments.overrides), "seeds"
    )
    out = Path(arguments.out) if arguments.out else None
    for line in show.seeds(source, out=out, count=arguments.show):
        print(line)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from rich.console import Console

    from data_gen import summary

    path = Path(arguments.folder) / "report.json"
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; run `data-gen run CONFIG` to the end first"
        )
    summary.show(json.loads(path.read_text()), Console())
    return 0


def _accuracy(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from data_gen.accuracy import compare

    found = compare(Path(arguments.better), Path(arguments.worse))
    for name, row in (("number followed", found.number), ("all followed", found.all)):
        share = "-"
        if row.accuracy is not None:
            share = f"{row.accuracy:.3f} ({row.low:.3f} to {row.high:.3f})"
        print(f"{name}: {row.won} won, {row.lost} lost, {row.tied} tied: {share}")
    return 0


def _quoted(value: str | int) -> str:
    """A YAML value: texts in quotes, so that a folder named 1 stays a text."""
    import json

    return json.dumps(value)


def _say(line: str) -> None:
    print(f"data-gen: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
