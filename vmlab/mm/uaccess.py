"""How the kernel reads and writes user memory: it just does it, and is prepared to fault.

Each access is made at an instruction listed in the exception table, so that a bad address makes
the function return what it could not copy, and not oops. Addresses are user addresses in bytes;
the kernel's side is Python bytes. kernel: include/asm-i386/uaccess.h, arch/i386/lib/usercopy.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hw.layout import PAGE_SHIFT, PAGE_SIZE
from .errno import EFAULT
from .extable import INSN
from .kernel import Part

if TYPE_CHECKING:
    from .kernel import Kernel

VERIFY_READ, VERIFY_WRITE = 0, 1
KERNEL_DS, USER_DS = 0xFFFFFFFF, 0xC0000000
_M32 = 0xFFFFFFFF
_OFFSET = PAGE_SIZE - 1


class Uaccess(Part):
    """Copying between kernel and the running task's user memory."""

    kernel: Kernel

    # -- is it a user address at all? ---------------------------------------------------------

    def set_fs(self, limit: int) -> None:
        """Addresses below *limit* count as the running task's: KERNEL_DS lets all through. kernel: include/asm-i386/uaccess.h:set_fs"""
        self.kernel.current.addr_limit = limit

    def access_ok(self, kind: int, address: int, size: int) -> bool:
        """Whether [address, address + size) lies below the task's limit; the pages may still be missing.

        kernel: include/asm-i386/uaccess.h:access_ok, __range_ok
        """
        return address + size <= self.kernel.current.addr_limit

    def verify_area(self, kind: int, address: int, size: int) -> int:
        """0 or -EFAULT: :meth:`access_ok` of an older name. kernel: include/asm-i386/uaccess.h:verify_area"""
        return 0 if self.access_ok(kind, address, size) else -EFAULT

    # -- one access ---------------------------------------------------------------------------

    def _pages(self, address: int, size: int, write: bool, insn: int) -> list[tuple[int, int, int]] | None:
        """Have *insn* access 1 to 4 bytes: [(frame, offset, bytes)] of its one or two pages, None when it faults for good."""
        first = min(size, PAGE_SIZE - (address & _OFFSET))
        while True:
            head = self.kernel.mmu.kernel_access(address, write, insn)
            if head < 0:
                return None
            if first == size:
                return [(head, address & _OFFSET, size)]
            tail = self.kernel.mmu.kernel_access(address + first & _M32, write, insn)
            if tail < 0:
                return None
            if self.kernel.mmu.kernel_access(address, write, insn) == head:  # bringing in the second may have cost the first
                return [(head, address & _OFFSET, first), (tail, 0, size - first)]

    def _read(self, address: int, size: int, insn: int) -> bytes | None:
        pages = self._pages(address, size, False, insn)
        if pages is None:
            return None
        return b"".join(self.kernel.ram.read((pfn << PAGE_SHIFT) + offset, n) for pfn, offset, n in pages)

    def _write(self, address: int, data: bytes, insn: int) -> bool:
        pages = self._pages(address, len(data), True, insn)
        if pages is None:
            return False
        at = 0
        for pfn, offset, n in pages:
            self.kernel.ram.write((pfn << PAGE_SHIFT) + offset, data[at : at + n])
            at += n
        return True

    # -- blocks -------------------------------------------------------------------------------

    def _steps(self, address: int, size: int) -> list[tuple[int, int, int]]:
        """How ``rep movsl``, then ``rep movsb`` go over *size* bytes: (offset, bytes, unit), inside a page or one straddling word."""
        steps, at, words_end = [], 0, size & ~3
        while at < words_end:
            room = PAGE_SIZE - (address + at & _OFFSET)
            n = min(room & ~3, words_end - at) or 4
            steps.append((at, n, 4))
            at += n
        while at < size:
            n = min(PAGE_SIZE - (address + at & _OFFSET), size - at)
            steps.append((at, n, 1))
            at += n
        return steps

    def copy_to_user(self, to: int, data: bytes) -> int:
        """Write *data* to user memory at *to*. Returns the bytes that could not be copied: 0 is success.

        kernel: arch/i386/lib/usercopy.c:__generic_copy_to_user, include/asm-i386/uaccess.h:copy_to_user, __copy_user
        """
        size = len(data)
        return self.copy_to_user_nocheck(to, data) if self.access_ok(VERIFY_WRITE, to, size) else size

    def copy_to_user_nocheck(self, to: int, data: bytes) -> int:
        """:meth:`copy_to_user` for a range that was checked before. kernel: include/asm-i386/uaccess.h:__copy_to_user"""
        size = len(data)
        for at, n, unit in self._steps(to, size):
            insn = INSN["copy_to_user: rep movsl" if unit == 4 else "copy_to_user: rep movsb"]
            if not self._write_span(to + at, data[at : at + n], insn):
                return self._copied("copy_to_user", to, size, size - at)
        return self._copied("copy_to_user", to, size, 0)

    def _write_span(self, address: int, data: bytes, insn: int) -> bool:
        if (address & _OFFSET) + len(data) > PAGE_SIZE:
            return self._write(address, data, insn)
        pfn = self.kernel.mmu.kernel_access(address, True, insn)
        if pfn < 0:
            return False
        self.kernel.ram.write((pfn << PAGE_SHIFT) + (address & _OFFSET), data)
        return True

    def copy_from_user(self, source: int, size: int) -> tuple[bytes, int]:
        """Read *size* bytes of user memory. Returns them, the missing ones as zeroes, and how many are missing.

        kernel: arch/i386/lib/usercopy.c:__generic_copy_from_user, include/asm-i386/uaccess.h:copy_from_user, __copy_user_zeroing
        """
        if not self.access_ok(VERIFY_READ, source, size):
            return bytes(size), size
        return self.copy_from_user_nocheck(source, size)

    def copy_from_user_nocheck(self, source: int, size: int) -> tuple[bytes, int]:
        """:meth:`copy_from_user` for a range that was checked before. kernel: include/asm-i386/uaccess.h:__copy_from_user"""
        out = bytearray()
        for at, n, unit in self._steps(source, size):
            insn = INSN["copy_from_user: rep movsl" if unit == 4 else "copy_from_user: rep movsb"]
            address = source + at
            if (address & _OFFSET) + n > PAGE_SIZE:
                got = self._read(address, n, insn)
            else:
                pfn = self.kernel.mmu.kernel_access(address, False, insn)
                got = None if pfn < 0 else self.kernel.ram.read((pfn << PAGE_SHIFT) + (address & _OFFSET), n)
            if got is None:
                break
            out += got
        return bytes(out.ljust(size, b"\0")), self._copied("copy_from_user", source, size, size - len(out))

    def clear_user(self, to: int, size: int) -> int:
        """Zero *size* bytes of user memory. Returns the bytes that could not be cleared. kernel: arch/i386/lib/usercopy.c:clear_user"""
        if not self.access_ok(VERIFY_WRITE, to, size):
            return size
        return self.clear_user_nocheck(to, size)

    def clear_user_nocheck(self, to: int, size: int) -> int:
        """:meth:`clear_user` for a range that was checked before. kernel: arch/i386/lib/usercopy.c:__clear_user"""
        for at, n, unit in self._steps(to, size):
            if not self._write_span(to + at, bytes(n), INSN["clear_user: rep stosl" if unit == 4 else "clear_user: rep stosb"]):
                return self._copied("clear_user", to, size, size - at)
        return self._copied("clear_user", to, size, 0)

    def _copied(self, name: str, address: int, size: int, left: int) -> int:
        if self.on_event is not None:
            self.on_event(("user_copy", name, address, size, left))
        return left

    # -- strings ------------------------------------------------------------------------------

    def strncpy_from_user(self, source: int, count: int) -> tuple[bytes, int]:
        """Read a string that ends in a zero byte, at most *count* bytes of it.

        Returns what was read (without the zero) and its length: *count* when no zero was met, -EFAULT on a
        bad address. kernel: arch/i386/lib/usercopy.c:strncpy_from_user
        """
        if not self.access_ok(VERIFY_READ, source, 1):
            return b"", -EFAULT
        out, ended, fault = self._scan(source, count, "strncpy_from_user: lodsb")
        return out, -EFAULT if fault else len(out) if ended else count

    def strnlen_user(self, source: int, count: int) -> int:
        """Length of a string with its zero byte; 0 on a bad address, more than *count* when it is longer.

        kernel: arch/i386/lib/usercopy.c:strnlen_user
        """
        if source >= self.kernel.current.addr_limit:
            return 0
        out, _, fault = self._scan(source, count, "strnlen_user: scasb")  # past the limit, if the string goes on there
        return 0 if fault else len(out) + 1

    def _scan(self, source: int, count: int, what: str) -> tuple[bytes, bool, bool]:
        """Bytes up to a zero, at most *count*: (bytes, whether a zero came, whether it faulted)."""
        out = bytearray()
        while count > 0:
            n = min(PAGE_SIZE - (source & _OFFSET), count)
            pfn = self.kernel.mmu.kernel_access(source, False, INSN[what])
            if pfn < 0:
                return bytes(out), False, True
            got = self.kernel.ram.read((pfn << PAGE_SHIFT) + (source & _OFFSET), n)
            zero = got.find(0)
            if zero >= 0:
                return bytes(out + got[:zero]), True, False
            out += got
            source = source + n & _M32
            count -= n
        return bytes(out), False, False

    # -- single values ------------------------------------------------------------------------

    def get_user(self, address: int, size: int = 4) -> tuple[int, int]:
        """Read a value of 1, 2 or 4 bytes. Returns (0, value), or (-EFAULT, 0).

        kernel: include/asm-i386/uaccess.h:get_user, arch/i386/lib/getuser.S:__get_user_1, __get_user_2, __get_user_4
        """
        if size not in (1, 2, 4):
            raise ValueError(f"size={size}: get_user reads 1, 2 or 4 bytes")
        last = address + size - 1
        if last > _M32 or last >= self.kernel.current.addr_limit:
            return -EFAULT, 0
        got = self._read(address, size, INSN["get_user: mov"])
        return (-EFAULT, 0) if got is None else (0, int.from_bytes(got, "little"))

    def put_user(self, value: int, address: int, size: int = 4) -> int:
        """Write a value of 1, 2, 4 or 8 bytes. Returns 0 or -EFAULT. kernel: include/asm-i386/uaccess.h:put_user"""
        if size not in (1, 2, 4, 8):
            raise ValueError(f"size={size}: put_user writes 1, 2, 4 or 8 bytes")
        if not self.access_ok(VERIFY_WRITE, address, size):
            return -EFAULT
        data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        for at in range(0, size, 4):  # eight bytes are two instructions
            if not self._write(address + at, data[at : at + 4], INSN["put_user: mov"]):
                return -EFAULT
        return 0
