"""Replay of v26-slab-* traces: 2.6.11's slab allocator above its page allocator, without processes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, cast

from ...errors import KernelBug, KernelHang, KernelPanic, TraceError
from ...hw.layout import PAGE_OFFSET, PAGE_SHIFT
from ...mm.gfp import GFP_DMA
from ...mm.slab_cache import L1_CACHE_BYTES, SIZEOF_SLAB_T, KmemCache, Slab
from ...v26.gfp import from_native
from ...v26.mmzone import PgData26
from ...v26.reclaim import ScriptedReclaim26
from ...v26.slab import FIRST_REAP, SlabAllocator26
from ...v26.slab_cache import BUG_LINES26, SIZEOF_ARRAY_CACHE, KmemCache26
from .common import bug_site, integer
from .v26_allocators import BareMachine, boot_allocators, trace_machine, zones26, zones_state

Line = dict[str, Any]

MAX_SHOWN = 64  # slabs of a cache that a snapshot lists
_INPUTS = ("op", "h", "name", "size", "align", "flags", "ctor", "dtor", "pa", "n")


class Slab26Replay:
    """Keeps one machine; a ``trace`` line boots a fresh one and runs kmem_cache_init."""

    def __init__(self, header: Line) -> None:
        self.machine: BareMachine | None = None
        self.slab = SlabAllocator26()
        self.handles: dict[int, KmemCache26] = {}
        self.called = {"ctors": 0, "dtors": 0}
        self.numbers: dict[KmemCache, dict[Slab, int]] = {}

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if op == "trace":
            return self._boot(line)
        machine = self.machine
        if machine is None:
            raise TraceError("a trace line must come first")
        handler: Callable[[Line], Line] | None = getattr(self, f"_op_{op}", None) if isinstance(op, str) else None
        if handler is None:
            raise TraceError(f"unknown operation {op!r}")
        got: Line = {k: line[k] for k in _INPUTS if k in line}
        self.called = {"ctors": 0, "dtors": 0}
        try:
            return got | handler(line)
        except KernelBug as bug:
            site = BUG_LINES26.get((bug.function, bug.kind))
            return got | {"r": "bug", "bug": f"slab.c:{site}" if site else bug_site(bug)} | self._pages(machine)
        except KernelPanic:
            return got | {"r": "panic"} | self._pages(machine)
        except KernelHang:
            return got | {"r": "loop"} | self._pages(machine)

    # -- operations ---------------------------------------------------------------------------

    def _op_kmem_create(self, line: Line) -> Line:
        ctor = self._ctor if integer(line, "ctor") else None
        dtor = self._dtor if integer(line, "dtor") else None
        size, align, flags = (integer(line, k) for k in ("size", "align", "flags"))
        cachep = self.slab.kmem_cache_create(line["name"], size, align, flags, ctor, dtor)
        got: Line = {"r": None}
        if cachep is not None:
            assert isinstance(cachep, KmemCache26)
            self.handles[integer(line, "h")] = cachep
            got = {"r": self._parameters(cachep)}
        return got | {"fp": self._fp(), "cc_l": self._l(self.slab.state.cache_cache)}

    def _op_kmem_alloc(self, line: Line) -> Line:
        cachep = self._cache(line)
        return self._allocated(cachep, self.slab.kmem_cache_alloc(cachep, from_native(integer(line, "flags"))))

    def _op_kmem_free(self, line: Line) -> Line:
        cachep = self._cache(line)
        objp, obj = self._object(line)
        self.slab.kmem_cache_free(cachep, objp)
        return {"obj": obj} | self._freed(cachep)

    def _op_kmalloc(self, line: Line) -> Line:
        size, flags = integer(line, "size"), from_native(integer(line, "flags"))
        objp = self.slab.kmalloc(size, flags)
        if not objp:
            return {"r": None, "fp": self._fp()}
        cachep = self.slab.kmem_find_general_cachep(size, flags & GFP_DMA)
        assert isinstance(cachep, KmemCache26)
        return {"cache": cachep.name} | self._allocated(cachep, objp)

    def _op_kfree(self, line: Line) -> Line:
        objp, obj = self._object(line)
        place = self.slab.find(objp)
        assert place is not None and isinstance(place.cache, KmemCache26)
        self.slab.kfree(objp)
        return {"cache": place.cache.name, "obj": obj} | self._freed(place.cache)

    def _op_kmem_shrink(self, line: Line) -> Line:
        cachep = self._cache(line)
        return {"r": self.slab.kmem_cache_shrink(cachep)} | self._freed(cachep)

    def _op_kmem_destroy(self, line: Line) -> Line:
        cachep = self._cache(line)
        r = self.slab.kmem_cache_destroy(cachep)
        if not r:
            del self.handles[integer(line, "h")]
        return {"r": r, "dtors": self.called["dtors"], "cc_l": self._l(self.slab.state.cache_cache), "fp": self._fp()}

    def _op_tick(self, line: Line) -> Line:
        self.slab.state.jiffies += integer(line, "n")
        return {"j": self.slab.jiffies}

    def _op_reap(self, line: Line) -> Line:
        following = self.slab.cache_reap()
        caches = [self._reaped(cachep) for cachep in self._caches_with_slabs()]
        return {"j": self.slab.jiffies, "next": following, "caches": caches}

    def _op_slabsnap(self, line: Line) -> Line:
        return self._snap()

    def _op_caches(self, line: Line) -> Line:
        return {"caches": self._caches()}

    # -- operands -----------------------------------------------------------------------------

    def _cache(self, line: Line) -> KmemCache26:
        h = integer(line, "h")
        if h not in self.handles:
            raise TraceError(f"no cache has the handle {h}")
        return self.handles[h]

    def _object(self, line: Line) -> tuple[int, list[int]]:
        """Address of the object at ``pa``, and its [slab, number]."""
        pa = integer(line, "pa")
        place = self.slab.find(PAGE_OFFSET + pa)
        if place is None or place.number < 0:
            raise TraceError(f"there is no object at {pa}")
        return PAGE_OFFSET + pa, [self._numbers(place.cache)[place.slab], place.number]

    def _numbers(self, cachep: KmemCache) -> dict[Slab, int]:
        """Sequence numbers of a cache's slabs, given when its lists are walked; see vmlab.trace.golden.slab."""
        numbers = self.numbers.setdefault(cachep, {})
        if len(numbers) < cachep.made:
            for slab in cachep.slabs():
                if slab not in numbers:
                    numbers[slab] = len(numbers)
        return numbers

    def _ctor(self, objp: int, cachep: KmemCache, flags: int) -> None:
        self.called["ctors"] += 1

    def _dtor(self, objp: int, cachep: KmemCache, flags: int) -> None:
        self.called["dtors"] += 1

    # -- what is recorded ---------------------------------------------------------------------

    @staticmethod
    def _pages(machine: BareMachine) -> Line:
        return {
            "fp": [zone.free_pages for zone in zones26(machine)],
            "pc": [pages.count for zone in zones26(machine) for pages in zone.pcp],
            "kmo": cast(PgData26, machine.pgdats[0]).kswapd_max_order,
        }

    def _allocated(self, cachep: KmemCache26, objp: int) -> Line:
        got: Line = {"r": None}
        if objp:
            _, obj = self._object({"pa": objp - PAGE_OFFSET})
            got = {"r": obj, "pa": objp - PAGE_OFFSET}
        if cachep.ctor is not None:
            got["ctors"] = self.called["ctors"]
        return got | self._state(cachep)

    def _freed(self, cachep: KmemCache26) -> Line:
        return self._state(cachep) | ({"dtors": self.called["dtors"]} if cachep.dtor is not None else {})

    def _fp(self) -> int:
        assert self.machine is not None
        return self.machine.nr_free_pages()

    def _state(self, cachep: KmemCache26) -> Line:
        got: Line = {"l": self._l(cachep)}
        if cachep.slabp_cache is not None:
            got["lm"] = self._l(cachep.slabp_cache)
        ac = cachep.array
        return got | {"ac": [ac.avail, ac.touched], "fo": cachep.free_objects, "ft": cachep.free_touched, "fp": self._fp()}

    def _reaped(self, cachep: KmemCache26) -> Line:
        return {"name": cachep.name, "next_reap": cachep.next_reap} | self._state(cachep)

    def _l(self, cachep: KmemCache) -> list[int]:
        self._numbers(cachep)
        return [*(len(slabs) for _, slabs in cachep.lists()), cachep.active_objs]

    def _parameters(self, cachep: KmemCache26) -> Line:
        shared = cachep.shared
        return {
            "name": cachep.name,
            "objsize": cachep.objsize,
            "flags": cachep.flags,
            "num": cachep.num,
            "gfporder": cachep.gfporder,
            "gfpflags": cachep.gfpflags,
            "colour": cachep.colour,
            "colour_off": cachep.colour_off,
            "colour_next": cachep.colour_next,
            "slab_size": cachep.slab_size,
            "off_slab": int(cachep.off_slab),
            "limit": cachep.limit,
            "batchcount": cachep.batchcount,
            "free_limit": cachep.free_limit,
            "next_reap": cachep.next_reap,
            "pa": 0 if cachep is self.slab.state.cache_cache else cachep.address - PAGE_OFFSET,
            "shared_limit": shared.limit if shared is not None else 0,
            "slabp_cache": cachep.slabp_cache.name if cachep.slabp_cache else None,
            "ac_pa": cachep.array.address - PAGE_OFFSET,
            "shared_pa": shared.address - PAGE_OFFSET if shared is not None else 0,
        }

    def _caches(self) -> list[Line]:
        return [self._parameters(cachep) for cachep in self.slab.caches() if isinstance(cachep, KmemCache26)]

    def _caches_with_slabs(self) -> list[KmemCache26]:
        return [cachep for cachep in self.slab.caches() if isinstance(cachep, KmemCache26) and cachep.pages]

    def _snap(self) -> Line:
        caches = []
        for cachep in self._caches_with_slabs():
            entry: Line = {"name": cachep.name, "colour_next": cachep.colour_next}
            numbers = self._numbers(cachep)
            text = ""
            shown = 0
            for name, slabs in cachep.lists():
                rows: list[list[int]] = []
                text += name + ":"
                for slab in slabs:
                    pfn = slab.start - PAGE_OFFSET >> PAGE_SHIFT
                    chain = "".join(f"{i}," for i in slab.free_objects())
                    text += f"{numbers[slab]}@{pfn}+{slab.colouroff}({chain})"
                    if shown < MAX_SHOWN:
                        rows.append([numbers[slab], slab.inuse, pfn, slab.colouroff])
                    shown += 1
                text += "\n"
                entry[name] = rows
            ac = cachep.array
            entries = [".".join(map(str, self._object({"pa": objp - PAGE_OFFSET})[1])) for objp in ac.entries]
            text += "ac:" + "".join(f"{e}," for e in entries)
            entry |= {"ac": entries, "touched": ac.touched, "fo": cachep.free_objects, "ft": cachep.free_touched}
            caches.append(entry | {"next_reap": cachep.next_reap, "crc": f"{zlib.crc32(text.encode()):08x}"})
        return {"caches": caches, "reclaim_pages": self.slab.slab_reclaim_pages, "fp": self._fp()}

    # -- booting ------------------------------------------------------------------------------

    def _boot(self, line: Line) -> Line:
        given = line["boot"]
        machine = trace_machine(
            integer(given, "mib"),
            integer(given, "kernel_end_pfn") << PAGE_SHIFT,
            integer(given, "highmem_param"),
            kernel_objects=None,
            reclaim=ScriptedReclaim26(),
        )
        boot = boot_allocators(line, machine)
        self.machine, self.handles, self.numbers = machine, {}, {}
        self.slab = slab = SlabAllocator26()
        slab.attach(machine)
        slab.kmem_cache_init()
        fp = machine.nr_free_pages()
        machine.boot_step("init_per_zone_pages_min")
        return {
            **{k: line[k] for k in ("op", "name", "mib", "seed") if k in line},
            "boot": boot,
            "init": {
                "slab_break_gfp_order": slab.state.slab_break_gfp_order,
                "offslab_limit": slab.state.offslab_limit,
                "sizeof_slab": SIZEOF_SLAB_T,
                "sizeof_kmem_cache_t": slab.SIZEOF_KMEM_CACHE_T,
                "sizeof_array_cache": SIZEOF_ARRAY_CACHE,
                "L1_CACHE_BYTES": L1_CACHE_BYTES,
                "cache_line_size": L1_CACHE_BYTES,
                "fp": fp,
                "reap_delay": FIRST_REAP,
            },
            "caches": self._caches(),
            "zones": zones_state(machine),
            "slabsnap": self._snap(),
        }
