"""The course's table of contents: the book's chapters, what a reader does in each, and what is there already.

What is there is looked up in the checkout, never written down: a chapter becomes readable when its notebook exists and
graded when its exercises do.
"""

from __future__ import annotations

import html
import pathlib
from typing import NamedTuple


class Chapter(NamedTuple):
    """One chapter of the book."""

    number: int
    title: str
    sections: tuple[str, ...]
    doing: str  # what a reader does there, one sentence

    def notebook(self, course: pathlib.Path) -> pathlib.Path | None:
        """The chapter's notebook, relative to the checkout `course`; None if it is not written yet."""
        found = sorted(course.glob(f"notebooks/{self.number:02}-*.ipynb"))
        return found[0].relative_to(course) if found else None

    def exercises(self, course: pathlib.Path) -> list[pathlib.Path]:
        """The chapter's graded notebooks as a student gets them, relative to the checkout `course`."""
        return [path.relative_to(course) for path in sorted(course.glob(f"exercises/{self.number:02}-*/*.ipynb"))]


NEWER = "what’s new in 2.6"

CHAPTERS: tuple[Chapter, ...] = (
    Chapter(
        1,
        "Introduction",
        ("getting started", "managing the source", "browsing the code", "reading the code", "submitting patches"),
        "Follow one page from boot to swap and back, and meet the tools that show you the code behind it.",
    ),
    Chapter(
        2,
        "Describing Physical Memory",
        ("nodes", "zones", "zone initialisation", "initialising mem_map", "pages", "mapping pages to zones", "high memory", NEWER),
        "Slide the RAM from 16 MiB to 64 GiB, watch the zones form, and zoom from all of memory down to one struct page.",
    ),
    Chapter(
        3,
        "Page Table Management",
        (
            "the page directory",
            "page table entries",
            "translating and setting them",
            "allocating and freeing page tables",
            "kernel page tables",
            "addresses and struct pages",
            "the TLB",
            "the level 1 cache",
            NEWER,
        ),
        "Type an address and walk the tables bit by bit; count what a TLB saves.",
    ),
    Chapter(
        4,
        "Process Address Space",
        (
            "the linear address space",
            "managing it",
            "its descriptor",
            "memory regions",
            "exception handling",
            "page faults",
            "copying to and from user space",
            NEWER,
        ),
        "Map, protect, move and fork; see regions split and merge and a page copied on its first write.",
    ),
    Chapter(
        5,
        "Boot Memory Allocator",
        ("representing the boot map", "initialising", "allocating", "freeing", "retiring", NEWER),
        "Fill a bitmap the way the kernel does before it has an allocator, and see it hand every free page over.",
    ),
    Chapter(
        6,
        "Physical Page Allocation",
        ("managing free blocks", "allocating pages", "freeing pages", "GFP flags", "process flags", "avoiding fragmentation", NEWER),
        "Split and merge blocks by hand, rewind, fragment a machine on purpose, then boot it with an allocator of your own.",
    ),
    Chapter(
        7,
        "Noncontiguous Memory Allocation",
        ("describing areas", "allocating", "freeing", NEWER),
        "See one contiguous range of addresses stand on scattered frames.",
    ),
    Chapter(
        8,
        "Slab Allocator",
        ("caches", "slabs", "objects", "the sizes cache", "the per-CPU object cache", "initialising", "the buddy interface", NEWER),
        "Open a cache, colour its slabs, and catch a buggy caller with red zones.",
    ),
    Chapter(
        9,
        "High Memory Management",
        ("managing the PKMap space", "mapping", "unmapping", "atomic mapping", "bounce buffers", "emergency pools", NEWER),
        "Run out of windows into high memory, and bounce a read through low memory.",
    ),
    Chapter(
        10,
        "Page Frame Reclamation",
        ("the replacement policy", "the page cache", "the LRU lists", "shrinking all caches", "swapping out", "the pageout daemon", NEWER),
        "Watch kswapd wake, compare it with policies from FIFO to Belady’s optimum, and make a machine thrash.",
    ),
    Chapter(
        11,
        "Swap Management",
        (
            "the swap area",
            "entries in page tables",
            "allocating a slot",
            "the swap cache",
            "reading and writing",
            "activating",
            "deactivating",
            NEWER,
        ),
        "Follow a page from its table entry into a slot of a real swap file and back.",
    ),
    Chapter(
        12,
        "Shared Memory Virtual Filesystem",
        (
            "initialising",
            "files in tmpfs",
            "page faults in a virtual file",
            "file and inode operations",
            "shared regions",
            "System V IPC",
            NEWER,
        ),
        "Let two processes share one page through swap.",
    ),
    Chapter(
        13,
        "Out of Memory Management",
        ("checking available memory", "determining OOM", "selecting a process", "killing it", NEWER),
        "Edit a table of processes and see whom the kernel would kill.",
    ),
    Chapter(
        14,
        "The Final Word",
        ("intuition", "simulation", "tuning"),
        "Design a policy, plug it into the whole machine, and defend it with numbers.",
    ),
)


def _links(chapter: Chapter, course: pathlib.Path) -> str:
    """What there is to open, as links relative to notebooks/, where the start page lives."""
    notebook, exercises = chapter.notebook(course), chapter.exercises(course)
    parts = []
    if notebook:
        parts.append(f'<a href="{html.escape(notebook.name)}">Read&nbsp;chapter&nbsp;{chapter.number}</a>')
    for number, path in enumerate(exercises, 1):
        which = f"Exercises&nbsp;{chapter.number}" + (f".{number}" if len(exercises) > 1 else "")
        parts.append(f'<a href="../{html.escape(path.as_posix())}">{which}</a>')
    return "<br>".join(parts) if parts else "to&nbsp;come"


def table_html(course: pathlib.Path) -> str:
    """The map of the course as an HTML table with row and column headers.

    Args:
        course: the checkout whose notebooks/ and exercises/ decide what is linked.

    Returns:
        The table, one row a line. It has no colours of its own, so it reads in light and dark themes.
    """
    ready = sum(chapter.notebook(course) is not None for chapter in CHAPTERS)
    lines = [
        "<table>",
        f"<caption>The {len(CHAPTERS)} chapters of the book: {ready} can be read now, {len(CHAPTERS) - ready} are to come</caption>",
        '<thead><tr><th scope="col" align="left">Chapter</th>'
        '<th scope="col" align="left">What you do there, and its sections</th><th scope="col" align="left">Open</th></tr></thead>',
        "<tbody>",
    ]
    for chapter in CHAPTERS:
        sections = html.escape(" · ".join(chapter.sections))
        lines.append(
            f'<tr><th scope="row" align="left">{chapter.number} {html.escape(chapter.title)}</th>'
            f'<td align="left">{html.escape(chapter.doing)}<br><small>{sections}</small></td>'
            f'<td align="left">{_links(chapter, course)}</td></tr>'
        )
    return "\n".join([*lines, "</tbody>", "</table>"])
