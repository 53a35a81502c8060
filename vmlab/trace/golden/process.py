"""Replay of traces of whole machines: processes, files, swap, reclaim, everything at once.

One line is one operation and the state after it. The operations are in process_ops.py (what processes
do) and process_devices.py (files, swap, reclaim); here is what all lines have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ...errors import KernelPanic, TraceError
from .process_boot import BootLine, Build, make_machine
from .process_devices import DEVICE_OPS, DeviceOps
from .process_ops import PROCESS_OPS, ProcessOps
from .process_state import FILE_IO, SWAP, SWAP_CRC, SWAP_IO, StateDump, has_full_swap, mask_of, mask_of_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...machine import Machine
    from ...mm.task import Task

Line = dict[str, Any]

DIED = -1009  # ret of an operation in which its process died
NO_END = {"oom", "vme", "badness", "selbad", "state"}  # the end-of-operation turn of disks, kswapd and the killed is left out
_OPS = PROCESS_OPS | DEVICE_OPS
_I64 = 1 << 63
M32 = 0xFFFFFFFF


def signed32(value: int) -> int:
    """A result as the traces print it."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class Known(NamedTuple):
    """Which of the silent bits of the mask have shown themselves: None while nobody can tell."""

    swap_io: bool | None = None
    file_io: bool | None = None
    full_swap: bool | None = None


class Masks(NamedTuple):
    """How a line shows which bits of the dump mask are on."""

    of_line: Callable[[Line], int]
    of_process: Callable[[Line], int]
    full_swap: Callable[[Line], bool]


class ProcessReplay(ProcessOps, DeviceOps):
    """One machine for the whole file, booted by its first operation.

    The traces do not print when their dump mask was set. It is off at first; the first line with any state shows
    it (the header tells it as well, in newer traces). The two bits for I/O logs, silent when nothing was
    transferred, show themselves with the first transfer, a full list of swap slots with the first area in use.
    """

    OPS: ClassVar[dict[str, tuple[int, int]]] = _OPS
    masks: ClassVar[Masks] = Masks(mask_of, mask_of_process, has_full_swap)
    dump: StateDump

    def __init__(self, header: Line) -> None:
        self.build = Build(header)
        self.subsystem = header["subsystem"]
        self.announced: int | None = header.get("dump_mask")
        if self.announced is not None and type(self.announced) is not int:
            raise TraceError("dump_mask must be a whole number")
        self.mask: int | None = None
        self.process_mask: int | None = None
        self.known = Known()
        self.written = 1  # what the next stores of `range` and `tl` are told apart by
        self.booted = False

    def __call__(self, line: Line) -> Line:
        op = line.get("op")
        if not isinstance(op, list) or not op or not isinstance(op[0], str) or any(type(x) is not int for x in op[1:]):
            raise TraceError("an operation is a name and whole numbers")
        if any(not -_I64 <= x < 2 * _I64 for x in op[1:]):
            raise TraceError("an operand has more than 64 bits")
        name, args = op[0], op[1:]
        if name == "boot":
            return {"op": op} | self._boot(args)
        if not self.booted:
            raise TraceError("the first operation must be boot")
        if name not in self.OPS:
            raise TraceError(f"unknown operation {name!r}")
        least, most = self.OPS[name]
        if not least <= len(args) <= most:
            raise TraceError(f"{name} takes {least if least == most else f'{least} to {most}'} numbers, not {len(args)}")
        return {"op": op} | self._operate(line, name, args)

    def _boot(self, args: list[int]) -> Line:
        if self.booted:
            raise TraceError("the machine is on already")
        if not 3 <= len(args) <= 4:
            raise TraceError("boot takes MiB, the kernel's end in KiB, the I/O mode and perhaps MiB of high memory")
        self.machine: Machine = make_machine(self.build, *args)
        boot = BootLine(self.build, self.machine)
        self.dump = StateDump(self.machine, 3 if self.build.whole else 2)
        self.files = self.dump.files
        self.machine.block.log = True
        self.booted = True
        self.machine.init_task.cap_effective = M32
        return boot.fields(self.dump)

    # -- one operation ------------------------------------------------------------------------

    def _operate(self, line: Line, name: str, args: list[int]) -> Line:
        machine = self.machine
        sched = machine.sched
        sched.begin_op()
        machine.block.io_log.clear()
        machine.block.fio_log.clear()
        said = len(machine.console)
        task = None if name == "new" else self._subject(name, args)
        if name in self.ABOUT_A_PROCESS and task is None:
            return {"dead": 1}
        self.alive = True
        handler = getattr(self, f"op_{name}")
        got: Line
        log = ""
        panic = False
        try:
            if task is None:
                got = dict(handler(*args))
            else:
                with machine.running(task):
                    got = dict(handler(task, *args[1:]))
        except KernelPanic as error:
            got, panic = {"panic": 1}, True
            log = f"panic: {error.text}|"
        if not panic and name not in NO_END:
            if task is None or name == "exit":
                sched.end_of_op()
            else:
                with machine.running(task):
                    sched.end_of_op()
        if sched.selfkill:
            got["selfkill"] = sched.selfkill[0]
        if sched.killed:
            got["killed"] = list(sched.killed)
        if task is not None and name != "exit" and "ret" in got and sched.tasks.get(task.pid) is not task:
            got["ret"] = DIED
        if "ret" in got:
            got["ret"] = signed32(got["ret"])
        log = "".join(_logged(text) for text in machine.console[said:]) + log
        if log:
            got["log"] = log
        if name == "state":
            return got
        shown = sched.tasks.get(args[1]) if name == "fork" and len(args) > 1 else self._subject(name, args)
        return got | self._state(line, shown if name in self.SHOWS_A_PROCESS else None)

    def _subject(self, name: str, args: list[int]) -> Task | None:
        """The process that the operation is about, if it lives."""
        if name not in self.SHOWS_A_PROCESS or not args:
            return None
        return self.machine.sched.tasks.get(args[0])

    def _state(self, line: Line, task: Task | None) -> Line:
        """What the mask asks for. While the mask is not known, the line shows it."""
        if self.mask is None:
            seen = self.masks.of_line(line)
            about_process = self.masks.of_process(line)
            if self.announced is not None and seen:
                self.mask, self.process_mask = self.announced, self.announced
                self.known = Known(bool(self.announced & SWAP_IO), bool(self.announced & FILE_IO), bool(self.announced & SWAP))
            elif seen & ~about_process:
                self.mask = seen & ~about_process
        if self.process_mask is None and task is not None:
            about_process = self.masks.of_process(line)
            if about_process or self.mask is not None:
                self.process_mask = about_process
        if self.mask is not None and self.known.full_swap is None and any(a.swap_map is not None for a in self.machine.swapfile.swap_info):
            self.known = self.known._replace(full_swap=self.masks.full_swap(line))
            if self.known.full_swap:
                self.mask = self.mask & ~SWAP_CRC | SWAP
        mask, process_mask = self.mask or 0, self.process_mask or 0
        got = self.dump.dump(mask | process_mask if task is not None else mask, task)
        if mask:
            self._io(line, got)
        return got

    def _io(self, line: Line, got: Line) -> None:
        """The logs of what was transferred in this operation."""
        block = self.machine.block
        if block.io_log:
            if self.known.swap_io is None:
                self.known = self.known._replace(swap_io="io" in line)
            if self.known.swap_io:
                got["io"] = list(block.io_log)
        if block.fio_log:
            if self.known.file_io is None:
                self.known = self.known._replace(file_io="fio" in line)
            if self.known.file_io:
                got["fio"] = [list(entry) for entry in block.fio_log]


def _logged(text: str) -> str:
    """What printk said, as the traces write it."""
    return text.replace("\n", "|").rstrip("|") + "|"
