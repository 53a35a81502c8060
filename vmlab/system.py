"""What people do with a whole machine: processes, files, swap, kernel memory. Every operation here is recorded.

An operation is a call from outside: it begins, the kernel does it, and at its end disks finish, kswapd
runs if it was woken, and processes that were killed exit.
"""

from __future__ import annotations

import functools
import inspect
import os
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from .errors import ProcessGone, Signalled
from .hw.disk import FileDisk
from .hw.e820 import parse_size
from .hw.layout import PAGE_SHIFT, PAGE_SIZE
from .looking import Looking
from .mm import tmpfs
from .mm.gfp import GFP_KERNEL
from .mm.page import Page
from .mm.slab_misuse import why_not_free
from .mm.swap_header import write_header
from .mounted import BY_NAME, Mounted, read_whole, write_whole
from .process import Address, Errno, Process
from .syscalls import SYSCALLS, Result

if TYPE_CHECKING:
    from .machine import Machine
    from .mm.task import Task

__all__ = ["System"]

P = ParamSpec("P")
R = TypeVar("R")
HEAP_START = 0x0804A000  # where the heap of a process without a program begins
_32_BIT = {"brk", "mmap", "munmap", "mprotect", "mremap", "mlock", "munlock", "mlockall", "madvise", "msync", "mincore"}
_TASK_FIELDS = ("uid", "euid", "gid", "egid", "nice", "cap_effective", "utime", "stime", "start_time")
STACK_PAGES = 2  # of a process without a program: what its arguments take


def _for_ever(value: Any) -> Any:
    """An argument as a recording keeps it: nobody can change it, and it means the same on another machine."""
    if isinstance(value, Page):
        return value.pfn
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value[:] if isinstance(value, (list, array)) else value


def whole(value: Any, what: str) -> int:
    """*value*, if it is a whole number. Raises TypeError."""
    if not isinstance(value, int):
        raise TypeError(f"{what}={value!r}: a whole number")
    return value


def op(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """An operation of a whole machine: refused without processes, recorded, and brought to its end."""
    name = method.__name__

    @functools.wraps(method)
    def operation(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.config.kernel_objects is None:
            raise ValueError(f"{name}: this machine was booted with the page allocator only; boot it with kernel_objects='ram'")
        if not self.ready:
            raise ValueError(f"{name}: the machine is not up yet: use vmlab.boot(), or power_on() first")
        if self.tape is not None:
            given = tuple(map(_for_ever, args))
            self.tape.begin(name, (*given, {key: _for_ever(value) for key, value in kwargs.items()}) if kwargs else given)
        self.sched.begin_op()
        try:
            return method(self, *args, **kwargs)
        finally:
            if not self.interrupted:
                self.sched.end_of_op()

    operation.__dict__["is_operation"] = True
    return cast("Callable[Concatenate[Any, P], R]", operation)


def _check_arguments(name: str, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Raises TypeError that says how system call *name* is called, if *args* are too many or too few."""
    signature = inspect.signature(call)
    try:
        signature.bind(None, *args)
    except TypeError:
        parameters = list(signature.parameters.values())[1:]
        wanted = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)
        raise TypeError(f"system call {name} takes ({wanted}), not {len(args)} arguments") from None


class System(Looking):
    """A kernel with processes."""

    # -- processes -----------------------------------------------------------------------------

    def _me(self) -> Machine:
        return cast("Machine", self)

    def _task(self, pid: int) -> Task:
        task = self.sched.tasks.get(pid)
        if task is None:
            raise ProcessGone(pid)
        return task

    @op
    def spawn(self, comm: str = "task", program: str | None = None, uid: int = 1000) -> Process:
        """A new process with an empty heap and a small stack, or running *program* (an ELF file of this machine).

        *uid* 0 is root, with every capability. Raises OSError when there is no memory for it or the program cannot be loaded.
        """
        if not isinstance(comm, str) or whole(uid, "uid") < 0:
            raise ValueError(f"spawn({comm!r}, uid={uid!r}): a name, and a user number from 0 on")
        pid = self.sched.get_pid()
        task = self.fork.new_task(pid, comm)
        if task is None:
            raise OSError(12, "no memory for a new process")
        task.uid = task.euid = uid
        if not uid:
            task.cap_effective = self.init_task.cap_effective
        with self.running(task):
            if program is None:
                mm = task.mm
                assert mm is not None
                mm.start_code = mm.end_code = mm.start_data = mm.end_data = mm.start_brk = mm.brk = HEAP_START
                mm.start_stack = self.fork.setup_arg_pages(STACK_PAGES)
            else:
                ret = SYSCALLS["execve"](self._me(), program)
                if ret:
                    self.fork.exit_task(task)
                    raise OSError(-int(cast(int, ret)), f"{program}: {Errno(cast(int, ret))!r}")
        return Process(self._me(), pid)

    def process(self, pid: int) -> Process:
        """The process with number *pid*. Raises ProcessGone when there is none."""
        self._task(pid)
        return Process(self._me(), pid)

    @property
    def processes(self) -> list[Process]:
        """All processes, oldest first."""
        return [Process(self._me(), pid) for pid in self.sched.tasks] if self.config.kernel_objects is not None else []

    @op
    def syscall(self, pid: int, name: str, *args: Any) -> Result:
        """System call *name* of process *pid* (see vmlab.syscalls): what the kernel returns."""
        call = SYSCALLS.get(name)
        if call is None:
            raise ValueError(f"no system call {name!r}; there are {', '.join(SYSCALLS)}")
        if name in _32_BIT:
            for value in args[:5]:  # not mmap's offset, which is cut into pages first
                if not isinstance(value, int) or not -(1 << 31) <= value < 1 << 32:
                    raise ValueError(f"{name}: {value!r} does not fit a register of the i386: whole numbers of 32 bits")
        with self.running(self._task(pid)):
            try:
                return call(self._me(), *args)
            except TypeError:
                _check_arguments(name, call, args)
                raise

    @op
    def exit(self, pid: int) -> None:
        """Process *pid* ends."""
        task = self._task(pid)
        with self.running(task):
            self.fork.exit_task(task)

    @op
    def set_task(self, pid: int, /, **fields: int) -> None:
        """Set what a task is: uid, euid, gid, egid, nice, cap_effective; utime, stime, start_time (jiffies). Badness looks at them."""
        task = self._task(pid)
        for name, value in fields.items():
            if name not in _TASK_FIELDS:
                raise ValueError(f"set_task: {name!r} cannot be set; {', '.join(_TASK_FIELDS)} can")
            if not (-20 <= whole(value, name) <= 19 if name == "nice" else 0 <= whole(value, name) < 1 << 32):
                raise ValueError(f"set_task: {name}={value}: {'from -20 to 19' if name == 'nice' else 'a number of 32 bits'}")
        for name, value in fields.items():
            setattr(task, name, value)

    # -- a process's memory --------------------------------------------------------------------

    def _signal(self, task: Task, signal: int, address: int) -> Signalled:
        info = task.siginfo
        return Signalled(task.pid, signal, str(info) if info is not None else f"signal {signal} at {address:#010x}")

    @op
    def touch(self, pid: int, address: int, write: int = 0, value: int | None = None, esp: int | None = None) -> int:
        """One access of process *pid* to a word; returns the page faults. Raises Signalled.

        With *esp*, its stack pointer, an access below esp - 32 bytes does not grow the stack.
        """
        if not 0 <= whole(address, "address") < 1 << 32:
            raise ValueError(f"address {address:#x}: an i386 address has 32 bits")
        task = self._task(pid)
        ret = self.mmu.touch(task, address, write, esp, value)
        if ret < 0:
            raise self._signal(task, -ret, address)
        return ret

    @op
    def touch_list(self, pid: int, references: list[int]) -> int:
        """Many accesses: each is page number << 1 | write. Returns the page faults. Raises Signalled."""
        task = self._task(pid)
        if len(references) and not 0 <= min(references) <= max(references) < 1 << 21:
            raise ValueError("references are page number << 1 | write; page numbers of the i386 have 20 bits")
        ran = self.mmu.run(task, references)
        if ran.signal:
            raise self._signal(task, ran.signal, references[ran.touches] >> 1 << PAGE_SHIFT)
        if ran.touches < len(references) or pid not in self.sched.tasks:
            raise Signalled(pid, 9, f"SIGKILL: it was killed after {ran.touches} of {len(references)} accesses")
        return ran.faults

    def _spans(self, address: int, length: int) -> list[tuple[int, int]]:
        if length < 0 or not 0 <= address <= (1 << 32) - length:
            raise ValueError(f"{length} bytes at {address:#x}: addresses go from 0 to 0xffffffff")
        spans = []
        while length:
            n = min(length, PAGE_SIZE - (address & PAGE_SIZE - 1))
            spans.append((address, n))
            address, length = address + n, length - n
        return spans

    @op
    def user_read(self, pid: int, address: int, length: int) -> bytes:
        """*length* bytes of process *pid*'s memory, with the page faults that takes. Raises Signalled."""
        task = self._task(pid)
        data = b""
        for at, n in self._spans(address, length):
            if self.mmu.touch(task, at) < 0:
                raise self._signal(task, self._last_signal(task), at)
            assert task.mm is not None
            frame = self.mmu.translate(task.mm, at, False, True)
            data += self.ram.read((frame << PAGE_SHIFT) + (at & PAGE_SIZE - 1), n)
        return data

    @op
    def user_write(self, pid: int, address: int, data: bytes | str) -> int:
        """Write *data* (text is hexadecimal, as recordings keep it); returns the page faults. Raises Signalled."""
        if isinstance(data, str):
            data = bytes.fromhex(data)
        task = self._task(pid)
        done = faults = 0
        for at, n in self._spans(address, len(data)):
            took = self.mmu.touch(task, at, 1)
            if took < 0:
                raise self._signal(task, -took, at)
            faults += took
            assert task.mm is not None
            frame = self.mmu.translate(task.mm, at, True, True)
            self.ram.write((frame << PAGE_SHIFT) + (at & PAGE_SIZE - 1), data[done : done + n])
            done += n
        return faults

    def _last_signal(self, task: Task) -> int:
        return task.siginfo.signo if task.siginfo is not None else 9

    # -- files and disks -----------------------------------------------------------------------

    @op
    def create_file(self, name: str, data: bytes | str | int = b"") -> None:
        """A file of the simple file system that holds *data* (or so many zero bytes; text is hexadecimal)."""
        if not isinstance(name, str):
            raise TypeError(f"name={name!r}: text")
        self.diskfs.create(name, bytes.fromhex(data) if isinstance(data, str) else data)

    @op
    def import_file(self, name: str, path: str) -> None:
        """A file with the contents of the host's file *path*."""
        self.diskfs.create_from_host(name, path)

    @op
    def remove_file(self, name: str) -> int:
        """Take a file's name away; it lives on while a process uses it."""
        ret = self.diskfs.unlink(name)
        return Errno(ret) if ret < 0 else ret

    def files(self) -> list[tuple[str, int, int]]:
        """(name, bytes, pages cached) of every file."""
        return self.diskfs.listing()

    @op
    def mount_tmpfs(self, options: str = "", name: str = "/dev/shm") -> int:
        """Mount a file system in memory; *options* as mount -o takes them: "size=8m,nr_inodes=1k"."""
        ret = tmpfs.mount(self, options, name)
        return Errno(ret) if isinstance(ret, int) else 0

    def tmpfs(self, name: str = "/dev/shm") -> Mounted:
        """The file system mounted as *name*, to work with by path; each call is an operation. Raises ValueError when there is none."""
        if name not in self.shmem.mounts:
            raise ValueError(f"no tmpfs is mounted as {name!r}: mount_tmpfs(name={name!r}) does it; there are {list(self.shmem.mounts)}")
        return Mounted(self._me(), name)

    @op
    def tmpfs_call(self, name: str, method: str, *args: Any) -> Any:
        """A call of :class:`~vmlab.mounted.Mounted`, as it is recorded: what the file system *name* returns, failures negative."""
        if name not in self.shmem.mounts or method not in (*BY_NAME, "read_file", "write_file"):
            known = f"one of {', '.join(BY_NAME)}, read_file, write_file"
            raise ValueError(f"tmpfs_call({name!r}, {method!r}): a file system that is mounted, and {known}")
        fs = tmpfs.Tmpfs(self, name)
        if method == "read_file":
            return read_whole(fs, *args)
        return write_whole(fs, *args) if method == "write_file" else getattr(fs, method)(*args)

    @op
    def add_swap(self, size: int | str | None = None, path: str | None = None, priority: int | None = None) -> int:
        """Make and switch on a swap area: *size* of a disk in memory, or the host's file *path* with its own header.

        Returns the number of its disk, or an Errno. What is swapped out goes into the file with :meth:`commit`.
        """
        if priority is not None and not 0 <= whole(priority, "priority") <= 0x7FFF:
            raise ValueError(f"priority={priority}: 0 to 32767 (the kernel gives the negative ones itself)")
        number = next(i for i in range(len(self.block.disks) + 1) if i not in self.block.disks)
        if path is not None:
            self.block.add_disk(number, FileDisk(path, path))
        else:
            pages = parse_size(size if size is not None else "64M") >> PAGE_SHIFT
            if pages < 10:
                raise ValueError(f"size={size!r}: a swap area has at least 10 pages, 40 KiB")
            disk = self.block.add_disk(number, pages)
            disk.write_page(0, write_header(2, 1, pages - 1))
        flags = 0 if priority is None else 0x8000 | priority
        ret = self.swapfile.sys_swapon(number, flags)
        if ret:
            self.block.remove_disk(number)
        return Errno(ret) if ret < 0 else number

    @op
    def swapon(self, disk: int, flags: int = 0) -> int:
        """swapon(2) of a disk by number."""
        ret = self.swapfile.sys_swapon(disk, flags)
        return Errno(ret) if ret < 0 else ret

    @op
    def swapoff(self, disk: int) -> int:
        """swapoff(2): everything in the area comes back to memory."""
        ret = self.swapfile.sys_swapoff(disk)
        return Errno(ret) if ret < 0 else ret

    # -- the kernel's own memory ---------------------------------------------------------------

    @op
    def vmalloc(self, size: int, gfp_mask: int | None = None) -> int:
        """*size* bytes of kernel memory, contiguous only in addresses; 0 on failure. kernel: include/linux/vmalloc.h:vmalloc"""
        space = self.vmalloc_space
        whole(size, "size")
        return Address(space.vmalloc(size) if gfp_mask is None else space.vmalloc_pages(size, gfp_mask))

    @op
    def vfree(self, address: int) -> None:
        """Free what vmalloc returned. Of any other address the kernel only complains on the console (m.console).

        kernel: mm/vmalloc.c:vfree
        """
        self.vmalloc_space.vfree(whole(address, "address"))

    @op
    def kmalloc(self, size: int, gfp_mask: int = GFP_KERNEL) -> int:
        """*size* bytes from the sizes cache; 0 on failure. kernel: mm/slab.c:kmalloc"""
        return Address(self.slab.kmalloc(whole(size, "size"), gfp_mask))

    @op
    def kfree(self, address: int) -> None:
        """Free what kmalloc returned; 0 is ignored. kernel: mm/slab.c:kfree

        Raises ValueError for what is no object in use (the kernel would damage its slab without a word; m.slab.kfree does),
        and KernelBug where the kernel notices: for an address in no slab, and with a slab allocator that looks
        (parts={"slab": vmlab.mm.slab_debug.DebugSlabAllocator}).
        """
        if address:
            self._refuse_bad_free(whole(address, "address"))
        self.slab.kfree(address)

    def _refuse_bad_free(self, address: int, cache: str | None = None) -> None:
        why = why_not_free(self.slab, address, cache)
        if why is not None:
            raise ValueError(why)

    @op
    def kmap(self, page: Page | int) -> int:
        """A kernel address for a page, of high memory too. kernel: include/asm-i386/highmem.h:kmap"""
        return Address(self.highmem.kmap(self._me().page(page.pfn if isinstance(page, Page) else page).pfn))

    @op
    def kunmap(self, page: Page | int) -> None:
        """Give the mapping back. Raises KernelBug for a high page that has none. kernel: include/asm-i386/highmem.h:kunmap"""
        self.highmem.kunmap(self._me().page(page.pfn if isinstance(page, Page) else page).pfn)

    # -- time and settings ---------------------------------------------------------------------

    @op
    def tick(self, jiffies: int = 1) -> None:
        """Let time pass, in jiffies: of 10 ms in 2.4, of 1 ms in 2.6, whose slab caches are tidied when that is due."""
        if whole(jiffies, "jiffies") < 0:
            raise ValueError("time only goes forward")
        self.sched.jiffies += jiffies
        self.slab.run_timer()

    @op
    def overcommit(self, mode: int) -> None:
        """vm.overcommit_memory: 0 refuses what cannot be there, 1 never refuses."""
        if mode not in (0, 1):
            raise ValueError(f"mode={mode!r}: 0 or 1 in Linux 2.4")
        self.mmap.sysctl_overcommit_memory = mode
