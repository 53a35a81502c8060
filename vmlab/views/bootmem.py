"""The boot memory allocator at work: its bitmap through the boot, request by request, to the hand-over."""

from __future__ import annotations

import re
from typing import Any

import traitlets

from ..hw.e820 import parse_size
from ..machine import Machine
from ..mm.bootmem import BootmemAllocator
from ..trace.recording import Tape
from .base import STATIC, View, css, esm, number
from .bootmem_lab import Recorder, record_boot
from .bootmem_trial import Trial

__all__ = ["Bootmem", "bootmem"]

_WORD = 1 << 32  # sizes and addresses are unsigned longs


class Bootmem(View):
    """The boot bitmap, step by step. ``position`` is the step shown; ``mode`` is "boot", or "trial" when one tries by hand.

    ``steps``, ``owners`` and ``consumers`` are the track that is shown; a trial starts as a copy of the boot allocator at some step.
    """

    _esm = esm("panels") + (STATIC / "bootmem_panels.js").read_text() + (STATIC / "bootmem.js").read_text()
    _css = css("panels") + (STATIC / "bootmem.css").read_text()

    steps: Any = traitlets.List(help="One for each call of the boot allocator, with the bitmap after it.").tag(sync=True)
    owners: Any = traitlets.List(help="Names of the ranges' owners.").tag(sync=True)
    consumers: Any = traitlets.List(help="Who took what, in bytes, at which step.").tag(sync=True)
    zones: Any = traitlets.List(help="Index and name of each zone.").tag(sync=True)
    frames = traitlets.Int(0, help="Frames from 0 to the end of the bitmaps.").tag(sync=True)
    position = traitlets.Int(0, help="The step that is shown.").tag(sync=True)
    mode = traitlets.Enum(["boot", "trial"], "boot").tag(sync=True)
    said = traitlets.Unicode(help="Why a trial could not be made.").tag(sync=True)

    def __init__(self, source: Machine | Tape | int | str = "64M", *, position: int | None = None, **options: Any) -> None:
        if isinstance(source, Tape):
            machine = source.live
        elif isinstance(source, Machine):
            machine = source
        else:
            machine = Machine(source, **options)
        if options and machine is source:
            raise TypeError("options are for a machine to be made from a RAM size, not for one that exists")
        self.boot: Recorder = record_boot(machine)
        self.trial: Trial | None = None
        self._boot_position = 0
        super().__init__()
        self._show(self.boot, 0)
        # Unless told otherwise, begin where the bitmap first shows something: what setup_memory left.
        filled = (i for i, step in enumerate(self.steps) if step["stage"] not in ("setup_memory_region", "setup_memory"))
        self.position = position if position is not None else max(next(filled, 0) - 1, 0)
        self.observe(lambda _: self.refresh(), "position")
        self.on_msg(self._on_message)
        self.refresh()

    @traitlets.validate("position")
    def _inside(self, proposal: Any) -> int:
        return min(max(int(proposal["value"]), 0), max(len(self.steps) - 1, 0))

    # -- trying by hand -----------------------------------------------------------------------

    def _on_message(self, _: Any, message: dict[str, Any], __: Any) -> None:
        what = message.get("do")
        if what == "try":
            try:
                numbers = {name: amount(message.get(name, 0), name) for name in ("size", "align", "goal", "address")}
                self.try_call(message["call"], **numbers)
            except ValueError as error:
                self._say(str(error))
            except Exception as error:  # of a reader's own allocator: nobody sees what is raised behind a button
                self._say(f"Your allocator raised {type(error).__name__}: {error}.")
        elif what == "undo":
            self.undo()
        elif what == "leave":
            self.leave()

    def _say(self, text: str) -> None:
        self.said = text
        self.serial += 1

    def try_call(self, call: str, size: int, align: int = 32, goal: int = 0, address: int = 0) -> dict[str, Any]:
        """Call "alloc", "reserve" or "free" on a copy of the boot allocator, begun at the step shown; returns the new step.

        Sizes and addresses are in bytes. Raises ValueError where there is no boot allocator.
        """
        if self.trial is None:
            self._boot_position = self.position
            self.trial = Trial(self.boot, self.position)
        while self.trial.recorder.steps and self.mode == "trial" and len(self.trial.recorder.steps) > self.position + 1:
            self.trial.back()  # a call made after going back replaces what followed
        self.trial.do(call, size, align, goal, address)
        self.said = ""
        self._show(self.trial.recorder, len(self.trial.recorder.steps) - 1, "trial")
        return dict(self.trial.recorder.steps[-1])

    def undo(self) -> None:
        """Take back the last call of the trial."""
        if self.trial is not None and self.trial.back():
            self._show(self.trial.recorder, len(self.trial.recorder.steps) - 1, "trial")

    def leave(self) -> None:
        """End the trial and show the boot again, where it was left."""
        self.trial = None
        self.said = ""
        self._show(self.boot, self._boot_position, "boot")

    # -- drawing ------------------------------------------------------------------------------

    def _show(self, recorder: Recorder, position: int, mode: str = "boot") -> None:
        several = len(recorder.machine.pgdats) > 1
        with self.hold_sync(), self.hold_trait_notifications():
            self.mode = mode
            self.owners = list(recorder.owners)
            self.consumers = [dict(c) for c in recorder.consumers]
            self.zones = [
                {"index": z.index, "kind": z.name, "name": f"{z.name}, node {z.pgdat.nid}" if several else z.name, "node": z.pgdat.nid}
                for z in self.boot.machine.zones
            ]
            self.steps = [dict(s) for s in recorder.steps]
            self.frames = max((s["end"] for s in recorder.steps), default=0)
            self.position = position
        self.refresh()

    def refresh(self) -> None:
        """Say again what the step shows (the boot itself is over and does not change)."""
        if not self.steps:
            return
        step = self.steps[self.position]
        with self.hold_sync():
            self.text_alternative = in_words(step, self.position, len(self.steps), self.mode, self.owners)
            self.table = in_numbers(self.consumers, self.position)
            self.serial += 1


def amount(value: Any, name: str) -> int:
    """Bytes from what a person types: 28, 4K, 0x1000, 16M. Raises ValueError with a sentence."""
    text = str(value).strip() or "0"
    try:
        number_ = int(text, 0) if re.fullmatch(r"0[xX][0-9a-fA-F]+|\d+", text) else parse_size(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is not an amount: write bytes, such as 28, 4K, 0x1000 or 16M.") from None
    if not 0 <= number_ < _WORD:
        raise ValueError(f"{name} {text}: the kernel's numbers here are unsigned 32-bit, below 4 GiB.")
    return number_


def in_words(step: dict[str, Any], position: int, length: int, mode: str, owners: list[str]) -> str:
    """The step in sentences."""
    what = "Boot" if mode == "boot" else "Trial"
    if not step["ranges"]:
        return f"{what}, step {position + 1} of {length}. {step['text']} There is no boot bitmap yet."
    parts = [f"{number(a)} to {number(b - 1)} {owners[o]}" if b > a + 1 else f"{number(a)} {owners[o]}" for a, b, o in step["ranges"]]
    state = f"{number(step['free'])} pages are free" if step["alive"] else "The bitmap is gone"
    partial = (
        f"; the last allocation ended in frame {number(step['last_pos'])} at offset {number(step['last_offset'])}"
        if step["alive"] and step["last_offset"]
        else ""
    )
    node = f" Node {step['node']}:" if step["node"] else ""
    return f"{what}, step {position + 1} of {length}. {step['text']}{node} {state}{partial}. Frames {'; '.join(parts)}."


def in_numbers(consumers: list[dict[str, Any]], position: int) -> dict[str, Any]:
    """Who has taken what up to this step, as a data table."""
    rows = [
        [c["name"], f"{c['start']:#x}", c["size"], c["start"] >> 12, (c["start"] + c["size"] - 1) >> 12]
        for c in sorted(consumers, key=lambda c: int(c["start"]))
        if c["step"] <= position
    ]
    return {
        "caption": "Who has taken boot memory so far",
        "head": ["consumer", "address", "bytes", "first frame", "last frame"],
        "rows": rows,
    }


def bootmem(
    source: Machine | Tape | int | str = "64M",
    *,
    position: int | None = None,
    bootmem: type[BootmemAllocator] | None = None,
    **options: Any,
) -> Bootmem:
    """Picture of the boot allocator's bitmap through a whole boot, with a place to call it by hand.

    source: a RAM size (further options as for vmlab.boot), or a machine or tape: its configuration and its parts boot again
    to be watched. bootmem: your own class. position: the step to begin with; else the end of setup_memory.
    """
    if bootmem is not None:
        options["bootmem"] = bootmem
    return Bootmem(source, position=position, **options)
