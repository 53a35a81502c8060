"""Replay of 2.6 traces of whole machines: processes, files, swap, reclaim, everything at once.

The frame is 2.4's (process.py); the operations that differ are in v26_ops.py, the state in v26_state.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import TraceError
from . import v26_common as common
from .process import M32, Masks, ProcessReplay
from .v26_ops import DEVICE_OPS26, PROCESS_OPS26, DeviceOps26, ProcessOps26
from .v26_state import StateDump26, has_full_swap, mask_of, mask_of_process

if TYPE_CHECKING:
    from ...mm.fs import Inode

Line = dict[str, Any]


class Process26Replay(ProcessOps26, DeviceOps26, ProcessReplay):  # type: ignore[misc]  # vme is a process's own here
    """One 2.6 machine for the whole file, booted by its first operation."""

    OPS: ClassVar[dict[str, tuple[int, int]]] = PROCESS_OPS26 | DEVICE_OPS26
    masks: ClassVar[Masks] = Masks(mask_of, mask_of_process, has_full_swap)

    def __init__(self, header: Line) -> None:
        if not str(header.get("kernel", "")).startswith("Linux 2.6"):
            raise TraceError("the header of a 2.6 trace names the kernel")
        super().__init__(header)
        self.swap_files: dict[int, Inode] = {}  # by the number of their disk

    def _boot(self, args: list[int]) -> Line:
        if self.booted:
            raise TraceError("the machine is on already")
        self.machine = common.boot26(["boot", *args])
        self.dump = StateDump26(self.machine)
        self.files = self.dump.files
        self.machine.block.log = True
        self.machine.mmap.config_proc_fs = False  # type: ignore[attr-defined]  # as the build that made them
        self.machine.init_task.cap_effective = M32
        self.booted = True
        return {**common.boot_line(self.machine), "c": self.dump.counters()}
