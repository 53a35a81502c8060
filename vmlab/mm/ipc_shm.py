"""System V shared memory: segments with a number and a key, which outlive the processes that attach them.

A segment is a shmem file without a name; its inode number is the segment's identifier. The calls run as
``kernel.current``. kernel: ipc/shm.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..hw.layout import M32, PAGE_SHIFT, PAGE_SIZE
from .errno import EACCES, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM
from .fs import FileOps, VmOps
from .gfp import GFP_USER
from .ipc_util import IpcUtil, ShmidKernel
from .shmem_swap import shmem_i
from .task import CAP_IPC_LOCK, CAP_SYS_ADMIN
from .vfs import current_time, fput
from .vm import MAP_FIXED, MAP_SHARED, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from .fs import File
    from .kernel import Kernel
    from .vm import MmStruct, VmArea

IPC_PRIVATE = 0
IPC_CREAT, IPC_EXCL = 0o1000, 0o2000
IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO = range(4)
SHM_LOCK, SHM_UNLOCK, SHM_STAT, SHM_INFO = 11, 12, 13, 14
IPC_64 = 0x100
SHM_RDONLY, SHM_RND, SHM_REMAP = 0o10000, 0o20000, 0o40000
SHM_DEST, SHM_LOCKED = 0o1000, 0o2000  # in the mode: gone with the last detach; kept out of swap

SHMMAX = 0x2000000  # bytes in a segment
SHMMIN = 1
SHMMNI = 4096  # segments
SHMALL = SHMMAX // PAGE_SIZE * (SHMMNI // 16)  # pages in all segments
SHMLBA = PAGE_SIZE
SIZEOF_SHMID_KERNEL = 64  # bytes
_S_IRWXUGO, _S_IRUGO, _S_IWUGO = 0o777, 0o444, 0o222
_HEADING = "       key      shmid perms       size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime\n"


class ShmidDs:
    """What IPC_STAT tells of a segment, and what IPC_SET takes (uid, gid, mode). kernel: include/asm-i386/shmbuf.h:shmid64_ds"""

    def __init__(self, uid: int = 0, gid: int = 0, mode: int = 0) -> None:
        self.uid, self.gid, self.mode = uid, gid, mode
        self.key = self.cuid = self.cgid = self.seq = 0
        self.shm_segsz = self.shm_atime = self.shm_dtime = self.shm_ctime = 0
        self.shm_cpid = self.shm_lpid = self.shm_nattch = 0


class ShmInfo:
    """What IPC_INFO (limits) and SHM_INFO (use, in pages) tell. kernel: include/linux/shm.h:shm_info, shminfo"""

    def __init__(self) -> None:
        self.shmmax = self.shmmin = self.shmmni = self.shmseg = self.shmall = 0
        self.used_ids = self.shm_tot = self.shm_rss = self.shm_swp = 0


class ShmFileOps(FileOps):
    """kernel: ipc/shm.c:shm_file_operations"""

    name = "shm_file_operations"

    def __init__(self, kernel: Kernel, part: IpcShm) -> None:
        super().__init__(kernel)
        self.mmap = part.shm_mmap


class ShmVmOps(VmOps):
    """kernel: ipc/shm.c:shm_vm_ops"""

    name = "shm_vm_ops"

    def __init__(self, kernel: Kernel, part: IpcShm) -> None:
        super().__init__(kernel)
        self.open = part.shm_open
        self.close = part.shm_close
        self.nopage = kernel.shmem.shmem_nopage


class IpcShm(IpcUtil):
    """shmget, shmat, shmdt, shmctl."""

    state_names = ("shm_ctlall", "shm_ctlmax", "shm_ctlmni", "shm_ids", "shm_tot")

    def attach(self, kernel: Kernel) -> None:
        super().attach(kernel)
        self.shm_ctlmax, self.shm_ctlall, self.shm_ctlmni = SHMMAX, SHMALL, SHMMNI
        self.shm_tot = 0  # pages of all segments
        self.file_ops = ShmFileOps(kernel, self)
        self.vm_ops = ShmVmOps(kernel, self)

    # -- attaching and detaching ----------------------------------------------------------------

    def _segment_of(self, vma: VmArea, function: str) -> ShmidKernel:
        assert vma.vm_file is not None
        ident = vma.vm_file.inode.i_ino
        shp = self.shm_get(ident)
        if shp is None:
            raise KernelBug(function, f"{vma!r} is of segment {ident}, which does not exist", "shp")
        return shp

    def shm_open(self, vma: VmArea) -> None:
        """One more area has the segment: mapped, copied by fork, or split. kernel: ipc/shm.c:shm_open, shm_inc"""
        shp = self._segment_of(vma, "shm_inc")
        shp.shm_atim = current_time(self.kernel)
        shp.shm_lprid = self.kernel.current.pid
        shp.shm_nattch += 1
        if (ev := self.on_event) is not None:
            ev(("shm_attach", shp.id, shp.shm_nattch))

    def shm_close(self, vma: VmArea) -> None:
        """One area less; the last one takes a segment that was removed with it. kernel: ipc/shm.c:shm_close"""
        shp = self._segment_of(vma, "shm_close")
        shp.shm_lprid = self.kernel.current.pid
        shp.shm_dtim = current_time(self.kernel)
        if (ev := self.on_event) is not None:
            ev(("shm_detach", shp.id, shp.shm_nattch - 1))
        self._drop(shp)

    def _drop(self, shp: ShmidKernel) -> None:
        shp.shm_nattch -= 1
        if shp.shm_nattch == 0 and shp.mode & SHM_DEST:
            self.shm_destroy(shp)

    def shm_destroy(self, shp: ShmidKernel) -> None:
        """Free the segment. kernel: ipc/shm.c:shm_destroy"""
        self.shm_tot -= (shp.shm_segsz + PAGE_SIZE - 1) >> PAGE_SHIFT
        self.ipc_rmid(shp.id)
        self.kernel.shmem.shmem_lock(shp.shm_file, False)
        if (ev := self.on_event) is not None:
            ev(("shm_destroy", shp.id))
        fput(self.kernel, shp.shm_file)
        self.kernel.slab.kfree(shp.address)

    def shm_mmap(self, file: File, vma: VmArea) -> int:
        """Map a segment. Returns 0. kernel: ipc/shm.c:shm_mmap"""
        file.inode.i_atime = current_time(self.kernel)
        vma.vm_ops = self.vm_ops
        self.shm_open(vma)
        return 0

    # -- system calls ---------------------------------------------------------------------------

    def newseg(self, key: int, shmflg: int, size: int) -> int:
        """A new segment of *size* bytes; returns its identifier or an errno. kernel: ipc/shm.c:newseg"""
        kernel = self.kernel
        numpages = (size + PAGE_SIZE - 1) >> PAGE_SHIFT
        if not SHMMIN <= size <= self.shm_ctlmax:
            return -EINVAL
        if self.shm_tot + numpages >= self.shm_ctlall:
            return -ENOSPC
        address = kernel.slab.kmalloc(SIZEOF_SHMID_KERNEL, GFP_USER)
        if not address:
            return -ENOMEM
        file = kernel.shmem.shmem_file_setup(f"SYSV{key & M32:08x}", size)
        if isinstance(file, int):
            kernel.slab.kfree(address)
            return file
        shp = ShmidKernel(address)
        slot = self.ipc_addid(shp, self.shm_ctlmni + 1)
        if slot == -1:
            fput(kernel, file)
            kernel.slab.kfree(address)
            return -ENOSPC
        shp.key = key
        shp.mode = shmflg & _S_IRWXUGO
        shp.shm_cprid = kernel.current.pid
        shp.shm_ctim = current_time(kernel)
        shp.shm_segsz = size
        shp.id = self.shm_buildid(slot, shp.seq)
        shp.shm_file = file
        file.inode.i_ino = shp.id
        file.f_op = self.file_ops
        self.shm_tot += numpages
        if (ev := self.on_event) is not None:
            ev(("shm_new", shp.id, key, numpages))
        return shp.id

    def sys_shmget(self, key: int, size: int, shmflg: int) -> int:
        """The identifier of the segment with that key, made if IPC_CREAT says so; IPC_PRIVATE makes a new one.

        Returns -ENOENT, -EEXIST (IPC_EXCL), -EINVAL (too small, too large), -EACCES, -ENOSPC, -ENOMEM.
        kernel: ipc/shm.c:sys_shmget
        """
        if not self.shm_ids.entries:
            self.shm_init()
        if key == IPC_PRIVATE:
            return self.newseg(key, shmflg, size)
        slot = self.ipc_findkey(key)
        if slot == -1:
            return self.newseg(key, shmflg, size) if shmflg & IPC_CREAT else -ENOENT
        if shmflg & IPC_CREAT and shmflg & IPC_EXCL:
            return -EEXIST
        shp = self.shm_ids.entries[slot]
        assert shp is not None
        if shp.shm_segsz < size:
            return -EINVAL
        if self.ipcperms(shp, shmflg):
            return -EACCES
        return self.shm_buildid(slot, shp.seq)

    def sys_shmat(self, shmid: int, shmaddr: int, shmflg: int) -> int:
        """Attach a segment at *shmaddr* (0: the kernel chooses); returns the address or an errno.

        -EINVAL: no such segment, address not at a page (without SHM_RND), something is there (without SHM_REMAP).
        kernel: ipc/shm.c:sys_shmat
        """
        kernel = self.kernel
        if shmid < 0:
            return -EINVAL
        address, flags = shmaddr, MAP_SHARED
        if address:
            if address % SHMLBA:
                if not shmflg & SHM_RND:
                    return -EINVAL
                address -= address % SHMLBA
            flags |= MAP_FIXED
        elif shmflg & SHM_REMAP:
            return -EINVAL
        prot, acc_mode = PROT_READ, _S_IRUGO
        if not shmflg & SHM_RDONLY:
            prot, acc_mode = PROT_READ | PROT_WRITE, _S_IRUGO | _S_IWUGO
        shp = self.shm_get(shmid)
        if shp is None:
            return -EINVAL
        if error := self.shm_checkid(shp, shmid):
            return error
        if self.ipcperms(shp, acc_mode):
            return -EACCES
        size = shp.shm_file.inode.i_size
        shp.shm_nattch += 1  # so that it stays while we map it
        mm = kernel.current.mm
        assert mm is not None
        if address and not shmflg & SHM_REMAP and not self._room(mm, address, size):
            ret = -EINVAL
        else:
            ret = kernel.mmap.do_mmap_pgoff(shp.shm_file, address, size, prot, flags, 0)
        self._drop(shp)
        return ret

    def _room(self, mm: MmStruct, address: int, size: int) -> bool:
        """Nothing is mapped there, and the stack below which it lies can still grow by four pages."""
        if self.kernel.mmap.find_vma_intersection(mm, address, address + size & M32) is not None:
            return False
        return not (address < mm.start_stack and address > (mm.start_stack - size - PAGE_SIZE * 5 & M32))

    def sys_shmdt(self, shmaddr: int) -> int:
        """Detach the segment attached at *shmaddr*: 0, or -EINVAL when none is. kernel: ipc/shm.c:sys_shmdt"""
        mm = self.kernel.current.mm
        assert mm is not None
        ret = -EINVAL
        vma = mm.mmap
        while vma is not None:
            following = vma.vm_next
            if vma.vm_ops is self.vm_ops and vma.vm_start - (vma.vm_pgoff << PAGE_SHIFT) & M32 == shmaddr:
                self.kernel.mmap.do_munmap(mm, vma.vm_start, vma.vm_end - vma.vm_start)
                ret = 0
            vma = following
        return ret

    def sys_shmctl(self, shmid: int, cmd: int, buf: ShmidDs | ShmInfo | None = None) -> int:
        """Look at a segment, change it, remove it; returns 0 (SHM_STAT: its identifier, ..._INFO: the highest slot) or an errno.

        Answers go into *buf*: a ShmidDs for IPC_STAT and SHM_STAT (whose *shmid* is a slot), a ShmInfo for IPC_INFO and
        SHM_INFO. kernel: ipc/shm.c:sys_shmctl
        """
        if cmd < 0 or shmid < 0:
            return -EINVAL
        cmd &= ~IPC_64
        if cmd in (IPC_INFO, SHM_INFO):
            return self._info(cmd, buf)
        if cmd in (SHM_STAT, IPC_STAT):
            return self._stat(shmid, cmd, buf)
        if cmd in (SHM_LOCK, SHM_UNLOCK):
            return self._lock(shmid, cmd == SHM_LOCK)
        if cmd not in (IPC_RMID, IPC_SET):
            return -EINVAL
        if cmd == IPC_SET and not isinstance(buf, ShmidDs):
            return -EFAULT
        shp = self.shm_get(shmid)
        if shp is None:
            return -EINVAL
        if error := self.shm_checkid(shp, shmid):
            return error
        current = self.kernel.current
        if current.euid not in (shp.uid, shp.cuid) and not current.capable(CAP_SYS_ADMIN):
            return -EPERM
        if isinstance(buf, ShmidDs) and cmd == IPC_SET:
            shp.uid, shp.gid = buf.uid, buf.gid
            shp.mode = shp.mode & ~_S_IRWXUGO | buf.mode & _S_IRWXUGO
            shp.shm_ctim = current_time(self.kernel)
        elif shp.shm_nattch:
            shp.mode |= SHM_DEST
            shp.key = IPC_PRIVATE  # it cannot be found any more
        else:
            self.shm_destroy(shp)
        return 0

    def _info(self, cmd: int, buf: ShmidDs | ShmInfo | None) -> int:
        if not isinstance(buf, ShmInfo):
            return -EFAULT
        if cmd == IPC_INFO:
            buf.shmmni = buf.shmseg = self.shm_ctlmni
            buf.shmmax, buf.shmall, buf.shmmin = self.shm_ctlmax, self.shm_ctlall, SHMMIN
        else:
            buf.used_ids, buf.shm_tot = self.shm_ids.in_use, self.shm_tot
            buf.shm_rss, buf.shm_swp = self.shm_get_stat()
        return max(self.shm_ids.max_id, 0)

    def shm_get_stat(self) -> tuple[int, int]:
        """Pages of all segments in memory, and in swap. kernel: ipc/shm.c:shm_get_stat"""
        inodes = [shp.shm_file.inode for shp in self.shm_ids.entries if shp is not None]
        return sum(inode.i_mapping.nrpages for inode in inodes), sum(shmem_i(inode).swapped for inode in inodes)

    def _stat(self, shmid: int, cmd: int, buf: ShmidDs | ShmInfo | None) -> int:
        shp = self.shm_get(shmid)
        if shp is None:
            return -EINVAL
        result = 0
        if cmd == SHM_STAT:
            if shmid > self.shm_ids.max_id:
                return -EINVAL
            result = self.shm_buildid(shmid, shp.seq)
        elif error := self.shm_checkid(shp, shmid):
            return error
        if self.ipcperms(shp, _S_IRUGO):
            return -EACCES
        if not isinstance(buf, ShmidDs):
            return -EFAULT
        buf.key, buf.uid, buf.gid, buf.cuid, buf.cgid, buf.mode, buf.seq = shp.key, shp.uid, shp.gid, shp.cuid, shp.cgid, shp.mode, shp.seq
        buf.shm_segsz, buf.shm_nattch = shp.shm_segsz, shp.shm_nattch
        buf.shm_atime, buf.shm_dtime, buf.shm_ctime = shp.shm_atim, shp.shm_dtim, shp.shm_ctim
        buf.shm_cpid, buf.shm_lpid = shp.shm_cprid, shp.shm_lprid
        return result

    def _lock(self, shmid: int, lock: bool) -> int:
        if not self.kernel.current.capable(CAP_IPC_LOCK):
            return -EPERM
        shp = self.shm_get(shmid)
        if shp is None:
            return -EINVAL
        if error := self.shm_checkid(shp, shmid):
            return error
        self.kernel.shmem.shmem_lock(shp.shm_file, lock)
        shp.mode = shp.mode | SHM_LOCKED if lock else shp.mode & ~SHM_LOCKED
        return 0

    def sysvipc_shm(self) -> str:
        """The text of /proc/sysvipc/shm. kernel: ipc/shm.c:sysvipc_shm_read_proc"""
        rows = [_HEADING]
        for slot, shp in enumerate(self.shm_ids.entries[: self.shm_ids.max_id + 1]):
            if shp is not None:
                key = shp.key - (1 << 32) if shp.key >> 31 & 1 else shp.key  # a key_t is signed
                rows.append(
                    f"{key:10d} {self.shm_buildid(slot, shp.seq):10d}  {shp.mode:4o} {shp.shm_segsz:10d}"
                    f" {shp.shm_cprid:5d} {shp.shm_lprid:5d}  {shp.shm_nattch:5d} {shp.uid:5d} {shp.gid:5d} {shp.cuid:5d} {shp.cgid:5d}"
                    f" {shp.shm_atim:10d} {shp.shm_dtim:10d} {shp.shm_ctim:10d}\n"
                )
        return "".join(rows)
