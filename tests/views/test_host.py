"""Readers of the host kernel's memory files, on samples of several kernels, and the view that shows them."""

from __future__ import annotations

import pathlib
import platform
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab import host, views
from vmlab.views.host import compare

SAMPLES = pathlib.Path(host.__file__).parent / "samples"
ALL = host.samples()


def text_of(sample: str, name: str) -> str:
    return (SAMPLES / sample / name).read_text()


# -- parsers ----------------------------------------------------------------------------------------


def test_the_kept_samples_span_two_decades_newest_first() -> None:
    assert [host.sample(name).kernel for name in ALL] == ["6.18.44", "5.10", "2.6.32", "2.6.11"]


@pytest.mark.parametrize("name", ALL)
def test_do_both_files_of_a_sample_agree_on_the_free_pages(name: str) -> None:
    reading = host.sample(name)
    for row in reading.buddyinfo:
        zone = reading.zone(row.node, row.zone)
        assert zone is not None
        free = zone.get("free")
        assert free is not None and abs(row.free_pages - free) <= free // 1000  # the captured files were read one after the other
        assert zone.get("min") < zone.get("low") < zone.get("high")


@pytest.mark.parametrize("name", [n for n in ALL if host.sample(n).pagetypes])
def test_do_the_kinds_add_up_to_the_zone_lists(name: str) -> None:
    reading = host.sample(name)
    assert reading.pagetypes is not None
    for row in reading.buddyinfo:
        kinds = [k for k in reading.pagetypes.rows if (k.node, k.zone) == (row.node, row.zone)]
        total = sum(k.free_pages for k in kinds)
        assert abs(total - row.free_pages) <= row.free_pages // 1000 or any(k.capped for k in kinds)
        assert sum(reading.pagetypes.blocks[row.node, row.zone].values()) > 0


def test_what_a_6_18_kernel_says() -> None:
    reading = host.sample("linux-6.18-x86_64")
    dma32 = reading.zone(0, "DMA32")
    assert dma32 is not None
    assert {n: dma32.get(n) for n in ("free", "min", "low", "high", "promo", "spanned", "present", "managed", "start_pfn")} == {
        "free": 772915,
        "min": 9118,
        "low": 11397,
        "high": 13676,
        "promo": 15955,
        "spanned": 1044480,
        "present": 782336,
        "managed": 772915,
        "start_pfn": 4096,
    }
    assert dma32.protection == (0, 0, 2560, 2560, 2560)
    assert [(p["cpu"], p["high_min"], p["high_max"]) for p in dma32.pagesets] == [(0, 5698, 48307), (1, 5698, 48307)]
    assert dma32.get("nr_inactive_anon") is None  # a counter of the node, which is printed inside its first zone
    assert reading.zone(0, "DMA").get("nr_zone_inactive_anon") == 0
    assert [z.zone for z in reading.zoneinfo] == ["DMA", "DMA32", "Normal", "Movable", "Device"]
    assert reading.pagetypes is not None and (reading.pagetypes.block_order, reading.pagetypes.pages_per_block) == (9, 512)


def test_hot_and_cold_page_sets_of_2_6_11_are_kept_apart() -> None:
    normal = host.sample("linux-2.6.11-i386").zone(0, "Normal")
    assert normal is not None
    assert [(p["pcp"], p["count"], p["low"], p["high"], p["batch"]) for p in normal.pagesets] == [(0, 84, 32, 96, 16), (1, 11, 0, 32, 16)]
    assert (normal.get("active"), normal.get("inactive"), normal.get("scanned"), normal.get("prev_priority")) == (41210, 39118, 0, 12)
    assert normal.pages == 126960  # no "managed" yet: "present" is the nearest


def test_two_nodes_are_told_apart() -> None:
    reading = host.sample("linux-5.10-numa")
    assert [(row.node, row.zone) for row in reading.buddyinfo] == [(0, "DMA"), (0, "DMA32"), (0, "Normal"), (1, "Normal")]
    assert reading.zone(1, "Normal").get("managed") == 4128768


def test_lines_of_a_kernel_to_come_do_no_harm() -> None:
    text = text_of("linux-6.18-x86_64", "zoneinfo")
    known = host.parse_zoneinfo(text)
    strange = text.replace("        boost    0\n", "        boost    0\n        cushion  17\n  ~~ odd: words, no number\n").replace(
        "  vm stats threshold: 24\n", "              tier:  4\n  vm stats threshold: 24\n  new section\n"
    )
    new = host.parse_zoneinfo(strange)
    assert [z.fields | {"cushion": 17} for z in known] == [z.fields for z in new]
    assert [z.protection for z in known] == [z.protection for z in new]
    assert all(p["tier"] == 4 for z in new if z.zone == "Normal" for p in z.pagesets)
    more_orders = text_of("linux-6.18-x86_64", "buddyinfo").replace(" \n", "      7 \n")
    assert [row.counts[-1] for row in host.parse_buddyinfo(more_orders)] == [7, 7, 7]


def test_a_count_given_only_as_more_than_is_marked() -> None:
    text = text_of("linux-5.10-numa", "pagetypeinfo").replace(" 92139 ", ">100000 ")
    capped = [row for row in host.parse_pagetypeinfo(text).rows if row.capped]
    assert [(row.node, row.zone, row.kind, row.counts[0]) for row in capped] == [(0, "Normal", "Movable", 100000)]


@pytest.mark.parametrize("parse", [host.parse_buddyinfo, host.parse_zoneinfo, host.parse_pagetypeinfo])
def test_a_file_of_another_kind_is_refused(parse) -> None:
    for text in ("", "MemTotal: 1 kB\n", "<html>Node 0</html>"):
        with pytest.raises(ValueError, match="this is not a /proc/"):
            parse(text)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL), st.integers(0, 6000), st.text("0123456789 :,()Nodezcpu\n", max_size=40))
def test_a_damaged_file_is_read_as_far_as_it_goes_or_refused(name: str, cut: int, rubbish: str) -> None:
    for parse, file in ((host.parse_zoneinfo, "zoneinfo"), (host.parse_buddyinfo, "buddyinfo")):
        whole = text_of(name, file)
        try:
            rows = parse(whole[:cut] + rubbish)
        except ValueError:
            continue
        assert rows[0].zone


# -- reading ----------------------------------------------------------------------------------------


@pytest.fixture
def proc(tmp_path: pathlib.Path) -> pathlib.Path:
    """A /proc with the files of the 6.18 sample."""
    for name in ("buddyinfo", "zoneinfo", "pagetypeinfo"):
        (tmp_path / name).write_text(text_of("linux-6.18-x86_64", name))
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "sys/kernel").mkdir()
    (tmp_path / "sys/vm/min_free_kbytes").write_text("67584\n")
    (tmp_path / "sys/vm/lowmem_reserve_ratio").write_text("256\t256\t32\t0\t0\n")
    (tmp_path / "sys/kernel/osrelease").write_text("6.18.44-test\n")
    return tmp_path


def test_a_whole_proc_is_read_without_a_note(proc: pathlib.Path) -> None:
    reading = host.read(proc)
    assert reading.live and reading.kernel == "6.18.44-test" and reading.notes == []
    assert reading.settings == {"min_free_kbytes": (67584,), "lowmem_reserve_ratio": (256, 256, 32, 0, 0)}
    assert reading.pagetypes is not None and len(reading.zoneinfo) == 5


def test_a_file_for_root_only_is_missing_with_a_sentence(proc: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pathlib.Path.read_text

    def guarded(self: pathlib.Path, *args: object, **kwargs: object) -> str:
        if self.name == "pagetypeinfo":
            raise PermissionError(13, "Permission denied")
        return plain(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(pathlib.Path, "read_text", guarded)
    reading = host.read(proc)
    assert reading.live and reading.pagetypes is None and len(reading.zoneinfo) == 5
    assert len(reading.notes) == 1 and "for root only since Linux 5.4" in reading.notes[0]
    facts = compare(vmlab.boot(ram="16M"), reading)
    assert facts["kinds"] == [] and facts["notes"] == reading.notes


def test_without_zoneinfo_the_free_lists_are_still_shown(proc: pathlib.Path) -> None:
    (proc / "zoneinfo").unlink()
    reading = host.read(proc)
    assert reading.live and "/proc/zoneinfo cannot be read here (No such file or directory)" in reading.notes[0]
    rows = compare(vmlab.boot(ram="16M"), reading)["now"]
    assert [(row["zone"], row["free"]) for row in rows] == [("DMA", 3840), ("DMA32", 772915), ("Normal", 168439)]
    assert all(row["min"] is None for row in rows)


def test_where_there_is_no_proc_a_sample_says_that_it_is_one(tmp_path: pathlib.Path) -> None:
    reading = host.read(tmp_path)
    assert not reading.live and reading.label.startswith("A sample, not this computer")
    assert "so a sample is shown" in reading.notes[0]


def test_an_unknown_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="there are linux-6.18"):
        host.sample("linux-9")
    with pytest.raises(ValueError, match="'live' or one of"):
        views.host(source="linux-9")


@pytest.mark.skipif(platform.system() != "Linux", reason="there is no /proc to read")
def test_this_computer_is_read_and_its_files_agree() -> None:
    reading = host.read()
    if not reading.live:
        pytest.skip("this system hides /proc/buddyinfo")
    assert reading.page_size >= 4096
    for row in reading.buddyinfo:
        zone = reading.zone(row.node, row.zone)
        assert zone is None or 0 <= row.free_pages <= zone.get("spanned")
        assert zone is not None or not reading.zoneinfo


def test_the_readers_need_only_the_standard_library() -> None:
    code = "import sys, vmlab.host; vmlab.host.read(); print(sorted({'anywidget', 'numpy', 'traitlets', 'ipywidgets'} & set(sys.modules)))"
    root = pathlib.Path(vmlab.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the view ---------------------------------------------------------------------------------------


def test_both_sides_come_in_the_same_form() -> None:
    machine = vmlab.boot(ram="1G")
    facts = compare(machine, host.sample("linux-6.18-x86_64"))
    assert (facts["model_orders"], facts["orders"]) == (10, 11)
    assert [row["zone"] for row in facts["model"]] == ["DMA", "Normal", "HighMem"]
    assert [row["zone"] for row in facts["now"]] == ["DMA", "DMA32", "Normal"]
    assert facts["empty"] == ["Movable", "Device"]
    for row, zone in zip(facts["model"], machine.zones, strict=True):
        assert row["counts"] == zone.nr_free() and row["free"] == zone.free_pages and row["low"] == zone.pages_low
    assert [row["counts"][10] for row in facts["now"]] == [3, 752, 162]


def test_the_worked_examples_are_true_of_the_numbers_shown() -> None:
    worked = compare(vmlab.boot(ram="64M"), host.sample("linux-6.18-x86_64"))["worked"]
    assert "DMA keeps 3\u202f019 pages from a request for DMA32: 772\u202f915 managed pages ÷ 256 = 3\u202f019" in worked["protection"]
    assert (
        "low = min + 2\u202f279" in worked["watermarks"]
        and "16\u202f894 pages = 67\u202f576 KiB; min_free_kbytes is 67\u202f584" in worked["watermarks"]
    )
    assert worked["pagesets"].startswith("Here: 18\u202f601 pages")


def test_every_row_says_in_one_sentence_what_changed() -> None:
    assert set(host.CHANGES) == {"orders", "zones", "size", "watermarks", "protection", "pagesets", "kinds", "pairs"}
    for change in host.CHANGES.values():
        assert change.then.endswith(".") and change.since.endswith(".") and ". " not in change.since


def test_the_view_reads_again_and_follows_both_sides(proc: pathlib.Path) -> None:
    machine = vmlab.boot(ram="64M")
    view = views.host.__globals__["Host"](machine, proc=str(proc))
    assert view.facts["live"] and "Linux 6.18.44-test" in view.text_alternative
    before = view.readings
    (proc / "buddyinfo").write_text("Node 0, zone   Normal      5      0      0      0      0      0      0      0      0      0      0\n")
    page = machine.alloc_pages(order=3)
    view._handle_custom_msg({"do": "read"}, [])
    assert view.readings == before + 1
    assert view.facts["now"][2]["counts"][0] == 5 and view.facts["model"][1]["free"] == machine.zones[1].free_pages
    machine.free_pages(page)
    view.source = "linux-2.6.32-i386"
    assert not view.facts["live"] and view.text_alternative.startswith("A sample, not this computer: written by hand")
    assert "HighMem: 96\u202f502 pages free" in view.text_alternative
    view.close()


@pytest.mark.parametrize("name", ALL)
def test_words_and_table_have_the_numbers_of_the_picture(name: str) -> None:
    view = views.host(vmlab.boot(ram="64M"), source=name)
    rows = view.table["rows"]
    assert len(rows) == len(view.facts["model"]) + len(view.facts["now"])
    for row, shown in zip(rows[len(view.facts["model"]) :], view.facts["now"], strict=True):
        assert row[1:12] == [*shown["counts"]] and row[-1] == shown["free"]
        assert f"{shown['free']:,}".replace(",", "\u202f") in view.text_alternative
    view.close()
