"""The zones view: its data comes from the core, checked here against machines booted and asked independently."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab import GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER, GFP_KERNEL, GFP_USER, KernelHang, views
from vmlab.mm.reclaim import Reclaim
from vmlab.views.zones_lab import LAYOUTS, MIB, PRESETS, RAM_STEPS, ZoneLab, facts, node_specs

THIN = "\u202f"


def sizes(lab: ZoneLab) -> list[tuple[str, int, int, int, int, int, int]]:
    return [(z["label"], z["size"], z["min"], z["low"], z["high"], z["wait"], z["shift"]) for z in facts(lab)["zones"]]


# -- sizes, watermarks, zonelists ---------------------------------------------------------------------


def test_the_sizes_and_marks_of_known_machines() -> None:
    assert sizes(ZoneLab("16M")) == [("DMA", 4096, 32, 64, 96, 16, 28)]
    assert sizes(ZoneLab("64M")) == [("DMA", 4096, 32, 64, 96, 16, 28), ("Normal", 12288, 96, 192, 288, 64, 26)]
    assert sizes(ZoneLab("1G")) == [
        ("DMA", 4096, 32, 64, 96, 16, 28),
        ("Normal", 225280, 255, 510, 765, 1024, 22),
        ("HighMem", 32768, 255, 510, 765, 128, 25),
    ]
    assert sizes(ZoneLab("64G"))[2] == ("HighMem", (1 << 24) - 229376, 255, 510, 765, 4096, 20)


@pytest.mark.parametrize("ram", [5120, 6144])
def test_do_the_figures_above_4_gib_agree_with_a_booted_pae_machine(ram: int) -> None:
    lab = ZoneLab(ram * MIB)
    assert lab.machine is None and not facts(lab)["booted"] and facts(lab)["pae"]
    machine = vmlab.boot(ram=ram * MIB, pae=True)
    booted = [(z.name, z.size, z.pages_min, z.pages_low, z.pages_high, z.wait_table_size, z.wait_table_shift) for z in machine.zones]
    assert sizes(lab) == booted
    ours = [[z.index for z in zonelist] for zonelist in lab.kernel.pgdats[0].node_zonelists]
    assert ours == [[z.index for z in zonelist] for zonelist in machine.pgdats[0].node_zonelists]
    assert facts(lab)["mem_map"] == next(c.size for c in machine.boot_log if c.name == "mem_map")


@pytest.mark.parametrize("ram", RAM_STEPS)
def test_every_step_of_the_slider_gives_zones_that_cover_the_ram(ram: int) -> None:
    found = facts(ZoneLab(ram * MIB))
    assert sum(z["size"] for z in found["zones"]) == ram * MIB // 4096
    starts = [z["start"] for z in found["zones"]] + [found["frames"]]
    assert [z["end"] for z in found["zones"]] == starts[1:]
    for z in found["zones"]:
        assert z["stops"] == sorted(set(z["stops"])) and z["stops"][0] == 0 and z["stops"][-1] == z["most"]
        assert {z["min"], z["low"], z["high"]} <= set(z["stops"]) or z["most"] < z["high"]


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("ram", ["16M", "256M", "4G"])
def test_every_layout_boots_and_each_gfp_value_has_one_zonelist(layout: str, ram: str) -> None:
    lab = ZoneLab(ram, layout=layout)
    found = facts(lab)
    for pgdat in lab.kernel.pgdats:
        lists = [entry for entry in found["zonelists"] if entry["node"] == pgdat.nid]
        assert sorted(v for entry in lists for v in entry["values"]) == list(range(16))
        for entry in lists:
            for value in entry["values"]:
                assert [z.index for z in pgdat.node_zonelists[value]] == entry["zones"]
    if layout != "one":
        assert sum(dma + normal + high for _, dma, normal, high, _, _ in node_specs(layout, lab.ram // 4096)) == lab.ram // 4096


def test_highmem_takes_pages_from_the_end() -> None:
    lab = ZoneLab("512M", highmem="128M")
    assert [(z.name, z.size) for z in lab.kernel.zones] == [("DMA", 4096), ("Normal", 98304 - 4096), ("HighMem", 32768)]


@pytest.mark.parametrize("ram", ["8M", "65G"])
def test_sizes_off_the_scale_are_refused(ram: str) -> None:
    with pytest.raises(ValueError):
        ZoneLab(ram)


def test_a_zone_setup_of_ones_own_shows() -> None:
    class Generous(vmlab.ZoneSetup):
        def watermarks(self, zone_num: int, realsize: int) -> tuple[int, int, int]:
            return 1000, 2000, 3000

    lab = ZoneLab("64M", zone_setup=Generous)
    assert {(z["min"], z["low"], z["high"]) for z in facts(lab)["zones"]} == {(1000, 2000, 3000)}
    assert lab.ask()["attempts"][0]["passes"][0]["cells"][0]["min"] == 2001


# -- free levels --------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 12500)), min_size=1, max_size=8))
def test_is_a_level_reached_exactly_and_nothing_lost(moves: list[tuple[int, int]]) -> None:
    lab = ZoneLab("64M")
    machine = lab.machine
    assert machine is not None
    for index, pages in moves:
        lab.set_free(index, pages)
        assert machine.zone_table[index].free_pages == min(pages, lab.most[index])
        machine.check()
    lab.preset("boot", GFP_KERNEL, 0)
    assert {z.index: z.free_pages for z in machine.zones} == lab.most
    machine.check()


@pytest.mark.parametrize("gfp", [GFP_KERNEL, GFP_HIGHUSER, GFP_DMA, GFP_ATOMIC])
@pytest.mark.parametrize("order", [0, 2])
def test_the_comparison_is_strict_at_the_limits(gfp: int, order: int) -> None:
    lab = ZoneLab("1G")
    lab.preset("low", gfp, order)
    request = lab.ask(gfp, order)
    first = request["attempts"][0]["passes"][0]
    assert all(cell["free"] == cell["min"] and not cell["ok"] for cell in first["cells"])
    assert request["result"]["pass"] != 1
    lab.preset("low+1", gfp, order)
    request = lab.ask(gfp, order)
    assert request["result"]["kind"] == "ok" and request["result"]["pass"] == 1
    assert request["result"]["zone"] == request["attempts"][0]["zones"][0]


def test_the_parts_of_the_running_sum_are_the_zones_own_marks() -> None:
    lab = ZoneLab("1G")
    lab.preset("none", GFP_ATOMIC, 1)
    one, two = lab.ask(GFP_ATOMIC | 0x02, 1)["attempts"][0]["passes"]
    zones = [lab.kernel.zone_table[i] for i in (2, 1, 0)]
    assert one["cells"][2]["parts"] == [z.pages_low for z in zones]
    assert two["cells"][2]["parts"] == [z.pages_min // 4 for z in zones] and two["quarter"]
    for cell in one["cells"] + two["cells"]:
        assert cell["min"] == 2 + sum(cell["parts"])
    waits = lab.ask(GFP_HIGHUSER, 1)["attempts"][0]["passes"]
    assert (
        [p["no"] for p in waits] == [1, 2, 3] and waits[1]["cells"][2]["parts"] == [z.pages_min for z in zones] and not waits[1]["quarter"]
    )


# -- a request ----------------------------------------------------------------------------------------


def outcome(machine: vmlab.Machine, gfp: int, order: int) -> tuple[str, int | None]:
    try:
        page = machine.alloc_pages(gfp, order)
    except KernelHang:
        return "hang", None
    return ("ok", page.zone.index) if page else ("fail", None)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["one", "two", "high"]),
    st.booleans(),
    st.dictionaries(st.integers(0, 5), st.integers(0, 700)),
    st.sampled_from([GFP_KERNEL, GFP_USER, GFP_HIGHUSER, GFP_ATOMIC, GFP_DMA, 0]),
    st.integers(0, 10),
)
def test_does_what_is_shown_happen_on_an_independent_machine(
    layout: str,
    numa: bool,
    levels: dict[int, int],
    gfp: int,
    order: int,
) -> None:
    lab = ZoneLab("64M", layout=layout, numa=numa)
    for index, pages in levels.items():
        if index in lab.most:
            lab.set_free(index, pages)
    machine = lab.machine
    assert machine is not None
    before = machine.snapshot()
    request = lab.ask(gfp, order)
    after = machine.snapshot()
    assert before == after  # asking changes nothing
    copy = machine.copy()
    copy.reclaim = Reclaim()  # the lab's own would give pages back to the lab's machine
    copy.reclaim.attach(copy)
    assert outcome(copy, gfp, order) == (request["result"]["kind"], request["result"]["zone"])


def test_enough_pages_but_no_block_of_the_order() -> None:
    lab = ZoneLab("64M")
    machine = lab.machine
    assert machine is not None
    held = []
    while (pfn := machine.page_allocator.rmqueue(machine.zones[1], 0)) is not None:
        held.append(pfn)
    for pfn in sorted(held)[::2]:
        machine.free_pages(pfn)  # half of the zone is free, in single pages
    cell = lab.ask(GFP_KERNEL, 4)["attempts"][0]["passes"][0]["cells"][0]
    assert cell["ok"] and cell["found"] is False
    assert lab.ask(GFP_KERNEL, 0)["attempts"][0]["passes"][0]["cells"][0]["found"] is True


def test_results_are_sentences_that_name_the_reason() -> None:
    lab = ZoneLab("64M")
    lab.preset("none", GFP_KERNEL, 0)
    said = {
        "hang": lab.ask(GFP_KERNEL, 0),
        "no wait": lab.ask(GFP_ATOMIC, 0),
        "large": lab.ask(GFP_KERNEL, 5),
        "too large": lab.ask(GFP_KERNEL, 10),
        "memalloc": lab.ask(GFP_KERNEL, 0, memalloc=True),
        "reclaim": lab.ask(GFP_KERNEL, 0, reclaim=1),
    }
    text = {name: request["result"]["text"] for name, request in said.items()}
    assert "would never return: order ≤ 3 with __GFP_WAIT" in text["hang"]
    assert text["no wait"].startswith("NULL after pass 2: without __GFP_WAIT")
    assert text["large"].startswith("NULL after pass 3")
    assert text["too large"] == "NULL: order 10 is refused before any zone is looked at; the largest is 9."
    assert "even without watermarks (PF_MEMALLOC)" in text["memalloc"]
    assert text["reclaim"] == "Normal serves the request, straight from the pages the task has just reclaimed."
    lab.set_free(0, 1)
    assert "without looking at watermarks" in lab.ask(GFP_KERNEL, 0, memalloc=True)["result"]["text"]


def test_after_enough_reclaim_pass_3_succeeds() -> None:
    lab = ZoneLab("16M")
    lab.preset("none", GFP_KERNEL, 1)
    lab.set_free(0, 20)
    request = lab.ask(GFP_KERNEL, 1, reclaim=32)
    assert (request["result"]["kind"], request["result"]["pass"]) == ("ok", 3)
    assert [p["no"] for p in request["attempts"][0]["passes"]] == [1, 2, 3]


def test_allocating_for_good_moves_the_level_and_can_be_taken_back() -> None:
    lab = ZoneLab("64M")
    machine = lab.machine
    assert machine is not None
    free = machine.zones[1].free_pages
    assert lab.allocate(GFP_KERNEL, 3).startswith("Allocated 8 pages from Normal, at frame ")
    assert machine.zones[1].free_pages == free - 8
    lab.preset("none", GFP_KERNEL, 0)
    assert lab.allocate(GFP_KERNEL, 0, reclaim=32).startswith("Allocated 1 page from Normal")
    assert "would never return" in lab.allocate(GFP_KERNEL, 0)
    machine.check()
    lab.preset("boot", GFP_KERNEL, 0)
    assert machine.zones[1].free_pages == free
    machine.check()


def test_without_config_numa_a_request_goes_round_the_nodes() -> None:
    lab = ZoneLab("64M", layout="two")
    first = lab.ask()["attempts"][0]["node"]
    lab.allocate(GFP_KERNEL, 0)
    assert lab.ask()["attempts"][0]["node"] != first
    local = ZoneLab("64M", layout="two", numa=True)
    assert [local.ask()["attempts"][0]["node"], local.allocate(GFP_KERNEL, 0)[:20], local.ask()["attempts"][0]["node"]][::2] == [0, 0]


# -- the widget ---------------------------------------------------------------------------------------


def test_turning_the_knobs_redraws_from_the_core() -> None:
    view = views.zones("64M")
    assert "A machine with 64 MiB of RAM." in view.text_alternative
    serial = view.serial
    view.ram = 2048
    assert view.serial > serial and view.lab.machine is not None
    assert view.facts["zones"][2]["size"] == view.lab.machine.zones[2].size == 294912
    assert f"HighMem: frames 229{THIN}376 to 524{THIN}287, 1.125 GiB" in view.text_alternative
    assert [row[0] for row in view.table["rows"]] == ["DMA", "Normal", "HighMem"]
    view.gfp, view.order = GFP_HIGHUSER, 3
    assert view.request["order"] == 3 and view.request["attempts"][0]["zones"] == [2, 1, 0]
    view.ram = 8192
    assert view.lab.machine is None and "with PAE" in view.text_alternative and "Only sizes and watermarks" in view.text_alternative
    view.levels = {"2": 100}
    assert view.facts["zones"][2]["free"] == 100 and view.request["attempts"][0]["passes"][0]["cells"][0]["free"] == 100
    view.close()


def test_several_nodes_and_more_than_4_gib_exclude_each_other_with_a_sentence() -> None:
    view = views.zones("8G")
    view.nodes = "two"
    assert (view.ram, view.nodes) == (4096, "two") and "up to 4 GiB" in view.said
    view.ram = 6144
    assert (view.ram, view.nodes) == (6144, "one") and "one node" in view.said
    view.close()


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_and_allocations_from_the_page(name: str) -> None:
    view = views.zones("64M", gfp=GFP_ATOMIC)
    view._handle_custom_msg({"do": "preset", "name": name}, [])
    assert PRESETS[name] in view.said
    free = view.facts["zones"][1]["free"]
    view._handle_custom_msg({"do": "allocate", "times": 2}, [])
    taken = free - view.facts["zones"][1]["free"]
    served = view.said.startswith("Allocated")
    assert taken == (2 if served else 1 if name == "low+1" else 0) or (name == "low+1" and taken in (1, 2))
    assert view.levels == {str(z["index"]): z["free"] for z in view.facts["zones"]}
    view.close()


def test_the_words_tell_every_comparison() -> None:
    view = views.zones("1G", gfp=GFP_HIGHUSER)
    view.preset("low")
    comparisons: list[dict[str, Any]] = [c for p in view.request["attempts"][0]["passes"] for c in p["cells"]]
    assert len(comparisons) == 4
    for cell in comparisons:
        assert (
            f"{cell['free']:,} free, must be more than {cell['min']:,}".replace(",", THIN).replace(f"free{THIN} must", "free, must")
            in view.text_alternative
        )
    assert view.text_alternative.endswith("HighMem serves the request, in pass 2.")
    view.close()
