"""2.6's reverse mapping with a count of the page table entries it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..mm.parts import part_class

if TYPE_CHECKING:
    from ..v26.rmap_unmap import Unmap as _Rmap
else:
    _Rmap = part_class("rmap", "2.6")


class CountingRmap(_Rmap):
    """Counts the places where a page is looked for."""

    entries_looked_at = 0

    def find_pte(self, pfn: int, vma: Any) -> Any:
        self.entries_looked_at += 1
        return super().find_pte(pfn, vma)
