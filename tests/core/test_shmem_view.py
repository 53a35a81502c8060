"""What shared memory tells: events in sentences, the tree of a swap vector, where a page is."""

from __future__ import annotations

from vmlab.mm import shmem_view
from vmlab.mm.events import EVENTS, Event, describe
from vmlab.mm.fs import File
from vmlab.mm.ipc_shm import IPC_CREAT, IPC_RMID
from vmlab.mm.shmem_swap import SGP_WRITE, SHMEM_MAX_INDEX, shmem_i
from vmlab.mm.vfs import ATTR_SIZE, Iattr, fput
from vmlab.mm.vm import MAP_SHARED, PROT_READ, PROT_WRITE

from .processes import machine, new_task
from .test_shmem import PAGE, a_file, boot, check, load, store


def test_the_way_to_an_entry_is_the_kernels() -> None:
    m = machine()
    file = a_file(m, SHMEM_MAX_INDEX)
    info = shmem_i(file.inode)
    for index in (0, 15, 16, 1039, 1040, 524303, 524304, 525327, 525328, 524304 + (1 << 20), SHMEM_MAX_INDEX - 1):
        entry = m.shmem.shmem_swp_alloc(info, index, SGP_WRITE)
        assert not isinstance(entry, int)
        depth, *slots = shmem_view.slots_of(index)
        table = info.i_direct
        if depth:
            table = m.shmem.words(info.i_indirect)
            for slot in slots[:-1]:
                table = m.shmem.words(table[slot])
        assert entry[0] is table and entry[1] == slots[-1]
    assert [line.split(" -> ")[0].strip() for line in shmem_view.vector(m, file.inode).splitlines()[2:]] == [
        "i_indirect",
        "[0]",
        "[1]",
        "[511]",
        "[512]",
        "[0]",
        "[1]",
        "[513]",
        "[0]",
        "[1023]",
        "[1023]",
    ]


def test_every_page_is_in_one_place() -> None:
    m = boot(pages=250)
    file = a_file(m, 1000)
    for index in range(0, 900, 2):
        store(m, file, index, b"x")
    lines = shmem_view.pages(m, file.inode).splitlines()
    assert len(lines) == 450
    swapped = dict(shmem_view.entries(m, file.inode))
    assert len(swapped) == shmem_i(file.inode).swapped == sum("swap area 0, slot" in line for line in lines) > 200
    assert sum(": frame" not in line and " frame " in line and "swap" not in line for line in lines) == file.inode.i_mapping.nrpages
    assert shmem_view.where(m, file.inode, 1) == "a hole" and shmem_view.where(m, file.inode, 1000) == "beyond the end"
    tree = shmem_view.vector(m, file.inode)
    assert f"pages 16 to 1039, {sum(index >= 16 for index in swapped)} in swap" in tree


def test_events_tell_a_pages_life() -> None:
    m = boot(pages=250)
    said: list[Event] = []
    m.on_event = said.append
    file = a_file(m, 400)
    for index in range(300):
        store(m, file, index, b"x")
    load(m, file, 0)
    load(m, file, 399)
    m.shmem.shmem_notify_change(file.inode, Iattr(ATTR_SIZE, ia_size=100 * PAGE))
    m.swapfile.sys_swapoff(0)
    fput(m, file)
    life = [event[0] for event in said if event[0].startswith("shmem_") and event[1:3] == (file.inode.i_ino, 0)]
    assert life == ["shmem_new_page", "shmem_to_swap", "shmem_from_swap", "shmem_truncate"]
    names = {event[0] for event in said}
    assert names >= {"shmem_file", "shmem_hole", "shmem_unuse", "shmem_vector_page"}
    for event in said:
        assert describe(event)
        assert len(event) - 1 == len(EVENTS[event[0]].fields)
    first = next(event for event in said if event[0] == "shmem_to_swap" and event[2] == 0)
    assert describe(first) == f"file {file.inode.i_ino}: page 0, frame {first[3]}, moves to swap entry {first[4]:#x}"
    check(m)


def test_events_of_a_segment() -> None:
    m = machine()
    task = new_task(m)
    said: list[Event] = []
    m.on_event = said.append
    with m.running(task):
        ident = m.ipc_shm.sys_shmget(7, 3 * PAGE, IPC_CREAT | 0o600)
        address = m.ipc_shm.sys_shmat(ident, 0, 0)
        m.ipc_shm.sys_shmctl(ident, IPC_RMID)
        m.ipc_shm.sys_shmdt(address)
    mine = [event for event in said if event[0].startswith("shm_")]
    assert mine == [("shm_new", 0, 7, 3), ("shm_attach", 0, 2), ("shm_detach", 0, 0), ("shm_destroy", 0)]
    assert describe(mine[0]) == "segment 0 with key 0x7: 3 pages"


def test_handles_find_their_file_system_in_a_restored_machine() -> None:
    from vmlab.mm import tmpfs

    m = machine()
    tmp = tmpfs.mount(m)
    assert isinstance(tmp, tmpfs.Tmpfs)
    file = tmp.open("/f", tmpfs.O_CREAT | tmpfs.O_RDWR)
    assert isinstance(file, File) and tmp.write(file, b"before") == 6
    before = m.snapshot()
    assert tmp.unlink("/f") == 0 and tmp.mkdir("/d") == 0
    m.restore(before)
    assert tmp.listdir("/") == [".", "..", "f"]
    again = tmp.open("/f")
    assert isinstance(again, File) and tmp.read(again, 10) == b"before"
    task = new_task(m)
    with m.running(task):
        base = m.mmap.do_mmap_pgoff(again, 0, PAGE, PROT_READ, MAP_SHARED, 0)
        assert m.mmap.do_mmap_pgoff(again, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0) == -13, "it was opened for reading"
    assert m.mmu.touch(task, base) == 1 and m.mmu.loaded == int.from_bytes(b"befo", "little")
