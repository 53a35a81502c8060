"""What the frames hold: real contents, kept only for frames that somebody wrote to."""

from __future__ import annotations

from array import array

from .layout import PAGE_SHIFT, PAGE_SIZE

_ZEROES = bytes(PAGE_SIZE)


class PhysicalMemory:
    """Contents of physical memory, *frames* × 4 KiB; a frame nobody wrote reads as zeroes.

    A frame is an ``array`` of 1024 words of 32 bits, little-endian as on the i386 (512 of 64 bits where it is
    a page table of a PAE machine): page tables are walked, and words loaded and stored, without copying.
    """

    __slots__ = ("contents", "frames")

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.contents: dict[int, array[int]] = {}  # frame → its words

    def _check(self, address: int, length: int) -> None:
        if length < 0 or not 0 <= address <= (self.frames << PAGE_SHIFT) - length:
            raise ValueError(f"bytes {address:#x}+{length} are not in this machine's memory (it ends at {self.frames << PAGE_SHIFT:#x})")

    def words(self, pfn: int) -> array[int]:
        """Frame *pfn* as 1024 words that can be changed."""
        words = self.contents.get(pfn)
        if words is None:
            words = self.contents[pfn] = array("I", _ZEROES)
        elif words.itemsize != 4:
            words = self.contents[pfn] = array("I", words.tobytes())
        return words

    def quads(self, pfn: int) -> array[int]:
        """Frame *pfn* as 512 words of 64 bits that can be changed: a PAE page table."""
        words = self.contents.get(pfn)
        if words is None:
            words = self.contents[pfn] = array("Q", _ZEROES)
        elif words.itemsize != 8:
            words = self.contents[pfn] = array("Q", words.tobytes())
        return words

    def read(self, address: int, length: int) -> bytes:
        """*length* bytes from physical *address*. Raises ValueError outside memory."""
        self._check(address, length)
        out = bytearray()
        while length:
            offset = address & (PAGE_SIZE - 1)
            n = min(length, PAGE_SIZE - offset)
            words = self.contents.get(address >> PAGE_SHIFT)
            out += bytes(n) if words is None else memoryview(words).cast("B")[offset : offset + n]
            address, length = address + n, length - n
        return bytes(out)

    def write(self, address: int, data: bytes) -> None:
        """Store *data* at physical *address*. Raises ValueError outside memory."""
        self._check(address, len(data))
        at = 0
        while at < len(data):
            offset = address & (PAGE_SIZE - 1)
            n = min(len(data) - at, PAGE_SIZE - offset)
            pfn = address >> PAGE_SHIFT
            words = self.contents.get(pfn)
            if words is None:
                words = self.words(pfn)
            memoryview(words).cast("B")[offset : offset + n] = data[at : at + n]
            address, at = address + n, at + n

    def read_page(self, pfn: int) -> bytes:
        """All 4096 bytes of frame *pfn*."""
        words = self.contents.get(pfn)
        return _ZEROES if words is None else words.tobytes()

    def write_page(self, pfn: int, data: bytes) -> None:
        """Replace the contents of frame *pfn*; what *data* lacks of 4096 bytes becomes zeroes."""
        self.contents[pfn] = array("I", data if len(data) == PAGE_SIZE else data.ljust(PAGE_SIZE, b"\0"))

    def clear_page(self, pfn: int) -> None:
        """Fill frame *pfn* with zeroes. kernel: include/asm-i386/page.h:clear_page"""
        self.contents.pop(pfn, None)

    def copy_page(self, to: int, source: int) -> None:
        """Copy frame *source* to frame *to*. kernel: include/asm-i386/page.h:copy_page"""
        words = self.contents.get(source)
        if words is None:
            self.contents.pop(to, None)
        else:
            self.contents[to] = words[:]
