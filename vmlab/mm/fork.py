"""Processes as memory management sees them: address spaces made, copied and dropped; tasks that begin and end.

``machine.fork.mmlist`` holds every user address space in the order of the kernel's list, which is the order
in which swapping visits them: exec puts a new one first, fork puts the child right after its parent.

kernel: kernel/fork.c, kernel/exit.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errno import EAGAIN, ENOMEM
from .exec import Exec
from .gfp import GFP_KERNEL, PF_MEMALLOC, PF_MEMDIE
from .task import CAP_SYS_ADMIN, CAP_SYS_RESOURCE, RLIMIT_NPROC, Task
from .vfs import fput, get_file
from .vm import VM_DENYWRITE, VM_DONTCOPY, VM_LOCKED, VM_SHARED, MmStruct, VmArea

if TYPE_CHECKING:
    from .kernel import Kernel

CLONE_VM = 0x100
_USER = 1000  # the uid of ordinary processes
_OBJECTS = ("files_cachep", "fs_cachep", "sigact_cachep")  # of every process, in the order do_fork allocates them


class Fork(Exec):
    """Making, copying and ending processes."""

    state_names: tuple[str, ...] = ("mmlist", "max_threads", "total_forks")
    mm_class: type[MmStruct] = MmStruct

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.mmlist: list[MmStruct] = []  # init_mm, the head of the kernel's list, is not in it
        self.max_threads = 0
        self.total_forks = 0

    @property
    def mmlist_nr(self) -> int:
        """Address spaces on the list. kernel: kernel/fork.c:mmlist_nr"""
        return len(self.mmlist)

    def fork_init(self, mempages: int) -> None:
        """Task structures may take an eighth of the machine's *mempages* pages. kernel: kernel/fork.c:fork_init"""
        self.max_threads = mempages // 2 // 8
        self.kernel.init_task.rlim[RLIMIT_NPROC] = self.max_threads // 2

    # -- address spaces ------------------------------------------------------------------------

    def _allocate_mm(self) -> int:
        return int(self.kernel.slab.kmem_cache_alloc(self.kernel.slab.mm_cachep, GFP_KERNEL))

    def mm_init(self, mm: MmStruct) -> bool:
        """One user, and a page directory. False, and the record is freed, when there is no memory. kernel: kernel/fork.c:mm_init"""
        mm.mm_users = mm.mm_count = 1
        made = self.kernel.pgtable.pgd_alloc(mm)
        mm.def_flags = 0
        if not made:
            self.kernel.slab.kmem_cache_free(self.kernel.slab.mm_cachep, mm.address)
        return made

    def mm_alloc(self, pid: int = -1) -> MmStruct | None:
        """An empty address space, None without memory. *pid* is a name for people. kernel: kernel/fork.c:mm_alloc"""
        address = self._allocate_mm()
        if not address:
            return None
        mm = self.mm_class()
        mm.address, mm.pid = address, pid
        if not self.mm_init(mm):
            return None
        if self.on_event is not None:
            self.on_event(("mm_alloc", pid))
        return mm

    def mmdrop(self, mm: MmStruct) -> None:
        """One reference to the record less; with the last go the page directory and the record. kernel: kernel/fork.c:mmdrop, __mmdrop"""
        mm.mm_count -= 1
        if mm.mm_count:
            return
        self.kernel.pgtable.pgd_free(mm)
        self.kernel.slab.kmem_cache_free(self.kernel.slab.mm_cachep, mm.address)
        if self.on_event is not None:
            self.on_event(("mmdrop", mm.pid))

    def mmput(self, mm: MmStruct) -> None:
        """One user of the address space less; with the last go all its areas. kernel: kernel/fork.c:mmput"""
        mm.mm_users -= 1
        if mm.mm_users:
            return
        reclaim = self.kernel.vmscan
        at = self.mmlist.index(mm)
        del self.mmlist[at]
        if reclaim.swap_mm is mm:
            reclaim.swap_mm = self.mmlist[at] if at < len(self.mmlist) else self.kernel.pgtable.init_mm
        self.kernel.mmap.exit_mmap(mm)
        self.mmdrop(mm)

    def copy_mm(self, clone_flags: int, task: Task) -> int:
        """Give *task* a copy of the current task's address space; with CLONE_VM the same one. Returns 0 or -ENOMEM.

        Pages are not copied: both sides share them until one writes. kernel: kernel/fork.c:copy_mm
        """
        task.min_flt = task.maj_flt = task.nswap = 0
        task.mm = task.active_mm = None
        oldmm = self.kernel.current.mm
        if oldmm is None:
            return 0
        if clone_flags & CLONE_VM:
            oldmm.mm_users += 1
            task.mm = task.active_mm = oldmm
            return 0
        address = self._allocate_mm()
        if not address:
            return -ENOMEM
        mm = self.mm_class()
        mm.__dict__.update(oldmm.__dict__)
        mm.address, mm.pid = address, task.pid
        if not self.mm_init(mm):
            return -ENOMEM
        error = self.dup_mmap(mm)
        if error:
            self.mmput(mm)
            return error
        task.mm = task.active_mm = mm
        return 0

    def dup_mmap(self, mm: MmStruct) -> int:
        """Copy the current task's areas and page table entries into *mm*, which has its fields already.

        Until the end *mm* has the parent's tree: if memory gets short meanwhile, reclaim searches that.
        Returns 0 or -ENOMEM, with what was copied left in *mm*. kernel: kernel/fork.c:dup_mmap
        """
        kernel = self.kernel
        mmap = kernel.mmap
        oldmm = kernel.current.mm
        assert oldmm is not None
        mm.locked_vm = 0
        mm.mmap = mm.mmap_cache = None
        mm.map_count = 0
        mm.rss = 0
        mm.swap_address = 0
        self.mmlist.insert(self.mmlist.index(oldmm) + 1, mm)
        error = 0
        last: VmArea | None = None
        area = oldmm.mmap
        while area is not None:
            if not area.vm_flags & VM_DONTCOPY:
                new = mmap.alloc_vma()
                if new is None:
                    error = -ENOMEM
                    break
                self._copy_area(mm, area, new)
                if last is None:
                    mm.mmap = new
                else:
                    last.vm_next = new
                last = new
                mm.map_count += 1
                error = kernel.memory.copy_page_range(mm, oldmm, new)
                if new.vm_ops is not None and new.vm_ops.open is not None:
                    new.vm_ops.open(new)
                if error:
                    break
            area = area.vm_next
        if not error:
            mmap.build_mmap_rb(mm)
        kernel.mmu.flush_tlb_mm(oldmm)
        return error

    def _copy_area(self, mm: MmStruct, area: VmArea, new: VmArea) -> None:
        """Make *new* the child's copy of *area*: not locked, and right after it on the file's chain."""
        self.kernel.mmap.assign_vma(new, area)
        new.vm_flags &= ~VM_LOCKED
        new.vm_mm = mm
        new.vm_next = None
        file = new.vm_file
        if file is not None:
            get_file(file)
            if new.vm_flags & VM_DENYWRITE:
                file.inode.i_writecount -= 1
            mapping = file.inode.i_mapping
            chain = mapping.i_mmap_shared if new.vm_flags & VM_SHARED else mapping.i_mmap
            chain.insert(chain.index(area) + 1, new)
        if self.on_event is not None:
            oldmm = area.vm_mm
            self.on_event(("dup_mmap", oldmm.pid if oldmm else -1, mm.pid, new.vm_start, new.vm_end))

    # -- tasks ---------------------------------------------------------------------------------

    def alloc_task_struct(self) -> int | None:
        """Two frames for a task_struct and its kernel stack: the first frame, None without memory, 0 outside RAM.

        kernel: include/asm-i386/processor.h:alloc_task_struct
        """
        kernel = self.kernel
        if kernel.config.kernel_objects != "ram":
            return 0
        pfn = kernel.page_allocator.alloc_pages(GFP_KERNEL, 1)
        if pfn is not None:
            kernel.mem.owner[pfn] = kernel.owner_id("task")
        return pfn

    def free_task_struct(self, task: Task) -> None:
        """Give them back. kernel: include/asm-i386/processor.h:free_task_struct"""
        if task.task_pfn:
            self.kernel.mem.owner[task.task_pfn] = 0
            self.kernel.page_allocator.free_pages(task.task_pfn, 1)
            task.task_pfn = 0

    def _copy_objects(self, task: Task) -> bool:
        """The slab objects of a process: open files, directories, signal handlers. False without memory, some may be there.

        kernel: kernel/fork.c:copy_files, copy_fs, copy_sighand
        """
        slab = self.kernel.slab
        if self.kernel.config.kernel_objects != "ram":
            return True
        for name in _OBJECTS:
            address = slab.kmem_cache_alloc(getattr(slab, name), GFP_KERNEL)
            if not address:
                return False
            task.objects[name] = address
        return True

    def _exit_objects(self, task: Task, backwards: bool = False) -> None:
        """Free what :meth:`_copy_objects` allocated. kernel: kernel/exit.c:exit_files, exit_fs, exit_sighand"""
        slab = self.kernel.slab
        for name in reversed(_OBJECTS) if backwards else _OBJECTS:
            if name in task.objects:
                slab.kmem_cache_free(getattr(slab, name), task.objects.pop(name))

    def new_task(self, pid: int, comm: str = "p") -> Task | None:
        """A process with an empty address space, as exec leaves it; None without memory. It is an ordinary user's.

        The current task is its parent. Raises ValueError for a pid in use.
        kernel: kernel/fork.c:do_fork, fs/exec.c:exec_mmap
        """
        kernel = self.kernel
        if pid in kernel.sched.tasks:
            raise ValueError(f"pid {pid} is taken by {kernel.sched.tasks[pid]}")
        task = Task(pid, comm)
        task.uid = task.euid = _USER
        pfn = self.alloc_task_struct()
        if pfn is None:
            return None
        task.task_pfn = pfn
        mm = self.mm_alloc(pid) if self._copy_objects(task) else None
        if mm is None:
            self._exit_objects(task, backwards=True)
            self.free_task_struct(task)
            return None
        self.mmlist.insert(0, mm)
        task.mm = task.active_mm = mm
        kernel.sched.add_task(task)
        if self.on_event is not None:
            self.on_event(("new_task", pid))
        return task

    def do_fork(self, pid: int, clone_flags: int = 0, limits: bool = True) -> int:
        """A child *pid* of the current task. Returns 0, -ENOMEM or -EAGAIN (too many processes, if *limits* hold).

        kernel: kernel/fork.c:do_fork
        """
        kernel = self.kernel
        sched = kernel.sched
        if pid in sched.tasks:
            raise ValueError(f"pid {pid} is taken by {sched.tasks[pid]}")
        parent = kernel.current
        pfn = self.alloc_task_struct()
        if pfn is None:
            return -ENOMEM
        task = self._dup_task_struct(parent, pid)
        task.task_pfn = pfn
        if limits and not self._may_have_one_more(parent):
            self.free_task_struct(task)
            return -EAGAIN
        error = 0 if self._copy_objects(task) else -ENOMEM
        if not error:
            sched.add_task(task)
            error = self.copy_mm(clone_flags, task)
        if error:
            sched.remove_task(task)
            self._exit_objects(task, backwards=True)
            self.free_task_struct(task)
            return error
        self._copy_files(task)
        task.counter = parent.counter + 1 >> 1
        parent.counter >>= 1
        self.total_forks += 1
        if self.on_event is not None:
            self.on_event(("fork", parent.pid, pid))
        return 0

    def _may_have_one_more(self, parent: Task) -> bool:
        """Whether *parent*'s user and the machine are below their limits of processes."""
        tasks = self.kernel.sched.tasks
        if len(tasks) >= self.max_threads:
            return False
        mine = sum(task.uid == parent.uid for task in tasks.values())
        return mine < parent.rlim[RLIMIT_NPROC] or parent.capable(CAP_SYS_ADMIN) or parent.capable(CAP_SYS_RESOURCE)

    def _dup_task_struct(self, parent: Task, pid: int) -> Task:
        """The child's task: who it is and what it may do as *parent*, its accounts empty. kernel: kernel/fork.c:copy_flags"""
        task = Task(pid, parent.comm)
        task.__dict__.update({name: getattr(parent, name) for name in ("uid", "euid", "gid", "egid", "groups", "cap_effective", "nice")})
        task.rlim = parent.rlim[:]
        task.flags = parent.flags & (PF_MEMALLOC | PF_MEMDIE)
        task.eip, task.esp = parent.eip, parent.esp
        return task

    def _copy_files(self, task: Task) -> None:
        """The child has the parent's files open, at the same positions. kernel: kernel/fork.c:copy_files"""
        for fd, file in self.kernel.current.files.items():
            get_file(file)
            task.files[fd] = file

    def exit_files(self, task: Task) -> None:
        """Close everything *task* has open. kernel: kernel/exit.c:exit_files, put_files_struct, close_files"""
        for fd in sorted(task.files):
            fput(self.kernel, task.files.pop(fd))

    def fork_task(self, parent: Task, pid: int) -> Task | None:
        """*parent* forks: the child, or None when it failed. kernel: kernel/fork.c:do_fork"""
        with self.kernel.running(parent):
            error = self.do_fork(pid)
        return None if error else self.kernel.sched.tasks[pid]

    # -- the end -------------------------------------------------------------------------------

    def exit_mm(self, task: Task) -> None:
        """*task* lets go of its address space; the page directory stays until another is loaded.

        kernel: kernel/exit.c:__exit_mm, exit_mm
        """
        mm = task.mm
        if mm is not None:
            mm.mm_count += 1
            task.mm = None
            self.mmput(mm)

    def exit_task(self, task: Task) -> None:
        """All of an exit of *task*, the current one, and of its burial: nothing of it is left.

        kernel: kernel/exit.c:do_exit, release_task
        """
        task.exiting = True
        lazy_mm = task.mm
        self.exit_mm(task)
        self.exit_files(task)
        self._exit_objects(task)
        if lazy_mm is not None:
            self.mmdrop(lazy_mm)
            task.active_mm = None
        self.kernel.sched.remove_task(task)
        self.free_task_struct(task)
        if self.on_event is not None:
            self.on_event(("exit", task.pid))
