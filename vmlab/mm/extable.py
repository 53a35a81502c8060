"""The exception table: kernel instructions that may fault, and where to go on when they do.

The linker collects the pairs from all the places that touch user memory and sorts them by address.
Addresses here are ours (each compiled kernel has its own); the instructions and what their fixups
do are the kernel's. kernel: arch/i386/mm/extable.c, include/asm-i386/uaccess.h, arch/i386/lib/getuser.S, usercopy.c
"""

from __future__ import annotations

from typing import NamedTuple


class ExceptionEntry(NamedTuple):
    """``struct exception_table_entry``: kernel addresses, and a word for people."""

    insn: int
    fixup: int
    what: str


_TEXT, _FIXUP = 0xC0210000, 0xC02A0000
_ACCESSES = (
    ("copy_to_user: rep movsl", "return the bytes not copied"),
    ("copy_to_user: rep movsb", "return the bytes not copied"),
    ("copy_from_user: rep movsl", "zero the rest, return the bytes not copied"),
    ("copy_from_user: rep movsb", "zero the rest, return the bytes not copied"),
    ("strncpy_from_user: lodsb", "return -EFAULT"),
    ("strnlen_user: scasb", "return 0"),
    ("clear_user: rep stosl", "return the bytes not cleared"),
    ("clear_user: rep stosb", "return the bytes not cleared"),
    ("get_user: mov", "return -EFAULT, the value is 0"),
    ("put_user: mov", "return -EFAULT"),
)
EXCEPTION_TABLE = tuple(ExceptionEntry(_TEXT + 0x40 * i, _FIXUP + 0x10 * i, f"{a} → {b}") for i, (a, b) in enumerate(_ACCESSES))
INSN = {a: entry.insn for (a, _), entry in zip(_ACCESSES, EXCEPTION_TABLE, strict=True)}
