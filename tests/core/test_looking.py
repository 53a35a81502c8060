"""The machine as text agrees with the machine."""

from __future__ import annotations

import pytest

import vmlab


@pytest.fixture(scope="module")
def m() -> vmlab.Machine:
    m = vmlab.boot("16M", swap="2M")
    m.mount_tmpfs()
    p = m.spawn("big")
    f = p.open("/dev/shm/t", "w")
    p.write_file(f, b"x" * 100_000)
    m.create_file("novel", b"z" * 30_000)
    a = p.mmap(14 << 20)
    p.touch_pages(a, 3584, write=True)
    p.fork()
    p.shmget(5, 8192)
    p.read_file(p.open("novel"), 20_000)
    return m


def test_vmstat_counts_what_is_there(m: vmlab.Machine) -> None:
    c = m.counters()
    assert m.vmstat().splitlines()[0] == f"nr_free_pages {m.nr_free_pages()}" and len(m.vmstat().splitlines()) == len(c)
    lists = m.swap.active() + m.swap.inactive()
    assert c["nr_active"] + c["nr_inactive"] == len(lists)
    assert c["nr_anon_pages"] == sum(m.page(pfn).owner == "anonymous" for pfn in lists)
    assert c["nr_anon_pages"] + c["nr_file_pages"] == len(lists)
    assert c["nr_slab"] == sum(m.page(pfn).owner.startswith("slab ") for pfn in range(m.mem.frames))
    owners = [m.page(pfn).owner for pfn in range(m.mem.frames) if m.page(pfn).state == "allocated"]
    assert c["nr_page_table_pages"] == sum(who.startswith(("page table", "page directory")) for who in owners)
    assert c["pswpout"] > 100 and c["pgfault_living"] >= 3584


def test_every_slot_is_shown(m: vmlab.Machine) -> None:
    info = m.swapfile.swap_info[0]
    text = m.swap_map(0)
    used = dict(info.used_slots())
    assert f"{info.max} slots, {info.max - len(used)} free" in text
    first = text.splitlines()[1].split()[1]
    assert [c if c in "X." else int(c) for c in first] == ["X" if used.get(s, 0) == 0x8000 else used.get(s, 0) or "." for s in range(64)]
    with pytest.raises(ValueError, match="area 7"):
        m.swap_map(7)


def test_the_lists_page_by_page(m: vmlab.Machine) -> None:
    for which, frames in (("active", m.swap.active()), ("inactive", m.swap.inactive())):
        lines = m.lru_pages(which, 10).splitlines()
        assert [int(line.split()[2]) for line in lines[1:11]] == frames[:10] and f"frame {frames[-1]} " in lines[-1]
    with pytest.raises(ValueError, match="which='old'"):
        m.lru_pages("old")


def test_files_and_segments(m: vmlab.Machine) -> None:
    assert m.file_pages("novel").startswith("novel: 5 of 8 pages cached: 0-4")
    shared = m.file_pages("/dev/shm/t")
    assert len([line for line in shared.splitlines() if line.startswith("page ")]) == 25 and "i_indirect" in shared
    assert m.ipcs().splitlines()[1].split()[0] == "5"
    for name in ("none", "/dev/shm/none"):
        with pytest.raises(ValueError, match="no file"):
            m.file_pages(name)


def test_a_machine_without_processes_has_nothing_to_show() -> None:
    for machine in (vmlab.boot("16M", kernel_objects=None), vmlab.Machine("16M")):
        for name in ("ps", "slabinfo", "swaps", "swap_map", "vmstat", "lru", "lru_pages", "vmalloc_map", "pkmap", "ipcs", "io_queue"):
            with pytest.raises(ValueError, match=f"^{name}: only"):
                getattr(machine, name)()


def test_events_say_in_words_what_their_numbers_mean() -> None:
    said: list[str] = []
    m = vmlab.boot("16M", on_event=lambda event: said.append(vmlab.describe(event)))
    p = m.spawn()
    a = p.mmap(8192)
    del said[:]
    p.write(a, b"x")
    assert f"page fault of task {p.pid} at {a}: user write, nothing there (error code 6)" in said
    assert any(f"writes {a} in frame {p.frame(a)}" in text for text in said) and any(text.endswith("a minor fault") for text in said)
    p.mprotect(a, 4096, "r")
    with pytest.raises(vmlab.Signalled):
        p.write(a, b"x")
    p.madvise(a, 4096, "dontneed")
    m.add_swap("1M")
    text = "\n".join(said)
    for words in ("user write, not allowed (error code 7)", "SIGSEGV is sent", ": MADV_DONTNEED", "swapon returns 0"):
        assert words in text


def test_linux_2_6_can_be_looked_at_too() -> None:
    m = vmlab.boot("16M", kernel="2.6", kernel_objects="ram", swap="1M")
    p = m.spawn("p")
    a = p.mmap(1 << 20)
    p.touch_pages(a, 100, write=True)
    q = p.fork()
    frame = p.frame(a + 99 * 4096)
    assert frame is not None and m.page(frame).owner == "anonymous"
    assert sorted(m.page(frame).mapped_by) == [(p.pid, a + 99 * 4096), (q.pid, a + 99 * 4096)]
    c = m.counters()
    assert c["nr_slab"] > 5 and 90 <= c["nr_anon_pages"] <= 110  # the last few wait in pagevecs
    assert m.page(p.mm.pgd.table[a >> 22] >> 12).owner == f"page table of {p.pid} for {a & -(4 << 20):#010x}"
