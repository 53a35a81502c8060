"""Which areas map page *n* of a file? A radix priority search tree of intervals answers.

Each area maps the pages [radix, heap]: from its ``vm_pgoff`` to its last page. The tree is two things at once:

- a *heap* by last page: no child ends later than its parent, so a subtree whose top ends before page n
  holds nothing for n;
- a *radix tree* by first page: each level looks at one bit, 0 goes left and 1 right, so that a whole right
  subtree can begin after n. When the bits are used up (many areas with one first page) the bits of the
  interval's length follow.

Areas with the very same pages stand on a ring behind one of them, which is the node.

kernel: lib/prio_tree.c, mm/prio_tree.c
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import KernelBug
from ..hw.layout import PAGE_SHIFT

if TYPE_CHECKING:
    from .vm import VmArea26

_BITS_PER_LONG = 32
_U32 = 0xFFFFFFFF
_TOP = 1 << _BITS_PER_LONG - 1
_LINKS = ("shared_left", "shared_right", "shared_parent", "shared_head")


def radix_index(vma: VmArea26) -> int:
    """The first page of the file that *vma* maps. kernel: lib/prio_tree.c:RADIX_INDEX"""
    return vma.vm_pgoff


def heap_index(vma: VmArea26) -> int:
    """The last page of the file that *vma* maps. kernel: lib/prio_tree.c:HEAP_INDEX"""
    return vma.vm_pgoff + (vma.vm_end - vma.vm_start >> PAGE_SHIFT) - 1 & _U32


def maxindex(bits: int) -> int:
    """The highest page a tree of *bits* levels can hold. kernel: lib/prio_tree.c:prio_tree_maxindex"""
    return (1 << bits) - 1


def init_node(node: VmArea26) -> None:
    """A node without children that is nobody's child. kernel: include/linux/prio_tree.h:INIT_PRIO_TREE_NODE"""
    node.shared_left = node.shared_right = None
    node.shared_parent = node


class PrioTreeRoot:
    """In 2.6 a file has a tree of the areas that map it, because truncation and reclaim must find those of one page among thousands;
    before that they walked two lists of all.

    kernel: include/linux/prio_tree.h:prio_tree_root
    """

    __slots__ = ("index_bits", "prio_tree_node")

    def __init__(self) -> None:
        self.prio_tree_node: VmArea26 | None = None
        self.index_bits = 1  # levels that look at the first page

    def __bool__(self) -> bool:
        """Whether any area is in it. kernel: include/linux/prio_tree.h:prio_tree_empty"""
        return self.prio_tree_node is not None

    def __getstate__(self) -> dict[str, Any]:
        areas = self.everything()
        number = {id(vma): i for i, vma in enumerate(areas)}
        links = [tuple(number.get(id(getattr(vma, link)), -1) for link in _LINKS) for vma in areas]
        return {"areas": areas, "links": links, "index_bits": self.index_bits}

    def __setstate__(self, state: dict[str, Any]) -> None:
        areas = state["areas"]
        for vma, links in zip(areas, state["links"], strict=True):
            for link, at in zip(_LINKS, links, strict=True):
                setattr(vma, link, None if at < 0 else areas[at])
        self.prio_tree_node = areas[0] if areas else None
        self.index_bits = state["index_bits"]

    def everything(self) -> list[VmArea26]:
        """All areas in the tree: each node before its children, its ring after it."""
        found: list[VmArea26] = []
        todo = [self.prio_tree_node]
        while todo:
            node = todo.pop()
            if node is None:
                continue
            found.append(node)
            head = at = node.shared_head
            while at is not None:
                found.append(at)
                at = at.shared_left
                if at is head:
                    break
            todo += (node.shared_right, node.shared_left)
        return found

    def __repr__(self) -> str:
        return f"<PrioTreeRoot of {self.index_bits} bits, {len(self.everything())} areas>"


# -- the tree ---------------------------------------------------------------------------------


def prio_tree_expand(root: PrioTreeRoot, node: VmArea26, max_heap_index: int) -> None:
    """In 2.6 new, because of the tree: *node* ends beyond what the tree can hold, so it gets more levels and *node* becomes the root.

    kernel: lib/prio_tree.c:prio_tree_expand
    """
    first: VmArea26 | None = None
    last: VmArea26 | None = None
    if max_heap_index > maxindex(root.index_bits):
        root.index_bits += 1
    while max_heap_index > maxindex(root.index_bits):
        root.index_bits += 1
        top = root.prio_tree_node
        if top is None:
            continue
        before = last
        last = top
        prio_tree_remove(root, top)
        init_node(top)
        if before is None:
            first = top
        else:
            before.shared_left = top
            top.shared_parent = before
    init_node(node)
    if first is not None:
        node.shared_left = first
        first.shared_parent = node
    else:
        last = node
    top = root.prio_tree_node
    if top is not None:
        assert last is not None
        last.shared_left = top
        top.shared_parent = last
    root.prio_tree_node = node


def prio_tree_replace(root: PrioTreeRoot, old: VmArea26, node: VmArea26) -> VmArea26:
    """In 2.6 new, because of the tree: *node* takes the place of *old*, which is returned. kernel: lib/prio_tree.c:prio_tree_replace"""
    init_node(node)
    parent = old.shared_parent
    assert parent is not None
    if parent is old:
        if root.prio_tree_node is not old:
            raise KernelBug("prio_tree_replace", f"{old} is its own parent but not the root", "root")
        root.prio_tree_node = node
    else:
        node.shared_parent = parent
        if parent.shared_left is old:
            parent.shared_left = node
        else:
            parent.shared_right = node
    if old.shared_left is not None:
        node.shared_left = old.shared_left
        old.shared_left.shared_parent = node
    if old.shared_right is not None:
        node.shared_right = old.shared_right
        old.shared_right.shared_parent = node
    return old


def prio_tree_insert(root: PrioTreeRoot, node: VmArea26) -> VmArea26:
    """In 2.6 new, because of the tree: put *node* in, moving down each node on the way that ends earlier.

    Returns *node*, or the node with the same pages if there is one: then nothing changed.
    kernel: lib/prio_tree.c:prio_tree_insert
    """
    inserted = node
    radix, heap = radix_index(node), heap_index(node)
    cur = root.prio_tree_node
    if cur is None or heap > maxindex(root.index_bits):
        prio_tree_expand(root, node, heap)
        return node
    mask = 1 << root.index_bits - 1
    by_size = False
    while mask:
        r_index, h_index = radix_index(cur), heap_index(cur)
        if r_index == radix and h_index == heap:
            return cur
        if h_index < heap or (h_index == heap and r_index > radix):
            node, cur = prio_tree_replace(root, cur, node), node
            radix, heap = r_index, h_index
        child: VmArea26 | None
        if (heap - radix if by_size else radix) & mask:
            child = cur.shared_right
            if child is None:
                init_node(node)
                cur.shared_right = node
                node.shared_parent = cur
                return inserted
        else:
            child = cur.shared_left
            if child is None:
                init_node(node)
                cur.shared_left = node
                node.shared_parent = cur
                return inserted
        cur = child
        mask >>= 1
        if not mask:
            mask = _TOP
            by_size = True
    raise KernelBug("prio_tree_insert", f"there is no place for {inserted}", "depth")


def prio_tree_remove(root: PrioTreeRoot, node: VmArea26) -> None:
    """In 2.6 new, because of the tree: the child that ends later moves up, down to a leaf. kernel: lib/prio_tree.c:prio_tree_remove"""
    cur = node
    while True:
        left, right = cur.shared_left, cur.shared_right
        if left is None:
            if right is None:
                break
            cur = right
        elif right is None or heap_index(left) >= heap_index(right):
            cur = left
        else:
            cur = right
    parent = cur.shared_parent
    assert parent is not None
    if parent is cur:
        if root.prio_tree_node is not cur:
            raise KernelBug("prio_tree_remove", f"{cur} is its own parent but not the root", "root")
        root.prio_tree_node = None
        root.index_bits = 1
        return
    if parent.shared_right is cur:
        parent.shared_right = None
    else:
        parent.shared_left = None
    while cur is not node:
        above = cur.shared_parent
        assert above is not None
        cur = prio_tree_replace(root, above, cur)


class PrioTreeIter:
    """In 2.6 new, because of the tree: a walk over the nodes that overlap the pages [*r_index*, *h_index*], parents first.

    ``value`` is the smallest first page possible below ``cur``. kernel: include/linux/prio_tree.h:prio_tree_iter
    """

    __slots__ = ("cur", "h_index", "mask", "r_index", "root", "size_level", "value")

    def __init__(self, root: PrioTreeRoot, r_index: int, h_index: int) -> None:
        self.root = root
        self.r_index = r_index
        self.h_index = h_index
        self.cur: VmArea26 | None = None
        self.mask = self.value = self.size_level = 0

    def _down(self, child: VmArea26) -> None:
        self.cur = child
        self.mask >>= 1
        if self.mask:
            if self.size_level:
                self.size_level += 1
        elif self.size_level:
            if child.shared_left is not None or child.shared_right is not None:
                raise KernelBug("prio_tree_left", f"{child} is at the lowest level and has children", "depth")
            self.size_level += 1
            self.mask = _U32
        else:
            self.size_level = 1
            self.mask = _TOP

    def left(self) -> VmArea26 | None:
        """To the left child, if something below may overlap. kernel: lib/prio_tree.c:prio_tree_left"""
        assert self.cur is not None
        child = self.cur.shared_left
        if child is None or self.r_index > heap_index(child):
            return None
        self._down(child)
        return child

    def right(self) -> VmArea26 | None:
        """To the right child, if something below may overlap. kernel: lib/prio_tree.c:prio_tree_right"""
        assert self.cur is not None
        child = self.cur.shared_right
        if child is None:
            return None
        value = self.value if self.size_level else self.value | self.mask
        if self.h_index < value or self.r_index > heap_index(child):
            return None
        self._down(child)
        self.value = value
        return child

    def parent(self) -> None:
        """Back up. kernel: lib/prio_tree.c:prio_tree_parent"""
        assert self.cur is not None
        self.cur = self.cur.shared_parent
        if self.mask == _U32 or self.size_level == 1:
            self.mask = 1
        else:
            self.mask = self.mask << 1 & _U32
        if self.size_level:
            self.size_level -= 1
        if not self.size_level and self.value & self.mask:
            self.value ^= self.mask

    def overlap(self, node: VmArea26) -> bool:
        """Whether *node* maps a page of the range. kernel: lib/prio_tree.c:overlap"""
        return self.h_index >= radix_index(node) and self.r_index <= heap_index(node)

    def first(self) -> VmArea26 | None:
        """Begin. kernel: lib/prio_tree.c:prio_tree_first"""
        self.cur = None
        self.mask = self.value = self.size_level = 0
        node = self.root.prio_tree_node
        if node is None or self.r_index > heap_index(node):
            return None
        self.mask = 1 << self.root.index_bits - 1
        self.cur = node
        while not self.overlap(node):
            below = self.left() or self.right()
            if below is None:
                return None
            node = below
        return node

    def next(self) -> VmArea26 | None:
        """The next node that overlaps, None after the last. kernel: lib/prio_tree.c:prio_tree_next"""
        if self.cur is None:
            return self.first()
        while True:
            while (node := self.left()) is not None:
                if self.overlap(node):
                    return node
            while (node := self.right()) is None:
                while self.cur.shared_parent is not self.cur and self.cur.shared_parent.shared_right is self.cur:  # type: ignore[union-attr]
                    self.parent()
                if self.cur.shared_parent is self.cur:
                    return None
                self.parent()
            if self.overlap(node):
                return node


# -- areas of a file --------------------------------------------------------------------------


def _link_after(new: VmArea26, at: VmArea26) -> None:
    """On the ring right behind *at*."""
    after = at.shared_left
    assert after is not None
    new.shared_left, new.shared_right = after, at
    after.shared_right = at.shared_left = new


def _unlink(vma: VmArea26) -> None:
    """Off the ring, to be alone. kernel: include/linux/list.h:list_del_init"""
    after, before = vma.shared_left, vma.shared_right
    assert after is not None and before is not None
    before.shared_left, after.shared_right = after, before
    vma.shared_left = vma.shared_right = vma


def vma_prio_tree_add(vma: VmArea26, old: VmArea26) -> None:
    """In 2.6 a child's area stands on a ring with its parent's, because the tree has one node for the same pages; before that it followed
    on the list.

    Raises KernelBug if the two map different pages. kernel: mm/prio_tree.c:vma_prio_tree_add
    """
    if radix_index(vma) != radix_index(old) or heap_index(vma) != heap_index(old):
        raise KernelBug("vma_prio_tree_add", f"{vma} and {old} map different pages", "pages")
    vma.shared_head = vma.shared_parent = None
    if old.shared_parent is None:
        _link_after(vma, old)
    elif old.shared_head is not None:
        assert old.shared_head.shared_right is not None
        _link_after(vma, old.shared_head.shared_right)  # the ring's end
    else:
        vma.shared_left = vma.shared_right = vma
        vma.shared_head = old
        old.shared_head = vma


def vma_prio_tree_insert(vma: VmArea26, root: PrioTreeRoot) -> None:
    """In 2.6 new, because of the tree: *vma* becomes a node, or joins the one with the same pages.

    kernel: mm/prio_tree.c:vma_prio_tree_insert
    """
    vma.shared_head = None
    old = prio_tree_insert(root, vma)
    if old is not vma:
        vma_prio_tree_add(vma, old)


def vma_prio_tree_remove(vma: VmArea26, root: PrioTreeRoot) -> None:
    """In 2.6 new, because of the tree: *vma* leaves; the first of its ring takes its place as a node.

    kernel: mm/prio_tree.c:vma_prio_tree_remove
    """
    other = vma.shared_head
    if other is None:
        if vma.shared_parent is None:
            _unlink(vma)
        else:
            prio_tree_remove(root, vma)
        return
    if other.shared_head is not vma:
        raise KernelBug("vma_prio_tree_remove", f"{other} does not point back to {vma}", "head")
    first = other if vma.shared_parent is not None else vma  # of the ring
    second = first.shared_left
    if second is first:
        second = None
    else:
        _unlink(first)
    if vma.shared_parent is not None:
        prio_tree_replace(root, vma, other)
    other.shared_head = second
    if second is not None:
        second.shared_head = other


def vma_prio_tree_next(vma: VmArea26 | None, walk: PrioTreeIter) -> VmArea26 | None:
    """In 2.6 new, because of the tree: the area after *vma* (None: the first) that maps a page of the range: those of a ring follow
    their node.

    kernel: mm/prio_tree.c:vma_prio_tree_next
    """
    if vma is None:
        return walk.next()
    if vma.shared_parent is not None:
        if vma.shared_head is not None:
            return vma.shared_head
    else:
        following = vma.shared_left
        assert following is not None
        if following.shared_head is None:
            return following
    return walk.next()


def vma_prio_tree_foreach(root: PrioTreeRoot | None, begin: int, end: int) -> Iterator[VmArea26]:
    """In 2.6 new, because of the tree: every area that maps one of the pages *begin* to *end* of a file.

    kernel: include/linux/mm.h:vma_prio_tree_foreach
    """
    if root is None or root.prio_tree_node is None:
        return
    walk = PrioTreeIter(root, begin, end)
    vma = vma_prio_tree_next(None, walk)
    while vma is not None:
        yield vma
        vma = vma_prio_tree_next(vma, walk)
