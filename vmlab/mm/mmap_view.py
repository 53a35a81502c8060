"""An address space in words: the lines of /proc/PID/maps, and the red-black tree drawn with indentation."""

from __future__ import annotations

from .rbtree import walk
from .vm import RB_RED, VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE, MmStruct, VmArea

_WIDTH = 49  # characters before a file's name


def maps_line(vma: VmArea) -> str:
    """One area as in /proc/self/maps: range, rights, offset in bytes, device, inode, name.

    kernel: fs/proc/array.c:proc_pid_maps_get_line
    """
    flags = vma.vm_flags
    rights = "".join((flags & VM_READ and "r" or "-", flags & VM_WRITE and "w" or "-", flags & VM_EXEC and "x" or "-"))
    rights += "s" if flags & VM_MAYSHARE else "p"
    inode = vma.vm_file.inode if vma.vm_file else None
    line = f"{vma.vm_start:08x}-{vma.vm_end:08x} {rights} {vma.vm_pgoff << 12 & 0xFFFFFFFF:08x} 00:00 {inode.i_ino if inode else 0}"
    return f"{line:<{_WIDTH}}{inode.name or '(file)'}" if inode else line


def maps(mm: MmStruct) -> str:
    """All areas by address, one line each. An address space without areas gives an empty string."""
    return "\n".join(maps_line(vma) for vma in mm.areas())


def tree(mm: MmStruct) -> str:
    """The red-black tree, root at the left, high addresses on top; R red, B black."""
    rows = [(depth, f"{'R' if vma.rb_color == RB_RED else 'B'} {vma.vm_start:08x}-{vma.vm_end:08x}") for vma, depth in walk(mm)]
    return "\n".join("    " * depth + text for depth, text in reversed(rows))
