"""Corners of the kernel that the recorded traces do not reach. Every expected value is what the C code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vmlab
from vmlab import GFP_KERNEL, KernelBug
from vmlab.trace.golden import main, verify

K = 4096
# frames 33 to 96, all free but frame 60: no power of two above 4096 divides the start
SMALL_NODE = [
    {"op": "bm_init", "mapstart": 400, "start": 33, "end": 97, "r": 8, "last_pos": 0, "last_offset": 0, "free": 0, "crc": "2144df1c"},
    {"op": "bm_free", "addr": 33 * K, "size": 64 * K, "last_pos": 0, "last_offset": 0, "free": 64, "crc": "6522df69"},
    {"op": "bm_reserve", "addr": 60 * K, "size": K, "twice": 0, "last_pos": 0, "last_offset": 0, "free": 63, "crc": "555294a8"},
]


def replay(path: Path, header: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    """Replay *lines* as a trace of the kernel; the first difference fails."""
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    report = verify(path)
    assert report.divergence is None, str(report)
    assert report.operations == len(lines)


def bootmem_bug(op: str, addr: int, size: int, where: str) -> dict[str, Any]:
    return {"op": op, "addr": addr, "size": size, "r": "bug", "bug": where, "fp": [0, 0, 0], "nb": [0, 0, 0]}


def test_reserving_below_the_node_is_not_noticed(tmp_path: Path) -> None:
    # reserve_bootmem_core compares unsigned indices: two pages below the node's start the index wraps to 0xffffe, below the
    # wrapped end 0xfffff, so every check passes and a bit far outside the bitmap is set. One page below, the end wraps to 0: BUG().
    same = {"twice": 0, "last_pos": 0, "last_offset": 0, "free": 63, "crc": "555294a8"}
    lines = [
        *SMALL_NODE,
        {"op": "bm_reserve", "addr": 31 * K, "size": K, **same},
        bootmem_bug("bm_reserve", 32 * K, K, "bootmem.c:93"),
        bootmem_bug("bm_reserve", 31 * K, 2 * K, "bootmem.c:93"),
        {"op": "bm_ranges", "free_ranges": [[33, 60], [61, 97]]},
    ]
    replay(tmp_path / "t.jsonl", {"subsystem": "bootmem"}, lines)


def test_freeing_a_size_that_wraps_clears_to_the_end_of_the_bitmap(tmp_path: Path) -> None:
    # 40 pages + (2^32 - 20 pages) = page 20, which is not past the node's end; page 20 - 33 wraps to index 0xffff3, so the loop runs
    # from page 40 off the end of the bitmap, and BUGs at the first bit that is clear already.
    lines = [
        SMALL_NODE[0],
        bootmem_bug("bm_free", 40 * K, (1 << 32) - 20 * K, "bootmem.c:127"),
        {"op": "bm_ranges", "free_ranges": [[40, 97]]},
    ]
    replay(tmp_path / "t.jsonl", {"subsystem": "bootmem"}, lines)


def test_allocating_nearly_4_gib_after_a_partial_page(tmp_path: Path) -> None:
    # Rounded up to pages the size wraps to 0, so any free page will do; merged with the partial page it does not wrap any more,
    # and the loop that reserves it BUGs at page 60, with the pages before it gone.
    first = {
        "op": "bm_alloc",
        "size": 1000,
        "align": 1,
        "goal": 0,
        "r": 33 * K,
        "last_pos": 0,
        "last_offset": 1000,
        "free": 62,
        "crc": "99f89436",
    }
    huge = {
        "op": "bm_alloc",
        "size": 0xFFFFF801,
        "align": 1,
        "goal": 0,
        "r": "bug",
        "bug": "bootmem.c:240",
        "fp": [0, 0, 0],
        "nb": [0, 0, 0],
    }
    replay(tmp_path / "t.jsonl", {"subsystem": "bootmem"}, [*SMALL_NODE, first, huge, {"op": "bm_ranges", "free_ranges": [[61, 97]]}])


@pytest.mark.parametrize("numa", [True, False])
def test_alloc_pages_node_does_not_check_the_order(tmp_path: Path, numa: bool) -> None:
    # alloc_pages() refuses order 10. With CONFIG_NUMA alloc_pages_node() goes to __alloc_pages() directly: rmqueue() takes the
    # field behind free_area[9], the wait table, for a list of pages, and BAD_RANGE() notices.
    header = {
        "subsystem": "numa",
        "build": "CONFIG_DISCONTIGMEM " + ("+ CONFIG_NUMA (local node first)" if numa else "without CONFIG_NUMA (round robin)"),
        "nodes": [[0, 4096, 0, 0, 300, 0]],
        "node_init_order": [0],
    }
    now = {"fp": [3747, 0, 0], "nb": [0, 0, 0]}
    refused = {"r": None, "wk": 0, "yl": 0, "rc": [], **now}
    lines: list[dict[str, Any]] = [
        {
            "op": ["node", 0, 0, 4096, 0, 0, 300, 0],
            "bootmap_bytes": 512,
            "node_mem_map_pa": 1232928,
            "node_start_mapnr": 25686,
            "valid_addr_bitmap_pa": 1430336,
            "bootmem_last": [349, 1344],
        },
        {"op": ["freeall", 0], "freed": 3747, **now},
        {"op": ["alloc_node", 0, GFP_KERNEL, 10], **({"bug": 1, "bug_at": "page_alloc.c:217", **now} if numa else refused)},
        {"op": ["alloc_node", 0, 32, 11], **({"bug": 1, "bug_at": "page_alloc.c:217", **now} if numa else refused)},
        {"op": ["alloc", GFP_KERNEL, 10], **refused},
    ]
    replay(tmp_path / "t.jsonl", header, lines)


def test_freeing_with_a_wrong_order() -> None:
    m = vmlab.boot("64M", kernel_objects=None)
    pages = [m.alloc_pages(GFP_KERNEL, 9) for _ in range(3)]
    assert [page.pfn for page in pages if page is not None] == [15872, 15360, 14848]
    normal = m.zones[1]
    assert normal.free_pages == 10559
    with pytest.raises(KernelBug) as bug:
        m.page_allocator.free_pages(15360, 10)
    assert bug.value.kind == "order"
    assert normal.free_pages == 10559 + 1024  # __free_pages_ok counts first and looks at the order afterwards
    with pytest.raises(KernelBug) as bug:
        m.page_allocator.free_pages(14848, 11)  # frame 10752 of its zone: no multiple of 2048
    assert bug.value.kind == "aligned"
    assert normal.free_pages == 10559 + 1024


def test_misaligned_free_in_a_trace(tmp_path: Path) -> None:
    golden_head = {"subsystem": "buddy"}
    m = vmlab.boot("16M", kernel_objects=None)
    path = tmp_path / "t.jsonl"
    e820 = [[0, 654336, 1], [983040, 65536, 2], [1048576, 15728640, 1]]
    boot: dict[str, Any] = {
        "op": "trace",
        "mib": 16,
        "e820": e820,
        "kernel_end": 3102328,
        "highmem_param": -1,
        "zones": [{"zone": 0, "size": 4096, "start_mapnr": 0, "pages_min": 32, "pages_low": 64, "pages_high": 96}],
        "zonelists": [[0]] * 16,
        "boot_frees": [[52, 159, 1], [760, 4096, 1], [758, 759, 1]],
        "fp": [3444, 0, 0],
        "snap": {"zones": [{"zone": 0, "free": 3444, "nr": [2, 1, 2, 3, 1, 0, 1, 0, 1, 6]}], "crc": "f82de881", "map_crc": "77f41602"},
    }
    assert m.nr_free_pages() == 3444
    lines = [
        boot,
        {"op": "alloc", "gfp": GFP_KERNEL, "order": 0, "r": 758, "wk": 0, "rc": 0, "fp": [3443, 0, 0], "nb": [0, 0, 0]},
        {"op": "alloc", "gfp": GFP_KERNEL, "order": 1, "r": 156, "wk": 0, "rc": 0, "fp": [3441, 0, 0], "nb": [0, 0, 0]},
        {"op": "free", "pfn": 156, "order": 3, "r": "bug", "bug": "page_alloc.c:121", "fp": [3441, 0, 0], "nb": [0, 0, 0]},
        {"op": "free", "pfn": 156, "order": 1, "fp": [3441, 0, 0], "nb": [0, 0, 0]},  # the BUG came after the count fell to 0
    ]
    replay(path, golden_head, lines)


@pytest.mark.parametrize(
    ("memfrac", "ratios"),
    [("64,", [64, 128, 128]), ("0x40,010,16", [64, 8, 16]), ("0x40", [64, 128, 128]), ("7,100000,3", [7, 100000, 3])],
)
def test_memfrac_is_read_as_c_reads_numbers(memfrac: str, ratios: list[int]) -> None:
    m = vmlab.boot("64M", memfrac=memfrac)  # simple_strtol with base 0: 0x is hexadecimal, 0 octal
    assert m.zone_balance_ratio == ratios
    size = m.zones[0].size
    assert m.zones[0].pages_min == min(max(size // ratios[0], 20), 255)


@pytest.mark.parametrize("memfrac", ["08,1", "1,2,3,4", "0", "-1", "", 64])
def test_memfrac_that_the_kernel_would_stumble_over(memfrac: object) -> None:
    with pytest.raises((ValueError, TypeError), match="memfrac"):
        vmlab.boot("64M", memfrac=memfrac)  # type: ignore[arg-type]


MACHINE = {"e820": [[0, 654336, 1], [983040, 65536, 2], [1048576, 15728640, 1]], "kernel_end": 3102328, "highmem_param": -1, "nopse": 0}
TRACE = {"op": "trace", "e820": MACHINE["e820"], "kernel_end": 3102328, "highmem_param": -1}


@pytest.mark.parametrize(
    ("subsystem", "line"),
    [
        ("zones", {"op": "machine", "machine": {**MACHINE, "memfrac": 64}}),
        ("zones", {"op": "machine", "machine": {**MACHINE, "memfrac": None}, "snap": []}),
        ("zones", {"op": "machine", "machine": []}),
        ("buddy", {**TRACE, "snap": "x"}),
        ("bootmem", {"op": "bm_init", "mapstart": 1 << 70, "start": 1 << 70, "end": 1 << 71}),
    ],
)
def test_a_line_of_the_wrong_shape_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subsystem: str, line: dict[str, Any]
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"subsystem": subsystem}) + "\n" + json.dumps(line) + "\n")
    assert main([str(path)]) == 2
    said = capsys.readouterr().err
    assert "line 2" in said and "Traceback" not in said


def test_an_order_no_word_can_be_shifted_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = [
        {"subsystem": "numa", "build": "x", "nodes": [[0, 4096, 0, 0, 300, 0]], "node_init_order": [0]},
        {"op": ["alloc", GFP_KERNEL, 1 << 63]},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in trace))
    assert main([str(path)]) == 2
    assert "an order is a whole number from 0 to 31" in capsys.readouterr().err
    path.write_text('{"subsystem": "buddy"}\n{"op": ' + "9" * 5000 + "}\n")  # more digits than Python reads
    assert main([str(path)]) == 2
    assert "line 2: not JSON" in capsys.readouterr().err
