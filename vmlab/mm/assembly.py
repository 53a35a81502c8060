"""Putting a machine together: a reader's own class in place of a part, an allocator that knows several nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .numa import numa_alloc_pages

if TYPE_CHECKING:
    from .kernel import Kernel
    from .page_alloc import PageAllocator

__all__ = ["class_of", "for_numa", "make_part", "node_spec"]


class _NumaAllocator:
    """Mixed in front of the page allocator on a machine with several nodes."""

    kernel: Kernel

    def _alloc_pages(self, gfp_mask: int, order: int) -> int | None:
        return numa_alloc_pages(self.kernel, gfp_mask, order)


def make_part(given: Any, base: type[Any], name: str) -> Any:
    """The part *given*, made if it is a class. Raises TypeError when it is no *base*; *name* is the option it came by."""
    part = given() if isinstance(given, type) else given
    if not isinstance(part, base):
        raise TypeError(f"{name}= takes a class derived from {base.__name__} (or an object of one), not {given!r}")
    return part


def class_of(given: Any) -> Any:
    """The class of a part that may have been given as a class or as an object."""
    return given if isinstance(given, type) else type(given)


def for_numa(given: type[PageAllocator] | PageAllocator) -> type[PageAllocator]:
    """The same page allocator, going round the nodes of its machine."""
    base = class_of(given)
    if issubclass(base, _NumaAllocator) or base.knows_nodes:
        return base  # type: ignore[no-any-return]
    return type(f"Numa{base.__name__}", (_NumaAllocator, base), {})


def node_spec(spec: Sequence[int]) -> tuple[int, int, int, int, int, int]:
    """A node as six numbers, what was left out being 0. Raises ValueError for a node that cannot be."""
    values = tuple(int(v) for v in spec) + (0,) * (6 - len(spec))
    if len(values) != 6 or min(values) < 0 or values[1] + values[2] <= values[4] + values[5]:
        raise ValueError(
            f"a node is (start_pfn, dma, normal[, high, reserved, hole]) in pages, more low memory than it reserves; not {tuple(spec)!r}"
        )
    return values
