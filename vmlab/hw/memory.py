"""What the frames hold: real bytes, kept only for frames that somebody wrote to."""

from __future__ import annotations

from .layout import PAGE_SHIFT, PAGE_SIZE


class PhysicalMemory:
    """Contents of physical memory, *frames* × 4 KiB; a frame nobody wrote reads as zeroes."""

    __slots__ = ("contents", "frames")

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.contents: dict[int, bytearray] = {}  # frame → 4 KiB

    def _check(self, address: int, length: int) -> None:
        if length < 0 or not 0 <= address <= (self.frames << PAGE_SHIFT) - length:
            raise ValueError(f"bytes {address:#x}+{length} are not in this machine's memory (it ends at {self.frames << PAGE_SHIFT:#x})")

    def read(self, address: int, length: int) -> bytes:
        """*length* bytes from physical *address*. Raises ValueError outside memory."""
        self._check(address, length)
        out = bytearray()
        while length:
            offset = address & (PAGE_SIZE - 1)
            n = min(length, PAGE_SIZE - offset)
            frame = self.contents.get(address >> PAGE_SHIFT)
            out += frame[offset : offset + n] if frame is not None else bytes(n)
            address, length = address + n, length - n
        return bytes(out)

    def write(self, address: int, data: bytes) -> None:
        """Store *data* at physical *address*. Raises ValueError outside memory."""
        self._check(address, len(data))
        at = 0
        while at < len(data):
            offset = address & (PAGE_SIZE - 1)
            n = min(len(data) - at, PAGE_SIZE - offset)
            frame = self.contents.setdefault(address >> PAGE_SHIFT, bytearray(PAGE_SIZE))
            frame[offset : offset + n] = data[at : at + n]
            address, at = address + n, at + n

    def clear_page(self, pfn: int) -> None:
        """Fill frame *pfn* with zeroes. kernel: include/asm-i386/page.h:clear_page"""
        self.contents.pop(pfn, None)
