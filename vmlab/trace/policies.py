"""Page replacement policies, side by side on one trace: the textbook's, and the kernel's own.

A :class:`Policy` has a number of frames and is told each page that is referenced; it says whether the
page was there. ``compare_policies`` runs several over one trace. ``"2.4"`` and ``"2.6"`` are whole machines with
so much memory and swap: what they do is what the kernel does, watermarks and all.

Sources: Belady 1966 (OPT, FIFO's anomaly); Corbató 1968 (CLOCK); Johnson and Shasha, VLDB 1994 (2Q, the full
version); Megiddo and Modha, FAST 2003 (ARC).
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from .pagetrace import PageTrace

__all__ = ["POLICIES", "Arc", "Clock", "Fifo", "Lfu", "Lru", "Opt", "Policy", "PolicyRun", "Random", "TwoQ", "compare_policies", "simulate"]


class PolicyRun(NamedTuple):
    """What a policy did with a trace."""

    policy: str
    frames: int
    references: int
    misses: int

    @property
    def miss_ratio(self) -> float:
        """Misses for each reference."""
        return self.misses / self.references if self.references else 0.0

    def __str__(self) -> str:
        ratio = f"{self.misses:,} misses in {self.references:,} references ({self.miss_ratio:.4%})"
        return f"{self.policy:>8} with {self.frames} frames: {ratio}"


class Policy:
    """A memory of *frames* pages. Subclasses say what leaves when it is full."""

    name = "policy"
    settles = 1  # touches of one page in a row after which more of them change nothing; 0: each one counts

    def __init__(self, frames: int) -> None:
        if frames < 1:
            raise ValueError(f"frames={frames}: a memory has at least one frame")
        self.frames = frames

    def reference(self, page: int) -> bool:
        """The program touches *page*; returns whether it was in memory. Afterwards it is."""
        raise NotImplementedError

    def __contains__(self, page: int) -> bool:
        raise NotImplementedError


class Fifo(Policy):
    """First in, first out: the page that has been there longest leaves."""

    name = "fifo"

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.pages: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, page: int) -> bool:
        return page in self.pages

    def reference(self, page: int) -> bool:
        if page in self.pages:
            return True
        if len(self.pages) == self.frames:
            self.pages.popitem(last=False)
        self.pages[page] = None
        return False


class Lru(Fifo):
    """Least recently used: the page not touched for longest leaves."""

    name = "lru"

    def reference(self, page: int) -> bool:
        pages = self.pages
        if page in pages:
            pages.move_to_end(page)
            return True
        if len(pages) == self.frames:
            pages.popitem(last=False)
        pages[page] = None
        return False


class Clock(Policy):
    """Second chance: a hand goes round the frames; a page touched since it last came by is spared once.

    *new_is_used*: a page that comes in counts as touched, which is what the hardware's ACCESSED bit says; some
    simulators bring pages in untouched.
    """

    name = "clock"
    settles = 2

    def __init__(self, frames: int, new_is_used: bool = True) -> None:
        super().__init__(frames)
        self.new_is_used = int(new_is_used)
        self.ring: list[int] = []
        self.where: dict[int, int] = {}
        self.used = bytearray(frames)
        self.hand = 0

    def __contains__(self, page: int) -> bool:
        return page in self.where

    def reference(self, page: int) -> bool:
        at = self.where.get(page)
        if at is not None:
            self.used[at] = 1
            return True
        if len(self.ring) < self.frames:
            at = len(self.ring)
            self.ring.append(page)
        else:
            at = self.hand
            while self.used[at]:
                self.used[at] = 0
                at = (at + 1) % self.frames
            del self.where[self.ring[at]]
            self.ring[at] = page
            self.hand = (at + 1) % self.frames
        self.where[page] = at
        self.used[at] = self.new_is_used
        return False


class Lfu(Policy):
    """Least frequently used: the page with the fewest touches since it came in leaves, the oldest of equals first."""

    name = "lfu"
    settles = 0

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.uses: dict[int, int] = {}
        self.order: dict[int, int] = {}  # page → when it came in
        self.heap: list[tuple[int, int, int]] = []
        self.clock = 0

    def __contains__(self, page: int) -> bool:
        return page in self.uses

    def reference(self, page: int) -> bool:
        uses = self.uses
        if page in uses:
            uses[page] += 1
            return True
        if len(uses) == self.frames:
            while True:  # an entry of the heap may be behind the count: put it back with the right one
                count, born, victim = heappop(self.heap)
                if uses[victim] == count:
                    break
                heappush(self.heap, (uses[victim], born, victim))
            del uses[victim]
        self.clock += 1
        uses[page] = 1
        heappush(self.heap, (1, self.clock, page))
        return False


class Random(Policy):
    """Any page leaves, each as likely as the others; the same *seed* chooses the same pages."""

    name = "random"

    def __init__(self, frames: int, seed: int = 1) -> None:
        super().__init__(frames)
        self.ring: list[int] = []
        self.where: set[int] = set()
        self.state = seed * 2 + 1 & 0xFFFFFFFFFFFFFFFF

    def __contains__(self, page: int) -> bool:
        return page in self.where

    def reference(self, page: int) -> bool:
        if page in self.where:
            return True
        if len(self.ring) < self.frames:
            self.ring.append(page)
        else:
            self.state = self.state * 6364136223846793005 + 1442695040888963407 & 0xFFFFFFFFFFFFFFFF
            at = (self.state >> 33) * self.frames >> 31
            self.where.discard(self.ring[at])
            self.ring[at] = page
        self.where.add(page)
        return False


class TwoQ(Policy):
    """2Q: new pages pass through a short FIFO (a quarter of the frames); one that comes back after leaving it is kept in an LRU list."""

    name = "2q"

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.kin = max(1, frames // 4)
        self.kout = max(1, frames // 2)
        self.a1in: OrderedDict[int, None] = OrderedDict()
        self.a1out: OrderedDict[int, None] = OrderedDict()  # page numbers only, no frames
        self.am: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, page: int) -> bool:
        return page in self.am or page in self.a1in

    def reference(self, page: int) -> bool:
        if page in self.am:
            self.am.move_to_end(page)
            return True
        if page in self.a1in:
            return True
        known = page in self.a1out
        if known:
            del self.a1out[page]
        self.reclaim()
        (self.am if known else self.a1in)[page] = None
        return False

    def reclaim(self) -> None:
        """Free a frame if none is: from the FIFO while it is longer than its share, else the LRU list's oldest."""
        if len(self.a1in) + len(self.am) < self.frames:
            return
        if len(self.a1in) > self.kin or not self.am:
            page, _ = self.a1in.popitem(last=False)
            self.a1out[page] = None
            if len(self.a1out) > self.kout:
                self.a1out.popitem(last=False)
        else:
            self.am.popitem(last=False)


class Arc(Policy):
    """ARC: two LRU lists, of pages seen once and more often; what left each is remembered, and moves the border between them."""

    name = "arc"
    settles = 2

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self.p = 0.0  # frames that the list of pages seen once may have
        self.t1: OrderedDict[int, None] = OrderedDict()
        self.t2: OrderedDict[int, None] = OrderedDict()
        self.b1: OrderedDict[int, None] = OrderedDict()
        self.b2: OrderedDict[int, None] = OrderedDict()

    def __contains__(self, page: int) -> bool:
        return page in self.t1 or page in self.t2

    def reference(self, page: int) -> bool:
        if page in self.t1:
            del self.t1[page]
            self.t2[page] = None
            return True
        if page in self.t2:
            self.t2.move_to_end(page)
            return True
        if page in self.b1:
            self.p = min(float(self.frames), self.p + max(len(self.b2) / len(self.b1), 1.0))
            self._replace(False)
            del self.b1[page]
            self.t2[page] = None
            return False
        if page in self.b2:
            self.p = max(0.0, self.p - max(len(self.b1) / len(self.b2), 1.0))
            self._replace(True)
            del self.b2[page]
            self.t2[page] = None
            return False
        once = len(self.t1) + len(self.b1)
        if once == self.frames:
            if len(self.t1) < self.frames:
                self.b1.popitem(last=False)
                self._replace(False)
            else:
                self.t1.popitem(last=False)
        elif once + len(self.t2) + len(self.b2) >= self.frames:
            if once + len(self.t2) + len(self.b2) == 2 * self.frames:
                self.b2.popitem(last=False)
            self._replace(False)
        self.t1[page] = None
        return False

    def _replace(self, was_in_b2: bool) -> None:
        """Send the oldest page of one list to what is remembered of it."""
        if self.t1 and (len(self.t1) > self.p or was_in_b2 and len(self.t1) == self.p):
            page, _ = self.t1.popitem(last=False)
            self.b1[page] = None
        elif self.t2:
            page, _ = self.t2.popitem(last=False)
            self.b2[page] = None


class Opt(Policy):
    """Belady's optimum: the page that will not be needed for longest leaves. It must see the whole trace beforehand."""

    name = "opt"
    settles = 0

    def __init__(self, frames: int, references: Sequence[int] = ()) -> None:
        super().__init__(frames)
        never = len(references) + 1
        self.next = array("Q", bytes(8 * len(references)))
        last: dict[int, int] = {}
        for i in range(len(references) - 1, -1, -1):
            self.next[i] = last.get(references[i], never)
            last[references[i]] = i
        self.at = 0
        self.due: dict[int, int] = {}  # page in memory → its next reference
        self.heap: list[tuple[int, int]] = []  # (−next reference, page), some of them out of date

    def __contains__(self, page: int) -> bool:
        return page in self.due

    def reference(self, page: int) -> bool:
        if self.at >= len(self.next):
            raise ValueError("OPT was not told about this reference: give it the whole trace")
        following = self.next[self.at]
        self.at += 1
        hit = page in self.due
        if not hit and len(self.due) == self.frames:
            while True:
                due, victim = heappop(self.heap)
                if self.due.get(victim) == -due:
                    break
            del self.due[victim]
        self.due[page] = following
        heappush(self.heap, (-following, page))
        return hit


POLICIES: dict[str, type[Policy]] = {cls.name: cls for cls in (Fifo, Lru, Clock, TwoQ, Arc, Lfu, Random, Opt)}


def page_references(trace: PageTrace | Iterable[int]) -> list[int]:
    """The pages of a trace one after the other; reads and writes alike."""
    return [r >> 1 for r in trace.refs] if isinstance(trace, PageTrace) else list(trace)


def simulate(policy: Policy | str, trace: PageTrace | Iterable[int], frames: int | None = None) -> PolicyRun:
    """Run one policy (an object, or a name of POLICIES with *frames*) over a trace or a list of pages."""
    references = page_references(trace)
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise ValueError(f"policy {policy!r}: {', '.join(POLICIES)}, 2.4 or 2.6 (see compare_policies)")
        if frames is None:
            raise ValueError("frames=: how many frames does the memory have?")
        cls = POLICIES[policy]
        policy = Opt(frames, references) if cls is Opt else cls(frames)
    misses = 0
    touch, settles = policy.reference, policy.settles
    last, row = -1, 0
    for page in references:
        row = row + 1 if page == last else 1
        last = page
        if row <= settles or not settles:
            misses += not touch(page)
    return PolicyRun(policy.name, policy.frames, len(references), misses)


def compare_policies(trace: PageTrace, frames: int, policies: Iterable[str] = (*POLICIES, "2.4")) -> list[PolicyRun]:
    """Each of *policies* over *trace* with so many *frames*; "2.4" and "2.6" are whole machines. Best first."""
    from .machine_policy import kernel_run

    runs = []
    for name in policies:
        runs.append(kernel_run(trace, frames, name) if name in ("2.4", "2.6") else simulate(name, trace, frames))
    return sorted(runs, key=lambda run: (run.misses, run.policy))


def belady_anomaly(
    references: Sequence[int], policy: str = "fifo", sizes: Iterable[int] | None = None
) -> list[tuple[PolicyRun, PolicyRun]]:
    """Pairs of runs where one more frame (the next of *sizes*) meant more misses."""
    distinct = len(set(references))
    runs = [simulate(policy, references, size) for size in (sizes if sizes is not None else range(1, distinct + 1))]
    return [(less, more) for less, more in zip(runs, runs[1:], strict=False) if more.misses > less.misses]


def search_anomaly(length: int = 12, pages: int = 5, policy: str = "fifo") -> tuple[list[int], PolicyRun, PolicyRun] | None:
    """Look through all reference strings of *length* over *pages* pages, in order, for Belady's anomaly: the first found.

    Strings that differ only in the names of pages are tried once, and no page twice in a row. None when there is none.
    """
    stack: deque[list[int]] = deque([[0]])
    while stack:
        string = stack.pop()
        if len(string) == length:
            found = belady_anomaly(string, policy)
            if found:
                return string, *found[0]
            continue
        seen = max(string) + 1
        stack.extend([*string, page] for page in range(min(pages, seen + 1) - 1, -1, -1) if page != string[-1])
    return None
