"""A machine's frames as bytes, one a frame, in the form the pictures draw.

    bit 7: first frame of a block    bits 6-4: state (index into STATES)    bits 3-0: order of the block
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from ..mm.holders import owner_column, owner_names
from ..mm.mmzone import MAX_ORDER
from ..mm.page import BLOCK_FREE, BLOCK_HOLE, BLOCK_RESERVED, BLOCK_USED

if TYPE_CHECKING:
    from ..machine import Machine

__all__ = ["HEAD", "STATES", "Tally", "cells", "changes", "owner_cells", "owner_names", "state_of", "tally"]

STATES = ("hole", "reserved", "allocated", "free", "moving")
HOLE, RESERVED, ALLOCATED, FREE, MOVING = (i << 4 for i in range(5))
HEAD = 0x80
_NUMPY = importlib.util.find_spec("numpy") is not None  # an accelerator: without it the same bytes, more slowly


def _code(kind: int) -> int:
    if kind & BLOCK_FREE:
        return HEAD | FREE | kind & 15
    if kind & BLOCK_USED:
        return HEAD | ALLOCATED | kind & 15
    if kind & BLOCK_RESERVED:
        return RESERVED
    return HOLE if kind & BLOCK_HOLE else MOVING


# From what ``mem.block`` says to a cell; the order is cut off at what the map can show.
_CODE = bytes(_code(kind) if kind & 15 < MAX_ORDER else _code(kind & 0xF0 | MAX_ORDER - 1) for kind in range(256))
_TAIL = bytes(c & ~HEAD for c in _CODE)  # of the frames after the first
_SIZE = [1 << (kind & 15) if kind & (BLOCK_FREE | BLOCK_USED) else 1 for kind in range(256)]


def cells(machine: Machine, numpy: bool = _NUMPY) -> bytes:
    """One byte a frame: state, order and whether it heads a block.

    Frames that belong to no block (in the middle of an operation, the block in hand) are "moving".
    """
    block = machine.mem.block
    return _spread_numpy(block, block, True) if numpy else _spread(block, block, True)


def owner_cells(machine: Machine, numpy: bool = _NUMPY) -> bytes:
    """One byte a frame: index of its owner in ``owner_names(machine)``; 0 for nobody and for free frames."""
    block, owner = machine.mem.block, owner_column(machine)
    return _spread_numpy(block, owner, False) if numpy else _spread(block, owner, False)


def _spread(block: bytearray, values: bytearray, kinds: bool) -> bytes:
    out = bytearray([MOVING] if kinds else [0]) * len(block)
    at, frames = 0, len(block)
    while at < frames:
        kind = block[at]
        size = _SIZE[kind]
        if kinds:
            out[at] = _CODE[kind]
            if size > 1:
                end = min(at + size, frames)
                out[at + 1 : end] = _TAIL[kind : kind + 1] * (end - at - 1)
        elif kind and not kind & BLOCK_FREE:
            end = min(at + size, frames)
            out[at:end] = values[at : at + 1] * (end - at)
        at += size
    return bytes(out)


def _spread_numpy(block: bytearray, values: bytearray, kinds: bool) -> bytes:
    import numpy as np

    kind = np.frombuffer(block, np.uint8)
    heads = np.flatnonzero(kind)
    if not heads.size:
        return bytes([MOVING if kinds else 0]) * len(block)
    at_heads = kind[heads]
    until_next = np.diff(heads, append=len(block))
    size = np.asarray(_SIZE)[at_heads]
    if kinds:
        first = np.frombuffer(_CODE, np.uint8)[at_heads]
        rest = np.frombuffer(_TAIL, np.uint8)[at_heads]
        nothing = MOVING
    else:
        rest = np.where(at_heads & BLOCK_FREE, 0, np.frombuffer(values, np.uint8)[heads]).astype(np.uint8)
        nothing = 0
    out = np.empty(len(block), np.uint8)
    out[: heads[0]] = nothing
    out[heads[0] :] = np.repeat(rest, until_next)
    if kinds:
        out[heads] = first
    for i in np.flatnonzero(until_next > size):  # few: frames after the end of a block that start none
        out[heads[i] + size[i] : heads[i] + until_next[i]] = nothing
    return out.tobytes()


def state_of(cell: int) -> str:
    """The state a cell shows, in words."""
    return STATES[cell >> 4 & 7]


def changes(before: bytes, after: bytes, most: int = 400, numpy: bool = _NUMPY) -> list[tuple[int, bytes]] | None:
    """Runs of cells that differ, as (first frame, new cells); None when sending everything is no worse."""
    if not numpy or not before or len(before) != len(after):
        return None
    import numpy as np

    differ = np.flatnonzero(np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8))
    if not differ.size:
        return []
    breaks = np.flatnonzero(np.diff(differ) > 1)
    if breaks.size >= most or differ.size * 8 > len(after):
        return None
    first, last = differ[np.r_[0, breaks + 1]].tolist(), differ[np.r_[breaks, -1]].tolist()
    return [(a, after[a : b + 1]) for a, b in zip(first, last, strict=True)]


class Tally(NamedTuple):
    """How many frames there are of each kind."""

    total: dict[str, int]  # by state
    zones: list[dict[str, int]]  # by state, for each of machine.zones
    owners: list[int]  # by index into owner_names(machine); index 0: allocated frames without a label


def tally(machine: Machine, numpy: bool = _NUMPY) -> Tally:
    """Count frames by state, zone and owner."""
    spans = [(zone.start_pfn, zone.end_pfn) for zone in machine.zones]
    return _tally_numpy(machine, spans) if numpy else _tally(machine, spans)


def _tally(machine: Machine, spans: list[tuple[int, int]]) -> Tally:
    frame_cells, owned = cells(machine, False), owner_cells(machine, False)

    def states(part: bytes) -> dict[str, int]:
        counts = dict.fromkeys(STATES, 0)
        for cell, n in Counter(part).items():
            counts[state_of(cell)] += n
        return counts

    by_owner = Counter(owned)
    unnamed = sum(1 for cell, owner in zip(frame_cells, owned, strict=True) if not owner and cell & 0x70 == ALLOCATED)
    return Tally(states(frame_cells), [states(frame_cells[start:end]) for start, end in spans],
                 [unnamed] + [by_owner[i] for i in range(1, len(owner_names(machine)))])


def _tally_numpy(machine: Machine, spans: list[tuple[int, int]]) -> Tally:
    """The same from the heads of blocks alone, of which there are fewer than frames."""
    import numpy as np

    mem = machine.mem
    kind = np.frombuffer(mem.block, np.uint8)
    heads = np.flatnonzero(kind)
    at_heads = kind[heads]
    until_next = np.diff(heads, append=mem.frames)
    frames = np.minimum(until_next, np.asarray(_SIZE)[at_heads])
    state = np.frombuffer(_CODE, np.uint8)[at_heads] >> 4 & 7

    def states(start: int, end: int) -> dict[str, int]:
        i, j = np.searchsorted(heads, (start, end))
        counts = np.bincount(state[i:j], frames[i:j], len(STATES)).astype(int)
        counts[MOVING >> 4] += end - start - counts.sum()
        return dict(zip(STATES, counts.tolist(), strict=True))

    owner = np.frombuffer(owner_column(machine), np.uint8)[heads]
    taken = state != FREE >> 4
    owners = np.bincount(owner[taken], frames[taken], len(owner_names(machine))).astype(int)
    owners[0] = frames[(state == ALLOCATED >> 4) & (owner == 0)].sum()
    return Tally(states(0, mem.frames), [states(start, end) for start, end in spans], owners.tolist())
