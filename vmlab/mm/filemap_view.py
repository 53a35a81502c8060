"""The page cache, read-ahead windows and disk queues as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .block import WRITE
from .lists import NIL
from .page_flags import flag_names

if TYPE_CHECKING:
    from .fs import File, Inode
    from .kernel import Kernel

_SHOWN = 12


def _runs(numbers: list[int]) -> str:
    """``0-7 9 12-15``: sorted numbers, neighbours joined."""
    parts: list[tuple[int, int]] = []
    for n in numbers:
        if parts and parts[-1][1] == n - 1:
            parts[-1] = (parts[-1][0], n)
        else:
            parts.append((n, n))
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def file_pages(kernel: Kernel, inode: Inode) -> str:
    """What is cached of a file: which pages, then the three lists, head first, as page=frame."""
    mapping, mem = inode.i_mapping, kernel.mem
    whole = (inode.i_size + 4095) >> 12
    cached = sorted(mem.index[pfn] for pfn in kernel.filemap.cached_pages(mapping))
    lines = [f"{inode.name or f'inode {inode.i_ino}'}: {len(cached)} of {whole} pages cached: {_runs(cached) or 'none'}"]
    for name, pages in kernel.filemap.page_lists(mapping).items():
        shown = " ".join(f"{mem.index[pfn]}={pfn}" for pfn in pages[:_SHOWN])
        lines.append(f"  {name:6} {len(pages):5}  {shown}{' …' if len(pages) > _SHOWN else ''}")
    return "\n".join(lines)


def page_line(kernel: Kernel, pfn: int) -> str:
    """One cached page: frame, file and page of it, references, flags."""
    mem = kernel.mem
    mapping = kernel.mappings.get(mem.mapping[pfn])
    if mapping is None:
        where = "in no file"
    elif mapping.host is None:
        where = f"swap entry {mem.index[pfn]:#x}"
    else:
        where = f"page {mem.index[pfn]} of {mapping.host.name or f'inode {mapping.host.i_ino}'}"
    return f"frame {pfn}: {where}, count {mem.count[pfn]}, {'|'.join(flag_names(mem.flags[pfn])) or 'no flags'}"


def hash_chains(kernel: Kernel) -> str:
    """How long the chains of the page hash are: a line for each length that occurs."""
    filemap, following = kernel.filemap, kernel.mem.next_hash
    lengths: dict[int, int] = {}
    for first in filemap.page_hash_table:
        n, pfn = 0, first
        while pfn != NIL:
            n, pfn = n + 1, following[pfn]
        lengths[n] = lengths.get(n, 0) + 1
    head = f"page hash: {filemap.page_cache_size} pages on {len(filemap.page_hash_table)} chains"
    return "\n".join([head, *(f"  {lengths[n]:6} chains of {n}" for n in sorted(lengths))])


def readahead_window(file: File) -> str:
    """The read-ahead state of an open file, in pages."""
    if (window := getattr(file, "f_ra", None)) is not None:
        return str(window)
    if not file.f_raend:
        return f"no window; the next read may go {file.f_ramax} pages ahead"
    return (
        f"window: pages {max(0, file.f_raend - file.f_rawin)} to {file.f_raend - 1}; the last {file.f_ralen} were read at once; "
        f"next time at most {file.f_ramax}"
    )


def io_queue(kernel: Kernel) -> str:
    """The transfers that are under way, oldest first."""
    block = kernel.block
    if not block.queue:
        return "no transfer is under way"
    lines = [f"{len(block.queue)} transfers under way"]
    for rw, pfn, disk, page_no, stand_in in block.queue[:_SHOWN]:
        name = block.disks[disk].name if disk in block.disks else f"disk {disk}"
        bounced = f" through frame {stand_in.b_page}" if stand_in is not None else ""
        lines.append(f"  {'write' if rw == WRITE else 'read '} page {page_no} of {name}, frame {pfn}{bounced}")
    return "\n".join(lines + (["  …"] if len(block.queue) > _SHOWN else []))


def listing(kernel: Kernel) -> str:
    """The files of the simple file system, as ``ls -l`` would list them, with what is cached."""
    rows = [f"{size:>10}  {cached:>6}  {name}" for name, size, cached in kernel.diskfs.listing()]
    return "\n".join([f"{'bytes':>10}  {'cached':>6}  name", *rows])
