"""Two processes that are given the same calls: a real one on this Linux, and one of the model."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Signalled
from ..machine import Machine
from ..process import Process
from . import hostchild

__all__ = ["HostProcess", "ModelProcess", "NotHere", "Run", "WINDOWS"]

PAGE = 4096
ADDR_NO_RANDOMIZE = 0x40000
FILE_BYTES = 5 * PAGE + 100
FDS = {"ro": os.O_RDONLY, "rw": os.O_RDWR, "wo": os.O_WRONLY}
BAD_FD = 999
HEAP = 0x0804A000  # where the model's heap begins
HEAP_PAGES = 600
# Where both processes put things, and compare: first address, pages. The second is where either kernel chooses to.
WINDOWS = ((0x10000000, 1024), (0x40000000, 8192))
NUMBERS = {"mmap": 9, "mprotect": 10, "munmap": 11, "mremap": 25}  # x86-64
MAP_32BIT = 0x40

Run = tuple[int, int, int]  # first address, end, rights: 1 readable, 2 writable, 4 executable


class NotHere(Exception):
    """This system is none to compare with: the reason, for people."""


class Result(NamedTuple):
    """What a call returned: a value, or an errno."""

    value: int
    errno: int

    def __str__(self) -> str:
        return f"errno {self.errno}" if self.errno else f"{self.value:#x}"


def merge(runs: list[Run]) -> list[Run]:
    """Neighbours with the same rights become one: how a kernel cuts its areas is not compared."""
    merged: list[Run] = []
    for start, end, rights in runs:
        if merged and merged[-1][1] == start and merged[-1][2] == rights:
            merged[-1] = (merged[-1][0], end, rights)
        else:
            merged.append((start, end, rights))
    return merged


def clip(runs: list[Run], first: int, pages: int) -> list[Run]:
    """What of *runs* lies in a window."""
    last = first + pages * PAGE
    return [(max(start, first), min(end, last), rights) for start, end, rights in runs if end > first and start < last]


class HostProcess:
    """A process of this machine, made for the purpose. Close it after use. Raises NotHere where that cannot be."""

    def __init__(self, directory: Path) -> None:
        if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
            raise NotHere(f"hostdiff needs 64-bit Linux on x86, this is {sys.platform} on {platform.machine()}")
        path = directory / "data"
        path.write_bytes(bytes(FILE_BYTES))
        self.fds = {name: os.open(path, flags) for name, flags in FDS.items()}
        zero = os.open("/dev/zero", os.O_RDONLY)
        (request_end, self.requests), (self.answers, answer_end) = os.pipe(), os.pipe()
        inherited = (request_end, answer_end, zero, *self.fds.values())
        libc = ctypes.CDLL(None, use_errno=True)
        self.child = subprocess.Popen(
            [sys.executable, "-I", "-S", hostchild.__file__, str(request_end), str(answer_end), str(zero)],
            pass_fds=inherited,
            env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.top_pad=67108864"},  # malloc is to leave the break alone
            preexec_fn=lambda: libc.personality(ADDR_NO_RANDOMIZE),
        )
        for fd in (request_end, answer_end, zero):
            os.close(fd)
        self.maps_path = f"/proc/{self.child.pid}/maps"
        try:
            self.heap = self.ask(hostchild.BRK, 0, 0, 1).value
            runs = self.areas()
        except OSError as error:
            self.close()
            raise NotHere(f"the child process cannot be used here: {error}") from None
        # A sandbox may refuse that personality; addresses chosen by the kernel then cannot be foretold.
        self.exact = self._chooses_lowest()
        for first, pages in WINDOWS:
            if clip(runs, first, pages):
                self.close()
                raise NotHere(f"something is mapped between {first:#x} and {first + pages * PAGE:#x} in a new process here")

    def _chooses_lowest(self) -> bool:
        ret = self.call("mmap", 0, PAGE, 1, 0x22, None, 0)
        if ret.errno:
            raise NotHere(f"mmap fails here: {ret}")
        self.call("munmap", ret.value, PAGE)
        return ret.value == WINDOWS[1][0]

    def ask(self, what: int, *words: int) -> Result:
        """One request and its answer. Raises OSError when the child is gone."""
        os.write(self.requests, hostchild.REQUEST.pack(what, *words, *[0] * (7 - len(words))))
        answer = os.read(self.answers, hostchild.ANSWER.size)
        if len(answer) < hostchild.ANSWER.size:
            raise OSError("the child process has died")
        return Result(*hostchild.ANSWER.unpack(answer))

    def call(self, name: str, *args: Any) -> Result:
        """A system call. For mmap the fifth argument is a key of FDS, None, or a number."""
        words = list(args)
        if name == "mmap":
            words[4] = 0xFFFFFFFFFFFFFFFF if words[4] is None else self.fds.get(words[4], BAD_FD)
            words[3] |= MAP_32BIT  # the search from 0x40000000 upwards, as Linux 2.4 did it
        return self.ask(hostchild.CALL, NUMBERS[name], *words)

    def brk(self, offset: int) -> Result:
        """Move the break to *offset* bytes past its base; errno hostchild.MOVED when the base itself has moved."""
        ret = self.ask(hostchild.BRK, 0, offset, 0)
        if ret.errno == hostchild.MOVED:
            self.heap = ret.value
        return ret

    def break_moved(self) -> bool:
        """Whether the child's own malloc has moved the break since our last call; then it has a new base."""
        ret = self.ask(hostchild.BRK, 0, 0, 2)
        self.heap = ret.value
        return ret.errno == hostchild.MOVED

    def areas(self) -> list[Run]:
        """Every area the child has, from /proc."""
        found = []
        with open(self.maps_path, "rb") as maps:
            for line in maps.read().splitlines():
                where, rights = line.split(b" ", 2)[:2]
                start, end = where.split(b"-")
                found.append((int(start, 16), int(end, 16), (rights[0] == 114) | (rights[1] == 119) << 1 | (rights[2] == 120) << 2))
        return found

    def probe(self, first: int, pages: int) -> bytes:
        """Which pages can really be read (1) and written (2)."""
        os.write(self.requests, hostchild.REQUEST.pack(hostchild.PROBE, 0, first, pages, 0, 0, 0, 0))
        found = b""
        while len(found) < pages:
            more = os.read(self.answers, pages - len(found))
            if not more:
                raise OSError("the child process has died")
            found += more
        return found

    def close(self) -> None:
        """End the child."""
        with contextlib.suppress(OSError):
            os.write(self.requests, hostchild.REQUEST.pack(hostchild.STOP, *[0] * 7))
        for fd in (self.requests, self.answers, *self.fds.values()):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.child.kill()
        self.child.wait()


class ModelProcess:
    """The same of a machine of ours."""

    def __init__(self) -> None:
        self.machine = Machine("64M", kernel_objects="ram").power_on()
        self.machine.overcommit(1)
        self.machine.create_file("data", FILE_BYTES)
        self.process: Process = self.machine.spawn("hostdiff")
        self.fds = {name: self.process.syscall("open", "data", flags) for name, flags in FDS.items()}

    def call(self, name: str, *args: Any) -> Result:
        """A system call, as HostProcess.call."""
        words = list(args)
        if name == "mmap":
            words[4] = -1 if words[4] is None else self.fds.get(words[4], BAD_FD)
        ret = self.process.syscall(name, *words)
        return Result(-1, -ret) if ret < 0 else Result(ret, 0)

    def brk(self, offset: int) -> Result:
        """Move the break to *offset* bytes past its base."""
        return Result(self.process.syscall("brk", HEAP + offset) - HEAP, 0)

    def areas(self) -> list[Run]:
        """Every area."""
        return [(vma.vm_start, vma.vm_end, vma.vm_flags & 7) for vma in self.process.areas]

    def probe(self, first: int, pages: int) -> bytes:
        """Which pages can really be read (1) and written (2)."""
        touch, pid = self.machine.touch, self.process.pid
        found = bytearray(pages)
        for i in range(pages):
            for write in (0, 1):
                with contextlib.suppress(Signalled):
                    touch(pid, first + i * PAGE, write)
                    found[i] |= 1 + write
        return bytes(found)
