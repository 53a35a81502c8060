"""A machine's frames as bytes, one a frame, in the form the pictures draw.

    bit 7: first frame of a block    bits 6-4: state (index into STATES)    bits 3-0: order of the block
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from ..mm.mmzone import MAX_ORDER
from ..mm.page import BLOCK_FREE, BLOCK_HOLE, BLOCK_RESERVED, BLOCK_USED

if TYPE_CHECKING:
    from ..machine import Machine

__all__ = ["HEAD", "STATES", "cells", "count_states", "owner_cells", "state_of"]

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
    """One byte a frame: index of its owner in ``machine.owners``; 0 for nobody and for free frames."""
    mem = machine.mem
    return _spread_numpy(mem.block, mem.owner, False) if numpy else _spread(mem.block, mem.owner, False)


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


def count_states(frame_cells: bytes, start: int = 0, end: int | None = None, numpy: bool = _NUMPY) -> dict[str, int]:
    """Frames in each state among the cells *start* to *end* - 1."""
    part = memoryview(frame_cells)[start:end]
    counts = [0] * len(STATES)
    if numpy:
        import numpy as np

        histogram = np.bincount(np.frombuffer(part, np.uint8), minlength=256).tolist()
    else:
        histogram = [0] * 256
        for cell in part:
            histogram[cell] += 1
    for cell, n in enumerate(histogram):
        if n:
            counts[cell >> 4 & 7] += n
    return dict(zip(STATES, counts, strict=True))
