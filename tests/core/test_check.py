"""machine.check() of the whole machine: one thing of each kind is broken, and the check says which."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import vmlab
from vmlab.mm.page_flags import PG_active, PG_locked, PG_lru, PG_slab
from vmlab.mm.vm import RB_BLACK, RB_RED, VmArea

PAGE = 4096


def busy() -> vmlab.Machine:
    """A machine with a bit of everything: two processes, files, tmpfs, shared memory, pages in swap, vmalloc, locked pages."""
    m = vmlab.Machine("16M", kernel_objects="ram").power_on()
    assert m.add_swap("16M") >= 0
    m.mount_tmpfs("", "/dev/shm")
    m.create_file("book", bytes(range(256)) * 200)
    p = m.spawn("first")
    p.task.cap_effective = 1 << 14
    heap = p.mmap(700 * PAGE)
    p.touch_pages(heap, 700, True)
    for step in range(6):  # areas that do not merge
        p.mmap(PAGE * 3, "r" if step % 2 else "rw")
    fd = p.open("book")
    book = p.mmap(8 * PAGE, "r", fd=fd)
    p.touch_pages(book, 8)
    assert p.mlock(book, 2 * PAGE) == 0
    shared = p.mmap(40 * PAGE, shared=True)
    p.touch_pages(shared, 40, True)
    segment = p.shmget(0, 20 * PAGE)
    p.touch_pages(p.shmat(segment), 20, True)
    q = p.fork()
    q.touch_pages(heap, 30, True)
    big = q.mmap(2900 * PAGE)
    q.touch_pages(big, 2900, True)
    assert m.vmalloc(5 * PAGE) and m.vmalloc(PAGE)
    kept = q.mmap(40 * PAGE)
    q.touch_pages(kept, 40, True)
    return m


BUSY = busy()


def machine() -> vmlab.Machine:
    return BUSY.copy()


def first_mm(m: vmlab.Machine) -> vmlab.mm.vm.MmStruct:  # type: ignore[name-defined]
    return m.processes[0].mm


def anonymous(m: vmlab.Machine) -> int:
    """A frame that one process alone has mapped."""
    return next(f for f in m.swap.inactive() + m.swap.active() if m.mem.count[f] == 1 and not m.mem.mapping[f])


def cached(m: vmlab.Machine) -> int:
    """A frame of the page cache."""
    return m.filemap.cached_pages(m.diskfs.files["book"].i_mapping)[0]


def entry(m: vmlab.Machine, present: bool) -> tuple[object, int]:
    """(page table, slot) of an entry that is present, or in swap."""
    for process in m.processes:
        for vma in process.areas:
            for address in range(vma.vm_start, vma.vm_end, PAGE):
                found = m.pgtable.pte_lookup(process.mm, address)
                if found is not None and found[0][found[1]] and bool(found[0][found[1]] & 1) is present:
                    return found
    raise AssertionError("no such entry")


def a_red_node_with_a_child_or_parent(m: vmlab.Machine) -> VmArea:
    return next(vma for vma in first_mm(m).areas() if vma.rb_color == RB_RED)


def swap_area(m: vmlab.Machine) -> vmlab.mm.swap_info.SwapInfo:  # type: ignore[name-defined]
    return m.swapfile.swap_info[0]


def set_column(column: str, where: Callable[[vmlab.Machine], int], change: Callable[[int], int]) -> Callable[[vmlab.Machine], None]:
    def damage(m: vmlab.Machine) -> None:
        at = where(m)
        values = getattr(m.mem, column)
        values[at] = change(values[at])

    return damage


def add(path: str, amount: int = 1) -> Callable[[vmlab.Machine], None]:
    """Change a counter: part.attribute, or mm.attribute."""

    def damage(m: vmlab.Machine) -> None:
        part, name = path.split(".")
        target = first_mm(m) if part == "mm" else getattr(m, part)
        setattr(target, name, getattr(target, name) + amount)

    return damage


def lose_a_frame(m: vmlab.Machine) -> None:
    m.page_allocator.alloc_pages(vmlab.GFP_KERNEL, 0)


def zap_without_freeing(m: vmlab.Machine) -> None:
    table, slot = entry(m, True)
    table[slot] = 0  # type: ignore[index]
    for process in m.processes:
        process.mm.rss = sum(bool(pte & 1) for pte in present_entries(m, process.pid))


def present_entries(m: vmlab.Machine, pid: int) -> list[int]:
    mm = m.process(pid).mm
    found = []
    for vma in mm.areas():
        for address in range(vma.vm_start, vma.vm_end, PAGE):
            place = m.pgtable.pte_lookup(mm, address)
            pte = place[0][place[1]] if place is not None else 0
            if pte & 1 and pte >> 12 != m.empty_zero_page:
                found.append(pte)
    return found


def swapped_entry_gone(m: vmlab.Machine) -> None:
    table, slot = entry(m, False)
    table[slot] = 0  # type: ignore[index]


def stray_entry(m: vmlab.Machine) -> None:
    mm = first_mm(m)
    vma = mm.areas()[0]
    found = m.pgtable.pte_lookup(mm, vma.vm_start)
    assert found is not None
    table, slot = found
    base = vma.vm_start & ~0x3FFFFF
    used = {(address - base) // PAGE for v in mm.areas() for address in range(v.vm_start, min(v.vm_end, base + (4 << 20)), PAGE)}
    free = next(i for i in range(1023, 0, -1) if i not in used)
    table[free] = table[slot]


def writable_entry(m: vmlab.Machine) -> None:
    p = m.processes[0]
    vma = next(vma for vma in p.areas if vma.vm_file is not None and not vma.vm_flags & 2)
    found = m.pgtable.pte_lookup(p.mm, vma.vm_start)
    assert found is not None
    found[0][found[1]] |= 2


def list_order(m: vmlab.Machine) -> None:
    areas = first_mm(m).areas()
    areas[0].vm_next, areas[1].vm_next, areas[2].vm_next = areas[2], areas[3], areas[1]


def overlap(m: vmlab.Machine) -> None:
    areas = first_mm(m).areas()
    areas[0].vm_end = areas[1].vm_start + PAGE


def tree_loses(m: vmlab.Machine) -> None:
    mm = first_mm(m)
    vma = next(v for v in mm.areas() if v.rb_left is None and v.rb_right is None)
    assert vma.rb_parent is not None
    if vma.rb_parent.rb_left is vma:
        vma.rb_parent.rb_left = None
    else:
        vma.rb_parent.rb_right = None
    vma.rb_color = RB_RED


def wrong_parent(m: vmlab.Machine) -> None:
    mm = first_mm(m)
    leaf = next(v for v in mm.areas() if v.rb_parent is not None and v.rb_parent is not mm.mm_rb)
    leaf.rb_parent = mm.mm_rb


def two_reds(m: vmlab.Machine) -> None:
    mm = first_mm(m)
    for vma in mm.areas():
        if vma is not mm.mm_rb:
            vma.rb_color = RB_RED


def black_heights(m: vmlab.Machine) -> None:
    a_red_node_with_a_child_or_parent(m).rb_color = RB_BLACK


def chain_loses(m: vmlab.Machine) -> None:
    m.diskfs.files["book"].i_mapping.i_mmap.pop()


def chain_twice(m: vmlab.Machine) -> None:
    chain = m.diskfs.files["book"].i_mapping.i_mmap
    chain.append(chain[0])


def file_count(m: vmlab.Machine) -> None:
    next(vma.vm_file for vma in m.processes[0].areas if vma.vm_file is not None).f_count = 1


def hash_chain(m: vmlab.Machine) -> None:
    table = m.filemap.page_hash_table
    at = next(i for i, pfn in enumerate(table) if pfn != 0xFFFFFFFF)
    table[at ^ 1], table[at] = table[at], table[at ^ 1]


def unhash(m: vmlab.Machine) -> None:
    pfn = cached(m)
    m.filemap.remove_page_from_hash_queue(pfn, m.mappings[m.mem.mapping[pfn]])


def wrong_list(m: vmlab.Machine) -> None:
    pfn = cached(m)
    m.mem.list.del_(pfn)
    m.mem.list.add(pfn, m.swap_state.swapper_space.clean_pages)


def nrpages(m: vmlab.Machine) -> None:
    m.diskfs.files["book"].i_mapping.nrpages -= 1


def swapper_nrpages(m: vmlab.Machine) -> None:
    m.swap_state.swapper_space.nrpages += 1


def off_the_lru(m: vmlab.Machine) -> None:
    pfn = cached(m)
    m.swap.lru_cache_del(pfn)


def broken_link(m: vmlab.Machine) -> None:
    pfn = m.swap.inactive()[1]
    m.mem.lru.prev[pfn] = m.swap.active()[0]


def slab_list(m: vmlab.Machine) -> None:
    cachep = m.slab.vm_area_cachep
    slab = next(iter(cachep.slabs_partial))
    slab.del_()
    cachep.slabs_full.add(slab)


def slab_chain(m: vmlab.Machine) -> None:
    slab = next(iter(m.slab.vm_area_cachep.slabs_partial))
    slab.bufctl[slab.free] = slab.free


def slab_leak(m: vmlab.Machine) -> None:
    m.slab.kmem_cache_alloc(m.slab.vm_area_cachep)


def slab_page(m: vmlab.Machine) -> None:
    slab = next(iter(m.slab.mm_cachep.slabs()))
    m.mem.flags[slab.start - 0xC0000000 >> 12] &= ~(1 << PG_slab)


def slab_back_link(m: vmlab.Machine) -> None:
    slab = next(iter(m.slab.mm_cachep.slabs()))
    m.mem.list.next[slab.start - 0xC0000000 >> 12] ^= 64


def vmlist_order(m: vmlab.Machine) -> None:
    m.vmalloc_space.vmlist.reverse()


def guard_page(m: vmlab.Machine) -> None:
    area = m.vmalloc_space.vmlist[0]
    found = m.pgtable.pte_lookup(m.init_mm, area.addr + area.size - PAGE)
    assert found is not None
    found[0][found[1]] = 0x1063


def vmalloc_hole(m: vmlab.Machine) -> None:
    found = m.pgtable.pte_lookup(m.init_mm, m.vmalloc_space.vmlist[-1].addr)
    assert found is not None
    found[0][found[1]] = 0


def swap_count(m: vmlab.Machine) -> None:
    area = swap_area(m)
    slot = area.used_slots()[-1][0]
    area.swap_map[slot] += 1


def swap_leak(m: vmlab.Machine) -> None:
    assert m.swapfile.get_swap_page()


def swap_bounds(m: vmlab.Machine) -> None:
    swap_area(m).highest_bit = swap_area(m).lowest_bit


def swap_list(m: vmlab.Machine) -> None:
    m.swapfile.swap_list.head = -1


def mm_lost(m: vmlab.Machine) -> None:
    m.fork.mmlist.append(m.fork.mmlist[0])


def quicklist(m: vmlab.Machine) -> None:
    m.pgtable.pte_quicklist.append(entry_frame(m))


def entry_frame(m: vmlab.Machine) -> int:
    table, slot = entry(m, True)
    return int(table[slot] >> 12)  # type: ignore[index]


def shmem_swapped(m: vmlab.Machine) -> None:
    m.shmem.shmem_inodes[0].swapped += 1


def shmem_blocks(m: vmlab.Machine) -> None:
    m.shmem.shmem_inodes[0].inode.i_blocks += 8


DAMAGE: list[tuple[str, Callable[[vmlab.Machine], None]]] = [
    ("page count", set_column("count", anonymous, lambda count: count + 1)),
    ("page count", set_column("count", cached, lambda count: count - 1)),
    ("lost frame", lose_a_frame),
    ("lost frame|page count", zap_without_freeing),
    ("page count", quicklist),
    ("page count", lambda m: m.highmem.emergency_pages.append(anonymous(m))),
    ("rss", add("mm.rss")),
    ("total_vm", add("mm.total_vm", -1)),
    ("locked_vm", add("mm.locked_vm")),
    ("map_count", add("mm.map_count")),
    ("mm_users", add("mm.mm_users")),
    ("mmlist", mm_lost),
    ("lru count", add("swap.nr_active_pages")),
    ("lru count", add("swap.nr_inactive_pages", -1)),
    ("page_cache_size", add("filemap.page_cache_size")),
    ("nr_swap_pages", add("swapfile.nr_swap_pages", -1)),
    ("total_swap_pages", add("swapfile.total_swap_pages")),
    ("lru flags", set_column("flags", lambda m: m.swap.inactive()[0], lambda flags: flags | 1 << PG_active)),
    (
        "lru flags",
        set_column(
            "flags", lambda m: next(pfn for area in m.zones[0].free_area for pfn in area.free_list), lambda flags: flags | 1 << PG_lru
        ),
    ),
    ("lru flags", off_the_lru),
    ("list", broken_link),
    ("locked", set_column("flags", anonymous, lambda flags: flags | 1 << PG_locked)),
    ("hash", hash_chain),
    ("hash", unhash),
    ("nrpages", nrpages),
    ("nrpages", swapper_nrpages),
    ("hash", set_column("mapping", cached, lambda _: 1)),
    ("mapping list", wrong_list),
    ("mapping list", set_column("mapping", anonymous, lambda _: 1)),
    ("hash", set_column("index", cached, lambda index: index + 1)),
    ("stray entry", stray_entry),
    ("rights", writable_entry),
    ("tree|overlap", list_order),
    ("overlap", overlap),
    ("tree|red-black", tree_loses),
    ("tree", wrong_parent),
    ("red-black", two_reds),
    ("red-black", black_heights),
    ("i_mmap", chain_loses),
    ("i_mmap", chain_twice),
    ("f_count", file_count),
    ("slab list", slab_list),
    ("slab chain", slab_chain),
    ("objects", slab_leak),
    ("slab page", slab_page),
    ("slab page", slab_back_link),
    ("vmlist", vmlist_order),
    ("guard page", guard_page),
    ("vmlist", vmalloc_hole),
    ("swap map", swap_count),
    ("swap map", swapped_entry_gone),
    ("swap map", swap_leak),
    ("swap bounds", swap_bounds),
    ("swap list", swap_list),
    ("shmem swapped", shmem_swapped),
    ("i_blocks", shmem_blocks),
]


def test_a_busy_machine_is_sound() -> None:
    m = machine()
    m.check(held=())
    assert m.swapfile.nr_swap_pages < m.swapfile.total_swap_pages and m.processes[0].mm.locked_vm, "the check has something to look at"


@pytest.mark.parametrize(("kind", "damage"), DAMAGE, ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(DAMAGE)])
def test_each_kind_of_damage_is_found(kind: str, damage: Callable[[vmlab.Machine], None]) -> None:
    m = machine()
    damage(m)
    with pytest.raises(vmlab.KernelBug) as found:
        m.check(held=())
    assert found.value.kind in kind.split("|"), str(found.value)
    assert len(found.value.why) > 30, "a sentence that helps"


def test_pages_of_a_caller_are_told_from_lost_ones() -> None:
    m = machine()
    mine = m.alloc_pages(vmlab.GFP_KERNEL, 2)
    assert mine is not None
    m.check()
    m.check(held=[mine])
    with pytest.raises(vmlab.KernelBug, match=f"frame {mine.pfn} .* nobody holds it"):
        m.check(held=[])


@pytest.mark.parametrize("options", [{"pae": True}, {"kernel_objects": "outside"}, {"kernel_objects": "vm-only"}, {"highmem_pages": 1024}])
def test_every_kind_of_machine_can_be_checked(options: dict[str, object]) -> None:
    m = vmlab.Machine("80M" if "highmem_pages" in options else "16M", **({"kernel_objects": "ram"} | options)).power_on()  # type: ignore[arg-type]
    assert m.add_swap("4M") >= 0
    p = m.spawn("p")
    a = p.mmap(600 * PAGE)
    p.touch_pages(a, 600, True)
    q = p.fork()
    q.touch_pages(a, 300, True)
    m.check(held=())
    if "highmem_pages" in options:
        page = next(pfn for pfn in range(m.highstart_pfn, m.highend_pfn) if m.mem.count[pfn])
        m.kmap(page)
        m.check(held=())
        m.highmem.pkmap_count[next(iter(m.highmem.slot_counts()))] = 0
        with pytest.raises(vmlab.KernelBug) as found:
            m.check(held=())
        assert found.value.kind == "kmap"
