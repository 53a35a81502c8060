"""What exec needs to know of a program file: which parts of it go where. kernel: include/linux/elf.h"""

from __future__ import annotations

import struct
from typing import NamedTuple

PF_X, PF_W, PF_R = 1, 2, 4
PT_LOAD = 1
_ET_EXEC, _ET_DYN, _EM_386 = 2, 3, 3
_EHDR = struct.Struct("<16sHHIIIIIHHHHHH")
_PHDR = struct.Struct("<8I")


class Segment(NamedTuple):
    """A PT_LOAD program header: ``p_filesz`` bytes of the file from ``p_offset`` on appear at ``p_vaddr``, zeroes up to ``p_memsz``."""

    p_vaddr: int
    p_offset: int
    p_filesz: int
    p_memsz: int
    p_flags: int  # PF_R | PF_W | PF_X


class Image(NamedTuple):
    """A program: its loadable segments by address and its entry point. ``dynamic``: it can be loaded anywhere (ET_DYN)."""

    segments: tuple[Segment, ...]
    entry: int
    dynamic: bool = False
    phoff: int = _EHDR.size  # where its program headers are in the file, bytes


def read_elf(data: bytes) -> Image:
    """The image described by the headers of an ELF file for i386. Raises ValueError when *data* is something else."""
    if len(data) < _EHDR.size or data[:5] != b"\x7fELF\x01":
        raise ValueError("this is no 32-bit ELF file")
    _, kind, machine, _, entry, phoff, _, _, _, phentsize, phnum, _, _, _ = _EHDR.unpack_from(data)
    if kind not in (_ET_EXEC, _ET_DYN) or machine != _EM_386 or phentsize != _PHDR.size:
        raise ValueError("this ELF file is no program for i386")
    if phoff + phnum * phentsize > len(data):
        raise ValueError("the program headers lie beyond the end of the file")
    headers = [_PHDR.unpack_from(data, phoff + i * phentsize) for i in range(phnum)]
    loads = tuple(
        Segment(vaddr, offset, filesz, memsz, flags) for p_type, offset, vaddr, _, filesz, memsz, flags, _ in headers if p_type == PT_LOAD
    )
    return Image(loads, entry, kind == _ET_DYN, phoff)


def write_elf(segments: tuple[Segment, ...], entry: int, contents: dict[int, bytes], dynamic: bool = False) -> bytes:
    """The bytes of a small ELF program: headers, then *contents* by file offset, zeroes between. The inverse of :func:`read_elf`."""
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    kind = _ET_DYN if dynamic else _ET_EXEC
    header = _EHDR.pack(ident, kind, _EM_386, 1, entry, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, len(segments), 40, 0, 0)
    header += b"".join(_PHDR.pack(PT_LOAD, s.p_offset, s.p_vaddr, s.p_vaddr, s.p_filesz, s.p_memsz, s.p_flags, 0x1000) for s in segments)
    size = max([len(header)] + [s.p_offset + s.p_filesz for s in segments] + [at + len(b) for at, b in contents.items()])
    data = bytearray(size)
    data[: len(header)] = header
    for at, piece in contents.items():
        data[at : at + len(piece)] = piece
    return bytes(data)
