"""The `vmlab` command: lab, verify, trace, grade, hostdiff, endurance, mkswap, version.

Each subcommand imports its piece only when it is used, so that `vmlab verify` on a bare Python needs no Jupyter and
`vmlab --help` is immediate.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Sequence

TOOLS = ("hostdiff", "endurance", "diff-26", "mkswap")  # each a module of vmlab.tools that reads its own options
EPILOG = """\
examples:
  vmlab lab                                    open the course in JupyterLab
  vmlab verify traces/buddy-a.jsonl.gz         replay a golden trace against the model
  vmlab trace record -- /bin/true              record the pages a program touches (needs valgrind)
  vmlab hostdiff --calls 20000 --seed 1        the same calls to the model and to this machine's Linux
  vmlab endurance --seconds 60 --seed 1        random work, compared with a model kept outside
  vmlab grade .                                grade what students handed in under submitted/
"""


def _entry(module: str, function: str) -> Callable[[Sequence[str]], int]:
    """The `function` of `module`, imported now; SystemExit with one sentence if a package it needs is missing."""
    try:
        found = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "vmlab":
            raise
        raise SystemExit(f"vmlab: this needs the package {error.name!r}: pip install {error.name}") from None
    return found  # type: ignore[no-any-return]


def version() -> str:
    """The installed version of vmlab, or "unknown" when it runs from a checkout that was never installed."""
    try:
        return importlib.metadata.version("vmlab")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _parser() -> argparse.ArgumentParser:
    """The command line, without the options of `lab` and `grade`: those pieces read their own."""
    parser = argparse.ArgumentParser(
        prog="vmlab",
        description="An executable edition of “Understanding the Linux Virtual Memory Manager”.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vmlab {version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    commands.add_parser("lab", help="open the course in JupyterLab on its start page", add_help=False)
    verify = commands.add_parser(
        "verify",
        help="replay golden traces and report the first divergence",
        description="Replay golden traces (.jsonl or .jsonl.gz) against the model and compare every state field they carry.",
        epilog="exit status: 0 no divergence, 1 a divergence, 2 a file that cannot be read or understood",
    )
    verify.add_argument("files", metavar="FILE", nargs="+", help="a golden trace")
    commands.add_parser("trace", help="record and look at page traces of real programs", add_help=False)
    commands.add_parser("grade", help="grade a class: DIR holds submitted/", add_help=False)
    commands.add_parser("hostdiff", help="compare the model with this machine's Linux, call by call", add_help=False)
    commands.add_parser("endurance", help="random work against a model of what must be read", add_help=False)
    commands.add_parser("diff-26", help="what Linux 2.6 does differently, chapter by chapter", add_help=False)
    commands.add_parser("mkswap", help="make a swap area of a file", add_help=False)
    commands.add_parser("version", help="print the version")
    return parser


def _run(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run the subcommand that was parsed; `rest` is what only `lab` and `grade` understand."""
    if options.command == "lab":
        return _entry("vmlab.tools.lab", "main")(rest)
    if options.command == "grade":
        return _entry("vmlab.course.grade", "main")(rest)
    if options.command == "trace":
        return _entry("vmlab.trace.command", "main")(rest)
    if options.command == "verify":
        return _entry("vmlab.trace.golden", "main")(options.files)
    if options.command in TOOLS:
        return _entry(f"vmlab.tools.{options.command.replace('-', '')}", "main")(rest)
    print(f"vmlab {version()} on Python {platform.python_version()}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the words after `vmlab`; None means the process's own.

    Returns:
        The exit status.
    """
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    # argparse would eat the "--" that divides our options from the recorded program's.
    cut = 1 if words[:1] == ["trace"] else len(words)
    options, rest = parser.parse_known_args(words[:cut])
    rest += words[cut:]
    if rest and options.command not in ("lab", "grade", "trace", *TOOLS):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        status = _run(options, rest)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `vmlab verify … | head`: the reader has gone. Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
