"""``vmlab diff-26 CHAPTER``: what 2.6 does differently, read from the docstrings of vmlab/v26.

Every class and function there begins with one sentence, "In 2.6 …, because …; before that …", and names
the kernel function it stands for. What it takes the place of is found through the class it derives from.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from .. import mm, v26

CHAPTERS = {
    2: "Describing Physical Memory",
    3: "Page Table Management",
    4: "Process Address Space",
    5: "Boot Memory Allocator",
    6: "Physical Page Allocation",
    7: "Noncontiguous Memory Allocation",
    8: "Slab Allocator",
    9: "High Memory Management",
    10: "Page Frame Reclamation",
    11: "Swap Management",
    12: "Shared Memory Virtual Filesystem",
    13: "Out Of Memory Management",
}

# The chapter of a kernel file, by the end of its path; the first that fits.
_FILES = (
    ("mm/bootmem.c", 5),
    ("include/linux/bootmem.h", 5),
    ("mm/vmalloc.c", 7),
    ("include/linux/vmalloc.h", 7),
    ("mm/slab.c", 8),
    ("mm/mempool.c", 8),
    ("include/linux/slab.h", 8),
    ("highmem.c", 9),
    ("highmem.h", 9),
    ("mm/rmap.c", 3),
    ("include/linux/rmap.h", 3),
    ("hugetlb.c", 3),
    ("hugetlbpage.c", 3),
    ("hugetlb.h", 3),
    ("fs/hugetlbfs/inode.c", 3),
    ("pgtable.c", 3),
    ("pgtable.h", 3),
    ("pgalloc.h", 3),
    ("tlb.h", 3),
    ("tlbflush.h", 3),
    ("mm/swapfile.c", 11),
    ("mm/swap_state.c", 11),
    ("mm/page_io.c", 11),
    ("swapops.h", 11),
    ("pgtable-2level.h", 11),
    ("mm/shmem.c", 12),
    ("shmem_fs.h", 12),
    ("ipc/shm.c", 12),
    ("mm/oom_kill.c", 13),
    ("mm/vmscan.c", 10),
    ("mm/filemap.c", 10),
    ("mm/readahead.c", 10),
    ("mm/truncate.c", 10),
    ("mm/swap.c", 10),
    ("mm/page-writeback.c", 10),
    ("mm/pdflush.c", 10),
    ("mm/thrash.c", 10),
    ("mm_inline.h", 10),
    ("pagevec.h", 10),
    ("pagemap.h", 10),
    ("radix-tree.c", 10),
    ("include/linux/swap.h", 10),
    ("ll_rw_blk.c", 10),
    ("include/linux/fs.h", 10),
    ("fs-writeback.c", 10),
    ("fs/mpage.c", 10),
    ("mmzone.h", 2),
    ("page-flags.h", 2),
    ("discontig.c", 2),
    ("setup.c", 2),
    ("init/main.c", 2),
    ("gfp.h", 6),
    ("mm/page_alloc.c", 6),
    ("arch/i386/mm/init.c", 2),
)
_DESCRIBING = re.compile(
    r"free_area_init|build_zonelist|build_all_zonelists|zone_init|memmap_init|setup_per_zone|init_per_zone|calculate_zone|"
    r"zone_batchsize|pageset|zonetable|min_free_kbytes|lowmem_reserve|wait_table|zone_wait|sysctl_handler|set_page_zone|find_next_best"
)
_TABLES = re.compile(r"pte_alloc|pmd_alloc|pgd_alloc|free_pte_range|free_pgd|clear_page|clear_pmd|free_pgtables|tlb_|pte_|pgd_|pmd_")
_REFERENCE = re.compile(r"\bkernel: (.+)$", re.MULTILINE)


class Difference(NamedTuple):
    """One thing that 2.6 does differently."""

    chapter: int
    name: str  # as in Python: Class.method or function
    sentence: str
    before: tuple[str, ...]  # file:function of 2.4, empty when there was nothing
    after: tuple[str, ...]  # file:function of 2.6
    where: str  # vmlab/v26/file.py:line

    def __str__(self) -> str:
        rows = [
            self.name,
            textwrap.fill(self.sentence, 116, initial_indent="    ", subsequent_indent="    "),
            f"    2.4   {', '.join(self.before) or 'nothing like it'}",
            f"    2.6   {', '.join(self.after) or 'as above'}",
            f"    here  {self.where}",
        ]
        return "\n".join(rows)


def references(docstring: str) -> tuple[str, ...]:
    """``file:function`` of every kernel function that a docstring names."""
    found = []
    for line in _REFERENCE.findall(docstring):
        file = ""
        for word in line.rstrip(".").split(","):
            path, colon, name = word.strip().rpartition(":")
            if colon:
                file = path
            elif "/" in name:
                file, name = name, ""
            if name or file:
                found.append(f"{file}:{name}" if name else file)
    return tuple(found)


def sentence_of(docstring: str) -> str:
    """The sentence about 2.6, "" when there is none."""
    text = inspect.cleandoc(docstring).split("\n\n")[0]
    text = " ".join(_REFERENCE.sub("", text).split())
    at = text.find("In 2.6 ")
    if at < 0 or (at and text[at - 2] not in ".:"):
        return ""
    found = re.match(r".+?\.(?= |$)", text[at:])
    return found[0] if found else text[at:]


def chapter_of(reference: str) -> int:
    """The chapter of the book that a kernel function belongs to; 4 for what has no better place."""
    file, _, name = reference.partition(":")
    if file.endswith(("mm/page_alloc.c", "include/linux/mm.h")) and _DESCRIBING.search(name):
        return 2
    if file.endswith("mm/memory.c") and _TABLES.search(name):
        return 3
    return next((chapter for end, chapter in _FILES if file.endswith(end)), 4)


def _modules(package: ModuleType) -> list[ModuleType]:
    return [importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)]


def _members(module: ModuleType) -> Iterator[Any]:
    """The functions, classes and methods defined in *module*."""
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) == module.__name__:
            yield thing
            if inspect.isclass(thing):
                yield from (v for v in vars(thing).values() if inspect.isfunction(v) or isinstance(v, (property, staticmethod)))


@cache
def _known24() -> frozenset[str]:
    """Every ``file:function`` that vmlab.mm names."""
    return frozenset(name for module in _modules(mm) for thing in _members(module) for name in references(thing.__doc__ or ""))


def _line_of(thing: Any) -> str:
    function: Any = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
    path = Path(inspect.getsourcefile(function) or "?")
    return f"vmlab/v26/{path.name}:{inspect.getsourcelines(function)[1]}"


def _before(cls: type, name: str) -> tuple[str, ...]:
    """What the 2.4 method stands for that *cls* (or a class it is mixed into) overrides."""
    for whole in (cls, *cls.__subclasses__()):
        for base in whole.__mro__[1:]:
            if base.__module__.startswith(mm.__name__ + ".") and name in vars(base):
                return references(inspect.getdoc(vars(base)[name]) or "")
    return ()


def _make(name: str, thing: Any, before: tuple[str, ...], around: tuple[str, ...]) -> Difference | None:
    doc = thing.__doc__ or ""
    sentence = sentence_of(doc)
    if not sentence:
        return None
    after = references(doc)
    before = before or tuple(reference for reference in after if reference in _known24())
    place = after or around or before or ("mm/",)
    return Difference(chapter_of(place[0]), name, sentence, before, after, _line_of(thing))


def _of_class(cls: type) -> Iterator[Difference | None]:
    own = references(cls.__doc__ or "") or references(sys.modules[cls.__module__].__doc__ or "")
    base = next((b.__doc__ or "" for b in cls.__mro__[1:] if b.__module__.startswith(mm.__name__ + ".")), "")
    yield _make(cls.__name__, cls, references(base), own)
    for name, thing in vars(cls).items():
        if inspect.isfunction(thing) or isinstance(thing, (property, staticmethod, classmethod)):
            yield _make(f"{cls.__name__}.{name}", thing, _before(cls, name), own)


def differences(chapter: int | None = None) -> list[Difference]:
    """Everything that 2.6 does differently, in *chapter* or in all, by chapter, file and line."""
    found: list[Difference] = []
    for module in _modules(v26):
        around = references(module.__doc__ or "")
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(thing):
                found += [entry for entry in _of_class(thing) if entry is not None]
            elif inspect.isfunction(thing):
                entry = _make(name, thing, (), around)
                found += [] if entry is None else [entry]

    def place(entry: Difference) -> tuple[int, str, int]:
        file, _, line = entry.where.rpartition(":")
        return entry.chapter, file, int(line)

    return sorted((entry for entry in found if chapter in (None, entry.chapter)), key=place)


def lines_of_code(package: ModuleType) -> int:
    """Lines of a package that are neither empty nor a comment."""
    files = [path for folder in package.__path__ for path in Path(folder).glob("*.py")]
    return sum(1 for path in files for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#"))


def overview() -> str:
    """How many differences each chapter has, and how much code they are."""
    every = differences()
    rows = [f"{'':3}{'chapter':36}{'different':>10}{'new':>6}"]
    for number, title in CHAPTERS.items():
        mine = [entry for entry in every if entry.chapter == number]
        rows.append(f"{number:2} {title:36}{len(mine):10}{sum(not entry.before for entry in mine):6}")
    rows.append(f"lines of code: {lines_of_code(v26):,} in v26, {lines_of_code(mm):,} in mm")
    return "\n".join(rows)


def main(argv: Sequence[str]) -> int:
    """The command: one chapter, or without a number how many differences each has."""
    parser = argparse.ArgumentParser(prog="vmlab diff-26", description="What Linux 2.6 does differently, chapter by chapter of the book.")
    parser.add_argument("chapter", nargs="?", type=int, help=f"{min(CHAPTERS)} to {max(CHAPTERS)}; left out: how many each has")
    chapter = parser.parse_args(list(argv)).chapter
    if chapter is None:
        print(overview())
        return 0
    if chapter not in CHAPTERS:
        print(f"vmlab diff-26: chapters are {min(CHAPTERS)} to {max(CHAPTERS)}, not {chapter}", file=sys.stderr)
        return 2
    found = differences(chapter)
    print(f"Chapter {chapter}, {CHAPTERS[chapter]}: {len(found)} differences\n")
    print("\n\n".join(map(str, found)))
    return 0
