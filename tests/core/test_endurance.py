"""Short endurance runs: no difference in what processes read, every invariant true; and a shadow that notices."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmlab
from vmlab.hw.disk import FileDisk
from vmlab.tools.endurance import Endurance, main
from vmlab.tools.shadow import Backing, Difference, ShadowPage, ShadowProcess


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (3, {"ram": "16M", "swap": "6M", "demand": 2.0, "burst_share": 0.2, "most": 12}),
        (4, {"ram": "16M", "swap": "6M", "demand": 2.0, "burst_share": 0.2, "pae": True, "io_mode": 1}),
    ],
)
def test_random_work_is_what_the_shadow_says(tmp_path: Path, seed: int, options: dict[str, object]) -> None:
    run = Endurance(seed, tmp_path, **options)  # type: ignore[arg-type]
    run.run(steps=40_000)
    run.finish()
    assert run.touches > 10_000 and run.forks > 5 and run.checks >= 35 and run.machine.sched.kstat.pswpin > 500
    disks = [run.machine.block.disks[number] for number in run.swaps]
    assert all(isinstance(disk, FileDisk) for disk in disks), "swap is on real files"
    assert any(any(Path(disk.path).read_bytes()[4096:]) for disk in disks if isinstance(disk, FileDisk)), "and they were written to"


def small(tmp_path: Path) -> tuple[Endurance, ShadowProcess]:
    run = Endurance(1, tmp_path)
    run.check_every = run.next_check = 1 << 40
    run.spawn()
    return run, next(iter(run.procs.values()))


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    run, p = small(tmp_path)
    first = run._mmap(p, 0, 4, 3, 0x22, None, 0)
    assert first is not None
    run.touch(p, first, True)
    run.read_page(p, first)
    frame = run.machine.process(p.pid).frame(first << 12)
    assert frame is not None
    run.machine.ram.words(frame)[77] ^= 1
    with pytest.raises(Difference, match=f"page {first:#x}, byte 308"):
        run.read_page(p, first)


def test_missing_and_needless_signals_are_noticed(tmp_path: Path) -> None:
    run, p = small(tmp_path)
    first = run._mmap(p, 0, 4, 1, 0x22, None, 0)
    assert first is not None
    run.touch(p, first, True)
    assert run.signals[11] == 1
    p.prot[first] = 3
    with pytest.raises(Difference, match="no signal was due"):
        run.touch(p, first, True)
    with pytest.raises(Difference, match="has rights 1, not 3"):
        run.check()
    p.prot[first] = 0
    with pytest.raises(Difference, match="signal 11 was due and did not come"):
        run.touch(p, first, False)


def test_a_process_that_vanishes_is_noticed(tmp_path: Path) -> None:
    run, p = small(tmp_path)
    run.machine.exit(p.pid)
    with pytest.raises(Difference, match="vanished without a signal"):
        run.bury()


def test_a_lost_frame_ends_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = Endurance.one
    leaks = iter([True])

    def leaky(run: Endurance) -> None:
        if run.step > 5000 and next(leaks, False):
            run.machine.page_allocator.alloc_pages(vmlab.GFP_KERNEL, 0)
        one(run)

    monkeypatch.setattr(Endurance, "one", leaky)
    assert main(["--steps", "20000", "--seed", "2"]) == 1
    err = capsys.readouterr().err
    assert "seed 2, step" in err and "nobody holds it" in err


# The cut of a file that lies partly in swap once left the bytes beyond the end: ftruncate did not ask the file system.
def test_what_was_cut_from_a_swapped_tmpfs_page_does_not_come_back() -> None:
    m = vmlab.Machine("16M", kernel_objects="ram").power_on()
    m.add_swap("16M")
    m.mount_tmpfs("", "/dev/shm")
    p = m.spawn("p")
    fd = p.syscall("open", "/dev/shm/x", 0o102)
    assert p.write_file(fd, b"\xaa" * 8192) == 8192
    q = p.fork()
    q.touch_pages(q.mmap(14 << 20), (14 << 20) >> 12, True)
    inode = m.shmem.shmem_inodes[-1]
    assert inode.swapped == 2, "the file must be in swap for this"
    assert p.truncate(fd, 5000) == 0 and p.truncate(fd, 8192) == 0
    p.seek(fd, 0)
    assert p.read_file(fd, 8192) == b"\xaa" * 5000 + bytes(3192)
    m.check(held=())


def test_locking_a_private_file_mapping_copies_it() -> None:
    """As the kernel does it: make_pages_present writes where the area may be written."""
    m = vmlab.Machine("16M", kernel_objects="ram").power_on()
    m.create_file("f", b"old" * 1000)
    p = m.spawn("p")
    p.task.cap_effective = 1 << 14
    fd = p.syscall("open", "f", 2)
    a, b = p.mmap(4096, fd=fd), p.mmap(4096, fd=fd)
    p.touch(a)
    p.touch(b)
    assert p.mlock(b, 4096) == 0
    assert p.write_file(fd, b"new") == 3
    assert (p.read(a, 3), p.read(b, 3)) == (b"new", b"old")


def test_the_shadow_itself() -> None:
    backing = Backing("f", is_file=True)
    backing.write(4090, b"0123456789")
    assert backing.size == 4100 and backing.read(4088, 100) == b"\0\x000123456789" and backing.npages == 2
    backing.truncate(4094)
    backing.truncate(9000)
    assert backing.read(4090, 8) == b"0123\0\0\0\0"
    p = ShadowProcess(1)
    p.map(10, [ShadowPage(None, backing, i, False) for i in range(4)], 3)
    p.store(10, 0, b"mine")
    q = p.fork(2)
    q.store(10, 0, b"his")
    backing.write(0, b"theirs")
    assert [x.pages[10].contents()[:4] for x in (p, q)] == [b"mine", b"hise"] and p.pages[11].own is None
    assert p.signal(13, False) == 7 and p.signal(14, False) == 11 and p.signal(12, True) == 0
    backing.truncate(0)
    p.forget_copies(backing)
    assert p.signal(10, False) == 7 and p.pages[10].own is None
