"""Machines with processes, for the tests of the process side of the core."""

from __future__ import annotations

from typing import Any

import vmlab
from vmlab.mm.task import Task


def machine(ram: str = "16M", **options: Any) -> vmlab.Machine:
    """A small booted machine with kernel objects outside RAM."""
    options.setdefault("kernel_objects", "outside")
    return vmlab.Machine(ram, **options).power_on()


def new_task(m: vmlab.Machine, pid: int = 1) -> Task:
    """A process with an empty address space."""
    task: Task | None = m.fork.new_task(pid)
    assert task is not None
    return task
