"""``vmlab mkswap``: make a file of the host a swap area, as util-linux's mkswap does.

The header is byte for byte that of ``mkswap -U clear``. Version 1, the bitmap of kernels before 2.1.117, is what mkswap made
with -v0 until util-linux dropped it; 2.4 still takes both.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from ..mm.swap_header import MAX_V1_PAGES, mkswap

__all__ = ["main"]


def human(size: int) -> str:
    """*size* bytes as util-linux says it: 252 KiB, 1.2 MiB."""
    unit = max(0, (size.bit_length() - 1) // 10)
    if not unit:
        return f"{size} B"
    whole, rest = divmod(size, 1 << 10 * unit)
    tenths = ((rest >> 10 * unit - 10) + 50) // 100
    if tenths == 10:
        whole, tenths = whole + 1, 0
    return f"{whole}{f'.{tenths}' if tenths else ''} {'KMGT'[unit - 1]}iB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vmlab mkswap",
        description="Make a file a swap area: write a swap header into its first page. The rest of the file is left as it is.",
        epilog="exit status: 0 done, 1 the file cannot be a swap area",
    )
    parser.add_argument("file", metavar="FILE", help="the file, or a new one with --size")
    parser.add_argument("--v1", action="store_true", help='the old format, "SWAP-SPACE": a bitmap of at most 127.7 MiB')
    parser.add_argument("--bad", metavar="PAGE", type=int, action="append", default=[], help="a page never to be used (repeat it for more)")
    parser.add_argument("--size", metavar="PAGES", type=int, help="first make the file this long, in pages of 4096 bytes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make a swap area; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        if options.size is not None:
            with open(options.file, "ab") as file:
                file.truncate(options.size << PAGE_SHIFT)
            os.chmod(options.file, 0o600)
        pages = os.stat(options.file).st_size >> PAGE_SHIFT
        header = mkswap(pages, 1 if options.v1 else 2, options.bad)
        with open(options.file, "r+b") as file:
            file.write(header)
    except (OSError, ValueError) as error:
        print(f"vmlab mkswap: {options.file}: {error}", file=sys.stderr)
        return 1
    usable = (min(pages, MAX_V1_PAGES) if options.v1 else pages) - 1 - len(set(options.bad))
    size = usable * PAGE_SIZE
    print(f"Setting up swapspace version {0 if options.v1 else 1}, size = {human(size)} ({size} bytes)")
    if options.bad:
        print(f"{len(set(options.bad))} bad pages")
    return 0
