"""System V shared memory: identifiers, keys, rights, attaching, and when a segment dies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab.mm.errno import EACCES, EEXIST, EFAULT, EIDRM, EINVAL, ENOENT, ENOSPC, EPERM
from vmlab.mm.ipc_shm import (
    IPC_64,
    IPC_CREAT,
    IPC_EXCL,
    IPC_INFO,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    SHM_DEST,
    SHM_INFO,
    SHM_LOCK,
    SHM_LOCKED,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_STAT,
    SHM_UNLOCK,
    SHMMAX,
    ShmidDs,
    ShmInfo,
)
from vmlab.mm.shmem_swap import shmem_i
from vmlab.mm.task import CAP_IPC_LOCK, CAP_IPC_OWNER, CAP_SYS_ADMIN, Task
from vmlab.mm.vm import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ

from .processes import machine, new_task
from .test_shmem import boot, check

PAGE = 4096


class Shm:
    """A machine with two processes of two users."""

    def __init__(self, m: vmlab.Machine) -> None:
        self.m = m
        self.alice, self.bob = new_task(m, 1), new_task(m, 2)
        self.alice.uid = self.alice.euid = 100
        self.bob.uid = self.bob.euid = 200

    def get(self, task: Task, key: int, size: int = PAGE, flags: int = 0) -> int:
        with self.m.running(task):
            return self.m.ipc_shm.sys_shmget(key, size, flags)

    def at(self, task: Task, shmid: int, address: int = 0, flags: int = 0) -> int:
        with self.m.running(task):
            return self.m.ipc_shm.sys_shmat(shmid, address, flags)

    def dt(self, task: Task, address: int) -> int:
        with self.m.running(task):
            return self.m.ipc_shm.sys_shmdt(address)

    def ctl(self, task: Task, shmid: int, cmd: int, buf: ShmidDs | ShmInfo | None = None) -> int:
        with self.m.running(task):
            return self.m.ipc_shm.sys_shmctl(shmid, cmd, buf)

    def stat(self, shmid: int) -> ShmidDs:
        buf = ShmidDs()
        assert self.ctl(self.alice, shmid, IPC_STAT | IPC_64, buf) == 0
        return buf


@pytest.fixture
def shm() -> Shm:
    return Shm(machine())


def test_a_key_finds_its_segment(shm: Shm) -> None:
    assert shm.get(shm.alice, 7) == -ENOENT
    ident = shm.get(shm.alice, 7, PAGE, IPC_CREAT | 0o644)
    assert ident == 0 == shm.get(shm.alice, 7) == shm.get(shm.bob, 7, 100, IPC_CREAT | 0o444)
    assert shm.get(shm.alice, 7, PAGE, IPC_CREAT | IPC_EXCL) == -EEXIST
    assert shm.get(shm.alice, 7, PAGE + 1) == -EINVAL, "larger than it is"
    assert shm.get(shm.bob, 7, PAGE, 0o200) == -EACCES
    assert shm.get(shm.alice, IPC_PRIVATE) != shm.get(shm.alice, IPC_PRIVATE)


def test_sizes_and_limits(shm: Shm) -> None:
    assert shm.get(shm.alice, IPC_PRIVATE, 0) == shm.get(shm.alice, IPC_PRIVATE, SHMMAX + 1) == -EINVAL
    shm.m.ipc_shm.shm_ctlall = 10
    assert shm.get(shm.alice, IPC_PRIVATE, 8 * PAGE + 1) >= 0
    assert shm.get(shm.alice, IPC_PRIVATE, PAGE) == -ENOSPC, "the tenth page would reach the limit"
    shm.m.ipc_shm.shm_ctlall, shm.m.ipc_shm.shm_ctlmni = 1000, 2
    made = [shm.get(shm.alice, IPC_PRIVATE) for _ in range(5)]
    assert made[2:] == [-ENOSPC] * 3 and min(made[:2]) >= 0, "slots 0 to 2"
    info = ShmInfo()
    assert shm.ctl(shm.alice, 0, IPC_INFO, info) == 2, "the highest slot"
    assert (info.shmmax, info.shmmin, info.shmmni, info.shmall) == (SHMMAX, 1, 2, 1000)


def test_an_old_identifier_is_noticed(shm: Shm) -> None:
    first = shm.get(shm.alice, IPC_PRIVATE)
    assert shm.ctl(shm.alice, first, IPC_RMID) == 0
    second = shm.get(shm.alice, IPC_PRIVATE)
    assert second == first + 32768
    assert shm.at(shm.alice, first) == shm.ctl(shm.alice, first, IPC_STAT, ShmidDs()) == shm.ctl(shm.alice, first, IPC_RMID) == -EIDRM
    assert shm.at(shm.alice, second + 1) == shm.at(shm.alice, -1) == -EINVAL


def test_two_processes_see_each_other(shm: Shm) -> None:
    ident = shm.get(shm.alice, 7, 3 * PAGE, IPC_CREAT | 0o666)
    a, b = shm.at(shm.alice, ident), shm.at(shm.bob, ident, 0x50000000)
    assert a == 0x40000000 and b == 0x50000000
    assert shm.m.mmu.touch(shm.alice, a + 2 * PAGE, 1, None, 42) == 1
    assert shm.m.mmu.touch(shm.bob, b + 2 * PAGE) == 1 and shm.m.mmu.loaded == 42
    assert shm.stat(ident).shm_nattch == 2 and shm.stat(ident).shm_lpid == 2
    assert shm.dt(shm.bob, b) == 0 and shm.dt(shm.bob, b) == -EINVAL
    assert shm.stat(ident).shm_nattch == 1
    assert shm.m.mmu.touch(shm.bob, b) == -11


def test_where_a_segment_can_be_attached(shm: Shm) -> None:
    ident = shm.get(shm.alice, 7, 2 * PAGE, IPC_CREAT | 0o600)
    assert shm.at(shm.alice, ident, 0x50000001) == -EINVAL
    assert shm.at(shm.alice, ident, 0x50000FFF, SHM_RND) == 0x50000000
    assert shm.at(shm.alice, ident, 0x50001000) == -EINVAL, "something is there"
    assert shm.at(shm.alice, ident, 0x50001000, SHM_REMAP) == 0x50001000
    assert shm.at(shm.alice, ident, 0, SHM_REMAP) == -EINVAL
    assert shm.at(shm.bob, ident) == shm.at(shm.bob, ident, 0, SHM_RDONLY) == -EACCES
    assert shm.stat(ident).shm_nattch == 2
    assert shm.m.mmu.touch(shm.alice, shm.at(shm.alice, ident, 0, SHM_RDONLY), 1) == -11
    shm.alice.mm.start_stack = 0x60000000  # type: ignore[union-attr]
    assert shm.at(shm.alice, ident, 0x60000000 - 5 * PAGE) == -EINVAL, "the stack could not grow"
    assert shm.at(shm.alice, ident, 0x60000000 - 7 * PAGE) == 0x60000000 - 7 * PAGE


def test_a_removed_segment_lives_until_the_last_detach(shm: Shm) -> None:
    ident = shm.get(shm.alice, 7, 5 * PAGE, IPC_CREAT | 0o666)
    a, b = shm.at(shm.alice, ident), shm.at(shm.bob, ident)
    shm.m.mmu.touch(shm.alice, a, 1, None, 1)
    assert shm.ctl(shm.bob, ident, IPC_RMID) == -EPERM
    assert shm.ctl(shm.alice, ident, IPC_RMID) == 0
    assert shm.get(shm.alice, 7) == -ENOENT, "its key is free again"
    assert shm.stat(ident).mode & SHM_DEST and shm.m.ipc_shm.shm_tot == 5
    assert shm.at(shm.bob, ident, 0x60000000) == 0x60000000, "Linux lets one attach it still"
    assert shm.dt(shm.alice, a) == shm.dt(shm.bob, b) == 0
    files = len(shm.m.shmem.shmem_inodes)
    with shm.m.running(shm.bob):
        shm.m.fork.exit_task(shm.bob)
    assert len(shm.m.shmem.shmem_inodes) == files - 1 and shm.m.ipc_shm.shm_tot == 0
    assert shm.ctl(shm.alice, ident, IPC_STAT, ShmidDs()) == -EINVAL
    check(shm.m)


def test_fork_attaches_and_a_hole_in_the_middle_counts_twice(shm: Shm) -> None:
    ident = shm.get(shm.alice, 7, 5 * PAGE, IPC_CREAT | 0o666)
    base = shm.at(shm.alice, ident)
    child = shm.m.fork.fork_task(shm.alice, 3)
    assert child is not None and shm.stat(ident).shm_nattch == 2
    with shm.m.running(child):
        assert child.mm is not None
        assert shm.m.mmap.do_munmap(child.mm, base + 2 * PAGE, PAGE) == 0
    assert shm.stat(ident).shm_nattch == 3
    assert shm.dt(child, base) == 0, "both halves go"
    assert shm.stat(ident).shm_nattch == 1
    with shm.m.running(child):
        assert shm.m.mmap.do_mmap_pgoff(None, base, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) == base
    assert shm.dt(child, base) == -EINVAL


def test_rights_and_who_may_change_them(shm: Shm) -> None:
    shm.bob.egid = 20
    ident = shm.get(shm.alice, 7, PAGE, IPC_CREAT | 0o640)
    assert shm.ctl(shm.bob, ident, IPC_STAT, ShmidDs()) == -EACCES
    shm.bob.groups = (shm.alice.egid,)
    assert shm.ctl(shm.bob, ident, IPC_STAT, ShmidDs()) == 0
    assert shm.ctl(shm.bob, ident, IPC_SET, ShmidDs(200, 0, 0o600)) == -EPERM
    assert shm.ctl(shm.alice, ident, IPC_SET, ShmidDs(200, 0, 0o1600)) == 0
    now = shm.stat(ident)  # alice made it, so she still may look
    assert (now.uid, now.cuid, now.mode) == (200, 100, 0o600)
    assert shm.ctl(shm.alice, ident, IPC_SET) == shm.ctl(shm.alice, ident, IPC_STAT) == -EFAULT
    carol = new_task(shm.m, 3)
    carol.euid = 300
    carol.egid = 5
    assert shm.at(carol, ident) == -EACCES and shm.ctl(carol, ident, IPC_RMID) == -EPERM
    carol.cap_effective = 1 << CAP_IPC_OWNER
    assert shm.at(carol, ident) > 0
    carol.cap_effective = 1 << CAP_SYS_ADMIN
    assert shm.ctl(carol, ident, IPC_RMID) == 0


def test_locking_needs_a_capability_and_keeps_pages_in_memory() -> None:
    shm = Shm(boot())
    ident = shm.get(shm.alice, 7, 60 * PAGE, IPC_CREAT | 0o600)
    assert shm.ctl(shm.alice, ident, SHM_LOCK) == -EPERM
    shm.alice.cap_effective = 1 << CAP_IPC_LOCK
    assert shm.ctl(shm.alice, ident, SHM_LOCK) == 0 and shm.stat(ident).mode & SHM_LOCKED
    assert shm.ctl(shm.alice, ident + 1, SHM_LOCK) == -EINVAL
    assert shm.ctl(shm.alice, ident, SHM_UNLOCK) == 0 and not shm.stat(ident).mode & SHM_LOCKED


def test_what_info_counts() -> None:
    shm = Shm(boot(pages=250))
    ident = shm.get(shm.alice, 7, 400 * PAGE, IPC_CREAT | 0o600)
    base = shm.at(shm.alice, ident)
    for page in range(400):
        assert shm.m.mmu.touch(shm.alice, base + page * PAGE, 1, None, page) >= 0
    info = ShmInfo()
    assert shm.ctl(shm.alice, 0, SHM_INFO, info) == 0
    assert (info.used_ids, info.shm_tot) == (1, 400)
    assert info.shm_rss + info.shm_swp == 400 and info.shm_swp > 100
    inode = shm.m.ipc_shm.shm_get(ident).shm_file.inode  # type: ignore[union-attr]
    assert info.shm_swp == shmem_i(inode).swapped
    assert shm.ctl(shm.alice, 0, SHM_STAT, ShmidDs()) == ident and shm.ctl(shm.alice, 1, SHM_STAT, ShmidDs()) == -EINVAL
    assert shm.ctl(shm.alice, 0, 99) == shm.ctl(shm.alice, 0, -1) == -EINVAL


def test_the_text_of_proc_sysvipc_shm(shm: Shm) -> None:
    shm.m.sched.jiffies = 1234
    ident = shm.get(shm.alice, 0x80000001, 5000, IPC_CREAT | 0o640)
    shm.at(shm.bob, ident)
    heading, line = shm.m.ipc_shm.sysvipc_shm().splitlines()
    assert heading.split() == "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime".split()
    assert line == "-2147483647          0   640       5000     1     0      0   100     0   100     0          0          0         12"
    assert shm.at(shm.alice, ident) > 0 and shm.m.ipc_shm.sysvipc_shm().splitlines()[1].split()[5:7] == ["1", "1"]


def test_the_table_is_kernel_memory() -> None:
    """The first segment makes a table for 4097 of them: five pages of vmalloc space."""
    shm = Shm(machine(kernel_objects="ram"))
    before = shm.m.nr_free_pages()
    ident = shm.get(shm.alice, 7, PAGE, IPC_CREAT | 0o600)
    assert len(shm.m.ipc_shm.shm_ids.entries) == 4097
    assert before - shm.m.nr_free_pages() >= 5
    assert shm.ctl(shm.alice, ident, IPC_RMID) == 0
    shm.m.check()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["get", "at", "dt", "rm", "fork", "exit"]), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_attach_counts_are_the_areas_that_map_it(steps: list[tuple[str, int, int]]) -> None:
    shm = Shm(_machine)
    m, tasks, idents = shm.m, {1: shm.alice, 2: shm.bob}, [0, 0, 0, 0, 0, 0]
    free_pid = 3
    for what, one, two in steps:
        task = tasks[sorted(tasks)[one % len(tasks)]]
        if what == "get":
            idents[two] = max(0, shm.get(task, 1 + two, PAGE * (1 + two), IPC_CREAT | 0o666))
        elif what == "at":
            shm.at(task, idents[two])
        elif what == "rm":
            shm.ctl(task, idents[two], IPC_RMID)
        elif what == "fork" and len(tasks) < 6:
            child = m.fork.fork_task(task, free_pid)
            assert child is not None
            tasks[free_pid], free_pid = child, free_pid + 1
        elif what == "exit" and len(tasks) > 1:
            with m.running(task):
                m.fork.exit_task(task)
            del tasks[task.pid]
        elif what == "dt" and task.mm is not None:
            areas = task.mm.areas()
            if areas:
                assert shm.dt(task, areas[two % len(areas)].vm_start) == 0
        counts: dict[int, int] = {}
        for other in tasks.values():
            for vma in other.mm.areas() if other.mm else []:
                assert vma.vm_file is not None
                counts[vma.vm_file.inode.i_ino] = counts.get(vma.vm_file.inode.i_ino, 0) + 1
        alive = {shp.id: shp for shp in m.ipc_shm.shm_ids.entries if shp is not None}
        assert set(counts) <= set(alive)
        assert all(shp.shm_nattch == counts.get(ident, 0) for ident, shp in alive.items())
        assert all(shp.shm_nattch for shp in alive.values() if shp.mode & SHM_DEST), "removed, and nobody has it: gone"
        assert m.ipc_shm.shm_ids.max_id == max((ident % 32768 for ident in alive), default=-1)
    for task in tasks.values():
        with m.running(task):
            m.fork.exit_task(task)
    for shp in list(m.ipc_shm.shm_ids.entries):
        if shp is not None:
            assert shm.m.ipc_shm.sys_shmctl(shp.id, IPC_RMID) in (0, -EPERM)
    check(m)


_machine = machine()
_machine.current.cap_effective = 1 << CAP_SYS_ADMIN
