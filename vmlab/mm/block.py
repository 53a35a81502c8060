"""Disks and the queue of page transfers to and from them.

The real kernel cuts a page into buffer heads, queues requests and is interrupted when the disk is done.
Here a request is one page. With ``io_mode=0`` it is done when it is submitted. With ``io_mode=1`` it waits in a
first-in first-out queue, its page locked, until somebody gives up the processor: schedule(), yield(),
schedule_timeout(), run_task_queue(&tq_disk), before kswapd runs and at the end of each operation.

kernel: fs/buffer.c, drivers/block/ll_rw_blk.c
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelPanic
from ..hw.disk import Disk
from .bounce import BufferHead, EndIo
from .fs import READ, WRITE
from .kernel import Part
from .page_flags import PG_error, PG_locked, PG_uptodate

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["READ", "WRITE", "BlockLayer"]

_SECTORS = 8  # of 512 bytes in a page
FIRST_FILE_DISK = 256  # lower numbers are disks people name themselves (swap is put on them)

Request = tuple[int, int, int, int, "BufferHead | None"]  # READ or WRITE, frame, disk, page on the disk, stand-in for a high page

_LOCKED, _ERROR, _UPTODATE = 1 << PG_locked, 1 << PG_error, 1 << PG_uptodate


class EndBufferIoAsync(EndIo):
    """The end of a bounced transfer, for the page it was about."""

    name = "end_buffer_io_async"

    def end_io(self, bh: BufferHead, uptodate: bool) -> None:
        """kernel: fs/buffer.c:end_buffer_io_async"""
        self.kernel.block.end_buffer_io_async(bh.b_page, uptodate)


class BlockLayer(Part):
    """All disks by number, the requests not yet done, and what was asked of them.

    ``log`` set to True makes ``io_log`` and ``fio_log`` grow: swap transfers as +(disk << 24 | page) for a read and
    -(…) for a write, file transfers as [rw, file label, page index]. ``file_reads`` and ``file_writes`` always count.
    """

    busy = _LOCKED  # a page must be this to be transferred
    state_names = ("disks", "file_reads", "file_writes", "fio_log", "io_log", "log", "next_file_disk", "queue")

    def __init__(self) -> None:
        super().__init__()
        self.disks: dict[int, Disk] = {}
        self.next_file_disk = FIRST_FILE_DISK
        self.queue: list[Request] = []  # oldest first
        self.log = False
        self.io_log: list[int] = []
        self.fio_log: list[list[int]] = []
        self.file_reads = self.file_writes = 0  # pages

    def attach(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.flags = kernel.mem.flags
        self.instant = kernel.config.io_mode == 0
        self.end_async = EndBufferIoAsync(kernel)

    # -- disks --------------------------------------------------------------------------------

    def add_disk(self, number: int, disk: Disk | int) -> Disk:
        """Put in a disk (or a new empty one of so many pages) as disk *number*, in place of one that was there."""
        if not 0 <= number < FIRST_FILE_DISK:
            raise ValueError(f"disk {number}: disks are numbered 0 to {FIRST_FILE_DISK - 1}")
        self.disks[number] = Disk(disk, f"disk{number}") if isinstance(disk, int) else disk
        return self.disks[number]

    def add_file_disk(self, disk: Disk) -> int:
        """Put in the backing store of a file; returns its number."""
        number = self.next_file_disk
        self.next_file_disk += 1
        self.disks[number] = disk
        return number

    def remove_disk(self, number: int) -> None:
        """Take a disk out; requests for it that are still queued will fail."""
        self.disks.pop(number, None)

    # -- transfers ----------------------------------------------------------------------------

    def brw_page(self, rw: int, pfn: int, disk: int, page_no: int) -> int:
        """Read or write one whole page of a disk; the page must be locked and is unlocked when that is done. Returns 0.

        Raises KernelPanic when the page is not locked. kernel: fs/buffer.c:brw_page
        """
        if self.log:
            slot = disk << 24 | page_no
            self.io_log.append(-slot if rw else slot)
        return self.submit_bh(rw, pfn, disk, page_no)

    def file_io(self, rw: int, pfn: int, disk: int, page_no: int, label: int) -> int:
        """The same for a page of a file, which the traces call *label*. Returns 0."""
        if rw:
            self.file_writes += 1
        else:
            self.file_reads += 1
        if self.log:
            self.fio_log.append([rw, label, page_no])
        return self.submit_bh(rw, pfn, disk, page_no)

    def submit_bh(self, rw: int, pfn: int, disk: int, page_no: int) -> int:
        """Queue a transfer, or do it at once when the disk is instant; bounce it when the disk cannot reach the page. Returns 0.

        kernel: drivers/block/ll_rw_blk.c:submit_bh, __make_request, include/linux/blkdev.h:blk_queue_bounce
        """
        if not self.flags[pfn] & self.busy:
            raise KernelPanic("brw_page: page not locked for I/O")
        ev = self.on_event
        if ev is not None:
            ev(("io_submit", "write" if rw else "read", pfn, disk, page_no))
        kstat = self.kernel.sched.kstat
        if rw:
            kstat.pgpgout += _SECTORS
        else:
            kstat.pgpgin += _SECTORS
        stand_in: BufferHead | None = None
        device = self.disks.get(disk)
        if device is not None and device.low_only:
            original = BufferHead(pfn, disk, page_no)
            original.b_end_io = self.end_async
            low = self.kernel.highmem.create_bounce(rw, original)
            stand_in = None if low is original else low
        request = (rw, pfn, disk, page_no, stand_in)
        if self.instant:
            self.end_request(request)
        else:
            self.queue.append(request)
        return 0

    def complete_all(self) -> int:
        """Carry out every queued request, oldest first; returns how many. kernel: drivers/block/ll_rw_blk.c:generic_unplug_device"""
        done = 0
        while self.queue:
            self.end_request(self.queue.pop(0))
            done += 1
        return done

    def end_request(self, request: Request) -> None:
        """Carry a request out, and tell whoever asked for it. kernel: drivers/block/ll_rw_blk.c:end_that_request_first"""
        rw, pfn, disk, page_no, stand_in = request
        ok = self.transfer(rw, pfn if stand_in is None else stand_in.b_page, disk, page_no)
        ev = self.on_event
        if ev is not None:
            ev(("io_done", "write" if rw else "read", pfn, disk, page_no, int(ok)))
        if not ok:
            self.kernel.printk(None, f"end_request: I/O error, dev 03:{disk & 0xFF:02x} (disk{disk}), sector {page_no * _SECTORS}")
        if stand_in is None:
            self.end_buffer_io_async(pfn, ok)
        elif stand_in.b_end_io is not None:
            stand_in.b_end_io.end_io(stand_in, ok)

    def end_buffer_io_async(self, pfn: int, uptodate: bool) -> None:
        """The page's transfer is over: mark it up to date (or in error) and unlock it. kernel: fs/buffer.c:end_buffer_io_async"""
        if not uptodate:
            self.flags[pfn] |= _ERROR
        if not self.flags[pfn] & _ERROR:
            self.flags[pfn] |= _UPTODATE
        self.kernel.filemap.unlock_page(pfn)

    def transfer(self, rw: int, pfn: int, disk: int, page_no: int) -> bool:
        """Copy between frame and disk; False when the disk refuses."""
        device = self.disks.get(disk)
        if device is None:
            return False
        ram = self.kernel.ram
        try:
            if rw:
                words = ram.contents.get(pfn)
                device.write_page(page_no, None if words is None else words.tobytes())
            else:
                data = device.read_page(page_no)
                if page_no >= device.npages:
                    self.kernel.highmem.clear_highpage(pfn)  # a hole: no disk is involved
                elif data is None:
                    ram.clear_page(pfn)
                else:
                    ram.write_page(pfn, data)
        except OSError:
            return False
        return True

    def sync_page(self, pfn: int) -> int:
        """Get the queue going because somebody waits for *pfn*. Returns 0. kernel: fs/buffer.c:block_sync_page"""
        self.kernel.sched.run_task_queue()
        return 0

    def __repr__(self) -> str:
        return f"<BlockLayer {len(self.disks)} disks, {len(self.queue)} transfers under way>"
