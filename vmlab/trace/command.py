"""``vmlab trace``: record what pages a real program touches, and look at such traces."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import TraceError
from .lackey import read_lackey, record_program
from .pagetrace import PageTrace, load_trace, shipped

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vmlab trace", description="Page traces of real programs.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    record = actions.add_parser(
        "record",
        help="run a program under valgrind and save its page trace",
        description="Run COMMAND under valgrind's lackey tool and save which pages it touches.",
        epilog="example: vmlab trace record -o true.vmpt --limit 1000000 -- /bin/true",
    )
    record.add_argument("-o", "--output", metavar="FILE", type=Path, help="where to save it (default: NAME.vmpt here)")
    record.add_argument("--name", help="what to call the trace (default: the program's name)")
    record.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N references")
    record.add_argument("--limit", type=int, default=4_000_000, metavar="N", help="stop after N references (default: 4,000,000)")
    record.add_argument("--data-only", action="store_true", help="leave out instruction fetches")
    record.add_argument("--switches", action="store_true", help="count repeated references to one page once")
    record.add_argument("--from", dest="source", metavar="FILE", type=Path, help="read lackey output from FILE instead of running anything")
    record.add_argument("command", nargs="*", metavar="COMMAND", help="the program and its arguments, after --")
    info = actions.add_parser("info", help="say what is in a trace")
    info.add_argument("traces", nargs="+", metavar="TRACE", help="a file, or the name of a shipped trace")
    actions.add_parser("list", help="list the traces that come with vmlab")
    return parser


def describe(trace: PageTrace) -> str:
    """A few lines about a trace, for people."""
    regions = [f"{start << 12:08x}-{start + length << 12:08x}" for start, length in trace.regions]
    rows = [
        ("name", trace.name),
        ("command", trace.command),
        ("references", f"{len(trace):,}"),
        ("writes", f"{trace.writes:,}"),
        ("pages", f"{len(trace.pages):,} ({len(trace.pages) * 4:,} KiB)"),
        ("regions", " ".join(regions[:8]) + (" ..." if len(regions) > 8 else "")),
    ]
    return "\n".join(f"{key + ':':<12}{value}" for key, value in rows)


def _record(options: argparse.Namespace) -> int:
    kind = {"limit": options.limit, "skip": options.skip, "data_only": options.data_only, "switches": options.switches}
    if options.source is not None:
        try:
            with options.source.open("rb") as lines:
                trace = read_lackey(lines, name=options.name or options.source.stem, command=" ".join(options.command), **kind)
        except OSError as error:
            raise TraceError(f"{options.source}: cannot be read ({error.strerror or error})") from None
    elif options.command:
        trace = record_program(options.command, name=options.name or Path(options.command[0]).name, **kind)
    else:
        raise TraceError("which program? Put it after --, as in: vmlab trace record -- /bin/true")
    output = options.output or Path(f"{trace.name}.vmpt")
    try:
        trace.save(output)
    except OSError as error:
        raise TraceError(f"{output}: cannot be written ({error.strerror or error})") from None
    print(describe(trace))
    print(f"{'saved:':<12}{output} ({output.stat().st_size:,} bytes)")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run ``vmlab trace``; 0 when it worked, 2 when a trace cannot be made or read."""
    options = _parser().parse_args(argv)
    try:
        if options.action == "record":
            return _record(options)
        names = shipped() if options.action == "list" else options.traces
        print("\n\n".join(describe(load_trace(name)) for name in names))
    except TraceError as error:
        print(f"vmlab trace: {error}", file=sys.stderr)
        return 2
    return 0
