"""Page traces of real programs, recorded with valgrind's lackey tool.

``valgrind --tool=lackey --trace-mem=yes`` prints each instruction fetch (I), load (L), store (S)
and modify (M) with its address. Addresses of a 64-bit program are moved into the 3 GiB of an i386
process, region by region, in the same order.
"""

from __future__ import annotations

import shutil
import subprocess
from array import array
from collections.abc import Iterable, Sequence

from ..errors import TraceError
from .pagetrace import PageTrace, find_regions

__all__ = ["read_lackey", "record_program"]

_FIRST = 0x08048  # where an i386 program begins
_MIDDLE = 0x40000  # TASK_UNMAPPED_BASE
_TOP = 0xC0000  # TASK_SIZE
_FAR = 1 << 15  # pages: holes wider than this are closed up


def read_lackey(
    lines: Iterable[bytes],
    *,
    limit: int | None = None,
    skip: int = 0,
    data_only: bool = False,
    switches: bool = False,
    name: str = "",
    command: str = "",
) -> PageTrace:
    """The trace in lackey's output *lines*.

    skip, limit: references to leave out at the start, and to keep at most. data_only: without
    instruction fetches. switches: repeated references to the same page, read after read or anything
    after a write, count once. Raises TraceError when there is no reference in it.
    """
    ids: dict[int, int] = {}
    refs = array("I")
    seen, last = 0, -1
    for line in lines:
        kind = line[:3]
        if kind == b"I  ":
            if data_only:
                continue
            writes: tuple[int, ...] = (0,)
        elif kind == b" L ":
            writes = (0,)
        elif kind == b" S ":
            writes = (1,)
        elif kind == b" M ":
            writes = (0, 1)
        else:
            continue
        try:
            page = int(line[3 : line.index(b",")], 16) >> 12
        except ValueError:
            continue  # a line of the program's own
        seen += 1
        if seen <= skip:
            continue
        ident = ids.setdefault(page, len(ids))
        for write in writes:
            ref = ident << 1 | write
            if switches and (ref == last or ref + 1 == last and last & 1):
                continue
            refs.append(ref)
            last = ref
        if limit is not None and len(refs) >= limit:
            break
    if not refs:
        raise TraceError("no memory references found: is this the output of valgrind --tool=lackey --trace-mem=yes?")
    moved = fit(list(ids))
    return PageTrace([moved[page] for page in ids], refs, name=name, command=command)


def fit(pages: Sequence[int]) -> dict[int, int]:
    """Where each page number goes in a 3 GiB address space. Raises TraceError when there are too many."""
    regions = find_regions(pages, _FAR)
    total = sum(n for _, n in regions) + len(regions)
    if total > _TOP - _MIDDLE:
        raise TraceError(f"the program spreads over {total} pages; a process of this machine has {_TOP - _MIDDLE}")
    bases: dict[int, int] = {}
    at = _MIDDLE
    for number, (start, length) in enumerate(regions):
        if number == 0 and _FIRST + length < _MIDDLE and len(regions) > 1:
            bases[start] = _FIRST
        elif number == len(regions) - 1 and at + length < _TOP - 1:
            bases[start] = _TOP - 1 - length  # the stack
        else:
            bases[start] = at
            at += length + 1
    moved = {}
    where = iter(regions)
    start, length = next(where)
    for page in sorted(pages):
        while page >= start + length:
            start, length = next(where)
        moved[page] = page - start + bases[start]
    return moved


def record_program(
    command: Sequence[str], *, name: str = "", limit: int | None = None, skip: int = 0, data_only: bool = False, switches: bool = False
) -> PageTrace:
    """Run *command* under valgrind and return its trace (see :func:`read_lackey`). Raises TraceError without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise TraceError("valgrind is not installed; on Debian: apt-get install valgrind")
    program = shutil.which(command[0])
    if program is None:
        raise TraceError(f"{command[0]}: no such program")
    run = subprocess.Popen(
        [valgrind, "--tool=lackey", "--trace-mem=yes", program, *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert run.stderr is not None
    try:
        return read_lackey(
            run.stderr, limit=limit, skip=skip, data_only=data_only, switches=switches, name=name or command[0], command=" ".join(command)
        )
    finally:
        run.kill()
        run.wait()
