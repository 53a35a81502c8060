"""The system calls of a process, by name: what ``machine.syscall(pid, name, ...)`` and ``Process`` make.

Each is a function of the machine, whose ``current`` is the calling task, and the call's arguments. It
returns what the kernel returns: 0 or more, or an errno negated; a few return (that, data) instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .mm import tmpfs, vfs
from .mm.errno import EACCES, EBADF, EINVAL, EMFILE, ENOENT, EPERM, ESRCH
from .mm.fork import CLONE_VM
from .mm.fs import FMODE_READ, FMODE_WRITE, O_APPEND, File
from .mm.task import CAP_SYS_RESOURCE, RLIM_NLIMITS, RLIMIT_NOFILE
from .mm.vm import MAP_ANONYMOUS

if TYPE_CHECKING:
    from .machine import Machine
    from .mm.task import Task

__all__ = ["SYSCALLS", "Result"]

Result = int | tuple[int, Any]
O_ACCMODE, O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC = 3, 0, 1, 2, 0o100, 0o200, 0o1000
MAX_COUNT = 0x7FFFFFFF


def _file(task: Task, fd: int) -> File | None:
    """The open file behind a descriptor. kernel: fs/file_table.c:fget"""
    return task.files.get(fd)


def _mmap(m: Machine, addr: int, length: int, prot: int, flags: int, fd: int = -1, offset: int = 0) -> int:
    """mmap(2); *offset* is in bytes. kernel: arch/i386/kernel/sys_i386.c:old_mmap"""
    if offset & 0xFFF:
        return -EINVAL
    file = None
    if not flags & MAP_ANONYMOUS:
        file = _file(m.current, fd)
        if file is None:
            return -EBADF
    return m.mmap.sys_mmap2(file, addr, length, prot, flags, offset >> 12)


def _mincore(m: Machine, start: int, length: int) -> Result:
    """mincore(2); the data is one byte a page."""
    vec = bytearray(max(0, (length & 0xFFFFFFFF) + 0xFFF >> 12))
    ret = m.filemap.sys_mincore(start, length, vec)
    return ret, bytes(vec) if ret == 0 else b""


def _fork(m: Machine) -> int:
    """fork(2): the child's pid."""
    pid = m.sched.get_pid()
    ret = m.fork.do_fork(pid)
    return ret or pid


def _clone(m: Machine, flags: int = CLONE_VM) -> int:
    """clone(2): the new task's pid. CLONE_VM: it shares the caller's memory. kernel: arch/i386/kernel/process.c:sys_clone"""
    if flags & ~CLONE_VM:
        return -EINVAL  # the other CLONE_ flags share what this machine does not have
    pid = m.sched.get_pid()
    return m.fork.do_fork(pid, flags) or pid


def _open(m: Machine, name: str, flags: int = O_RDONLY, mode: int = 0o644) -> int:
    """open(2): a name of the simple file system, or one below a mounted tmpfs ("/dev/shm/...")."""
    task = m.current
    fd = next(i for i in range(len(task.files) + 1) if i not in task.files)
    if fd >= min(1024, task.rlim[RLIMIT_NOFILE]):
        return -EMFILE
    page = m.file_table.getname()
    for mount in m.shmem.mounts:
        if name.startswith(mount + "/"):
            file = tmpfs.Tmpfs(m, mount).open(name[len(mount) :], flags, mode)
            break
    else:
        file = _open_diskfs(m, name, flags)
    m.file_table.putname(page)
    if isinstance(file, int):
        return file
    task.files[fd] = file
    return fd


def _open_diskfs(m: Machine, name: str, flags: int) -> File | int:
    access = (FMODE_READ, FMODE_WRITE, FMODE_READ | FMODE_WRITE, 0)[flags & O_ACCMODE]
    if m.diskfs.lookup(name) is None and flags & O_CREAT and name:
        error = m.diskfs.vfs_create(name)
        if error:
            return error
    elif m.diskfs.lookup(name) is None and not m.config.vfs:
        return -ENOENT
    if flags & O_TRUNC and access & FMODE_WRITE:
        error = m.diskfs.truncate(name, 0)
        if error:
            return error
    return m.diskfs.open(name, access, flags & O_APPEND)


def _close(m: Machine, fd: int) -> int:
    """close(2)"""
    file = m.current.files.pop(fd, None)
    if file is None:
        return -EBADF
    vfs.fput(m, file)
    return 0


def _read(m: Machine, fd: int, count: int) -> Result:
    """read(2); the data is what was read."""
    file = _file(m.current, fd)
    if file is None or not file.f_mode & FMODE_READ:
        return -EBADF, b""
    if not 0 <= count <= MAX_COUNT or file.f_op is None or file.f_op.read is None:
        return -EINVAL, b""
    buf = bytearray()
    ret: int = file.f_op.read(file, buf, count)
    return ret, bytes(buf)


def _read_to(m: Machine, fd: int, address: int, count: int) -> int:
    """read(2) into the caller's memory at *address*, as a program does it."""
    file = _file(m.current, fd)
    if file is None or not file.f_mode & FMODE_READ:
        return -EBADF
    if not 0 <= count <= MAX_COUNT or file.f_op is None or file.f_op.read is None:
        return -EINVAL
    ret: int = file.f_op.read(file, address, count)
    return ret


def _write(m: Machine, fd: int, data: bytes | str) -> int:
    """write(2) of *data* (text is hexadecimal: the form a recording keeps)."""
    if isinstance(data, str):
        data = bytes.fromhex(data)
    return _write_any(m, fd, data, len(data))


def _write_from(m: Machine, fd: int, address: int, count: int) -> int:
    """write(2) from the caller's memory at *address*, as a program does it."""
    return _write_any(m, fd, address, count)


def _write_any(m: Machine, fd: int, source: int | bytes, count: int) -> int:
    file = _file(m.current, fd)
    if file is None or not file.f_mode & FMODE_WRITE:
        return -EBADF
    if not 0 <= count <= MAX_COUNT or file.f_op is None or file.f_op.write is None:
        return -EINVAL
    ret: int = file.f_op.write(file, source, count)
    return ret


def _lseek(m: Machine, fd: int, offset: int, whence: int = 0) -> int:
    """lseek(2): from the start (0), the position (1) or the end (2). kernel: fs/read_write.c:default_llseek"""
    file = _file(m.current, fd)
    if file is None:
        return -EBADF
    if whence not in (0, 1, 2):
        return -EINVAL
    at = offset + (0, file.f_pos, file.inode.i_size)[whence]
    if at < 0:
        return -EINVAL
    if at != file.f_pos:
        file.f_pos = at
        file.f_reada = 0
    return at


def _ftruncate(m: Machine, fd: int, size: int) -> int:
    """ftruncate(2). kernel: fs/open.c:do_sys_ftruncate, do_truncate"""
    file = _file(m.current, fd)
    if file is None:
        return -EBADF
    if size < 0 or not file.f_mode & FMODE_WRITE:
        return -EINVAL
    return vfs.notify_change(m, file.inode, vfs.Iattr(vfs.ATTR_SIZE, size))


def _fsync(m: Machine, fd: int) -> int:
    """fsync(2)"""
    file = _file(m.current, fd)
    return -EBADF if file is None else m.diskfs.fsync(file)


def _setrlimit(m: Machine, resource: int, value: int) -> int:
    """setrlimit(2) of the soft limit: raising it needs CAP_SYS_RESOURCE here, for there is no hard one."""
    task = m.current
    if not 0 <= resource < RLIM_NLIMITS:
        return -EINVAL
    if value > task.rlim[resource] and not task.capable(CAP_SYS_RESOURCE):
        return -EPERM
    task.rlim[resource] = value & 0xFFFFFFFF
    return 0


def _kill(m: Machine, pid: int, sig: int) -> int:
    """kill(2): SIGKILL and SIGTERM end the process at its next turn. kernel: kernel/signal.c:sys_kill"""
    target = m.sched.tasks.get(pid)
    if target is None:
        return -ESRCH
    if not 0 <= sig <= 64:
        return -EINVAL
    me = m.current
    if me.euid and me.uid not in (target.uid,) and me.euid != target.uid:
        return -EPERM
    if sig:
        m.sched.send_sig(sig, target)
    return 0


def _nice(m: Machine, increment: int) -> int:
    """nice(2). kernel: kernel/sched.c:sys_nice"""
    task = m.current
    if increment < 0 and task.euid:
        return -EPERM
    task.nice = max(-20, min(19, task.nice + increment))
    return 0


def _shmat(m: Machine, shmid: int, address: int = 0, flags: int = 0) -> int:
    """shmat(2): where it was attached."""
    return m.ipc_shm.sys_shmat(shmid, address, flags)


def _access(m: Machine, name: str) -> int:
    """Whether a file exists: 0 or -ENOENT."""
    if m.config.vfs:
        page = m.file_table.getname()
        dentry = m.diskfs.path_lookup(name)
        m.file_table.putname(page)
        if isinstance(dentry, int):
            return dentry
        m.dcache.dput(dentry)
        return 0
    return 0 if m.diskfs.lookup(name) is not None else -ENOENT


def _execve(m: Machine, name: str, argv: list[str] | None = None, envp: list[str] | None = None) -> int:
    """execve(2) of an ELF file of the simple file system."""
    from .mm.exec_image import read_elf

    page = m.file_table.getname()
    file = m.diskfs.open(name)
    if isinstance(file, int):
        m.file_table.putname(page)
        return file
    try:
        data = m.diskfs.read(file, file.inode.i_size)
        file.f_pos = 0
        if isinstance(data, int):
            return data
        try:
            image = read_elf(data)
        except ValueError:
            return -EACCES if not data else -8
        return m.fork.do_execve(file, image, argv or [name], envp or [])
    finally:
        if not m.interrupted:
            vfs.fput(m, file)
            m.file_table.putname(page)


SYSCALLS: dict[str, Callable[..., Result]] = {
    "brk": lambda m, address=0: m.mmap.sys_brk(address),
    "mmap": _mmap,
    "munmap": lambda m, start, length: m.mmap.sys_munmap(start, length),
    "mprotect": lambda m, start, length, prot: m.mprotect.sys_mprotect(start, length, prot),
    "mremap": lambda m, old, old_len, new_len, flags=0, new=0: m.mremap.sys_mremap(old, old_len, new_len, flags, new),
    "mlock": lambda m, start, length: m.mlock.sys_mlock(start, length),
    "munlock": lambda m, start, length: m.mlock.sys_munlock(start, length),
    "mlockall": lambda m, flags: m.mlock.sys_mlockall(flags),
    "munlockall": lambda m: m.mlock.sys_munlockall(),
    "madvise": lambda m, start, length, advice: m.filemap.sys_madvise(start, length, advice),
    "msync": lambda m, start, length, flags: m.filemap.sys_msync(start, length, flags),
    "mincore": _mincore,
    "fork": _fork,
    "clone": _clone,
    "open": _open,
    "close": _close,
    "read": _read,
    "read_to": _read_to,
    "write": _write,
    "write_from": _write_from,
    "lseek": _lseek,
    "ftruncate": _ftruncate,
    "fsync": _fsync,
    "access": _access,
    "execve": _execve,
    "setrlimit": _setrlimit,
    "kill": _kill,
    "nice": _nice,
    "shmget": lambda m, key, size, flags: m.ipc_shm.sys_shmget(key, size, flags),
    "shmat": _shmat,
    "shmdt": lambda m, address: m.ipc_shm.sys_shmdt(address),
    "shmctl": lambda m, shmid, cmd: m.ipc_shm.sys_shmctl(shmid, cmd),
}
