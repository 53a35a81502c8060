"""Which pages a real program touched, one after the other.

A trace is a list of *references*: a page and whether it was written. ``shipped()`` names the
traces that come with vmlab, ``load_trace`` reads one, ``vmlab trace record -- COMMAND`` makes one.

On disk: a line ``vmlab page trace 1``, a line of JSON (command, pages, regions), then the references
as an xz stream of 16- or 32-bit numbers (index into the pages, times two, plus one for a write),
low bytes first and then high bytes: like bytes compress better side by side.
"""

from __future__ import annotations

import json
import lzma
import sys
from array import array
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import TraceError

__all__ = ["PageTrace", "load_trace", "shipped"]

_MAGIC = b"vmlab page trace 1\n"
MAX_PAGES = 0xBF000  # fewer than TASK_SIZE holds


class PageTrace:
    """References of one program to its pages.

    pages: page numbers (address >> 12), in the order of their first reference. refs: one number a
    reference, ``index into pages << 1 | write``. regions: (first page, pages) runs that cover them all.
    command, name: where it comes from.
    """

    def __init__(
        self,
        pages: Sequence[int],
        refs: Sequence[int],
        *,
        name: str = "",
        command: str = "",
        regions: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.pages = array("I", pages)
        self.refs = refs if isinstance(refs, array) and refs.typecode == "I" else array("I", refs)
        self.name = name
        self.command = command
        if len(set(self.pages)) != len(self.pages):
            raise ValueError("a trace lists each page once; references name it by its index")
        if self.refs and max(self.refs) >> 1 >= len(self.pages):
            raise ValueError(f"a reference names page {max(self.refs) >> 1}, but the trace has only {len(self.pages)} pages")
        self.regions = [(int(a), int(n)) for a, n in regions] if regions is not None else find_regions(self.pages)
        self.index: dict[int, Any] = {}  # what the fast path works out, once for each size of page table

    def __len__(self) -> int:
        return len(self.refs)

    @property
    def writes(self) -> int:
        """How many references are writes."""
        return sum(r & 1 for r in self.refs)

    def __repr__(self) -> str:
        return f"<PageTrace {self.name or 'unnamed'}: {len(self.refs)} references to {len(self.pages)} pages>"

    def save(self, path: str | Path) -> None:
        """Write the trace to *path*."""
        small = len(self.pages) < 1 << 15
        data = (array("H", self.refs) if small else self.refs)[:]
        if sys.byteorder == "big":
            data.byteswap()
        raw = data.tobytes()
        planes = b"".join(raw[i :: data.itemsize] for i in range(data.itemsize))
        header = {"name": self.name, "command": self.command, "pages": _deltas(self.pages), "regions": self.regions, "bytes": data.itemsize}
        Path(path).write_bytes(_MAGIC + json.dumps(header, separators=(",", ":")).encode() + b"\n" + lzma.compress(planes, preset=9))


def _deltas(pages: Sequence[int]) -> list[int]:
    return [b - a for a, b in zip([0, *pages], pages, strict=False)]


def find_regions(pages: Sequence[int], gap: int = 16) -> list[tuple[int, int]]:
    """Runs (first page, pages) that cover *pages*; holes of up to *gap* pages are bridged."""
    regions: list[tuple[int, int]] = []
    for page in sorted(pages):
        if regions and page - sum(regions[-1]) <= gap:
            regions[-1] = (regions[-1][0], page - regions[-1][0] + 1)
        else:
            regions.append((page, 1))
    return regions


def load_trace(name: str | Path) -> PageTrace:
    """The trace in the file *name*, or the shipped one called so. Raises TraceError when it cannot be read."""
    path = Path(name)
    if not path.suffix and str(name) in shipped():
        data = (resources.files("vmlab.trace") / "programs" / f"{name}.vmpt").read_bytes()
    else:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TraceError(f"{path}: cannot be read ({error.strerror or error}); the shipped traces are {', '.join(shipped())}") from None
    if not data.startswith(_MAGIC):
        raise TraceError(f"{path}: not a page trace (record one with: vmlab trace record -- COMMAND)")
    try:
        line, body = data[len(_MAGIC) :].split(b"\n", 1)
        header = json.loads(line)
        width = header["bytes"]
        planes = lzma.decompress(body)
        n = len(planes) // width
        raw = bytearray(len(planes))
        for i in range(width):
            raw[i::width] = planes[i * n : (i + 1) * n]
        refs = array("H" if width == 2 else "I", bytes(raw))
        if sys.byteorder == "big":
            refs.byteswap()
        pages, at = [], 0
        for delta in header["pages"]:
            at += delta
            pages.append(at)
        return PageTrace(pages, refs, name=header["name"], command=header["command"], regions=header["regions"])
    except (ValueError, LookupError, TypeError, lzma.LZMAError, OverflowError) as error:
        raise TraceError(f"{path}: a damaged page trace ({error})") from None


def shipped() -> list[str]:
    """Names of the traces of real programs that come with vmlab."""
    folder = resources.files("vmlab.trace") / "programs"
    return sorted(entry.name.removesuffix(".vmpt") for entry in folder.iterdir() if entry.name.endswith(".vmpt")) if folder.is_dir() else []
