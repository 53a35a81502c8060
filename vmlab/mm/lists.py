"""The kernel's circular doubly linked lists, kept in two columns. kernel: include/linux/list.h

An entry is a number (for a page list: the frame). A list is a *head*: an entry of its own, past
the frames, made by :meth:`ListColumns.new_head`. ``head.next`` is the first entry, ``head.prev``
the last; a head whose neighbours are itself is an empty list.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

NIL = 0xFFFFFFFF  # neighbours of an entry that is on no list


class ListColumns:
    """``next`` and ``prev`` of every entry: *frames* pages, then the heads."""

    __slots__ = ("frames", "free_heads", "next", "prev")

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.next = array("I", [NIL]) * frames
        self.prev = array("I", [NIL]) * frames
        self.free_heads: list[int] = []  # heads given back, to use again

    def new_head(self) -> int:
        """A new empty list; returns its head."""
        if self.free_heads:
            head = self.free_heads.pop()
            self.next[head] = self.prev[head] = head
            return head
        head = len(self.next)
        self.next.append(head)
        self.prev.append(head)
        return head

    def drop_head(self, head: int) -> None:
        """Give an empty list's head back."""
        if self.next[head] != head:
            raise ValueError(f"list {head} is not empty")
        self.free_heads.append(head)

    def add(self, entry: int, head: int) -> None:
        """Insert *entry* right after *head* (which may be an entry): at the front. kernel: include/linux/list.h:list_add"""
        after = self.next[head]
        self.next[head] = entry
        self.prev[entry] = head
        self.next[entry] = after
        self.prev[after] = entry

    def add_tail(self, entry: int, head: int) -> None:
        """Insert *entry* right before *head*: at the end. kernel: include/linux/list.h:list_add_tail"""
        before = self.prev[head]
        self.prev[head] = entry
        self.next[entry] = head
        self.prev[entry] = before
        self.next[before] = entry

    def del_(self, entry: int) -> None:
        """Take *entry* (or a head, leaving its list headless) out. kernel: include/linux/list.h:list_del"""
        before, after = self.prev[entry], self.next[entry]
        self.next[before] = after
        self.prev[after] = before

    def empty(self, head: int) -> bool:
        """Whether the list has no entry. kernel: include/linux/list.h:list_empty"""
        return self.next[head] == head

    def splice(self, source: int, head: int) -> None:
        """Join the list *source* in after *head*; *source* itself is left stale. kernel: include/linux/list.h:list_splice"""
        first = self.next[source]
        if first == source:
            return
        last, at = self.prev[source], self.next[head]
        self.prev[first] = head
        self.next[head] = first
        self.next[last] = at
        self.prev[at] = last

    def init_head(self, head: int) -> None:
        """Make *head* an empty list. kernel: include/linux/list.h:INIT_LIST_HEAD"""
        self.next[head] = self.prev[head] = head

    def walk(self, head: int) -> Iterator[int]:
        """Entries first to last; the list must not change meanwhile. kernel: include/linux/list.h:list_for_each"""
        following = self.next
        entry = following[head]
        while entry != head:
            yield entry
            entry = following[entry]

    def walk_back(self, head: int) -> Iterator[int]:
        """Entries last to first."""
        preceding = self.prev
        entry = preceding[head]
        while entry != head:
            yield entry
            entry = preceding[entry]

    def copy(self) -> ListColumns:
        """An independent copy."""
        other = ListColumns.__new__(ListColumns)
        other.frames = self.frames
        other.next, other.prev = self.next[:], self.prev[:]
        other.free_heads = self.free_heads[:]
        return other
