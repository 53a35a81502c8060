"""Processes in 2.6: address spaces made, copied and dropped.

``machine.fork.mmlist`` holds only the address spaces that have had a page in swap: swapoff looks there.
kernel: kernel/fork.c, kernel/exit.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..mm.errno import EAGAIN, ENOMEM
from ..mm.fork import _USER, CLONE_VM, Fork
from ..mm.rbtree import RIGHT
from ..mm.task import Task
from ..mm.vfs import get_file
from ..mm.vm import TASK_UNMAPPED_BASE, VM_DENYWRITE, VM_DONTCOPY, VM_LOCKED
from .exec import Exec26
from .prio_tree import vma_prio_tree_add
from .vm import VM_ACCOUNT, VM_NONLINEAR, MmStruct26, VmArea26

if TYPE_CHECKING:
    from ..mm.vm import MmStruct, VmArea
    from .mmap import Mmap26


class Fork26(Exec26, Fork):
    """Making, copying and ending processes."""

    mm_class = MmStruct26

    def mm_init(self, mm: MmStruct) -> bool:
        """In 2.6 the search for gaps is set to the old start, because only exec knows the layout; before that there was none.

        False, and the record is freed, when there is no memory for a page directory. kernel: kernel/fork.c:mm_init
        """
        new = cast(MmStruct26, mm)
        new.nr_ptes = 0
        new.free_area_cache = TASK_UNMAPPED_BASE
        return super().mm_init(mm)

    def mmput(self, mm: MmStruct) -> None:
        """In 2.6 it leaves the list last and gives the swap token back, because swapoff may be there just now; before that it left first.

        kernel: kernel/fork.c:mmput
        """
        mm.mm_users -= 1
        if mm.mm_users:
            return
        self.kernel.mmap.exit_mmap(mm)
        if mm in self.mmlist:
            self.mmlist.remove(mm)
        put_swap_token = getattr(self.kernel.reclaim, "put_swap_token", None)
        if put_swap_token is not None:
            put_swap_token(mm)
        self.mmdrop(mm)

    def copy_mm(self, clone_flags: int, task: Task) -> int:
        """In 2.6 the copy's peaks begin with what it has, because they are its own. Returns 0 or -ENOMEM. kernel: kernel/fork.c:copy_mm"""
        error = super().copy_mm(clone_flags, task)
        mm = cast("MmStruct26 | None", task.mm)
        if mm is not None and not clone_flags & CLONE_VM:
            mm.hiwater_rss, mm.hiwater_vm = mm.rss, mm.total_vm
        return error

    def dup_mmap(self, mm: MmStruct) -> int:
        """In 2.6 each area is promised memory and put into tree and lists before its entries are copied, because reclaim can come for them
        at once; before that the tree was built at the end.

        Copy the current task's areas and page table entries into *mm*. Returns 0 or -ENOMEM, with what was
        copied left in *mm*. kernel: kernel/fork.c:dup_mmap
        """
        kernel = self.kernel
        mmap = cast("Mmap26", kernel.mmap)
        oldmm = cast(MmStruct26, kernel.current.mm)
        new = cast(MmStruct26, mm)
        new.locked_vm = new.map_count = new.rss = new.anon_rss = 0
        new.mmap = new.mmap_cache = new.mm_rb = None
        new.free_area_cache = oldmm.mmap_base
        error = 0
        last: VmArea26 | None = None
        area = cast("VmArea26 | None", oldmm.mmap)
        while area is not None and not error:
            pages = area.vm_end - area.vm_start >> 12
            if area.vm_flags & VM_DONTCOPY:
                mmap.vm_stat_account(new, area.vm_flags, area.vm_file, -pages)
            else:
                charge = pages if area.vm_flags & VM_ACCOUNT else 0
                if charge and mmap.security_vm_enough_memory(charge):
                    error = -ENOMEM
                    break
                copy = cast("VmArea26 | None", mmap.alloc_vma())
                if copy is None:
                    mmap.vm_unacct_memory(charge)
                    error = -ENOMEM
                    break
                self._copy_area(new, area, copy)
                if last is None:
                    new.mmap = copy
                else:
                    last.vm_next = copy
                mmap.vma_link_rb(new, copy, last, RIGHT)
                last = copy
                new.map_count += 1
                error = kernel.memory.copy_page_range(new, oldmm, copy)
                if copy.vm_ops is not None and copy.vm_ops.open is not None:
                    copy.vm_ops.open(copy)
            area = cast("VmArea26 | None", area.vm_next)
        kernel.mmu.flush_tlb_mm(oldmm)
        return error

    def _copy_area(self, mm: MmStruct, area: VmArea, new: VmArea) -> None:
        """Make *new* the child's copy of *area*: not locked, with it on the lists of anonymous pages and of the file."""
        kernel = self.kernel
        mmap = cast("Mmap26", kernel.mmap)
        old, copy = cast(VmArea26, area), cast(VmArea26, new)
        mmap.assign_vma(copy, old)
        copy.vm_flags &= ~VM_LOCKED
        copy.vm_mm = mm
        copy.vm_next = None
        kernel.rmap.anon_vma_link(copy)  # type: ignore[attr-defined]
        file = copy.vm_file
        if file is not None:
            get_file(file)
            if copy.vm_flags & VM_DENYWRITE:
                file.inode.i_writecount -= 1
            mapping = mmap.mapping_of(copy)
            copy.vm_truncate_count = old.vm_truncate_count
            if copy.vm_flags & VM_NONLINEAR:
                copy.shared_head = copy.shared_parent = None
                mapping.i_mmap_nonlinear.insert(mapping.i_mmap_nonlinear.index(old) + 1, copy)
            else:
                vma_prio_tree_add(copy, old)
        if self.on_event is not None:
            oldmm = area.vm_mm
            self.on_event(("dup_mmap", oldmm.pid if oldmm else -1, mm.pid, new.vm_start, new.vm_end))

    # -- tasks ---------------------------------------------------------------------------------

    def new_task(self, pid: int, comm: str = "p", legacy: bool = False) -> Task | None:
        """In 2.6 the layout is chosen for each program, because there are two. *legacy*: mappings go up, whatever the limits say.

        A process with an empty address space, as exec leaves it; None without memory. It is an ordinary user's.
        The current task is its parent. Raises ValueError for a pid in use. kernel: kernel/fork.c:do_fork, fs/exec.c:exec_mmap
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
        mm = cast("MmStruct26 | None", self.mm_alloc(pid) if self._copy_objects(task) else None)
        if mm is None:
            self._exit_objects(task, backwards=True)
            self.free_task_struct(task)
            return None
        task.mm = task.active_mm = mm
        with kernel.running(task):
            cast("Mmap26", kernel.mmap).arch_pick_mmap_layout(mm)
        if legacy:
            mm.legacy, mm.mmap_base = True, TASK_UNMAPPED_BASE
        mm.free_area_cache = mm.mmap_base
        kernel.sched.add_task(task)
        if self.on_event is not None:
            self.on_event(("new_task", pid))
        return task

    def do_fork(self, pid: int, clone_flags: int = 0, limits: bool = True) -> int:
        """In 2.6 the child joins the task list when its memory is copied, because before nobody can kill it; before that it joined first.

        A child *pid* of the current task. Returns 0, -ENOMEM or -EAGAIN (too many processes, if *limits* hold).
        kernel: kernel/fork.c:copy_process
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
        error = error or self.copy_mm(clone_flags, task)
        if error:
            self._exit_objects(task, backwards=True)
            self.free_task_struct(task)
            return error
        self._copy_files(task)
        sched.add_task(task)
        task.counter = parent.counter + 1 >> 1
        parent.counter >>= 1
        self.total_forks += 1
        if self.on_event is not None:
            self.on_event(("fork", parent.pid, pid))
        return 0
