"""Pages that are not as they should be, and blocks whose pages know each other. kernel: mm/page_alloc.c"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, cast

from ..hw.layout import M32
from ..mm.page_flags import PG_dirty
from .page_flags import BAD_WHEN_FREED, COMPOUND, FIXED_UP

if TYPE_CHECKING:
    from array import array

    from ..mm.kernel import Kernel

_DIRTY = 1 << PG_dirty
_NOTABLE = BAD_WHEN_FREED | _DIRTY


class PageChecks:
    """Part of the page allocator: see page_alloc.py."""

    kernel: Kernel
    flags: array[int]
    count: array[int]
    private: array[int]
    mapping: array[int] | None
    mapcount: array[int] | None

    def free_pages_check(self, function: str, pfn: int, pages: int) -> None:
        """In 2.6 every page of the block is looked at and a bad one is repaired with a message, because a driver's bug should not stop
        the machine; before that only the first page was, with BUG().

        Repair any of *pages* pages that is freed while still in use, and forget what was dirty.
        kernel: mm/page_alloc.c:free_pages_check
        """
        flags, count, mapping, mapcount = self.flags, self.count, self.mapping, self.mapcount
        end = pfn + pages
        if not reduce(or_, flags[pfn:end]) & _NOTABLE and not any(count[pfn:end]):
            if mapping is None or not any(mapping[pfn:end]) and max(cast("array[int]", mapcount)[pfn:end]) < 0:
                return
        for p in range(pfn, end):
            word = flags[p]
            if word & BAD_WHEN_FREED or count[p] or (mapping is not None and (mapping[p] or mapcount[p] >= 0)):  # type: ignore[index]
                self.bad_page(function, p)
                word = flags[p]
            if word & _DIRTY:
                flags[p] = word & ~_DIRTY

    def bad_page(self, function: str, pfn: int) -> None:
        """In 2.6 the kernel goes on, because the page is lost anyway; before that it stopped with BUG().

        Say that a page is in a state it cannot be in, and make it usable.
        kernel: mm/page_alloc.c:bad_page
        """
        kernel = self.kernel
        mapping, mapcount = self.mapping, self.mapcount
        kernel.printk(0, f"Bad page state at {function} (in process '{kernel.current.comm}', frame {pfn})")
        kernel.printk(
            0,
            f"flags:{self.flags[pfn]:#x} mapping:{mapping[pfn] if mapping else 0} "
            f"mapcount:{mapcount[pfn] + 1 if mapcount else 0} count:{self.count[pfn]}",
        )
        kernel.printk(0, "Trying to fix it up, but a reboot is needed")
        self.flags[pfn] &= ~FIXED_UP & M32
        self.count[pfn] = 0
        if mapping is not None and mapcount is not None:
            mapcount[pfn] = -1
            mapping[pfn] = 0

    def prep_compound_page(self, pfn: int, order: int) -> None:
        """In 2.6 a block can be one compound page, because parts of a huge page are mapped and referenced one by one; before that there
        were no huge pages.

        Make every page of the block know the first one.
        kernel: mm/page_alloc.c:prep_compound_page
        """
        if self.mapping is not None:
            self.mapping[pfn + 1] = 0  # a put_page() of its own would be noted here
        self.kernel.mem.index[pfn + 1] = order
        for p in range(pfn, pfn + (1 << order)):
            self.flags[p] |= COMPOUND
            self.private[p] = pfn

    def destroy_compound_page(self, pfn: int, order: int) -> None:
        """In 2.6 only, because compound pages are; before that there were none.

        Undo :meth:`prep_compound_page`.
        kernel: mm/page_alloc.c:destroy_compound_page
        """
        if self.kernel.mem.index[pfn + 1] != order:
            self.bad_page("destroy_compound_page", pfn)
        for p in range(pfn, pfn + (1 << order)):
            if not self.flags[p] & COMPOUND or self.private[p] != pfn:
                self.bad_page("destroy_compound_page", pfn)
            self.flags[p] &= ~COMPOUND & M32
