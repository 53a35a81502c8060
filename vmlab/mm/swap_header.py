"""The first page of a swap area, as ``mkswap`` writes it.

    version 1                                    version 2 (the name of today's format)
    0     bitmap: one bit for each usable page   1024  version (1), last_page, nr_badpages: 32 bits each
    4086  "SWAP-SPACE"                           1536  numbers of the bad pages, 32 bits each, at most 637
                                                 4086  "SWAPSPACE2"

Bytes 1024 to 1535 of version 2 also hold, since util-linux 2.12, a UUID (1036) and a label (1052);
the kernel does not look at them.

kernel: include/linux/swap.h:swap_header
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ..hw.layout import PAGE_SIZE

MAGIC_1 = b"SWAP-SPACE"
MAGIC_2 = b"SWAPSPACE2"
MAGIC_AT = PAGE_SIZE - 10  # bytes
INFO_AT = 1024  # version, last_page, nr_badpages
BADPAGES_AT = 1536
MAX_SWAP_BADPAGES = (MAGIC_AT - BADPAGES_AT) // 4
MAX_V1_PAGES = 8 * MAGIC_AT  # pages a bitmap can describe


class SwapHeader(NamedTuple):
    """What a header says. Page numbers count from the header, which is page 0."""

    magic: int  # 1 "SWAP-SPACE", 2 "SWAPSPACE2", 0 none of them
    version: int = 1  # of "SWAPSPACE2"; only 1 exists
    last_page: int = 0
    nr_badpages: int = 0  # as written, true or not
    badpages: tuple[int, ...] = ()  # at most 637 of them
    usable: tuple[int, ...] = ()  # "SWAP-SPACE": pages whose bit is set, ascending


def write_header(magic: int, version: int, last_page: int, badpages: Sequence[int] = (), nr_badpages: int | None = None) -> bytes:
    """The 4096 bytes of a header.

    *magic* 2 writes version, last_page and the list of bad pages, 1 a bitmap of pages 1 to *last_page* without
    the bad ones, 0 a page without a signature. *nr_badpages* is the length claimed, if not that of the list;
    of a list that is too long only what fits is written.
    """
    page = bytearray(PAGE_SIZE)
    if magic == 2:
        count = len(badpages) if nr_badpages is None else nr_badpages
        struct.pack_into("<3I", page, INFO_AT, version & 0xFFFFFFFF, last_page & 0xFFFFFFFF, count & 0xFFFFFFFF)
        kept = [bad & 0xFFFFFFFF for bad in badpages[:MAX_SWAP_BADPAGES]]
        struct.pack_into(f"<{len(kept)}I", page, BADPAGES_AT, *kept)
        page[MAGIC_AT:] = MAGIC_2
    elif magic == 1:
        bad = set(badpages)
        for number in range(1, min(last_page + 1, MAX_V1_PAGES)):
            if number not in bad:
                page[number >> 3] |= 1 << (number & 7)
        page[MAGIC_AT:] = MAGIC_1
    return bytes(page)


def read_header(page: bytes) -> SwapHeader:
    """What the 4096 bytes of a header say. Raises ValueError when they are not 4096."""
    if len(page) != PAGE_SIZE:
        raise ValueError(f"a swap header is a page of {PAGE_SIZE} bytes, not {len(page)}")
    magic = page[MAGIC_AT:]
    if magic == MAGIC_2:
        version, last_page, count = struct.unpack_from("<3I", page, INFO_AT)
        listed = min(count, MAX_SWAP_BADPAGES)
        return SwapHeader(2, version, last_page, count, struct.unpack_from(f"<{listed}i", page, BADPAGES_AT))
    if magic == MAGIC_1:
        usable = tuple(i for i in range(1, MAX_V1_PAGES) if page[i >> 3] >> (i & 7) & 1)
        return SwapHeader(1, last_page=usable[-1] if usable else 0, usable=usable)
    return SwapHeader(0)


def mkswap(size: int, version: int = 2, badpages: Sequence[int] = ()) -> bytes:
    """The header ``mkswap`` puts on an area of *size* pages; *version* 1 is the old bitmap format.

    Raises ValueError for an area it refuses: fewer than 10 pages, a bad page outside the area, too many of them.
    """
    if version not in (1, 2):
        raise ValueError(f"swap header version {version}: there are 1 (SWAP-SPACE) and 2 (SWAPSPACE2)")
    if size < 10:
        raise ValueError(f"a swap area of {size} pages: mkswap makes none below 10 pages (40 KiB)")
    if version == 1:
        size = min(size, MAX_V1_PAGES)
    wrong = [bad for bad in badpages if not 0 < bad < size]
    if wrong:
        raise ValueError(f"bad page {wrong[0]} is not one of pages 1 to {size - 1}")
    if version == 2 and len(badpages) > MAX_SWAP_BADPAGES:
        raise ValueError(f"{len(badpages)} bad pages: a header has room for {MAX_SWAP_BADPAGES}")
    return write_header(version, 1, size - 1, badpages)
