"""The inode cache: files that some directory entry names, and files that were used lately.

``struct inode`` is an object of the slab cache "inode_cache". An inode is on one of three lists: in use; unused (no
entry has it, but it is still found by its number); or dirty, one list for each file system. Only an inode
without cached pages can be freed, so inodes go after their pages.

Our file systems keep their own record of a file (Inode) whether it is in memory or not: ``Inode.address`` says
where its struct inode is, 0 while the file is only on the disk.
kernel: fs/inode.c
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ..errors import KernelBug
from .dcache import hash_table
from .gfp import __GFP_FS as GFP_FS
from .gfp import GFP_KERNEL
from .kernel import Part
from .slab_cache import SLAB_HWCACHE_ALIGN, KmemCache, function_name
from .vfs import I_CLEAR, I_FREEING, clear_inode

if TYPE_CHECKING:
    from .fs import Inode
    from .kernel import Kernel

__all__ = ["Icache"]

SIZEOF_INODE = 464  # bytes
I_DIRTY_SYNC, I_DIRTY_DATASYNC, I_DIRTY_PAGES = 1, 2, 4
I_DIRTY = I_DIRTY_SYNC | I_DIRTY_DATASYNC | I_DIRTY_PAGES

IN_USE, UNUSED, DIRTY = "in_use", "unused", "dirty"  # the list an inode is on (i_list); "" for none


def init_once(address: int, cachep: KmemCache, flags: int) -> None:
    """The constructor of an inode; its contents are not kept in the machine's memory. kernel: fs/inode.c:init_once"""


function_name(init_once)  # so that a saved machine finds it


class Icache(Part):
    """All inodes in memory. Without ``vfs`` in the machine's configuration there are none."""

    state_names = ("hash_pfn", "i_hash_shift", "inode_hashtable", "lists", "nr_inodes", "nr_unused")

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.hash_pfn = 0  # first frame of the hash table; 0: there is no icache
        self.i_hash_shift = 0
        self.inode_hashtable: dict[int, list[Inode]] = {}  # chains that are not empty, newest first
        # By address; the *last* is the list's head. The dirty lists of all file systems are one here.
        self.lists: dict[str, OrderedDict[int, Inode]] = {name: OrderedDict() for name in (IN_USE, UNUSED, DIRTY)}
        self.nr_inodes = self.nr_unused = 0

    @property
    def inode_cachep(self) -> KmemCache:
        """The slab cache of inodes."""
        return self.kernel.slab.state.named["inode_cache"]

    def inode_init(self, mempages: int) -> None:
        """Make the hash table, a list head for every four pages of memory, and the slab cache. kernel: fs/inode.c:inode_init"""
        self.hash_pfn, self.i_hash_shift = hash_table(self.kernel, "Inode cache", mempages, 14)
        self.kernel.slab.keep_cache("inode_cache", SIZEOF_INODE, SLAB_HWCACHE_ALIGN, init_once)

    def hash(self, inode: Inode) -> int:
        """Number of the chain. Super blocks are not in this machine's memory, so only the number counts. kernel: fs/inode.c:hash"""
        value = inode.i_ino + (inode.i_ino >> self.i_hash_shift)
        return value & (1 << self.i_hash_shift) - 1

    # -- making and finding -------------------------------------------------------------------

    def alloc_inode(self, inode: Inode) -> bool:
        """Memory for *inode*: False when there is none. It has one reference then. kernel: fs/inode.c:alloc_inode"""
        inode.address = self.kernel.slab.kmem_cache_alloc(self.inode_cachep, GFP_KERNEL)
        if not inode.address:
            return False
        inode.i_count = 1
        inode.i_state = 0
        if (ev := self.on_event) is not None:
            ev(("inode_alloc", inode.i_ino, inode.address))
        return True

    def new_inode(self, inode: Inode) -> bool:
        """A new file comes into memory; it is not hashed. Returns False without memory. kernel: fs/inode.c:new_inode"""
        if not self.alloc_inode(inode):
            return False
        self.nr_inodes += 1
        self._move(inode, IN_USE)
        return True

    def find_inode(self, inode: Inode) -> bool:
        """Whether *inode* is in its chain: in memory. kernel: fs/inode.c:find_inode"""
        return inode in self.inode_hashtable.get(self.hash(inode), ())

    def iget(self, inode: Inode) -> bool:
        """A reference of a file of a disk, whose inode is read if it is not in memory. Returns False without memory.

        kernel: fs/inode.c:iget4, get_new_inode
        """
        if self.find_inode(inode):
            self.iget_locked(inode)
            return True
        if not self.new_inode(inode):
            return False
        self.insert_inode_hash(inode)
        return True

    def iget_locked(self, inode: Inode) -> None:
        """Take a reference; an unused inode is in use again. kernel: fs/inode.c:__iget"""
        inode.i_count += 1
        if inode.i_count > 1:
            return
        if not inode.i_state & I_DIRTY:
            self._move(inode, IN_USE)
        self.nr_unused -= 1

    def insert_inode_hash(self, inode: Inode) -> None:
        """From now on it is found by its number. kernel: fs/inode.c:insert_inode_hash"""
        self.inode_hashtable.setdefault(self.hash(inode), []).insert(0, inode)
        inode.i_hashed = True

    def remove_inode_hash(self, inode: Inode) -> None:
        """It is not found any more. kernel: fs/inode.c:remove_inode_hash"""
        if inode.i_hashed:
            bucket = self.hash(inode)
            chain = self.inode_hashtable[bucket]
            chain.remove(inode)
            if not chain:
                del self.inode_hashtable[bucket]
            inode.i_hashed = False

    def _move(self, inode: Inode, name: str) -> None:
        """Take the inode off its list, and put it at the head of another ("": none)."""
        if inode.i_list:
            del self.lists[inode.i_list][inode.address]
        if name:
            self.lists[name][inode.address] = inode
        inode.i_list = name

    # -- letting go ---------------------------------------------------------------------------

    def iput(self, inode: Inode) -> None:
        """Drop a reference. The last one deletes a file without names, frees an inode that cannot be found, and leaves others unused.

        kernel: fs/inode.c:iput
        """
        if inode.i_state & I_CLEAR:
            raise KernelBug("iput", f"{inode!r} is already dead", "clear")
        kernel = self.kernel
        s_op = inode.i_sb.s_op if inode.i_sb is not None else None
        if s_op is not None and s_op.put_inode is not None:
            s_op.put_inode(inode)
        inode.i_count -= 1
        if inode.i_count:
            return
        ev = self.on_event
        if inode.i_nlink and inode.i_hashed:
            if not inode.i_state & I_DIRTY:
                self._move(inode, UNUSED)
            self.nr_unused += 1
            if ev is not None:
                ev(("inode_unused", inode.i_ino, self.nr_unused))
            return
        self.remove_inode_hash(inode)
        self._move(inode, "")
        inode.i_state |= I_FREEING
        self.nr_inodes -= 1
        if inode.i_mapping.nrpages:
            kernel.filemap.truncate_inode_pages(inode.i_mapping, 0)
        if not inode.i_nlink and s_op is not None and s_op.delete_inode is not None:
            s_op.delete_inode(inode)
        else:
            clear_inode(kernel, inode)
        if inode.i_state != I_CLEAR:
            raise KernelBug("iput", f"delete_inode left {inode!r} alive", "not clear")
        self.destroy_inode(inode)

    def destroy_inode(self, inode: Inode) -> None:
        """Free the structure. kernel: fs/inode.c:destroy_inode"""
        if (ev := self.on_event) is not None:
            ev(("inode_destroy", inode.i_ino, inode.address))
        self.kernel.slab.kmem_cache_free(self.inode_cachep, inode.address)
        inode.address = 0

    # -- dirty inodes -------------------------------------------------------------------------

    def mark_inode_dirty(self, inode: Inode, flags: int = I_DIRTY) -> None:
        """The inode (and not only its pages) must be written some day. kernel: fs/inode.c:__mark_inode_dirty"""
        if not inode.address or inode.i_state & flags == flags:
            return
        inode.i_state |= flags
        if inode.i_hashed:
            self._move(inode, DIRTY)

    def sync_one(self, inode: Inode) -> None:
        """Write a dirty inode and its pages. kernel: fs/inode.c:__sync_one"""
        filemap = self.kernel.filemap
        inode.i_state &= ~I_DIRTY
        filemap.filemap_fdatasync(inode.i_mapping)
        filemap.filemap_fdatawait(inode.i_mapping)
        if inode.i_list == DIRTY and not inode.i_state & I_DIRTY:
            self._move(inode, IN_USE if inode.i_count else UNUSED)

    def try_to_sync_unused_inodes(self) -> None:
        """keventd writes the dirty inodes that nobody uses, so that they can be freed. kernel: fs/inode.c:try_to_sync_unused_inodes"""
        for inode in [i for i in self.lists[DIRTY].values() if not i.i_count][: self.nr_unused]:
            if inode.i_list == DIRTY:
                self.sync_one(inode)

    # -- shrinking ----------------------------------------------------------------------------

    def can_unuse(self, inode: Inode) -> bool:
        """Whether nothing depends on the inode: clean, and without cached pages. kernel: fs/inode.c:CAN_UNUSE"""
        return not inode.i_state and not inode.i_mapping.nrpages

    def prune_icache(self, goal: int) -> None:
        """Free *goal* unused inodes (0: all), those longest unused first. If that many cannot be freed, have dirty ones written.

        kernel: fs/inode.c:prune_icache
        """
        freeable: list[Inode] = []
        for inode in list(self.lists[UNUSED].values()):
            if not self.can_unuse(inode) or inode.i_count:
                continue
            self._move(inode, "")
            self.remove_inode_hash(inode)
            inode.i_state |= I_FREEING
            freeable.insert(0, inode)
            goal -= 1
            if not goal:
                break
        self.nr_unused -= len(freeable)
        self.dispose_list(freeable)
        if goal and self.lists[DIRTY]:
            self.kernel.sched.keventd_pending = True

    def dispose_list(self, inodes: list[Inode]) -> None:
        """Free inodes that are on no list. The files stay, on their disks. kernel: fs/inode.c:dispose_list"""
        for inode in inodes:
            self.destroy_inode(inode)
            inode.i_state = 0
            self.nr_inodes -= 1

    def shrink_icache_memory(self, priority: int, gfp_mask: int) -> int:
        """Free 1/*priority* of the unused inodes if nothing holds them, then empty slabs; returns the pages freed.

        Not for a caller that may not enter a file system. kernel: fs/inode.c:shrink_icache_memory
        """
        if not self.hash_pfn or not gfp_mask & GFP_FS:
            return 0
        before = self.nr_inodes
        self.prune_icache(self.nr_unused // priority)
        pages = self.kernel.slab.kmem_cache_shrink(self.inode_cachep)
        if (ev := self.on_event) is not None:
            ev(("shrink_icache", priority, before - self.nr_inodes, pages))
        return pages

    # -- looking ------------------------------------------------------------------------------

    def inode_state(self) -> str:
        """The text of /proc/sys/fs/inode-state: inodes, unused, five zeroes."""
        return f"{self.nr_inodes}\t{self.nr_unused}\t0\t0\t0\t0\t0\n"

    def __repr__(self) -> str:
        return f"<Icache {self.nr_inodes} inodes, {self.nr_unused} of them unused>"
