"""Key frames: states of a run, stored so that what did not change between two is stored once."""

from __future__ import annotations

import zlib
from bisect import bisect_right
from typing import NamedTuple

from ..mm.kernel import Kernel
from ..mm.state import COLUMNS, State, capture, extra_columns

_CHUNK = 1 << 14  # bytes
_GROUP = 64  # pages
_PAGES = ("frame", "table", "disk")  # names of blobs that are one page each: there are thousands of them

Chunks = list[bytes]
Page = tuple[str, bytes]


class _Key(NamedTuple):
    op: int
    event: int
    blobs: dict[str, Chunks]
    pages: list[tuple[Page, ...]]
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
        self._last: dict[str, Page] = {}  # pages of the newest key frame, by name
        self._chunks: dict[str, tuple[Chunks, list[bytes]]] = {}  # its other blobs, packed and plain

    def add(self, op: int, event: int, kernel: Kernel) -> int:
        """Keep the state of *kernel*, which stands before operation number *op*. Returns the event at which the next one is due."""
        state = capture(kernel, columns=False)
        found = extra_columns(kernel.mem) | {name: blob for name, blob in state.blobs.items() if not name.startswith(_PAGES)}
        blobs = {name: self._share(name, memoryview(blob)) for name, blob in found.items()}
        for name in COLUMNS:
            blobs[name] = self._share(name, memoryview(getattr(kernel.mem, name)).cast("B"))
        self._keys.append(_Key(op, event, blobs, self._share_pages(state.blobs), state.plain))
        if self.nbytes > self.max_bytes and len(self._keys) > 2:
            self._thin()
        return event + self.interval

    def _share(self, name: str, view: memoryview) -> Chunks:
        old, old_raw = self._chunks.get(name, ([], []))
        chunks: Chunks = []
        raw = []
        for i, at in enumerate(range(0, len(view), _CHUNK)):
            piece = bytes(view[at : at + _CHUNK])  # bytes compare by memcmp, views item by item
            if i < len(old) and piece == old_raw[i]:
                chunks.append(old[i])
                raw.append(old_raw[i])
            else:
                packed = zlib.compress(piece, 1)
                chunks.append(packed)
                raw.append(piece)
                self.nbytes += len(packed)
        self._chunks[name] = chunks, raw
        return chunks

    def _share_pages(self, blobs: dict[str, bytes]) -> list[tuple[Page, ...]]:
        """Frames and disk pages, in groups; pages and groups that did not change are those of the key frame before."""
        last, now = self._last, {}
        for name, blob in blobs.items():
            if name.startswith(_PAGES):
                page = last.get(name)
                if page is None or (page[1] is not blob and page[1] != blob):
                    page = (name, blob)
                    self.nbytes += len(blob)
                now[name] = page
        self._last = now
        pages = list(now.values())
        before = {id(group[0]): group for group in self._keys[-1].pages} if self._keys else {}
        groups = []
        for at in range(0, len(pages), _GROUP):
            group = tuple(pages[at : at + _GROUP])
            old = before.get(id(group[0]))
            same = old is not None and len(old) == len(group) and all(a is b for a, b in zip(old, group, strict=True))
            groups.append(old if same and old is not None else group)
        return groups

    def _thin(self) -> None:
        self._keys = self._keys[:1] + self._keys[2::2]
        self.interval *= 2
        seen: dict[int, int] = {}
        for key in self._keys:
            for chunks in key.blobs.values():
                for chunk in chunks:
                    seen[id(chunk)] = len(chunk)
            for group in key.pages:
                for _, page in group:
                    seen[id(page)] = len(page)
        self.nbytes = sum(seen.values())

    def before(self, op: int) -> int:
        """Operation number of the last key frame at or before *op*."""
        return self._keys[bisect_right(self._keys, op, key=lambda k: k.op) - 1].op

    def state(self, op: int) -> State:
        """The state of the key frame taken before operation *op*."""
        key = self._keys[bisect_right(self._keys, op, key=lambda k: k.op) - 1]
        blobs = {name: b"".join(map(zlib.decompress, chunks)) for name, chunks in key.blobs.items()}
        for group in key.pages:
            blobs.update(group)
        return State(blobs, dict(key.plain))

    def __len__(self) -> int:
        return len(self._keys)
