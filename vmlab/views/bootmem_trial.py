"""The boot allocator called by hand, for the boot memory picture."""

from __future__ import annotations

import zlib

from ..errors import KernelBug, KernelHang
from .bootmem_lab import FREE, Ranges, Recorder, paint


class Trial:
    """The boot allocator of a step of the boot, on a machine of its own, to call by hand."""

    def __init__(self, recorder: Recorder, at: int) -> None:
        node, saved = recorder.states[at]
        if saved is None:
            raise ValueError("There is no boot allocator at this step: go to one between init_bootmem and the retirement.")
        step = recorder.steps[at]
        self.machine = recorder.machine.twin()
        self.recorder = Recorder(self.machine)
        self.recorder.owners = list(recorder.owners)
        self.recorder.node = node
        self.recorder.consumers = [dict(c, step=0) for c in recorder.consumers if c["step"] <= at and c["node"] == node]
        pgdat = self.machine.pgdats[node]
        self.machine.pgdat_list.append(pgdat)
        self.bdata = bdata = pgdat.bdata
        packed, bdata.node_boot_start, bdata.node_low_pfn, bdata.map_pa, bdata.last_pos, bdata.last_offset = saved
        bdata.map = bytearray(zlib.decompress(packed))
        self.recorder.stage = step["stage"]
        self.recorder.add("start", f"A copy of the boot allocator as it stood after: {step['text']}", [])
        self._start: Ranges = step["ranges"]

    def do(self, what: str, size: int, align: int = 32, goal: int = 0, address: int = 0) -> None:
        """Call alloc, reserve or free; errors of the kernel become a step too."""
        bootmem = self.machine.bootmem
        mine = sum(c["name"].startswith("yours") for c in self.recorder.consumers)
        try:
            if what == "alloc":
                bootmem.alloc_bootmem_core(self.bdata, size, align, goal)
            elif what == "reserve":
                bootmem.reserve_bootmem_core(self.bdata, address, size)
            elif what == "free":
                bootmem.free_bootmem_core(self.bdata, address, size)
            else:
                raise ValueError(f"no call {what!r}: alloc, reserve or free")
        except (KernelBug, KernelHang):
            pass  # the recorder has made a step of it
        last = self.recorder.steps[-1]
        if last["kind"] == "alloc":
            self.recorder.consumers[last["consumer"]]["name"] = f"yours {mine + 1}"
        self._finish()

    def back(self) -> bool:
        """Take the last call back; False when there is none."""
        r = self.recorder
        if len(r.steps) < 2:
            return False
        last = r.steps.pop()
        r.states.pop()
        r.changed.pop()
        r.consumers = [c for c in r.consumers if c["step"] <= len(r.steps) - 1]
        _, saved = r.states[-1]
        packed, _, _, _, self.bdata.last_pos, self.bdata.last_offset = saved
        self.bdata.map = bytearray(zlib.decompress(packed))
        return bool(last)

    def _finish(self) -> None:
        self.recorder.steps[0]["ranges"] = self._start
        now = self._start
        r = self.recorder
        for step, done in list(zip(r.steps, r.changed, strict=True))[1:]:
            for a, b, bit in done:
                if not bit:
                    now = paint(now, a, b, FREE)
                else:
                    now = paint(now, a, b, r.owner("yours" if step["kind"] == "alloc" else "reserved by hand"))
            step["ranges"] = now
            if step["kind"] == "alloc":
                r.consumers[step["consumer"]]["group"] = "yours"
                step["text"] = r.alloc_text(step)
