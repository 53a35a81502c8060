"""Error numbers; a system call that fails returns one of them, negated. kernel: include/asm-i386/errno.h"""

from __future__ import annotations

EPERM = 1
ENOENT = 2
ESRCH = 3
EINTR = 4
EIO = 5
ENXIO = 6
E2BIG = 7
ENOEXEC = 8
EBADF = 9
EAGAIN = 11
ENOMEM = 12
EACCES = 13
EFAULT = 14
EBUSY = 16
EEXIST = 17
EXDEV = 18
ENODEV = 19
ENOTDIR = 20
EISDIR = 21
EINVAL = 22
ENFILE = 23
EMFILE = 24
ETXTBSY = 26
EFBIG = 27
ENOSPC = 28
EROFS = 30
EMLINK = 31
ENAMETOOLONG = 36
ENOSYS = 38
ENOTEMPTY = 39
ELOOP = 40
EIDRM = 43
EOVERFLOW = 75

NAMES = {number: name for name, number in list(globals().items()) if name.startswith("E") and isinstance(number, int)}


def errno_name(ret: int) -> str:
    """``-12`` → ``ENOMEM``; the number itself when it is no error this kernel uses."""
    return NAMES.get(-ret, str(ret))
