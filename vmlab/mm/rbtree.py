"""Red-black trees: the balanced search tree that holds an address space's areas by address.

Every node is red or black. The root is black, a red node has no red child, and every path from the
root down passes the same number of black nodes; so no path is more than twice as long as another.
After an insertion or removal, recolouring and *rotations* (which keep the order of addresses)
bring this back.

The tree hangs on ``mm.mm_rb``; nodes are the areas themselves, by ``rb_left``, ``rb_right``,
``rb_parent`` and ``rb_color``. kernel: lib/rbtree.c, include/linux/rbtree.h
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .vm import RB_BLACK, RB_RED, MmStruct, VmArea

if TYPE_CHECKING:
    from .events_base import Listener

LEFT, RIGHT = False, True


def rb_link_node(node: VmArea, parent: VmArea | None, right: bool, mm: MmStruct) -> None:
    """Hang *node*, red and without children, below *parent* (at the root when None).

    kernel: include/linux/rbtree.h:rb_link_node
    """
    node.rb_parent = parent
    node.rb_color = RB_RED
    node.rb_left = node.rb_right = None
    if parent is None:
        mm.mm_rb = node
    elif right:
        parent.rb_right = node
    else:
        parent.rb_left = node


def _replace_child(parent: VmArea | None, old: VmArea, new: VmArea | None, mm: MmStruct) -> None:
    """Let *parent* (None: the root) point to *new* where it pointed to *old*."""
    if parent is None:
        mm.mm_rb = new
    elif parent.rb_left is old:
        parent.rb_left = new
    else:
        parent.rb_right = new


def rotate_left(node: VmArea, mm: MmStruct, ev: Listener | None = None) -> None:
    """The right child takes *node*'s place, *node* becomes its left child. kernel: lib/rbtree.c:__rb_rotate_left"""
    right = node.rb_right
    assert right is not None
    middle = right.rb_left
    node.rb_right = middle
    if middle is not None:
        middle.rb_parent = node
    right.rb_left = node
    right.rb_parent = node.rb_parent
    _replace_child(node.rb_parent, node, right, mm)
    node.rb_parent = right
    if ev is not None:
        ev(("rb_rotate", "left", node.vm_start, right.vm_start))


def rotate_right(node: VmArea, mm: MmStruct, ev: Listener | None = None) -> None:
    """The left child takes *node*'s place, *node* becomes its right child. kernel: lib/rbtree.c:__rb_rotate_right"""
    left = node.rb_left
    assert left is not None
    middle = left.rb_right
    node.rb_left = middle
    if middle is not None:
        middle.rb_parent = node
    left.rb_right = node
    left.rb_parent = node.rb_parent
    _replace_child(node.rb_parent, node, left, mm)
    node.rb_parent = left
    if ev is not None:
        ev(("rb_rotate", "right", node.vm_start, left.vm_start))


def rb_insert_color(node: VmArea, mm: MmStruct, ev: Listener | None = None) -> None:
    """Restore the colours after *node* was linked in red.

    A red uncle lets two reds turn black and pushes the problem two levels up; with a black uncle
    one or two rotations end it. kernel: lib/rbtree.c:rb_insert_color
    """
    while (parent := node.rb_parent) is not None and parent.rb_color == RB_RED:
        grandparent = parent.rb_parent
        assert grandparent is not None  # the root is black
        on_left = parent is grandparent.rb_left
        uncle = grandparent.rb_right if on_left else grandparent.rb_left
        if uncle is not None and uncle.rb_color == RB_RED:
            uncle.rb_color = parent.rb_color = RB_BLACK
            grandparent.rb_color = RB_RED
            if ev is not None:
                ev(("rb_recolor", grandparent.vm_start))
            node = grandparent
            continue
        if on_left:
            if parent.rb_right is node:
                rotate_left(parent, mm, ev)
                parent, node = node, parent
            parent.rb_color = RB_BLACK
            grandparent.rb_color = RB_RED
            rotate_right(grandparent, mm, ev)
        else:
            if parent.rb_left is node:
                rotate_right(parent, mm, ev)
                parent, node = node, parent
            parent.rb_color = RB_BLACK
            grandparent.rb_color = RB_RED
            rotate_left(grandparent, mm, ev)
    assert mm.mm_rb is not None
    mm.mm_rb.rb_color = RB_BLACK


def _black(node: VmArea | None) -> bool:
    """A missing child counts as black."""
    return node is None or node.rb_color == RB_BLACK


def erase_color(node: VmArea | None, parent: VmArea | None, mm: MmStruct, ev: Listener | None = None) -> None:
    """Restore the colours after a black node was taken out above *node* (None: an empty place) and below *parent*.

    The paths through *node* are one black short: the sibling gives one, by recolouring or
    rotation, or the shortage moves up. kernel: lib/rbtree.c:__rb_erase_color
    """
    while _black(node) and node is not mm.mm_rb:
        assert parent is not None
        on_left = parent.rb_left is node
        toward, away = (rotate_left, rotate_right) if on_left else (rotate_right, rotate_left)
        sibling = parent.rb_right if on_left else parent.rb_left
        assert sibling is not None
        if sibling.rb_color == RB_RED:
            sibling.rb_color = RB_BLACK
            parent.rb_color = RB_RED
            toward(parent, mm, ev)
            sibling = parent.rb_right if on_left else parent.rb_left
            assert sibling is not None
        near, far = (sibling.rb_left, sibling.rb_right) if on_left else (sibling.rb_right, sibling.rb_left)
        if _black(near) and _black(far):
            sibling.rb_color = RB_RED
            node = parent
            parent = node.rb_parent
            continue
        if _black(far):
            if near is not None:
                near.rb_color = RB_BLACK
            sibling.rb_color = RB_RED
            away(sibling, mm, ev)
            sibling = parent.rb_right if on_left else parent.rb_left
            assert sibling is not None
            far = sibling.rb_right if on_left else sibling.rb_left
        sibling.rb_color = parent.rb_color
        parent.rb_color = RB_BLACK
        if far is not None:
            far.rb_color = RB_BLACK
        toward(parent, mm, ev)
        node = mm.mm_rb
        break
    if node is not None:
        node.rb_color = RB_BLACK


def rb_erase(node: VmArea, mm: MmStruct, ev: Listener | None = None) -> None:
    """Take *node* out of the tree. A node with two children is replaced by its successor. kernel: lib/rbtree.c:rb_erase"""
    if node.rb_left is not None and node.rb_right is not None:
        child, parent, color = _replace_by_successor(node, mm)
    else:
        child = node.rb_right if node.rb_left is None else node.rb_left
        parent, color = node.rb_parent, node.rb_color
        if child is not None:
            child.rb_parent = parent
        _replace_child(parent, node, child, mm)
    if color == RB_BLACK:
        erase_color(child, parent, mm, ev)


def _replace_by_successor(old: VmArea, mm: MmStruct) -> tuple[VmArea | None, VmArea | None, int]:
    """Put the next higher node into *old*'s place. Returns what moved up behind it: (child, its parent, colour that went missing)."""
    node = old.rb_right
    assert node is not None
    while node.rb_left is not None:
        node = node.rb_left
    child, parent, color = node.rb_right, node.rb_parent, node.rb_color
    assert parent is not None
    if child is not None:
        child.rb_parent = parent
    _replace_child(parent, node, child, mm)
    if parent is old:
        parent = node
    node.rb_parent, node.rb_color = old.rb_parent, old.rb_color
    node.rb_right, node.rb_left = old.rb_right, old.rb_left
    _replace_child(old.rb_parent, old, node, mm)
    assert node.rb_left is not None
    node.rb_left.rb_parent = node
    if node.rb_right is not None:
        node.rb_right.rb_parent = node
    return child, parent, color


def walk(mm: MmStruct, order: str = "in") -> Iterator[tuple[VmArea, int]]:
    """Every area with its depth (the root has 0): ``order`` "in" (by address) or "pre" (parents first)."""
    stack: list[tuple[VmArea, int, bool]] = [(mm.mm_rb, 0, False)] if mm.mm_rb is not None else []
    while stack:
        node, depth, expanded = stack.pop()
        if expanded or order == "pre":
            yield node, depth
        if expanded:
            continue
        if node.rb_right is not None:
            stack.append((node.rb_right, depth + 1, False))
        if order != "pre":
            stack.append((node, depth, True))
        if node.rb_left is not None:
            stack.append((node.rb_left, depth + 1, False))
