"""A process as people use it: call by call, and byte by byte of its memory.

>>> p = m.spawn("editor")
>>> a = p.mmap(1 << 20)
>>> p.write(a, b"hello")
>>> q = p.fork()
>>> q.write(a, b"HELLO")
>>> p.read(a, 5)
b'hello'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import ProcessGone
from .mm import mmap_view, proc
from .mm.errno import errno_name
from .mm.vm import MAP_ANONYMOUS, MAP_FIXED, MAP_GROWSDOWN, MAP_LOCKED, MAP_PRIVATE, MAP_SHARED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .machine import Machine
    from .mm.mmu_walk import Walk
    from .mm.task import Task
    from .mm.vm import MmStruct, VmArea

__all__ = ["Address", "Errno", "Process"]

_PROT = {"r": 1, "w": 2, "x": 4}
_ADVICE = {"normal": 0, "random": 1, "sequential": 2, "willneed": 3, "dontneed": 4}
_MSYNC = {"async": 1, "invalidate": 2, "sync": 4}


class Errno(int):
    """What a failed system call returned: a small negative number that says its name."""

    @property
    def name(self) -> str:
        """As in errno.h: ``ENOMEM``."""
        return errno_name(int(self))

    def __repr__(self) -> str:
        return f"-{self.name} ({int(self)})"

    __str__ = __repr__


class Address(int):
    """An address that a system call returned, in bytes; printed in hexadecimal."""

    def __repr__(self) -> str:
        return f"{int(self):#010x}"

    __str__ = __repr__


def _result(ret: int, address: bool = False) -> int:
    if ret < 0:
        return Errno(ret)
    return Address(ret) if address else ret


def _bits(given: int | str, names: dict[str, int], what: str) -> int:
    """A set of flags, as a number or in words."""
    if isinstance(given, int):
        return given
    words = list(given) if names is _PROT else given.split("|")
    bad = [word for word in words if word not in names and word not in ("-", "none", "")]
    if bad and given != "none":
        raise ValueError(f"{what}={given!r}: write {', '.join(map(repr, names))}, together if need be, or a number")
    return sum(names[word] for word in words if word in names) if given != "none" else 0


class Process:
    """One process of a machine. Every method that is a system call returns what the kernel does: failures are an :class:`Errno`."""

    __slots__ = ("machine", "pid")

    def __init__(self, machine: Machine, pid: int) -> None:
        self.machine = machine
        self.pid = pid

    # -- looking -------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the process still exists."""
        return self.pid in self.machine.sched.tasks

    @property
    def task(self) -> Task:
        """Its task_struct. Raises ProcessGone after it has exited."""
        try:
            return self.machine.sched.tasks[self.pid]
        except KeyError:
            raise ProcessGone(self.pid) from None

    @property
    def mm(self) -> MmStruct:
        """Its mm_struct."""
        mm = self.task.mm
        if mm is None:
            raise ProcessGone(self.pid)
        return mm

    @property
    def areas(self) -> list[VmArea]:
        """Its memory regions by address."""
        return self.mm.areas()

    @property
    def rss(self) -> int:
        """Pages it has in memory."""
        return self.mm.rss

    @property
    def total_vm(self) -> int:
        """Pages it has mapped."""
        return self.mm.total_vm

    @property
    def min_flt(self) -> int:
        """Page faults that needed no file or swap."""
        return self.task.min_flt

    @property
    def maj_flt(self) -> int:
        """Page faults that asked a file, shared memory or swap for the page."""
        return self.task.maj_flt

    def maps(self) -> str:
        """Its regions, as /proc/PID/maps prints them."""
        return mmap_view.maps(self.mm)

    def tree(self) -> str:
        """The red-black tree of its regions."""
        return mmap_view.tree(self.mm)

    def status(self) -> str:
        """Its sizes, as /proc/PID/status prints them."""
        return proc.status(self.machine, self.task)

    def page_tables(self) -> str:
        """Its page tables in outline: which exist, and how many entries are used."""
        return proc.page_tables(self.machine, self.task)

    def walk(self, address: int, write: bool = False) -> Walk:
        """How the MMU would translate *address*: ``print`` it. Nothing is changed."""
        return self.machine.mmu.walk(self.mm, address, write)

    def frame(self, address: int) -> int | None:
        """The frame that holds *address* now, None when it is not in memory."""
        physical = self.walk(address).physical
        return None if physical is None else physical >> 12

    # -- its memory ----------------------------------------------------------------------------

    def touch(self, address: int, write: bool | int = False, value: int | None = None, esp: int | None = None) -> int:
        """One access to the word at *address*; returns the page faults it took. A write stores *value*, if given.

        Raises Signalled when the access ends in SIGSEGV or SIGBUS (the process lives on), or kills the process.
        """
        return self.machine.touch(self.pid, address, int(write), value, esp)

    def touch_pages(self, address: int, pages: int, write: bool | int = False, step: int = 1) -> int:
        """Touch *pages* pages from *address* on, every *step*-th; returns the page faults. Raises Signalled as :meth:`touch`."""
        first = address >> 12
        return self.machine.touch_list(self.pid, [(first + i * step) << 1 | int(bool(write)) for i in range(pages)])

    def load(self, address: int) -> int:
        """The 32-bit word at *address*, loaded as a program loads it."""
        self.touch(address)
        return self.machine.mmu.loaded

    def store(self, address: int, value: int) -> int:
        """Store a 32-bit word at *address*; returns the page faults it took."""
        return self.touch(address, True, value)

    def read(self, address: int, length: int) -> bytes:
        """*length* bytes of its memory, read as a program reads them: page by page, with the faults that takes."""
        return self.machine.user_read(self.pid, address, length)

    def write(self, address: int, data: bytes) -> int:
        """Write *data* into its memory as a program does; returns the page faults. Raises Signalled as :meth:`touch`."""
        return self.machine.user_write(self.pid, address, data)

    # -- system calls --------------------------------------------------------------------------

    def syscall(self, name: str, *args: Any) -> int:
        """Any system call by name (``vmlab.syscalls.SYSCALLS``): the number it returns."""
        ret = self.machine.syscall(self.pid, name, *args)
        return _result(ret[0] if isinstance(ret, tuple) else ret)

    def mmap(
        self,
        length: int,
        prot: int | str = "rw",
        *,
        addr: int = 0,
        fd: int | None = None,
        offset: int = 0,
        shared: bool = False,
        fixed: bool = False,
        growsdown: bool = False,
        locked: bool = False,
        flags: int = 0,
    ) -> int:
        """Map *length* bytes, anonymous or from *fd* at *offset* (bytes); returns the address. *prot*: "r", "rw", "rx", "none".

        *addr* is a wish, a command with ``fixed=True``.
        """
        flags |= (MAP_SHARED if shared else MAP_PRIVATE) | MAP_FIXED * fixed | MAP_GROWSDOWN * growsdown | MAP_LOCKED * locked
        flags |= MAP_ANONYMOUS if fd is None else 0
        ret = self.machine.syscall(self.pid, "mmap", addr, length, _bits(prot, _PROT, "prot"), flags, -1 if fd is None else fd, offset)
        assert isinstance(ret, int)
        return _result(ret, True)

    def munmap(self, addr: int, length: int) -> int:
        """Unmap [addr, addr + length)."""
        return self.syscall("munmap", addr, length)

    def mprotect(self, addr: int, length: int, prot: int | str) -> int:
        """Change the rights of [addr, addr + length)."""
        return self.syscall("mprotect", addr, length, _bits(prot, _PROT, "prot"))

    def mremap(self, addr: int, old_length: int, new_length: int, *, maymove: bool = True, to: int | None = None) -> int:
        """Grow, shrink or move a mapping; returns where it is now."""
        flags = int(maymove) | (2 if to is not None else 0)
        return _result(self.syscall("mremap", addr, old_length, new_length, flags, to or 0), True)

    def brk(self, address: int = 0) -> int:
        """Move the end of the heap; returns where it is now (ask with 0)."""
        return _result(self.syscall("brk", address), True)

    def mlock(self, addr: int, length: int) -> int:
        """Keep pages in memory."""
        return self.syscall("mlock", addr, length)

    def munlock(self, addr: int, length: int) -> int:
        """Let pages be swapped again."""
        return self.syscall("munlock", addr, length)

    def mlockall(self, current: bool = True, future: bool = False) -> int:
        """Keep everything in memory: what is mapped now, what will be, or both."""
        return self.syscall("mlockall", int(current) | int(future) << 1)

    def munlockall(self) -> int:
        """Undo mlockall."""
        return self.syscall("munlockall")

    def madvise(self, addr: int, length: int, advice: int | str) -> int:
        """Say how memory will be used: "normal", "random", "sequential", "willneed" or "dontneed"."""
        return self.syscall("madvise", addr, length, _bits(advice, _ADVICE, "advice"))

    def msync(self, addr: int, length: int, flags: int | str = "sync") -> int:
        """Write a shared file mapping back: "sync", "async", "invalidate", joined with |."""
        return self.syscall("msync", addr, length, _bits(flags, _MSYNC, "flags"))

    def mincore(self, addr: int, length: int) -> list[bool] | int:
        """Which pages are in memory."""
        ret = self.machine.syscall(self.pid, "mincore", addr, length)
        assert isinstance(ret, tuple)
        return _result(ret[0]) if ret[0] < 0 else [bool(b & 1) for b in ret[1]]

    def fork(self) -> Process:
        """A child with a copy-on-write copy of everything. Raises OSError when the kernel has no memory or no room for one."""
        pid = self.syscall("fork")
        if pid < 0:
            raise OSError(-pid, f"fork failed: {Errno(pid)!r}")
        return Process(self.machine, pid)

    def thread(self) -> Process:
        """One more task that shares this one's memory (clone with CLONE_VM). Raises OSError as :meth:`fork`."""
        pid = self.syscall("clone")
        if pid < 0:
            raise OSError(-pid, f"clone failed: {Errno(pid)!r}")
        return Process(self.machine, pid)

    def exit(self) -> None:
        """End the process."""
        self.machine.exit(self.pid)

    def execve(self, name: str, argv: Sequence[str] = (), envp: Sequence[str] = ()) -> int:
        """Become the program in the file *name*."""
        return self.syscall("execve", name, list(argv) or [name], list(envp))

    def kill(self, pid: int, sig: int = 9) -> int:
        """Send a signal."""
        return self.syscall("kill", pid, sig)

    def setrlimit(self, resource: int, value: int) -> int:
        """Set a limit (RLIMIT_STACK, RLIMIT_AS, ...; vmlab.mm.task)."""
        return self.syscall("setrlimit", resource, value)

    # -- files ---------------------------------------------------------------------------------

    def open(self, name: str, mode: str = "r") -> int:
        """Open a file: "r", "w" (made or emptied), "r+", "a"; returns a descriptor."""
        flags = {"r": 0, "r+": 2, "w": 0o1101, "w+": 0o1102, "a": 0o2101, "a+": 0o2102}.get(mode)
        if flags is None:
            raise ValueError(f"mode={mode!r}: 'r', 'r+', 'w', 'w+', 'a' or 'a+'")
        return self.syscall("open", name, flags)

    def close(self, fd: int) -> int:
        """Close a descriptor."""
        return self.syscall("close", fd)

    def read_file(self, fd: int, count: int) -> bytes | int:
        """Up to *count* bytes from the descriptor's position."""
        ret = self.machine.syscall(self.pid, "read", fd, count)
        assert isinstance(ret, tuple)
        data: bytes = ret[1]
        return _result(ret[0]) if ret[0] < 0 else data

    def write_file(self, fd: int, data: bytes) -> int:
        """Write *data* at the descriptor's position; returns the bytes written."""
        return self.syscall("write", fd, data.hex())

    def seek(self, fd: int, offset: int, whence: int = 0) -> int:
        """Move the descriptor's position."""
        return self.syscall("lseek", fd, offset, whence)

    def truncate(self, fd: int, size: int) -> int:
        """Make the open file *size* bytes long."""
        return self.syscall("ftruncate", fd, size)

    def fsync(self, fd: int) -> int:
        """Write the file's dirty pages to its disk."""
        return self.syscall("fsync", fd)

    # -- System V shared memory ----------------------------------------------------------------

    def shmget(self, key: int, size: int, flags: int = 0o1600) -> int:
        """The identifier of a shared segment; IPC_CREAT (0o1000) makes it."""
        return self.syscall("shmget", key, size, flags)

    def shmat(self, shmid: int, addr: int = 0, flags: int = 0) -> int:
        """Attach a segment; returns its address."""
        return _result(self.syscall("shmat", shmid, addr, flags), True)

    def shmdt(self, addr: int) -> int:
        """Detach the segment at *addr*."""
        return self.syscall("shmdt", addr)

    def shmctl(self, shmid: int, cmd: int = 0) -> int:
        """Control a segment; cmd 0 (IPC_RMID) removes it once nobody has it attached."""
        return self.syscall("shmctl", shmid, cmd)

    # -- itself --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and other.pid == self.pid and other.machine is self.machine

    def __hash__(self) -> int:
        return hash((id(self.machine), self.pid))

    def __str__(self) -> str:
        return self.maps() if self.alive else repr(self)

    def __repr__(self) -> str:
        if not self.alive:
            return f"<Process {self.pid}, gone>"
        task = self.task
        mm = task.mm
        size = f", {mm.map_count} regions, {mm.rss} of {mm.total_vm} pages resident" if mm is not None else ""
        return f"<Process {self.pid} {task.comm}{size}>"


def processes(machine: Machine, pids: Iterable[int]) -> list[Process]:
    """Processes by their pids."""
    return [Process(machine, pid) for pid in pids]
