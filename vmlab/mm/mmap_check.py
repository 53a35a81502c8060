"""Is an address space sound? What the kernel checks when DEBUG_MM_RB is defined, and the red-black rules themselves."""

from __future__ import annotations

from ..errors import KernelBug
from .vm import RB_BLACK, MmStruct, VmArea


def validate_mm(mm: MmStruct) -> None:
    """Raise KernelBug when list, tree and ``map_count`` of *mm* disagree, areas overlap, or the tree breaks a red-black rule.

    kernel: mm/mmap.c:validate_mm, browse_rb
    """
    areas = mm.areas()
    if len(areas) != mm.map_count:
        raise KernelBug("validate_mm", f"{mm} counts {mm.map_count} areas, {len(areas)} are on the list", "count")
    for area, following in zip(areas, areas[1:], strict=False):
        if area.vm_end > following.vm_start:
            raise KernelBug("validate_mm", f"{area} overlaps {following}", "overlap")
    found: list[VmArea] = []
    _browse(mm.mm_rb, None, found)
    if found != areas:
        raise KernelBug("validate_mm", f"the tree holds {len(found)} areas, not those {len(areas)} of the list in their order", "tree")
    if mm.mm_rb is not None and mm.mm_rb.rb_color != RB_BLACK:
        raise KernelBug("validate_mm", f"the root {mm.mm_rb} is red", "colour")


def _browse(node: VmArea | None, parent: VmArea | None, found: list[VmArea]) -> int:
    """Collect the areas below *node* by address. Returns the black nodes on a way down, which must be the same on every way."""
    if node is None:
        return 1
    if node.rb_parent is not parent:
        raise KernelBug("validate_mm", f"{node} does not point back to {parent}", "parent")
    if parent is not None and node.rb_color != RB_BLACK and parent.rb_color != RB_BLACK:
        raise KernelBug("validate_mm", f"{node} is red below a red one, {parent}", "colour")
    left = _browse(node.rb_left, node, found)
    found.append(node)
    right = _browse(node.rb_right, node, found)
    if left != right:
        raise KernelBug("validate_mm", f"below {node} there are {left} black nodes on the left and {right} on the right", "height")
    return left + (node.rb_color == RB_BLACK)
