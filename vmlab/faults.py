"""Disks that fail, and swap on a file of the host.

    m.inject(disk, bad_reads=[7])            page 7 of disk number 0 … cannot be read any more
    m.inject("report.txt", bad_writes=[0])   nor page 0 of that file be written
    m.repair("report.txt")

What is written to a FileDisk (``add_swap(path=…)``, ``import_file``) stays with the machine, so that going back in time finds
what was there and a recording can be replayed; ``commit()`` puts it into the host's files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from .caches import Caches
from .hw.disk import Disk, FileDisk
from .system import op

if TYPE_CHECKING:
    from .machine import Machine

__all__ = ["Faults"]


class Faults(Caches):
    """What people do to the machine's disks."""

    def disk(self, which: int | str) -> Disk:
        """The disk with that number, or the one that holds the file with that name. Raises ValueError when there is none."""
        number: object = which
        if isinstance(which, str):
            inode = cast("Machine", self).diskfs.lookup(which)
            number = inode.info.disk if inode is not None else None
        found = self.block.disks.get(number) if isinstance(number, int) else None
        if found is None:
            raise ValueError(f"{which!r} is no disk and no file of this machine; its disks are {sorted(self.block.disks)}")
        return found

    @op
    def inject(self, disk: int | str, bad_reads: Iterable[int] = (), bad_writes: Iterable[int] = ()) -> None:
        """From now on these pages of a disk (its number) or a file (its name) cannot be read, or written.

        Raises ValueError for a page that is not on the disk.
        """
        target = self.disk(disk)
        reads, writes = set(bad_reads), set(bad_writes)
        for page in sorted(reads | writes):
            if not isinstance(page, int) or not 0 <= page < target.npages:
                raise ValueError(f"page {page!r}: {target!r} has pages 0 to {target.npages - 1}")
        target.bad_reads |= reads
        target.bad_writes |= writes
        self.emit("disk_fault", target.name or str(disk), len(reads), len(writes))

    @op
    def repair(self, disk: int | str) -> None:
        """The whole disk can be read and written again; what could not be written is lost all the same."""
        target = self.disk(disk)
        target.bad_reads.clear()
        target.bad_writes.clear()
        self.emit("disk_repair", target.name or str(disk))

    def commit(self, disk: int | str | None = None) -> int:
        """Put what was written to disks on files of the host (or to one of them) into these files; returns the pages written.

        Not part of the run: a recording that is replayed writes nothing. Raises ValueError for a disk that is on
        no file, OSError when the file cannot be written.
        """
        disks = list(self.block.disks.values()) if disk is None else [self.disk(disk)]
        if disk is not None and not isinstance(disks[0], FileDisk):
            raise ValueError(f"{disks[0]!r} is not on a file of the host")
        return sum(found.commit(keep=True) for found in disks if isinstance(found, FileDisk))
