"""A mounted tmpfs in people's hands: what is done by name is an operation of the machine, and recorded as one.

>>> shm = m.tmpfs()
>>> shm.mkdir("/a")
>>> shm.write_file("/a/b", b"hello")
>>> print(shm.tree())
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .mm.tmpfs import Tmpfs
from .process import Errno

if TYPE_CHECKING:
    from .machine import Machine
    from .mm.fs import File

__all__ = ["BY_FILE", "BY_NAME", "Mounted", "read_whole", "write_whole"]

BY_NAME = (
    "chmod chown create link listdir mkdir readlink remount rename rmdir stat statfs symlink tree truncate umount unlink".split()
)
BY_FILE = "open read write close lseek ftruncate".split()
O_RDONLY, O_WRONLY, O_CREAT, O_TRUNC = 0, 1, 0o100, 0o1000


def read_whole(fs: Tmpfs, path: str) -> bytes | int:
    """Open, read to the end, close: the bytes, or a negative errno."""
    file = fs.open(path, O_RDONLY)
    if isinstance(file, int):
        return file
    data = fs.read(file, file.inode.i_size)
    fs.close(file)
    return data


def write_whole(fs: Tmpfs, path: str, data: bytes) -> int:
    """Open (made or emptied), write, close: the bytes written, or a negative errno."""
    file = fs.open(path, O_WRONLY | O_CREAT | O_TRUNC)
    if isinstance(file, int):
        return file
    done = fs.write(file, data)
    fs.close(file)
    return done


class Mounted(Tmpfs):
    """The tmpfs mounted as *name* on *machine*. Failures are an :class:`~vmlab.process.Errno`.

    ``open`` and the calls on what it returns are for a machine that nobody records: a tape cannot keep an open file. Use
    :meth:`read_file` and :meth:`write_file`, or a process: ``p.open("/dev/shm/a")``.
    """

    def __init__(self, machine: Machine, name: str) -> None:
        super().__init__(machine, name)
        self.machine = machine

    def _call(self, method: str, *args: Any) -> Any:
        ret = self.machine.tmpfs_call(self.name, method, *args)
        return Errno(ret) if isinstance(ret, int) and ret < 0 else ret

    def read_file(self, path: str) -> bytes | int:
        """Everything in the file *path*."""
        found: bytes | int = self._call("read_file", path)
        return found

    def write_file(self, path: str, data: bytes) -> int:
        """Make *data* the contents of the file *path*; returns the bytes written (fewer when the file system is full)."""
        done: int = self._call("write_file", path, data)
        return done


def _by_name(method: str) -> Callable[..., Any]:
    @functools.wraps(getattr(Tmpfs, method))
    def call(self: Mounted, /, *args: Any) -> Any:
        return self._call(method, *args)

    return call


def _by_file(method: str) -> Callable[..., Any]:
    own = getattr(Tmpfs, method)

    @functools.wraps(own)
    def call(self: Mounted, /, *args: Any) -> File | bytes | int:
        if self.machine.tape is not None:
            raise ValueError(f"{method}: a tape records this machine and cannot keep an open file; use read_file, write_file or a process")
        ret: File | bytes | int = own(self, *args)
        return Errno(ret) if isinstance(ret, int) and ret < 0 else ret

    return call


for _name in BY_NAME:
    setattr(Mounted, _name, _by_name(_name))
for _name in BY_FILE:
    setattr(Mounted, _name, _by_file(_name))
