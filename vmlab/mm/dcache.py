"""The dentry cache: names that were looked up, and what they are names of.

A directory entry in memory (``struct dentry``) is an object of the slab cache "dentry_cache". While somebody uses it
its count is positive; then it stays, on the unused list, until memory runs short. A name that was looked up and
does not exist has an entry too, a *negative* one. An entry pins its inode and its parent.

The hash table's frames come from the page allocator; its chains, like the entries, are kept in Python.
kernel: fs/dcache.c
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ..errors import KernelBug, KernelPanic
from ..hw.layout import M32, PAGE_SIZE
from .gfp import __GFP_FS as GFP_FS
from .gfp import GFP_ATOMIC, GFP_KERNEL
from .kernel import Part
from .slab_cache import L1_CACHE_BYTES, SLAB_HWCACHE_ALIGN

if TYPE_CHECKING:
    from .fs import Inode, SuperBlock
    from .kernel import Kernel
    from .slab_cache import KmemCache

__all__ = ["Dcache", "Dentry"]

SIZEOF_DENTRY = 108  # bytes
SIZEOF_LIST_HEAD = 8
DNAME_INLINE_LEN = 16  # longer names (with their final 0) are kmalloc'ed
DCACHE_REFERENCED = 8  # in d_vfs_flags: found since prune_dcache last came by


class Dentry:
    """One name in one directory. ``d_inode`` is None for a name that does not exist. kernel: include/linux/dcache.h:dentry"""

    def __init__(self, address: int, name: str, name_hash: int) -> None:
        self.address = address  # of the struct
        self.d_name = name
        self.hash = name_hash
        self.name_address = 0  # of a name too long for the struct
        self.d_count = 1
        self.d_vfs_flags = 0
        self.d_inode: Inode | None = None
        self.d_parent: Dentry = self
        self.d_sb: SuperBlock | None = None
        self.d_subdirs: dict[int, Dentry] = {}  # by address, oldest first
        self.hashed = False

    def __repr__(self) -> str:
        what = "negative" if self.d_inode is None else f"inode {self.d_inode.i_ino}"
        return f"<Dentry {self.d_name}, {what}, count {self.d_count}>"


def full_name_hash(name: str) -> int:
    """The hash of a name, 32 bits. kernel: include/linux/dcache.h:full_name_hash, partial_name_hash"""
    value = 0
    for c in name.encode():
        value = (value + (c << 4) + (c >> 4)) * 11 & M32
    return value


def hash_table(kernel: Kernel, what: str, mempages: int, shift: int) -> tuple[int, int]:
    """Frames for a table of list heads, one for each 2^(*shift* - 12) of *mempages* pages: (first frame, bits of an index).

    Less if no block that large is free; raises KernelPanic when there is none at all.
    kernel: fs/dcache.c:dcache_init, fs/inode.c:inode_init
    """
    size = (mempages >> shift - 12) * SIZEOF_LIST_HEAD
    order = 0
    while PAGE_SIZE << order < size:
        order += 1
    pfn = kernel.page_allocator.alloc_pages(GFP_ATOMIC, order)
    while pfn is None and order:
        order -= 1
        pfn = kernel.page_allocator.alloc_pages(GFP_ATOMIC, order)
    entries = (PAGE_SIZE << order) // SIZEOF_LIST_HEAD
    kernel.printk(6, f"{what} hash table entries: {entries} (order: {order}, {PAGE_SIZE << order} bytes)")
    if pfn is None:
        raise KernelPanic(f"Failed to allocate {what.lower()} hash table\n")
    kernel.mem.owner[pfn] = kernel.owner_id(f"{what.split()[0].lower()} hash table")
    return pfn, entries.bit_length() - 1


class Dcache(Part):
    """All directory entries in memory. Without ``vfs`` in the machine's configuration there are none."""

    state_names = ("d_hash_shift", "dentry_hashtable", "dentry_unused", "hash_pfn", "nr_dentry", "nr_unused")

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.hash_pfn = 0  # first frame of the hash table; 0: there is no dcache
        self.d_hash_shift = 0
        self.dentry_hashtable: dict[int, list[Dentry]] = {}  # chains that are not empty, newest first
        self.dentry_unused: OrderedDict[int, Dentry] = OrderedDict()  # by address; the *last* is the list's head
        self.nr_dentry = self.nr_unused = 0

    @property
    def dentry_cachep(self) -> KmemCache:
        """The slab cache of entries."""
        return self.kernel.slab.state.named["dentry_cache"]

    def dcache_init(self, mempages: int) -> None:
        """Make the slab cache, and the hash table: a list head for every two pages of memory. kernel: fs/dcache.c:dcache_init"""
        self.kernel.slab.keep_cache("dentry_cache", SIZEOF_DENTRY, SLAB_HWCACHE_ALIGN)
        self.hash_pfn, self.d_hash_shift = hash_table(self.kernel, "Dentry cache", mempages, 13)

    # -- making and finding -------------------------------------------------------------------

    def d_alloc(self, parent: Dentry | None, name: str) -> Dentry | None:
        """A new negative entry, not hashed, with one reference; None without memory. kernel: fs/dcache.c:d_alloc"""
        slab = self.kernel.slab
        address = slab.kmem_cache_alloc(self.dentry_cachep, GFP_KERNEL)
        if not address:
            return None
        dentry = Dentry(address, name, full_name_hash(name))
        length = len(name.encode())
        if length > DNAME_INLINE_LEN - 1:
            dentry.name_address = slab.kmalloc(length + 16 & ~15, GFP_KERNEL)
            if not dentry.name_address:
                slab.kmem_cache_free(self.dentry_cachep, address)
                return None
        if parent is not None:
            dentry.d_parent = self.dget(parent)
            dentry.d_sb = parent.d_sb
            parent.d_subdirs[address] = dentry
        self.nr_dentry += 1
        if (ev := self.on_event) is not None:
            ev(("d_alloc", name, address))
        return dentry

    def d_instantiate(self, dentry: Dentry, inode: Inode | None) -> None:
        """The name is *inode*'s from now on; the caller's reference of it becomes the entry's.

        Raises KernelBug for an entry that has one. kernel: fs/dcache.c:d_instantiate
        """
        if dentry.d_inode is not None:
            raise KernelBug("d_instantiate", f"{dentry!r} has an inode already", "d_alias")
        if inode is not None:
            inode.i_dentry.insert(0, dentry)
        dentry.d_inode = inode

    def d_add(self, dentry: Dentry, inode: Inode | None) -> None:
        """Give a new entry its inode and hash it. kernel: include/linux/dcache.h:d_add"""
        self.d_instantiate(dentry, inode)
        self.d_rehash(dentry)

    def d_alloc_root(self, inode: Inode) -> Dentry:
        """The entry "/" of a file system: its own parent, in no chain. Raises KernelPanic without memory.

        kernel: fs/dcache.c:d_alloc_root
        """
        root = self.d_alloc(None, "/")
        if root is None:
            raise KernelPanic("VFS: Unable to mount root fs")
        root.hash = 0
        root.d_sb = inode.i_sb
        self.d_instantiate(root, inode)
        return root

    def d_hash(self, parent: Dentry, name_hash: int) -> int:
        """Number of the chain. kernel: fs/dcache.c:d_hash"""
        value = name_hash + parent.address // L1_CACHE_BYTES & M32
        value ^= value >> self.d_hash_shift
        return value & (1 << self.d_hash_shift) - 1

    def find(self, parent: Dentry, name: str) -> Dentry | None:
        """The entry of *name* in *parent*, untouched; None when it is not in memory. kernel: fs/dcache.c:d_lookup"""
        name_hash = full_name_hash(name)
        for dentry in self.dentry_hashtable.get(self.d_hash(parent, name_hash), ()):
            if dentry.hash == name_hash and dentry.d_parent is parent and dentry.d_name == name:
                return dentry
        return None

    def d_lookup(self, parent: Dentry, name: str) -> Dentry | None:
        """The same with a reference for the caller, and marked as used lately. kernel: fs/dcache.c:d_lookup"""
        dentry = self.find(parent, name)
        if dentry is not None:
            self.dget(dentry)
            dentry.d_vfs_flags |= DCACHE_REFERENCED
        if (ev := self.on_event) is not None:
            ev(("d_lookup", name, "not there" if dentry is None else "found" if dentry.d_inode else "found, negative"))
        return dentry

    def d_rehash(self, dentry: Dentry) -> None:
        """Put an entry into its chain. Raises KernelBug when it is in one. kernel: fs/dcache.c:d_rehash"""
        if dentry.hashed:
            raise KernelBug("d_rehash", f"{dentry!r} is hashed already", "d_hash")
        self.dentry_hashtable.setdefault(self.d_hash(dentry.d_parent, dentry.hash), []).insert(0, dentry)
        dentry.hashed = True

    def d_drop(self, dentry: Dentry) -> None:
        """Take an entry out of its chain: nobody will find it. kernel: include/linux/dcache.h:d_drop"""
        if not dentry.hashed:
            return
        bucket = self.d_hash(dentry.d_parent, dentry.hash)
        chain = self.dentry_hashtable[bucket]
        chain.remove(dentry)
        if not chain:
            del self.dentry_hashtable[bucket]
        dentry.hashed = False

    def d_find_alias(self, inode: Inode) -> Dentry | None:
        """A hashed name of the inode, with a reference for the caller. kernel: fs/dcache.c:d_find_alias"""
        for dentry in inode.i_dentry:
            if dentry.hashed:
                return self.dget(dentry)
        return None

    # -- references ---------------------------------------------------------------------------

    def dget(self, dentry: Dentry) -> Dentry:
        """Take a reference; an unused entry leaves the unused list. kernel: fs/dcache.c:dget_locked, include/linux/dcache.h:dget"""
        dentry.d_count += 1
        if dentry.d_count == 1:
            self.nr_unused -= 1
            del self.dentry_unused[dentry.address]
        return dentry

    def dput(self, dentry: Dentry | None) -> None:
        """Drop a reference. The last one puts a hashed entry on the unused list; any other goes, and perhaps its parent too.

        Raises KernelBug for an entry without users. kernel: fs/dcache.c:dput
        """
        while dentry is not None:
            dentry.d_count -= 1
            if dentry.d_count > 0:
                return
            if dentry.d_count < 0 or dentry.address in self.dentry_unused:
                raise KernelBug("dput", f"{dentry!r} has no users", "d_lru")
            if dentry.hashed:
                self.dentry_unused[dentry.address] = dentry
                self.nr_unused += 1
                if (ev := self.on_event) is not None:
                    ev(("dentry_unused", dentry.d_name, self.nr_unused))
                return
            parent = dentry.d_parent
            self._kill(dentry)
            dentry = None if parent is dentry else parent

    def _kill(self, dentry: Dentry) -> None:
        """The entry's end: it lets go of its inode and is freed; its reference of its parent is the caller's now."""
        dentry.d_parent.d_subdirs.pop(dentry.address, None)
        self.dentry_iput(dentry)
        self.d_free(dentry)

    def dentry_iput(self, dentry: Dentry) -> None:
        """Let go of the inode. kernel: fs/dcache.c:dentry_iput"""
        inode = dentry.d_inode
        if inode is not None:
            dentry.d_inode = None
            inode.i_dentry.remove(dentry)
            self.kernel.icache.iput(inode)

    def d_free(self, dentry: Dentry) -> None:
        """Free the structure. kernel: fs/dcache.c:d_free"""
        slab = self.kernel.slab
        if dentry.name_address:
            slab.kfree(dentry.name_address)
        slab.kmem_cache_free(self.dentry_cachep, dentry.address)
        self.nr_dentry -= 1

    def d_delete(self, dentry: Dentry) -> None:
        """The name is no more: the entry of its only user becomes negative, any other only leaves its chain.

        kernel: fs/dcache.c:d_delete
        """
        if (ev := self.on_event) is not None:
            ev(("d_delete", dentry.d_name, "negative" if dentry.d_count == 1 else "unhashed"))
        if dentry.d_count == 1:
            self.dentry_iput(dentry)
        else:
            self.d_drop(dentry)

    def d_move(self, dentry: Dentry, target: Dentry) -> None:
        """*dentry* takes the name and the place of *target*, which gets its own and is in no chain then. kernel: fs/dcache.c:d_move"""
        self.d_drop(dentry)
        self.d_drop(target)
        for entry in (dentry, target):
            entry.d_parent.d_subdirs.pop(entry.address, None)
        dentry.d_parent, target.d_parent = target.d_parent, dentry.d_parent
        dentry.d_name, target.d_name = target.d_name, dentry.d_name
        dentry.hash, target.hash = target.hash, dentry.hash
        dentry.name_address, target.name_address = target.name_address, dentry.name_address
        for entry in (target, dentry):
            entry.d_parent.d_subdirs[entry.address] = entry
        self.d_rehash(dentry)

    # -- shrinking ----------------------------------------------------------------------------

    def prune_one_dentry(self, dentry: Dentry) -> None:
        """Throw an unused entry away, which has left the unused list. kernel: fs/dcache.c:prune_one_dentry"""
        if (ev := self.on_event) is not None:
            ev(("prune_dentry", dentry.d_name, dentry.address))
        self.d_drop(dentry)
        parent = dentry.d_parent
        self._kill(dentry)
        if parent is not dentry:
            self.dput(parent)

    def prune_dcache(self, count: int) -> None:
        """Free *count* unused entries, those longest unused first; one that was found lately gets another round.

        *count* is decremented before it is looked at, so that 0 means all. kernel: fs/dcache.c:prune_dcache
        """
        unused = self.dentry_unused
        while unused:
            address, dentry = unused.popitem(last=False)
            if dentry.d_vfs_flags & DCACHE_REFERENCED:
                dentry.d_vfs_flags &= ~DCACHE_REFERENCED
                unused[address] = dentry
                continue
            self.nr_unused -= 1
            if dentry.d_count:
                raise KernelBug("prune_dcache", f"{dentry!r} is on the unused list", "d_count")
            self.prune_one_dentry(dentry)
            count -= 1
            if not count:
                break

    def shrink_dcache_sb(self, sb: SuperBlock) -> None:
        """Free every unused entry of a file system, those longest unused first. kernel: fs/dcache.c:shrink_dcache_sb"""
        for dentry in reversed(list(self.dentry_unused.values())):
            if dentry.d_sb is sb:
                self.dentry_unused.move_to_end(dentry.address)
        while True:
            found = next((d for d in reversed(self.dentry_unused.values()) if d.d_sb is sb), None)
            if found is None:
                return
            del self.dentry_unused[found.address]
            self.nr_unused -= 1
            self.prune_one_dentry(found)

    def select_parent(self, parent: Dentry) -> int:
        """Move unused entries below *parent* to the end of the unused list; returns how many. kernel: fs/dcache.c:select_parent"""
        found = 0
        for dentry in reversed(list(parent.d_subdirs.values())):
            if not dentry.d_count:
                self.dentry_unused.move_to_end(dentry.address, last=False)
                found += 1
            found += self.select_parent(dentry)
        return found

    def shrink_dcache_parent(self, parent: Dentry) -> None:
        """Free every unused entry below *parent*. kernel: fs/dcache.c:shrink_dcache_parent"""
        while found := self.select_parent(parent):
            self.prune_dcache(found)

    def shrink_dcache_memory(self, priority: int, gfp_mask: int) -> int:
        """Free 1/*priority* of the unused entries (at priority 1, the last round, all), then empty slabs; returns the pages freed.

        Not for a caller that may not enter a file system. kernel: fs/dcache.c:shrink_dcache_memory
        """
        if not self.hash_pfn or not gfp_mask & GFP_FS:
            return 0
        before = self.nr_dentry
        self.prune_dcache(self.nr_unused // priority)
        pages = self.kernel.slab.kmem_cache_shrink(self.dentry_cachep)
        if (ev := self.on_event) is not None:
            ev(("shrink_dcache", priority, before - self.nr_dentry, pages))
        return pages

    # -- looking ------------------------------------------------------------------------------

    def entries(self) -> list[Dentry]:
        """Every hashed entry, by chain."""
        return [dentry for bucket in sorted(self.dentry_hashtable) for dentry in self.dentry_hashtable[bucket]]

    def dentry_state(self) -> str:
        """The text of /proc/sys/fs/dentry-state: entries, unused, age limit in seconds, pages wanted, two zeroes."""
        return f"{self.nr_dentry}\t{self.nr_unused}\t45\t0\t0\t0\n"

    def __repr__(self) -> str:
        return f"<Dcache {self.nr_dentry} entries, {self.nr_unused} of them unused>"
