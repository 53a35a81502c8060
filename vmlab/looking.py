"""The machine as text: what /proc shows of 2.4, and the lists and maps that no /proc file shows."""

from __future__ import annotations

from .mm import filemap_view, proc, proc_lists, shmem_view
from .mm.fs import Inode
from .mm.startup import Startup

__all__ = ["Looking"]


class Looking(Startup):
    """Text about a machine; nothing here changes anything."""

    def _whole(self, what: str) -> None:
        if self.config.kernel_objects is None or not self.ready:
            raise ValueError(f"{what}: only a machine with processes that is up has it (vmlab.boot(), kernel_objects='ram')")

    def ps(self) -> str:
        """One line for each process: its sizes in pages, its faults, its name."""
        self._whole("ps")
        lines = ["  PID   SIZE    RSS  MINFLT  MAJFLT COMMAND"]
        for task in self.sched.tasks.values():
            size, rss = (task.mm.total_vm, task.mm.rss) if task.mm is not None else (0, 0)
            lines.append(f"{task.pid:>5} {size:>6} {rss:>6} {task.min_flt:>7} {task.maj_flt:>7} {task.comm}")
        return "\n".join(lines)

    def slabinfo(self) -> str:
        """The text of /proc/slabinfo."""
        self._whole("slabinfo")
        return self.slab.slabinfo()

    def swaps(self) -> str:
        """The text of /proc/swaps."""
        self._whole("swaps")
        return proc.swaps(self)

    def swap_map(self, area: int = 0) -> str:
        """Every slot of a swap area and how many use it. Raises ValueError when the area is not in use."""
        self._whole("swap_map")
        return proc_lists.swap_map(self, area)

    def vmstat(self) -> str:
        """Counters, as /proc/vmstat of later kernels has them: pages by use, then what happened since power-on."""
        self._whole("vmstat")
        return proc_lists.vmstat(self)

    def counters(self) -> dict[str, int]:
        """The same counters by name, for arithmetic and plots."""
        self._whole("counters")
        return proc_lists.counters(self)

    def lru(self) -> str:
        """The active and inactive lists, in figures."""
        self._whole("lru")
        return proc.lru(self)

    def lru_pages(self, which: str = "inactive", most: int = 20) -> str:
        """The first *most* pages of the "active" or "inactive" list, head first: frame, who holds it, references, flags."""
        self._whole("lru_pages")
        return proc_lists.lru_pages(self, which, most)

    def lru_line(self, width: int = 72) -> str:
        """Both lists, a letter a page, head first: F file, T tmpfs, S swap cache, A anonymous; small when not referenced."""
        self._whole("lru_line")
        return proc.lru_line(self, width)

    def vmalloc_map(self) -> str:
        """The areas between VMALLOC_START and VMALLOC_END."""
        self._whole("vmalloc_map")
        return self.vmalloc_space.vmalloc_map()

    def pkmap(self) -> str:
        """The permanent kernel mappings of high memory."""
        self._whole("pkmap")
        return self.highmem.pkmap()

    def ipcs(self) -> str:
        """The text of /proc/sysvipc/shm: the System V shared memory segments."""
        self._whole("ipcs")
        return self.ipc_shm.sysvipc_shm().rstrip("\n")

    def badness(self) -> dict[int, int]:
        """The points of each process by pid: the one with the most (the oldest of equals) dies when memory runs out.

        kernel: mm/oom_kill.c:badness
        """
        self._whole("badness")
        killer = self.oom_kill
        listener, killer.on_event = killer.on_event, None  # looking is no step of a run
        try:
            return {pid: killer.badness(task) for pid, task in self.sched.tasks.items()}
        finally:
            killer.on_event = listener

    def io_queue(self) -> str:
        """The disk transfers that are under way, oldest first."""
        self._whole("io_queue")
        return filemap_view.io_queue(self)

    def page_hash(self) -> str:
        """How long the chains of the page hash are."""
        self._whole("page_hash")
        return filemap_view.hash_chains(self)

    def file_pages(self, name: str) -> str:
        """What is cached of a file, list by list; of a file below a tmpfs, where each page is and the way to its swap entry.

        Raises ValueError when there is no such file.
        """
        self._whole("file_pages")
        inode = self._inode_named(name)
        if inode.i_mapping.a_ops is self.shmem.aops:
            return f"{shmem_view.vector(self, inode)}\n{shmem_view.pages(self, inode)}".rstrip("\n")
        return filemap_view.file_pages(self, inode)

    def _inode_named(self, name: str) -> Inode:
        from .mm.tmpfs import Tmpfs

        for mount in self.shmem.mounts:
            if name.startswith(mount + "/"):
                inode = Tmpfs(self, mount).path_walk(name[len(mount) :])
                if isinstance(inode, Inode):
                    return inode
        found = self.diskfs.lookup(name)
        if isinstance(found, Inode):
            return found
        raise ValueError(f"no file {name!r}: files() lists those there are")
