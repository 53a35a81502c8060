"""The kernel's own addresses, threads, and who a task is: used as people use them, recorded, checked."""

from __future__ import annotations

import pytest

import vmlab
from vmlab import GFP_HIGHUSER, GFP_KERNEL


def test_frames_mapped_twice_hold_the_same_bytes() -> None:
    m = vmlab.boot("1G")
    pages = [m.alloc_pages(GFP_HIGHUSER), m.alloc_pages(GFP_KERNEL)]
    assert all(pages)
    with m.record() as tape:
        v = m.vmap(pages)
        assert m.vwrite(b"ab" * 2500, v) == 5000
        high = m.kmap(pages[0])
        fast = m.kmap_atomic(pages[0])
        assert m.kernel_read(high, 4) == m.kernel_read(fast, 4) == m.vread(v, 4) == b"abab"
        m.kernel_write(v + 4094, b"wxyz")
        assert m.kernel_read(pages[1].virtual, 2) == b"yz" and m.vread(v + 4094, 4) == b"wxyz"
        m.kunmap_atomic(fast)
        m.kunmap(pages[0])
        low, dma = m.vmalloc_32(4096), m.vmalloc_dma(4096)
        assert m.page(m.vmalloc_space.frames(dma)[0]).zone.name == "DMA"
        m.vfree(low)
        m.vfree(dma)
    assert tape.seek(len(tape) - 1).vread(v, 5) == b"ababa"
    m.check()
    m.vunmap(v)
    reads = (lambda: m.kernel_read(v, 1), lambda: m.kernel_read(0, 1), lambda: m.vread(-1, 4))
    for wrong in (*reads, lambda: m.kmap_atomic(pages[0], "KM_NONE")):
        with pytest.raises(ValueError, match=r"\w"):
            wrong()
    for page in pages:
        m.free_pages(page)
    m.check([])


def test_threads_share_memory_and_die_together() -> None:
    m = vmlab.boot("16M")
    p = m.spawn("p")
    a = p.mmap(4096)
    t = p.thread()
    t.write(a, b"shared")
    assert p.read(a, 6) == b"shared" and t.mm is p.mm and p.rss == t.rss
    m.check()
    m.overcommit(1)
    big = p.mmap(64 << 20)
    m.tick(1000)
    with pytest.raises(vmlab.Signalled, match=r"SIGKILL: it was killed after \d+ of 16384"):
        p.touch_pages(big, 16384, write=True)
    assert not p.alive and not t.alive
    m.check([])
    q = m.spawn("q")
    assert repr(q.syscall("clone", 0x200)) == "-EINVAL (-22)"


def test_badness_follows_what_a_task_is() -> None:
    m = vmlab.boot("16M", swap="1M")
    p, q = m.spawn("p"), m.spawn("q")
    p.mmap(4 << 20)
    before = m.badness()
    assert before[p.pid] == p.total_vm and before[q.pid] == q.total_vm
    with m.record() as tape:
        m.set_task(p.pid, nice=5)
        assert m.badness()[p.pid] == 2 * before[p.pid]
        m.set_task(p.pid, nice=0, uid=0)
        assert m.badness()[p.pid] == before[p.pid] // 4
        m.set_task(p.pid, utime=100 << 13)
    assert len(tape) == 0 and tape.seek(-1) is not None
    assert tape.branch(-1)[0].badness() == before
    for fields in ({"mm": 1}, {"nice": 30}, {"uid": -1}):
        with pytest.raises(ValueError, match="set_task"):
            m.set_task(q.pid, **fields)
    m.check()
