"""Events of address spaces that only 2.6 has: areas adjusted, promises counted, pages of a file in any order."""

from __future__ import annotations

from ..mm.events_base import spec

_MMAP, _FREMAP = "mm/mmap.c:", "mm/fremap.c:"

SPECS = [
    spec(
        "vm_commit",
        _MMAP + "__vm_enough_memory",
        "pages committed available ok",
        "{pages} pages promised, {committed} in all, {available} can be: {yes_no}",
    ),
    spec("vma_adjust", _MMAP + "vma_adjust", "pid start end pgoff", "an area becomes {start:#x}-{end:#x}, from page {pgoff} on"),
    spec(
        "prio_insert",
        "lib/prio_tree.c:prio_tree_insert",
        "start first last",
        "area {start:#x} enters its file's tree with pages {first} to {last}",
    ),
    spec(
        "prio_remove",
        "lib/prio_tree.c:prio_tree_remove",
        "start first last",
        "area {start:#x} leaves its file's tree, pages {first} to {last}",
    ),
    spec(
        "nonlinear",
        _FREMAP + "sys_remap_file_pages",
        "pid start end",
        "area {start:#x}-{end:#x} may show its file in any order from now on",
    ),
    spec("install_page", _FREMAP + "install_page", "pid address pfn index", "page {index} of the file, in {pfn}, appears at {address:#x}"),
    spec(
        "install_file_pte",
        _FREMAP + "install_file_pte",
        "pid address index",
        "{address:#x} notes that page {index} of the file belongs there",
    ),
]
