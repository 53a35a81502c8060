"""Who holds a frame, and what is refused because somebody does."""

from __future__ import annotations

import pytest

import vmlab
from vmlab.mm.holders import KINDS, owner_column, owner_names


@pytest.fixture
def m() -> vmlab.Machine:
    return vmlab.boot("32M", swap="4M")


def test_every_kind_of_frame_says_who_holds_it(m: vmlab.Machine) -> None:
    p = m.spawn("a")
    q = p.fork()
    a = p.mmap(8192)
    p.write(a, b"x")
    m.create_file("novel", b"y" * 9000)
    f = p.mmap(9000, "r", fd=p.open("novel"))
    p.read(f + 4096, 1)
    s = p.shmat(p.shmget(7, 8192))
    p.write(s + 4096, b"s")
    v = m.vmalloc(4096)
    k = m.kmalloc(100)
    mine = m.alloc_pages(owner="me")
    assert mine is not None

    def owner(pfn: int | None) -> str:
        assert pfn is not None
        return m.page(pfn).owner

    assert owner(p.frame(a)) == "anonymous" and owner(p.frame(f + 4096)) == "novel page 1"
    assert owner(p.frame(s + 4096)).endswith(" page 1") and mine.owner == "me"
    assert owner(m.vmalloc_space.frames(v)[0]) == f"vmalloc {v:#010x}"
    assert owner(m.virt_to_page(k)) == "slab size-128"
    assert owner(q.mm.pgd.pa >> 12) == f"page directory of {q.pid}"
    assert owner(p.mm.pgd.table[a >> 22] >> 12) == f"page table of {p.pid} for {a & -(4 << 20):#010x}"
    assert owner(p.task.task_pfn) == f"task_struct of {p.pid}"
    frame = p.frame(a)
    assert frame is not None and m.page(frame).mapped_by == [(p.pid, a)] and "anonymous" in repr(m.page(frame))
    r = p.fork()
    assert sorted(m.page(frame).mapped_by) == [(p.pid, a), (r.pid, a)]
    names, column = owner_names(m), owner_column(m)
    assert names[column[frame]] == "anonymous" and {names[o] for o in column} >= set(KINDS[:3])
    for taken in (frame, p.task.task_pfn, m.vmalloc_space.frames(v)[0], m.filemap.page_hash_pfn):
        with pytest.raises(ValueError, match=r"is in use|first|inside"):
            m.free_pages(taken)
    m.free_pages(mine)
    m.vfree(v)
    m.check([])


def test_what_would_damage_a_slab_is_refused(m: vmlab.Machine) -> None:
    c, d = m.kmem_cache_create("c", 100), m.kmem_cache_create("d", 100)
    assert c is not None and d is not None
    o, k = c.alloc(), m.kmalloc(50)
    inside = "not the start"
    for wrong, why in ((lambda: d.free(o), "object of c"), (lambda: c.free(o + 4), inside), (lambda: m.kfree(k + 32), inside)):
        with pytest.raises(ValueError, match=why):
            wrong()
    c.free(o)
    m.kfree(k)
    for again in (lambda: c.free(o), lambda: m.kfree(k)):
        with pytest.raises(ValueError, match="free already"):
            again()
    m.check()


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.tick(1.5),
        lambda m: m.kmap(1 << 30),
        lambda m: m.kunmap(-1),
        lambda m: m.touch(1, 1 << 32),
        lambda m: m.touch_list(1, [1 << 21]),
        lambda m: m.touch_list(1, [-1]),
        lambda m: m.add_swap("1M", priority=-3),
        lambda m: m.tmpfs("/nowhere"),
        lambda m: m.syscall(1, "munmap"),
        lambda m: m.syscall(1, "munmap", 1, 2, 3),
        lambda m: m.create_file(5, b""),
        lambda m: m.spawn(5),
        lambda m: m.vmalloc("4M"),
    ],
)
def test_wrong_calls_are_refused_and_change_nothing(m: vmlab.Machine, call: object) -> None:
    m.spawn("a")
    before = m.copy()
    with pytest.raises((ValueError, TypeError), match=r"\w"):
        call(m)  # type: ignore[operator]
    assert not vmlab.compare(before, m).frames
    m.check()


def test_root_may_lock_memory(m: vmlab.Machine) -> None:
    root, user = m.spawn("root", uid=0), m.spawn("user")
    a, b = root.mmap(8192), user.mmap(8192)
    assert root.mlock(a, 8192) == 0 and user.mlock(b, 8192) == -1
    m.check()
