"""Invariants of the dentry cache, the inode cache and the table of open files."""

from __future__ import annotations

from collections import Counter

from .check_areas import bad
from .dcache import Dentry
from .fs import File, Inode
from .icache import DIRTY, I_DIRTY, IN_USE, UNUSED
from .kernel import Kernel

__all__ = ["check_vfs"]


def _files(kernel: Kernel) -> dict[int, File]:
    """Every open file: descriptors, mappings, segments. By id()."""
    found: dict[int, File] = {}
    for task in kernel.sched.tasks.values():
        found.update((id(f), f) for f in task.files.values())
    for mm in kernel.fork.mmlist:
        found.update((id(vma.vm_file), vma.vm_file) for vma in mm.areas() if vma.vm_file is not None)
    segments = (shp.shm_file for shp in kernel.ipc_shm.shm_ids.entries if shp is not None)
    found.update((id(f), f) for f in segments)
    return found


def _below(dentry: Dentry) -> list[Dentry]:
    found = [dentry]
    for child in dentry.d_subdirs.values():
        if child.d_parent is not dentry:
            bad("dentry tree", f"{child!r} is below {dentry!r}, but its parent is {child.d_parent!r}")
        found += _below(child)
    return found


def check_vfs(kernel: Kernel) -> None:
    """Every entry is below a root, its references are those that can be found, and it is unused without any; the same for inodes."""
    dcache, icache, table = kernel.dcache, kernel.icache, kernel.file_table
    supers = [kernel.diskfs.sb, kernel.shmem.shm_mnt, *kernel.shmem.mounts.values()]
    entries = [d for sb in supers if sb.s_root is not None for d in _below(sb.s_root)]
    if len(entries) != dcache.nr_dentry:
        bad("nr_dentry", f"{dcache.nr_dentry} entries are counted, {len(entries)} are below the roots")
    if len(dcache.dentry_unused) != dcache.nr_unused:
        bad("nr_unused", f"{dcache.nr_unused} unused entries are counted, {len(dcache.dentry_unused)} are on the list")
    files = _files(kernel)
    opened = Counter(id(f.f_dentry) for f in files.values() if f.f_dentry is not None)
    hashed = {id(d) for d in dcache.entries()}
    inodes: dict[int, Inode] = {}
    for dentry in entries:
        _entry(kernel, dentry, opened[id(dentry)], id(dentry) in hashed)
        if dentry.d_inode is not None:
            inodes[id(dentry.d_inode)] = dentry.d_inode
    if len(hashed) != sum(d.hashed for d in entries):
        bad("dentry hash", f"{len(hashed)} entries are in chains, {sum(d.hashed for d in entries)} say so")
    listed = [inode for by_address in icache.lists.values() for inode in by_address.values()]
    if len(listed) != icache.nr_inodes:
        bad("nr_inodes", f"{icache.nr_inodes} inodes are counted, {len(listed)} are on lists")
    if sum(not inode.i_count for inode in listed) != icache.nr_unused:
        bad("nr_unused inodes", f"{icache.nr_unused} are counted, {sum(not inode.i_count for inode in listed)} have no user")
    for inode in listed:
        _inode(inode)
    if missing := inodes.keys() - {id(inode) for inode in listed}:
        bad("inode", f"{inodes[missing.pop()]!r} has an entry, but is on no list")
    if len(table.free_list) != table.nr_free_files:
        bad("nr_free_files", f"{table.nr_free_files} files are counted as free, {len(table.free_list)} are")
    used = sum(1 for f in files.values() if f.address)
    if used > table.nr_files - table.nr_free_files:
        bad("nr_files", f"{used} files are open, {table.nr_files - table.nr_free_files} are counted")


def _entry(kernel: Kernel, dentry: Dentry, opened: int, hashed: bool) -> None:
    dcache = kernel.dcache
    if hashed != dentry.hashed:
        bad("dentry hash", f"{dentry!r} says hashed={dentry.hashed}, the chains {hashed}")
    if dentry.d_inode is not None and dentry not in dentry.d_inode.i_dentry:
        bad("alias", f"{dentry!r} is not among the names of its inode")
    if (dentry.address in dcache.dentry_unused) != (dentry.d_count == 0):
        bad("unused list", f"{dentry!r} is {'' if dentry.d_count else 'not '}on the unused list")
    if dentry.d_count < opened + len(dentry.d_subdirs):
        bad("d_count", f"{dentry!r} has {opened} open files and {len(dentry.d_subdirs)} entries below it")


def _inode(inode: Inode) -> None:
    if inode.i_count != len(inode.i_dentry):
        bad("i_count", f"{inode!r} has count {inode.i_count}, and {len(inode.i_dentry)} entries")
    dirty = bool(inode.i_state & I_DIRTY) and inode.i_hashed
    right = DIRTY if dirty else IN_USE if inode.i_count else UNUSED
    if inode.i_list != right:
        bad("inode list", f"{inode!r}, count {inode.i_count}, state {inode.i_state}, is on the {inode.i_list} list")
    if not inode.address:
        bad("inode", f"{inode!r} is on a list, but not in memory")
