"""What is different between two machines, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..machine import Machine
from ..mm.page import BLOCK_FREE, BLOCK_USED

__all__ = ["Diff", "compare"]


@dataclass
class Diff:
    """Differences between two machines of the same shape. False when there are none."""

    free_pages: dict[str, tuple[int, int]] = field(default_factory=dict)  # zone → (first, second)
    lists: dict[tuple[str, int], tuple[list[int], list[int]]] = field(default_factory=dict)  # (zone, order) → blocks head first
    frames: list[tuple[int, str, str]] = field(default_factory=list)  # (first frame, state in the first, in the second)
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.free_pages or self.lists or self.frames or self.counters)

    def __str__(self) -> str:
        if not self:
            return "The two machines are in the same state."
        rows = [f"zone {name}: {a} and {b} pages free" for name, (a, b) in self.free_pages.items()]
        for (name, order), (a, b) in self.lists.items():
            only_a, only_b = [p for p in a if p not in set(b)], [p for p in b if p not in set(a)]
            what = f"only first {_few(only_a)}, only second {_few(only_b)}" if only_a or only_b else "the same blocks in another order"
            rows.append(f"zone {name}, order {order}: {len(a)} and {len(b)} blocks ({what})")
        rows += [f"frame {pfn}: {a} | {b}" for pfn, a, b in self.frames[:20]]
        if len(self.frames) > 20:
            rows.append(f"… and {len(self.frames) - 20} more blocks")
        rows += [f"{name}: {a} and {b}" for name, (a, b) in self.counters.items()]
        return "\n".join(rows)


def _few(blocks: list[int]) -> str:
    return "none" if not blocks else ", ".join(map(str, blocks[:6])) + (" …" if len(blocks) > 6 else "")


def _kind(value: int, owner: str) -> str:
    if value & BLOCK_FREE:
        return f"free order {value & 15}"
    if value & BLOCK_USED:
        return f"allocated order {value & 15}" + (f" ({owner})" if owner else "")
    return "reserved" if value & 0x20 else "hole" if value & 0x10 else "inside a block"


def compare(first: Machine, second: Machine) -> Diff:
    """What differs between two machines. Raises ValueError when they have different zones."""
    shape = [[(z.index, z.start_pfn, z.size) for z in m.zones] for m in (first, second)]
    if shape[0] != shape[1]:
        raise ValueError("only machines with the same zones can be compared; these were booted differently")
    diff = Diff()
    for a, b in zip(first.zones, second.zones, strict=True):
        name = a.name if len(first.pgdats) == 1 else f"{a.name} of node {a.pgdat.nid}"
        if a.free_pages != b.free_pages:
            diff.free_pages[name] = (a.free_pages, b.free_pages)
        for order, (x, y) in enumerate(zip(a.free_area, b.free_area, strict=True)):
            if x.blocks() != y.blocks():
                diff.lists[name, order] = (x.blocks(), y.blocks())
    block_a, block_b = first.mem.block, second.mem.block
    owner_a, owner_b = first.mem.owner, second.mem.owner
    if block_a != block_b or owner_a != owner_b:
        for pfn in range(first.mem.frames):
            if block_a[pfn] != block_b[pfn] or (block_a[pfn] & BLOCK_USED and first.owners[owner_a[pfn]] != second.owners[owner_b[pfn]]):
                diff.frames.append((pfn, _kind(block_a[pfn], first.owners[owner_a[pfn]]), _kind(block_b[pfn], second.owners[owner_b[pfn]])))
    for name, value in first.stat.as_dict().items():
        if value != second.stat[name]:
            diff.counters[name] = (value, second.stat[name])
    return diff
