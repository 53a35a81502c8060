"""Key frames: states of a run, stored so that what did not change between two is stored once."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from ..mm.state import State

_CHUNK = 1 << 14  # bytes

Chunks = list[bytes]


class _Key(NamedTuple):
    op: int
    event: int
    blobs: dict[str, Chunks]
    plain: dict[str, object]


class KeyFrames:
    """States at operation boundaries, at most about *max_bytes* of them, *interval* events apart.

    When they grow past the bound every second one is dropped and the interval doubles.
    """

    def __init__(self, interval: int, max_bytes: int) -> None:
        self.interval = interval
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._keys: list[_Key] = []
        self._next = 0

    def due(self, events: int) -> bool:
        """Whether it is time for another key frame."""
        return events >= self._next

    def add(self, op: int, event: int, state: State) -> None:
        """Keep *state*, which is the one right before operation number *op*."""
        before = self._keys[-1].blobs if self._keys else {}
        blobs = {name: self._share(blob, before.get(name)) for name, blob in state.blobs.items()}
        self._keys.append(_Key(op, event, blobs, state.plain))
        self._next = event + self.interval
        if self.nbytes > self.max_bytes and len(self._keys) > 2:
            self._thin()

    def _share(self, blob: bytes, before: Chunks | None) -> Chunks:
        old = before or []
        view = memoryview(blob)
        chunks: Chunks = []
        for i, at in enumerate(range(0, len(blob), _CHUNK)):
            piece = view[at:at + _CHUNK]
            if i < len(old) and piece == old[i]:
                chunks.append(old[i])
            else:
                chunks.append(piece.tobytes())
                self.nbytes += len(piece)
        return chunks

    def _thin(self) -> None:
        self._keys = self._keys[:1] + self._keys[2::2]
        self.interval *= 2
        seen: dict[int, int] = {}
        for key in self._keys:
            for chunks in key.blobs.values():
                for chunk in chunks:
                    seen[id(chunk)] = len(chunk)
        self.nbytes = sum(seen.values())

    def before(self, op: int) -> tuple[int, State | None]:
        """Operation number of the last key frame at or before *op* (its state comes from :meth:`state`)."""
        at = bisect_right([k.op for k in self._keys], op) - 1
        return self._keys[at].op, None

    def state(self, op: int) -> State:
        """The state of the key frame taken before operation *op*."""
        key = self._keys[bisect_right([k.op for k in self._keys], op) - 1]
        return State({name: b"".join(chunks) for name, chunks in key.blobs.items()}, dict(key.plain))

    def __len__(self) -> int:
        return len(self._keys)
