"""The real process of a hostdiff run: does the calls its parent asks for, and probes its own pages.

Run as a script, with three descriptors as arguments. A request is eight 64-bit words, an answer two. It imports
nothing of vmlab: the fewer mappings of its own, the better.
"""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import sys

CALL, PROBE, BRK, STOP = range(4)  # what a request asks for
SYS_BRK = 12  # on x86-64
REQUEST, ANSWER = struct.Struct("8Q"), struct.Struct("qq")
PAGE = 4096
MOVED = 10_000  # "errno" of a BRK when the process's own malloc has moved the break meanwhile


def main(words: list[str]) -> None:
    """Serve until told to stop. Descriptors: requests, answers, and one that reads as zeroes."""
    requests, answers, zero = (int(word) for word in words)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: malloc leaves the break alone as far as it can
    libc.mallopt(-3, PAGE)  # M_MMAP_THRESHOLD
    call = libc.syscall
    call.restype = ctypes.c_long
    write, read = libc.write, libc.read
    write.restype = read.restype = ctypes.c_ssize_t
    write.argtypes = read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    drain, pipe = os.pipe()
    gc.disable()
    word = ctypes.c_ulong
    last = base = 0
    while True:
        what, number, a, b, c, d, e, f = REQUEST.unpack(os.read(requests, REQUEST.size))
        if what == CALL:
            ret = call(word(number), word(a), word(b), word(c), word(d), word(e), word(f))
            os.write(answers, ANSWER.pack(ret, ctypes.get_errno() if ret == -1 else 0))
        elif what == PROBE:  # *b* pages from *a* on: bit 0 readable, bit 1 writable
            found = bytearray(b)
            for i in range(b):
                if write(pipe, a + i * PAGE, 1) == 1:
                    found[i] = 1
                if read(zero, a + i * PAGE, 1) == 1:
                    found[i] |= 2
            if any(bits & 1 for bits in found):
                os.read(drain, b)
            os.write(answers, found)
        elif what == BRK:  # the break to *a* bytes past its base; *b* 1: find a new base, 2: only if it was moved
            now = call(word(SYS_BRK), word(0))
            if b == 2 and now == last:
                os.write(answers, ANSWER.pack(base, 0))
                continue
            if b == 1 or now != last:
                base = (now + PAGE - 1) & -PAGE
                last = call(word(SYS_BRK), word(base))
                os.write(answers, ANSWER.pack(base, 0 if b == 1 else MOVED))
                continue
            last = call(word(SYS_BRK), word(base + a))
            os.write(answers, ANSWER.pack(last - base, 0))
        else:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
