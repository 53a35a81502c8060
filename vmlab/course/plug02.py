"""Chapter 2's plug: boots the machine with the zones of a student's class (see kit/zones.py)."""

from __future__ import annotations

from typing import Any

from vmlab.course.kit.zones import Zones
from vmlab.machine import Machine, boot
from vmlab.mm.mmzone import PgData
from vmlab.mm.page_init import ZoneSetup

__all__ = ["boot_with", "zone_setup_of"]


def _whole(value: object, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(
            f"{what} must be a whole number of pages, not {value!r}" + (": divide with //" if isinstance(value, float) else "")
        )
    return value


def zone_setup_of(mine: type[Zones]) -> type[ZoneSetup]:
    """A ZoneSetup that asks the class *mine* for every decision. Raises TypeError when *mine* is not a class derived from Zones."""
    if not (isinstance(mine, type) and issubclass(mine, Zones)):
        raise TypeError(f"give the class itself, derived from vmlab.course.kit.zones.Zones, not {mine!r}")

    class Plugged(ZoneSetup):
        def ask(self) -> Zones:
            decide = mine()
            decide.highmem = self.kernel.config.highmem
            decide.ratio = list(self.kernel.zone_balance_ratio)
            return decide

        def zones_size(self, max_low_pfn: int, highend_pfn: int) -> list[int]:
            sizes = list(self.ask().zones_size(max_low_pfn, highend_pfn))
            if len(sizes) != 3:
                raise ValueError(f"zones_size must return three numbers [DMA, Normal, HighMem], not {sizes!r}")
            return [_whole(n, "each entry of zones_size") for n in sizes]

        def watermarks(self, zone_num: int, realsize: int) -> tuple[int, int, int]:
            marks = tuple(self.ask().watermarks(zone_num, realsize))
            if len(marks) != 3:
                raise ValueError(f"watermarks must return (pages_min, pages_low, pages_high), not {marks!r}")
            low, middle, high = (_whole(n, "each watermark") for n in marks)
            return low, middle, high

        def wait_table_size(self, pages: int) -> int:
            size = _whole(self.ask().wait_table_size(pages), "wait_table_size's answer")
            if size < 1 or size & (size - 1):
                raise ValueError(f"wait_table_size returned {size}: the hash needs a power of two")
            return size

        def build_zonelists(self, pgdat: PgData) -> None:
            lists = [list(one) for one in self.ask().build_zonelists([zone.size for zone in pgdat.node_zones])]
            if len(lists) != 16:
                raise ValueError(f"build_zonelists must return 16 lists, one for each value of gfp & 15, not {len(lists)}")
            if any(n not in (0, 1, 2) for one in lists for n in one):
                raise ValueError("build_zonelists returns zone numbers: 0 for DMA, 1 for Normal, 2 for HighMem")
            pgdat.node_zonelists = [[pgdat.node_zones[n] for n in one] for one in lists]

    Plugged.__name__ = Plugged.__qualname__ = f"Plugged{mine.__name__}"
    return Plugged


def boot_with(mine: type[Zones], ram: int | str = "64M", **options: Any) -> Machine:
    """Boot a machine whose zones are decided by the class *mine*; *options* are those of ``vmlab.boot``.

    Raises ValueError when an answer of *mine* cannot be used, and KernelBug where the kernel would crash on it.
    """
    return boot(ram, zone_setup=zone_setup_of(mine), **options)
