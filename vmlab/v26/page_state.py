"""The counters behind /proc/vmstat. kernel: include/linux/page-flags.h:page_state"""

from __future__ import annotations

PLAIN = (
    "nr_dirty",
    "nr_writeback",
    "nr_unstable",
    "nr_page_table_pages",
    "nr_mapped",
    "nr_slab",
    "pgpgin",
    "pgpgout",
    "pswpin",
    "pswpout",
    "pgfree",
    "pgactivate",
    "pgdeactivate",
    "pgfault",
    "pgmajfault",
    "pginodesteal",
    "slabs_scanned",
    "kswapd_steal",
    "kswapd_inodesteal",
    "pageoutrun",
    "allocstall",
    "pgrotated",
)
BY_ZONE = ("pgalloc", "pgrefill", "pgsteal", "pgscan_kswapd", "pgscan_direct")


class PageState:
    """Counters since power-on (the first six: how many now). Those by zone are lists: DMA, Normal, HighMem.

    ``nr_pagecache``, a variable of its own in the kernel, is here too.
    """

    __slots__ = (*PLAIN, *BY_ZONE, "nr_pagecache")

    def __init__(self) -> None:
        self.nr_dirty = self.nr_writeback = self.nr_unstable = 0
        self.nr_page_table_pages = self.nr_mapped = self.nr_slab = 0
        self.pgpgin = self.pgpgout = self.pswpin = self.pswpout = 0  # the first two in sectors
        self.pgfree = self.pgactivate = self.pgdeactivate = 0
        self.pgfault = self.pgmajfault = 0
        self.pginodesteal = self.slabs_scanned = 0
        self.kswapd_steal = self.kswapd_inodesteal = self.pageoutrun = self.allocstall = 0
        self.pgrotated = 0
        self.pgalloc = [0, 0, 0]
        self.pgrefill = [0, 0, 0]
        self.pgsteal = [0, 0, 0]
        self.pgscan_kswapd = [0, 0, 0]
        self.pgscan_direct = [0, 0, 0]
        self.nr_pagecache = 0

    def values(self) -> dict[str, int | list[int]]:
        """Every counter by name."""
        return {name: list(v) if isinstance(v := getattr(self, name), list) else v for name in self.__slots__}

    def set_values(self, values: dict[str, int | list[int]]) -> None:
        """Put back what :meth:`values` gave."""
        for name, value in values.items():
            setattr(self, name, list(value) if isinstance(value, list) else value)

    def vmstat(self) -> str:
        """In 2.6 the kernel counts what its memory manager does, because tuning it blindly had failed; before that almost nothing was.

        All counters in the form and order of /proc/vmstat.
        kernel: mm/page_alloc.c:vmstat_show
        """
        rows: list[tuple[str, int]] = [(name, getattr(self, name)) for name in PLAIN[:6]]
        rows += [("pgpgin", self.pgpgin // 2), ("pgpgout", self.pgpgout // 2), ("pswpin", self.pswpin), ("pswpout", self.pswpout)]
        rows += self._zones("pgalloc")
        rows += [(name, getattr(self, name)) for name in ("pgfree", "pgactivate", "pgdeactivate", "pgfault", "pgmajfault")]
        for name in BY_ZONE[1:]:
            rows += self._zones(name)
        rows += [(name, getattr(self, name)) for name in PLAIN[PLAIN.index("pginodesteal") :]]
        return "\n".join(f"{name} {value}" for name, value in rows)

    def _zones(self, name: str) -> list[tuple[str, int]]:
        values = getattr(self, name)
        return [(f"{name}_{zone}", values[i]) for i, zone in ((2, "high"), (1, "normal"), (0, "dma"))]

    def __repr__(self) -> str:
        return "<PageState " + ", ".join(f"{k} {v}" for k, v in self.values().items() if v not in (0, [0, 0, 0])) + ">"
