"""Disks that fail, swap areas that are damaged: the error the kernel gives, and nothing else harmed."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

import vmlab
from vmlab.cli import main
from vmlab.hw.disk import FileDisk
from vmlab.mm.errno import EINVAL, EIO
from vmlab.mm.swap_header import mkswap, read_header

PAGE = 4096
MKSWAP = shutil.which("mkswap", path="/sbin:/usr/sbin:/usr/bin:/bin")


def machine(ram: str = "16M", **options: Any) -> vmlab.Machine:
    return vmlab.Machine(ram, **options).power_on()


def words(who: int, page: int) -> bytes:
    """What process *who* keeps in a page."""
    return struct.pack("<4I", who, page, who * 0x01000193 ^ page, 0xFEEDBEEF)


class Shadow:
    """Processes that filled their memory, and what must be in it."""

    def __init__(self, m: vmlab.Machine, processes: int = 2, pages: int = 600) -> None:
        self.m, self.pages = m, pages
        self.processes = [m.spawn(f"p{i}") for i in range(processes)]
        self.start = [p.mmap(pages * PAGE) for p in self.processes]
        for i, p in enumerate(self.processes):
            for page in range(pages):
                p.write(self.start[i] + page * PAGE, words(i, page))

    def push_out(self, pages: int = 4000) -> None:
        """Use so much memory that what the processes have goes to swap, then give it back."""
        hog = self.m.spawn("hog")
        address = hog.mmap(pages * PAGE)
        for page in range(pages):
            hog.touch(address + page * PAGE, 1)
        hog.exit()

    def entry(self, who: int, page: int) -> int:
        """The page table entry."""
        mm = self.processes[who].task.mm
        assert mm is not None
        place = self.m.pgtable.pte_lookup(mm, self.start[who] + page * PAGE)
        assert place is not None
        return int(place[0][place[1]])

    def swapped(self, who: int) -> list[tuple[int, int, int]]:
        """(page, area, slot) of the pages that are in swap and not in the swap cache."""
        found = []
        for page in range(self.pages):
            pte = self.entry(who, page)
            cached = self.m.filemap.find_page_nolock(self.m.swap_state.swapper_space, pte) if pte and not pte & 0x81 else None
            if pte and not pte & 0x81 and cached is None:
                found.append((page, pte >> 1 & 0x3F, pte >> 8))
        return found

    def wrong(self) -> list[tuple[int, int]]:
        """(process, page) of every page that does not hold what was written."""
        return [
            (i, page)
            for i, p in enumerate(self.processes)
            for page in range(self.pages)
            if p.read(self.start[i] + page * PAGE, 16) != words(i, page)
        ]


# A bad page in swap: do_swap_page of 2.4 does not look whether the page could be read. Does only that page suffer?
def test_a_swap_page_that_cannot_be_read() -> None:
    m = machine()
    disk = m.add_swap("64M")
    shadow = Shadow(m)
    shadow.push_out()
    page, area, slot = shadow.swapped(0)[5]
    assert area == 0
    m.inject(disk, bad_reads=[slot])
    shadow.processes[0].read(shadow.start[0] + page * PAGE, 4)
    assert f"end_request: I/O error, dev 03:{disk:02x} (disk{disk}), sector {slot * 8}" in m.console[-1]
    assert shadow.wrong() in ([(0, page)], [])
    assert shadow.processes[0].read(shadow.start[0] + page * PAGE, 16) != words(0, page), "2.4 hands out what the frame held before"
    m.check()
    assert m.swapoff(disk) == 0
    assert shadow.wrong() == [(0, page)]
    m.check()


def test_a_swap_page_that_cannot_be_written() -> None:
    m = machine()
    disk = m.add_swap("64M")
    shadow = Shadow(m)
    m.inject(disk, bad_writes=range(20, 24))
    shadow.push_out()
    assert sum("I/O error" in line for line in m.console) >= 4
    wrong = shadow.wrong()
    assert len(wrong) <= 4, "one page for each bad slot that one of them had"
    m.check()
    m.repair(disk)
    for i, page in wrong:
        shadow.processes[i].write(shadow.start[i] + page * PAGE, words(i, page))
    shadow.push_out()
    assert shadow.wrong() == []
    m.check()


def test_a_file_page_that_cannot_be_read() -> None:
    m = machine()
    data = b"".join(bytes([65 + i]) * PAGE for i in range(6))
    m.create_file("book", data)
    m.inject("book", bad_reads=[3])
    p, q = m.spawn("reader"), m.spawn("other")
    a, b = (x.mmap(6 * PAGE, "r", fd=x.open("book")) for x in (p, q))
    assert p.read(a, 1) == b"A" and q.read(b + 5 * PAGE, 1) == b"F"
    with pytest.raises(vmlab.Signalled, match="SIGBUS"):
        p.read(a + 3 * PAGE, 1)
    fd = q.open("book")
    assert m.syscall(q.pid, "read", fd, 3 * PAGE) == (3 * PAGE, data[: 3 * PAGE])
    assert m.syscall(q.pid, "read", fd, 1)[0] == -EIO  # type: ignore[index]
    assert [q.read(b + i * PAGE, 1) for i in (0, 1, 2, 4, 5)] == [b"A", b"B", b"C", b"E", b"F"]
    m.check()
    m.repair("book")
    assert p.read(a + 3 * PAGE, 1) == b"D", "the next fault asks the disk again"
    m.check()


def test_a_file_page_that_cannot_be_written() -> None:
    m = machine(io_mode=1)  # fsync only sees the error of a page that it has to wait for, and the first wait is for the last page
    m.create_file("log", 4 * PAGE)
    p = m.spawn("writer")
    fd = p.open("log", "r+")
    assert m.syscall(p.pid, "write", fd, b"x" * 4 * PAGE) == 4 * PAGE
    m.inject("log", bad_writes=[3])
    assert m.syscall(p.pid, "fsync", fd) == -EIO
    disk = m.disk("log")
    assert [disk.read_bytes(i * PAGE, 1) for i in range(4)] == [b"x", b"x", b"x", b"\0"]
    m.syscall(p.pid, "lseek", fd, 0)
    assert m.syscall(p.pid, "read", fd, 4 * PAGE) == (4 * PAGE, b"x" * 4 * PAGE), "memory has it still"
    m.check()


def test_a_page_of_shared_memory_that_cannot_be_read_back() -> None:
    m = machine()
    disk = m.add_swap("64M")
    p = m.spawn("owner")
    a = p.mmap(40 * PAGE, shared=True)
    for page in range(40):
        p.write(a + page * PAGE, words(7, page))
    child = p.fork()
    shadow = Shadow(m)
    shadow.push_out()
    m.inject(disk, bad_reads=range(1, m.disk(disk).npages))
    lost = []
    for page in range(40):
        try:
            assert child.read(a + page * PAGE, 16) == words(7, page)
        except vmlab.Signalled as signal:
            assert "SIGBUS" in str(signal)
            lost.append(page)
    assert lost
    m.repair(disk)
    with pytest.raises(vmlab.Signalled, match="SIGBUS"):
        p.read(a + lost[0] * PAGE, 1)  # the page that could not be read is still in the swap cache
    shadow.push_out()
    assert [p.read(a + page * PAGE, 16) for page in range(40)] == [words(7, page) for page in range(40)], "nothing is lost once it has left"
    assert shadow.wrong() == []
    m.check()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda b: b[:4086] + b"SWAPSPACE3" + b[4096:], "Unable to find swap-space signature"),
        (lambda b: bytes(4096) + b[4096:], "Unable to find swap-space signature"),
        (lambda b: b[:1024] + struct.pack("<I", 2) + b[1028:], "<4>Unable to handle swap header version 2"),
        (lambda b: b[:1028] + struct.pack("<I", 64) + b[1032:], "<4>Swap area shorter than signature indicates"[:0]),
        (lambda b: b[: 40 * PAGE], "<4>Swap area shorter than signature indicates"),
        (lambda b: b[:1032] + struct.pack("<I", 638) + b[1036:], ""),
        (lambda b: b[:1032] + struct.pack("<I", 1) + b[1036:1536] + struct.pack("<I", 64) + b[1540:], ""),
        (lambda b: b[:1028] + struct.pack("<I", 1) + b[1032:], "<4>Empty swap-file"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, damage: Any, said: str) -> None:
    image = tmp_path / "swap"
    image.write_bytes(damage(mkswap(64) + bytes(63 * PAGE)))
    m = machine()
    good = m.add_swap("1M")
    before = (m.swaps(), m.nr_free_pages(), sorted(m.block.disks))
    accepted = read_header(image.read_bytes()[:PAGE]).last_page == 64
    ret = m.add_swap(path=str(image))
    if accepted:
        assert ret >= 0, "2.4 never uses the last page, so an area one page too long does no harm"
    else:
        assert ret == -EINVAL and (m.swaps(), m.nr_free_pages(), sorted(m.block.disks)) == before
        assert said in m.console[-1]
    assert m.swapoff(good) == 0
    m.check()


def test_a_header_that_cannot_be_read() -> None:
    m = machine()
    m.block.add_disk(3, 64).write_page(0, mkswap(64))
    m.inject(3, bad_reads=[0])
    assert m.swapon(3) == -EINVAL
    assert "I/O error, dev 03:03" in m.console[-2] and m.console[-1] == "Unable to find swap-space signature"
    m.repair(3)
    assert m.swapon(3) == 0
    m.check()


def test_swap_that_ends_while_it_is_used() -> None:
    m = machine()
    disk = m.add_swap("64M")
    shadow = Shadow(m)
    shadow.push_out()
    cut = 600
    lost = [(i, page) for i in range(2) for page, _, slot in shadow.swapped(i) if slot >= cut]
    assert lost
    m.disk(disk).resize(cut)
    assert set(shadow.wrong()) <= set(lost)
    m.check()


def test_swap_full_kills_one_and_harms_no_other() -> None:
    m = machine()
    m.add_swap("4M")
    m.overcommit(1)
    shadow = Shadow(m, pages=300)
    hog = m.spawn("hog")
    address = hog.mmap(64 << 20)
    page = 0
    with pytest.raises((vmlab.Signalled, vmlab.ProcessGone)):
        while True:
            hog.touch(address + page * PAGE, 1)
            m.tick(20)
            page += 1
    assert m.swapfile.nr_swap_pages >= 0 and page > 3000
    assert any("Out of Memory: Killed process" in line or "VM: killing process hog" in line for line in m.console)
    assert [p.pid for p in m.processes] == [p.pid for p in shadow.processes]
    assert shadow.wrong() == []
    m.check()


# -- a real file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_swap_on_a_real_file(tmp_path: Path, old: bool, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "swap"
    bad = [7, 8, 100]
    arguments = ["mkswap", str(image), "--size", "4000", *(["--v1"] if old else []), *(f"--bad={n}" for n in bad)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"Setting up swapspace version {int(not old)}, size = 15.6 MiB")
    before = image.read_bytes()
    m = machine()
    disk = m.add_swap(path=str(image))
    assert m.swapfile.total_swap_pages == 4000 - 1 - 3 - (not old), "2.4 never uses the last page of the new format"
    shadow = Shadow(m)
    shadow.push_out()
    places = [(i, page, slot) for i in range(2) for page, _, slot in shadow.swapped(i)]
    assert len(places) > 300 and not {slot for _, _, slot in places} & {0, *bad}
    assert image.read_bytes() == before, "not before commit"
    assert m.commit(disk) == m.commit() > 300
    data = image.read_bytes()
    assert data[:PAGE] == before[:PAGE] and len(data) == len(before)
    assert all(data[slot * PAGE :][:16] == words(i, page) for i, page, slot in places)
    assert not any(any(data[n * PAGE : (n + 1) * PAGE]) for n in bad)
    assert shadow.wrong() == []
    assert m.swapoff(disk) == 0
    m.check()


@pytest.mark.skipif(MKSWAP is None, reason="util-linux is not installed")
def test_the_file_is_that_of_util_linux(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert main(["mkswap", str(ours), "--size", "300"]) == 0
    theirs.write_bytes(bytes(300 * PAGE))
    theirs.chmod(0o600)
    said = subprocess.run([str(MKSWAP), "-U", "clear", str(theirs)], check=True, capture_output=True, text=True, env={"LC_ALL": "C"}).stdout
    assert ours.read_bytes() == theirs.read_bytes()
    assert capsys.readouterr().out.splitlines()[0] == said.splitlines()[0]
    m = machine()
    subprocess.run([str(MKSWAP), "-L", "label", str(theirs)], check=True, capture_output=True)
    assert m.add_swap(path=str(theirs)) >= 0 and m.swapfile.total_swap_pages == 298
    m.check()


def test_files_that_mkswap_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(9 * PAGE))
    assert main(["mkswap", str(small)]) == 1 and small.read_bytes() == bytes(9 * PAGE)
    assert main(["mkswap", str(tmp_path / "none")]) == 1
    assert main(["mkswap", str(small), "--size", "20", "--bad", "20"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and "10 pages" in said[0] and "bad page 20" in said[2]


def test_injected_faults_are_part_of_the_recording(tmp_path: Path) -> None:
    image = tmp_path / "swap"
    image.write_bytes(mkswap(2000) + bytes(1999 * PAGE))
    tape = vmlab.record(ram="16M")
    m = tape.live
    disk = m.add_swap(path=str(image))
    m.create_file("f", b"abc")
    p = m.spawn("p")
    m.inject("f", bad_reads=[0])
    fd = p.open("f")
    assert m.syscall(p.pid, "read", fd, 3)[0] == -EIO  # type: ignore[index]
    failed = len(tape) - 1
    m.repair("f")
    assert m.syscall(p.pid, "read", fd, 3)[0] == -EIO, "read() never clears PG_error; a page fault does"  # type: ignore[index]
    assert p.read(p.mmap(PAGE, "r", fd=fd), 3) == b"abc" and m.syscall(p.pid, "read", fd, 3) == (3, b"abc")
    tape.seek(failed)
    assert tape.machine.disk("f").bad_reads == {0}
    tape.seek(len(tape) - 1)
    assert tape.machine.disk("f").bad_reads == set() and isinstance(tape.machine.disk(disk), FileDisk)


def test_what_cannot_be_injected() -> None:
    m = machine()
    disk = m.add_swap("1M")
    with pytest.raises(ValueError, match="page 256"):
        m.inject(disk, bad_reads=[256])
    with pytest.raises(ValueError, match="no disk and no file"):
        m.inject("nothing", bad_reads=[0])
    with pytest.raises(ValueError, match="not on a file"):
        m.commit(disk)
    assert m.disk(disk).bad_reads == set()
