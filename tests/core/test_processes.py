"""Processes as people use them: what each call returns, what goes wrong and how it says so, and that a run can be played again."""

from __future__ import annotations

import pytest

import vmlab
from vmlab import Errno, ProcessGone, Signalled
from vmlab.mm.exec_image import PF_R, PF_W, PF_X, Segment, write_elf
from vmlab.mm.vm import MAP_PRIVATE


@pytest.fixture
def m() -> vmlab.Machine:
    return vmlab.boot(ram="32M", swap="8M")


def test_a_fork_shares_until_somebody_writes(m: vmlab.Machine) -> None:
    p = m.spawn("editor")
    a = p.mmap(1 << 20)
    assert p.write(a, b"hello") == 1
    q = p.fork()
    assert p.frame(a) == q.frame(a) and m.page(p.frame(a)).count == 2
    assert q.write(a, b"HELLO") == 1
    assert (p.read(a, 5), q.read(a, 5)) == (b"hello", b"HELLO")
    assert p.frame(a) != q.frame(a)
    assert "40000000-40100000 rw-p" in p.maps() == q.maps()
    q.exit()
    assert not q.alive and p.alive and m.processes == [p]
    with pytest.raises(ProcessGone, match="process 2 is gone"):
        q.read(a, 1)
    m.check()


def test_failures_are_the_kernels_errnos(m: vmlab.Machine) -> None:
    p = m.spawn()
    a = p.mmap(8192, "r")
    cases = {
        "EINVAL": [p.munmap(a + 1, 4096), p.munmap(a, 0), p.mprotect(a + 1, 1, "r"), p.madvise(a, 4096, 77), p.mremap(a, 0, 4096, to=1)],
        "ENOMEM": [p.mmap(0xBFFFFFFF), p.mprotect(0x10000000, 4096, "r"), p.msync(0x10000000, 4096), p.mmap(1 << 30)],
        "EBADF": [p.mmap(4096, fd=9), p.close(3), p.read_file(5, 1)],
        "ENOENT": [p.open("nothing"), p.execve("nothing")],
        "EFAULT": [p.mremap(0x10000000, 4096, 8192)],
        "ESRCH": [p.kill(999, 9)],
        "EPERM": [p.mlock(a, 4096), p.syscall("nice", -5)],
    }
    for name, results in cases.items():
        for number, result in enumerate(results):
            assert isinstance(result, Errno) and result.name == name, (name, number, result)
    assert repr(p.munmap(a + 1, 4096)) == "-EINVAL (-22)"
    assert repr(a) == "0x40000000"


def test_signals_say_why_and_the_process_lives_on(m: vmlab.Machine) -> None:
    p = m.spawn()
    a = p.mmap(8192, "r")
    with pytest.raises(Signalled, match="SIGSEGV .*SEGV_ACCERR.* at 0x40000000") as caught:
        p.write(a, b"x")
    assert (caught.value.signal, caught.value.pid) == (11, p.pid)
    with pytest.raises(Signalled, match="SEGV_MAPERR"):
        p.read(0x10000000, 1)
    m.create_file("short", b"x")
    b = p.mmap(8192, "r", fd=p.open("short"))
    assert p.read(b, 2) == b"x\0"
    with pytest.raises(Signalled, match="SIGBUS"):
        p.read(b + 4096, 1)
    assert p.alive and p.read(a, 1) == b"\0"


def test_wrong_calls_are_told_in_a_sentence(m: vmlab.Machine) -> None:
    p = m.spawn()
    for wrong, text in [
        (lambda: p.mmap(4096, "q"), "prot='q'"),
        (lambda: p.mmap(4 << 30), "32 bits"),
        (lambda: p.syscall("reboot"), "no system call 'reboot'"),
        (lambda: p.open("x", "z"), "mode='z'"),
        (lambda: p.read(0xFFFFFFFF, 4096), "addresses go from 0"),
        (lambda: m.add_swap(100), "at least 10 pages"),
        (lambda: m.tick(-1), "forward"),
        (lambda: m.overcommit(2), "0 or 1"),
        (lambda: m.create_file("", b""), "name"),
        (lambda: p.madvise(0x40000000, 1, "quick"), "advice='quick'"),
        (lambda: vmlab.boot(ram="32M", kernel="2.2"), "kernel='2.2'"),
        (lambda: vmlab.boot(ram="32M", parts={"tea": object}), "parts="),
        (lambda: vmlab.boot(ram="32M", kernel_objects=None).spawn(), "page allocator only"),
        (lambda: vmlab.Machine("32M").spawn(), "not up yet"),
    ]:
        with pytest.raises(ValueError, match=text):
            wrong()
    m.check()


def test_files_through_descriptors_and_mappings_are_one(m: vmlab.Machine) -> None:
    p, q = m.spawn("writer"), m.spawn("reader")
    m.create_file("data", b"abcdefgh" * 1000)
    fd = p.open("data", "r+")
    a = p.mmap(8000, "rw", fd=fd, shared=True)
    b = q.mmap(8000, "r", fd=q.open("data"))
    assert p.read_file(fd, 4) == b"abcd"
    p.write(a + 4, b"WXYZ")
    assert p.read_file(fd, 4) == b"WXYZ" and q.read(b + 4, 4) == b"WXYZ"
    assert p.seek(fd, 0) == 0 and p.write_file(fd, b"!!") == 2 and q.read(b, 4) == b"!!cd"
    assert p.msync(a, 8000) == 0 and p.fsync(fd) == 0 and p.truncate(fd, 4096) == 0
    assert dict((name, size) for name, size, _ in m.files()) == {"data": 4096}
    with pytest.raises(Signalled, match="SIGBUS"):
        q.read(b + 4096, 1)
    assert p.close(fd) == 0 and m.remove_file("data") == 0
    assert q.read(b, 2) == b"!!", "mapped, so it lives on"
    assert repr(m.remove_file("data")) == "-ENOENT (-2)"
    m.check()


def test_memory_that_does_not_fit_goes_to_swap_and_comes_back() -> None:
    m = vmlab.boot(ram="16M", swap="32M")
    p = m.spawn("big")
    a = p.mmap(20 << 20)
    for i in range(20 * 256):
        p.store(a + i * 4096, i * 7)
    assert "/dev/disk0" in m.swaps() and m.sched.kstat.pswpout > 1000
    assert [p.load(a + i * 4096) for i in range(0, 20 * 256, 11)] == [i * 7 for i in range(0, 20 * 256, 11)]
    assert p.maj_flt > 100 and p.rss < p.total_vm
    p.munmap(a, 12 << 20)
    assert m.swapoff(0) == 0 and p.load(a + (19 << 20)) == (19 * 256) * 7
    m.check()


def test_a_program_is_loaded_from_its_elf_file(m: vmlab.Machine) -> None:
    code = Segment(0x08048000, 0, 4096, 4096, PF_R | PF_X)
    data = Segment(0x08049000, 4096, 100, 9000, PF_R | PF_W)
    m.create_file("prog", write_elf((code, data), 0x08048100, {0x100: b"\x90\x90", 4096: b"initial"}))
    p = m.spawn("sh", program="prog")
    assert p.read(0x08048100, 2) == b"\x90\x90" and p.read(0x08049000, 7) == b"initial"
    assert p.read(0x08049000 + 100, 8) == bytes(8), "bss"
    lines = p.maps().splitlines()
    assert [line.split()[1] for line in lines] == ["r-xp", "rw-p", "rwxp", "rwxp"] and "prog" in lines[0]
    assert p.brk() == 0x0804B328 and p.brk(p.brk() + 10_000) == 0x0804DA38
    assert p.write(0x0804D000, b"heap") == 1
    with pytest.raises(OSError, match="ENOEXEC"):
        m.create_file("text", b"#!/bin/sh")
        m.spawn("x", program="text")
    assert len(m.processes) == 1
    m.check()


def test_system_v_shared_memory(m: vmlab.Machine) -> None:
    p, q = m.spawn(), m.spawn()
    shm = p.shmget(42, 10_000)
    a, b = p.shmat(shm), q.shmat(q.shmget(42, 10_000, 0o600))
    p.write(a + 5000, b"both")
    assert q.read(b + 5000, 4) == b"both" and p.frame(a + 5000) == q.frame(b + 5000)
    assert p.shmctl(shm) == 0 and p.shmdt(a) == 0 and q.read(b + 5000, 4) == b"both"
    assert q.shmdt(b) == 0 and q.shmat(shm) == Errno(-22)
    m.check()


def test_limits_and_privileges(m: vmlab.Machine) -> None:
    p, root = m.spawn(), m.spawn("root", uid=0)
    assert p.setrlimit(9, 100 * 4096) == 0 and p.mmap(1 << 20).name == "ENOMEM"  # type: ignore[attr-defined]
    assert p.setrlimit(9, 1 << 30) == Errno(-1)
    root.task.cap_effective = 0xFFFFFFFF
    a = root.mmap(8192)
    assert root.mlock(a, 8192) == 0 and root.mm.locked_vm == 2
    assert root.mincore(a, 8192) == Errno(-12), "mincore of 2.4 knows files only"
    m.create_file("f", b"x" * 9000)
    b = root.mmap(9000, "r", fd=root.open("f"))
    assert root.mincore(b, 9000) == [False] * 3
    assert root.read(b, 1) == b"x" and root.mincore(b, 9000)[0] is True  # type: ignore[index]
    assert root.munlock(a, 8192) == 0 and root.mm.locked_vm == 0


def test_everything_can_be_recorded_and_played_again(m: vmlab.Machine) -> None:
    with m.record() as tape:
        p = m.spawn("a")
        a = p.mmap(64 << 10)
        p.write(a, b"one")
        q = p.fork()
        q.write(a, b"two")
        m.create_file("f", b"file")
        b = q.mmap(4096, "rw", fd=q.open("f", "r+"), shared=True)
        q.write(b, b"F")
        p.exit()
        v = m.vmalloc(20_000)
        m.vfree(v)
        m.kfree(m.kmalloc(100))
    end = tape.seek(len(tape) - 1)
    assert not vmlab.compare(m, end)
    assert end.process(q.pid).read(a, 3) == b"two"
    middle, _ = tape.branch(len(tape) // 2)
    middle.check()


def test_copies_are_independent(m: vmlab.Machine) -> None:
    p = m.spawn()
    a = p.mmap(1 << 20)
    p.write(a, b"first")
    copy = m.copy()
    other = copy.process(p.pid)
    other.write(a, b"other")
    other.munmap(a + 8192, 4096)
    assert p.read(a, 5) == b"first" and other.read(a, 5) == b"other"
    assert len(p.areas) == 2 and len(other.areas) == 3
    m.check()
    copy.check()


def test_texts_are_there_for_every_structure(m: vmlab.Machine) -> None:
    p = m.spawn("editor")
    a = p.mmap(1 << 20)
    p.write(a, b"x")
    assert "editor" in m.ps() and "editor" in repr(p) and str(p) == p.maps()
    assert "slabinfo - version: 1.1" in m.slabinfo() and "VmRSS" in p.status() and "pages" in p.page_tables()
    assert "physical 0x" in str(p.walk(a)) and "page fault" in str(p.walk(a + 8192, write=True))
    assert "inactive" in m.lru() and "vm_area_struct" in m.slabinfo() and "SwapTotal" in m.meminfo()
    assert "B " in p.tree() and m.vmalloc_map() and m.pkmap()
    for thing in (p.mm, p.areas[0], p.task, m.page(p.frame(a)), m, p.walk(a)):
        assert " object at 0x" not in repr(thing)


def test_private_file_pages_are_copied_on_write(m: vmlab.Machine) -> None:
    m.create_file("f", b"abc")
    p = m.spawn()
    fd = p.open("f")
    a = p.syscall("mmap", 0, 4096, 3, MAP_PRIVATE, fd, 0)
    p.write(a, b"X")
    assert p.read(a, 3) == b"Xbc" and p.read_file(fd, 3) == b"abc"
