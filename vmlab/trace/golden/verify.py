"""Reading a trace, replaying it line by line, and finding the first value that differs."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import TraceError, VmlabError
from .bootmem import BootmemReplay
from .buddy import BuddyReplay
from .highmem import HighmemReplay
from .numa import NumaReplay
from .process import ProcessReplay
from .slab import SlabReplay
from .v26_allocators import Allocators26Replay
from .v26_process import Process26Replay
from .v26_slab import Slab26Replay
from .vmalloc import VmallocReplay
from .zones import ZonesReplay

Line = dict[str, Any]
Replay = Callable[[Line], Line]

REPLAYS: dict[str, Callable[[Line], Replay]] = {
    "zones": ZonesReplay,
    "bootmem": BootmemReplay,
    "buddy": BuddyReplay,
    "numa": NumaReplay,
    "slab": SlabReplay,
    "v26-slab": Slab26Replay,
    "vmalloc": VmallocReplay,
    "highmem": HighmemReplay,
    **dict.fromkeys(("v26-zones", "v26-buddy"), Allocators26Replay),
    **dict.fromkeys(("v26-mmap", "v26-faults", "v26-swapfile", "v26-vmscan", "v26-oom", "v26-system"), Process26Replay),
    **dict.fromkeys(("mmap", "faults", "swapfile", "vmscan", "pagecache", "shmem", "oom", "system", "pae"), ProcessReplay),
}

# What replaying a line raises when a value on it is of the wrong kind or size.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, MemoryError, RecursionError)


class Divergence(NamedTuple):
    """The first place where the model and the real kernel differ."""

    line: int  # of the file, from 1
    operation: str
    field: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        return (
            f"line {self.line}: {self.operation}\n  field    {self.field}\n"
            f"  expected {_short(self.expected)}\n  got      {_short(self.got)}"
        )


class Report(NamedTuple):
    """What replaying one file showed."""

    name: str
    operations: int
    divergence: Divergence | None

    def __str__(self) -> str:
        if self.divergence is None:
            return f"{self.name}: {self.operations} operations, 0 divergences"
        return f"{self.name}: diverges after {self.operations} operations\n{self.divergence}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 300 else text[:297] + "..."


def read_lines(path: str | Path) -> Iterator[tuple[int, Line]]:
    """(line number, object) of each line of a .jsonl or .jsonl.gz file. Raises TraceError when it cannot be read."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error})") from None
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise TraceError(f"{path}: damaged gzip data ({error})") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise TraceError(f"{path}: not a text file of JSON lines") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TraceError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(value, dict):
            raise TraceError(f"{path}, line {number}: a JSON object is expected, not {type(value).__name__}")
        yield number, value


def difference(expected: Any, got: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """(field, expected, got) of the first difference, types included; None when equal."""
    if type(expected) is not type(got):
        return path, expected, got
    if isinstance(expected, dict):
        for key in expected:
            here = f"{path}.{key}" if path else key
            if key not in got:
                return here, expected[key], "(not a field of this line)"
            found = difference(expected[key], got[key], here)
            if found:
                return found
        for key in got:
            if key not in expected:
                return (f"{path}.{key}" if path else key), "(missing)", got[key]
        return None
    if isinstance(expected, list):
        for i, (e, g) in enumerate(zip(expected, got, strict=False)):
            found = difference(e, g, f"{path}[{i}]")
            if found:
                return found
        return (f"{path} (length)", len(expected), len(got)) if len(expected) != len(got) else None
    return None if expected == got else (path, expected, got)


def _operation(line: Line) -> str:
    op = line.get("op")
    if isinstance(op, list):
        return " ".join(str(x) for x in op)
    words = [
        f"{k}={line[k]}"
        for k in ("name", "gfp", "order", "pfn", "addr", "size", "align", "goal", "mapstart", "start", "end", "memalloc")
        if k in line
    ]
    return " ".join([str(op), *words])


def verify(path: str | Path) -> Report:
    """Replay one trace. Stops at the first divergence. Raises TraceError when the file is not a sound trace."""
    path = Path(path)
    lines = read_lines(path)
    try:
        _, header = next(lines)
    except StopIteration:
        raise TraceError(f"{path}: empty file") from None
    subsystem = header.get("subsystem")
    if not isinstance(subsystem, str):
        raise TraceError(f"{path}: the first line is no header (it names no subsystem)")
    if subsystem not in REPLAYS:
        raise TraceError(f"{path}: subsystem {subsystem!r} cannot be replayed yet; the known ones are {', '.join(sorted(REPLAYS))}")
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    done = 0
    try:
        replay = REPLAYS[subsystem](header)
    except _MALFORMED as error:
        raise TraceError(f"{path}, line 1: malformed header ({type(error).__name__}: {error})") from error
    for number, line in lines:
        try:
            got = replay(line)
        except VmlabError as error:
            if isinstance(error, TraceError):
                raise TraceError(f"{path}, line {number}: {error}") from None
            return Report(name, done, Divergence(number, _operation(line), "(outcome)", "as recorded", str(error)))
        except _MALFORMED as error:
            raise TraceError(f"{path}, line {number}: malformed operation {_short(line)} ({type(error).__name__}: {error})") from error
        found = difference(line, got)
        if found:
            return Report(name, done, Divergence(number, _operation(line), *found))
        done += 1
    if not done:
        raise TraceError(f"{path}: the trace has a header but no operations")
    return Report(name, done, None)


def main(files: Sequence[str]) -> int:
    """``vmlab verify FILE…``: 0 when all agree, 1 on a divergence, 2 when a file is no sound trace."""
    worst = 0
    for file in files:
        try:
            report = verify(file)
        except TraceError as error:
            print(f"vmlab verify: {error}", file=sys.stderr)
            worst = 2
            continue
        print(report)
        if report.divergence is not None:
            worst = max(worst, 1)
    return worst
