"""Miss-ratio curves: misses for every size of memory at once.

LRU keeps in k frames what it keeps in k + 1, so one pass gives all sizes (Mattson et al. 1970): a reference hits
in any memory larger than the number of different pages since the last one to the same page. That number is found
for all references together, by counting inversions in merge-sort order. FIFO has no such property; its state for
all sizes is stepped side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .policies import page_references, simulate

if TYPE_CHECKING:
    from .pagetrace import PageTrace

__all__ = ["Curve", "fifo_curve", "lru_curve", "miss_ratio_curve"]


class Curve(NamedTuple):
    """Misses of one policy for several sizes of memory (frames, ascending)."""

    policy: str
    references: int
    frames: list[int]
    misses: list[int]

    @property
    def ratios(self) -> list[float]:
        """Misses for each reference."""
        return [m / self.references if self.references else 0.0 for m in self.misses]

    def anomalies(self) -> list[tuple[int, int]]:
        """Pairs of neighbouring sizes where the larger memory misses more: Belady's anomaly."""
        sizes = zip(self.frames, self.frames[1:], strict=False)
        return [pair for pair, less, more in zip(sizes, self.misses, self.misses[1:], strict=False) if more > less]


def _visits(references: Sequence[int]) -> list[int]:
    """References without immediate repetitions, which hit in any memory."""
    return [page for i, page in enumerate(references) if not i or page != references[i - 1]]


def stack_distances(pages: Any) -> Any:
    """For each reference the number of different pages since the last to the same page; -1 for a first one. A numpy array."""
    import numpy as np

    pages = np.asarray(pages, dtype=np.int64)
    n = len(pages)
    order = np.argsort(pages, kind="stable")
    previous = np.full(n, -1, dtype=np.int64)
    same = pages[order[1:]] == pages[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    # Between the two, a page counts at its first reference there: those whose own previous one lies before ours.
    # What is left to subtract are earlier references whose previous one is later than ours: inversions.
    size = 1 << max(1, n - 1).bit_length()
    values = np.full(size, n, dtype=np.int32)  # what is filled up at the end is never earlier than anything
    values[:n] = previous
    who = np.arange(size, dtype=np.int32)
    larger = np.zeros(size, dtype=np.int32)
    width = 1
    while width < size:
        # Each row is two sorted halves: a stable sort merges them, and tells how many of the left half are not larger.
        row = values.reshape(-1, 2 * width)
        order = np.argsort(row, axis=1, kind="stable")
        who = np.take_along_axis(who.reshape(-1, 2 * width), order, axis=1)
        values = np.take_along_axis(row, order, axis=1)
        place = np.arange(2 * width) - order
        right = order >= width
        larger[who[right]] -= place[right].astype(np.int32)
        width *= 2
    index = np.arange(n)
    larger = larger[:n]
    distance = index - previous - 1 - larger
    distance[previous < 0] = -1
    return distance


def lru_curve(trace: PageTrace | Iterable[int], frames: Sequence[int] | None = None) -> Curve:
    """LRU's misses for every size of memory from 1 to the number of pages (or for the sizes *frames*), in one pass."""
    import numpy as np

    references = page_references(trace)
    visits = _visits(references)
    distance = stack_distances(visits)
    largest = len(set(visits))
    counts = np.bincount(distance[distance >= 0], minlength=largest + 1)
    hits = np.concatenate([[0], np.cumsum(counts)])  # hits[k]: distances below k, which hit in k frames
    sizes = list(frames) if frames is not None else list(range(1, largest + 1))
    return Curve("lru", len(references), sizes, [int(len(visits) - hits[min(k, len(hits) - 1)]) for k in sizes])


def fifo_curve(trace: PageTrace | Iterable[int], frames: Sequence[int] | None = None) -> Curve:
    """FIFO's misses for every size at once: a page is there while fewer than *size* others came in after it."""
    import numpy as np

    references = page_references(trace)
    visits = _visits(references)
    number = {page: i for i, page in enumerate(dict.fromkeys(visits))}
    sizes = np.asarray(list(frames) if frames is not None else range(1, len(number) + 1), dtype=np.int64)
    count = np.zeros(len(sizes), dtype=np.int64)  # pages that came in so far: the misses
    came = np.full((len(number), len(sizes)), -(1 << 60), dtype=np.int64)
    for page in visits:
        row = came[number[page]]
        miss = count - row > sizes  # as many came in after it as there are frames
        row[miss] = count[miss]
        count += miss
    return Curve("fifo", len(references), sizes.tolist(), count.tolist())


def miss_ratio_curve(trace: PageTrace | Iterable[int], policy: str = "lru", frames: Sequence[int] | None = None) -> Curve:
    """The curve of any policy of vmlab.POLICIES: LRU and FIFO for all sizes in one go, the others size by size (20 of them by default)."""
    if policy == "lru":
        return lru_curve(trace, frames)
    if policy == "fifo":
        return fifo_curve(trace, frames)
    references = page_references(trace)
    if frames is None:
        largest = len(set(references))
        frames = sorted({max(1, largest * i // 20) for i in range(1, 21)})
    return Curve(policy, len(references), list(frames), [simulate(policy, references, size).misses for size in frames])
