"""``struct task_struct``, as far as memory management looks at it. kernel: include/linux/sched.h"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .gfp import PF_FREE_PAGES, PF_MEMALLOC, PF_MEMDIE

if TYPE_CHECKING:
    from .fs import File
    from .vm import MmStruct

HZ = 100  # jiffies in a second

SIGBUS = 7
SIGKILL = 9
SIGSEGV = 11
SIGTERM = 15

RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS = range(6)
RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS = range(6, 11)
RLIM_NLIMITS = 11
RLIM_INFINITY = 0xFFFFFFFF

CAP_CHOWN = 0
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_FOWNER = 3
CAP_FSETID = 4
CAP_IPC_LOCK = 14
CAP_IPC_OWNER = 15
CAP_SYS_RAWIO = 17
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24


class Task:
    """One process (or thread): its memory, credentials, limits, and the flags that page allocation looks at.

    Times are in jiffies; ``pending`` holds the signals sent to it and not yet acted on, lowest first.
    """

    rt_priority = 0  # above 0: real time, which lets 2.6 take more of the reserves
    oomkilladj = 0  # 2.6: its badness is shifted left by so much (right when negative)
    parent: Task | None = None  # kept by 2.6 only

    def __init__(self, pid: int = 0, comm: str = "swapper") -> None:
        self.pid = pid
        self.comm = comm
        self.flags = 0
        self.local_pages: list[int] = []  # frames, list head first
        self.nr_local_pages = 0
        self.allocation_order = 0
        self.mm: MmStruct | None = None
        self.active_mm: MmStruct | None = None
        self.uid = self.euid = 0
        self.gid = self.egid = 0
        self.groups: tuple[int, ...] = ()  # supplementary
        self.cap_effective = 0  # one bit per CAP_
        self.nice = 0
        self.utime = self.stime = self.start_time = 0  # jiffies
        self.min_flt = self.maj_flt = self.nswap = 0
        self.rlim = [RLIM_INFINITY] * RLIM_NLIMITS  # soft limits
        self.rlim[RLIMIT_STACK] = 8 << 20
        self.pending: set[int] = set()
        self.files: dict[int, File] = {}  # open files by descriptor
        self.siginfo: Any = None  # why the last SIGSEGV or SIGBUS was sent: a fault.SigInfo
        self.addr_limit = 0xC0000000  # get_fs(): addresses below are user's
        self.exiting = False
        self.eip = self.esp = 0  # where exec made it start, and its stack pointer then
        self.counter = 0
        self.task_pfn = 0  # first frame of its task_struct block; 0 when kernel objects are outside RAM
        self.objects: dict[str, int] = {}  # its slab objects: cache name → kernel address

    def capable(self, cap: int) -> bool:
        """Whether the task may do what *cap* guards. kernel: include/linux/sched.h:capable"""
        return bool(self.cap_effective >> cap & 1)

    def __repr__(self) -> str:
        names = [
            n for n, bit in (("PF_MEMALLOC", PF_MEMALLOC), ("PF_MEMDIE", PF_MEMDIE), ("PF_FREE_PAGES", PF_FREE_PAGES)) if self.flags & bit
        ]
        size = f", {self.mm.total_vm} pages mapped, {self.mm.rss} resident" if self.mm else ""
        return f"<Task {self.pid} {self.comm}{' ' + '|'.join(names) if names else ''}{size}>"
