"""The buddy view without a browser: windows of events, acting, branching, the charts' samples."""

from __future__ import annotations

import pytest

import vmlab
from vmlab import views
from vmlab.views.buddy import AFTER, BEFORE, BuddyPicture
from vmlab.views.charts import squeezed
from vmlab.views.history import MOST, History


@pytest.fixture
def machine():
    return vmlab.boot(ram="64M", kernel_objects=None)


def lists_of(machine, zone):
    return [area.blocks() for area in machine.zones[zone].free_area]


def test_a_machine_is_recorded_from_now_on_and_its_tape_shared(machine):
    view = views.buddy(machine)
    assert machine.tape is view.tape and len(view.tape) == 0 and view.position == -1
    assert views.buddy(machine).tape is view.tape
    machine.alloc_pages()
    view.refresh()
    assert view.picture.length == len(view.tape) and view.position == len(view.tape) - 1, "the end is followed"


def test_the_window_holds_the_state_before_its_first_event(machine):
    tape = machine.record()
    machine.run(vmlab.workload("mixed", 5, 400))
    view = BuddyPicture(tape)
    for position in (len(tape) - 1, 1000, 0, -1):
        view.position = position
        window = view.window
        assert window["start"] - 1 <= position < max(window["end"], 1)
        assert window["end"] - window["start"] <= BEFORE + AFTER + 100
        assert not window["events"] or window["events"][0][0] in ("alloc_begin", "free"), "no step is cut in two"
        assert [tuple(e) for e in window["events"]] == tape.events(window["start"], window["end"])
        then = tape.seek(window["start"] - 1)
        for row, zone in zip(window["zones"], then.zones, strict=True):
            assert row["counts"] == zone.nr_free() and row["free"] == zone.free_pages
            for sent, area in zip(row["lists"], zone.free_area, strict=True):
                assert sent == area.blocks()[: len(sent)] and len(sent) >= min(40, len(area.free_list))
            assert row["bits"][2] == zone.free_area[2].packed_map()
        assert window["block"] == bytes(then.mem.block)


def test_told_and_shown_agree_from_the_first_event_of_every_window():
    tape = vmlab.record(ram="16M")
    tape.live.run(vmlab.workload("mixed", 6, 300))
    view = BuddyPicture(tape)
    for position in range(900, len(tape), 331):
        view.position = position
        window = view.window
        lists = {row["index"]: [list(blocks) for blocks in row["lists"]] for row in window["zones"]}
        counts = {row["index"]: list(row["counts"]) for row in window["zones"]}
        for event in window["events"][: position + 1 - window["start"]]:
            if event[0] == "list_add":
                lists[event[1]][event[2]].insert(0, event[3])
                counts[event[1]][event[2]] += 1
            elif event[0] == "list_del":
                counts[event[1]][event[2]] -= 1
                if event[3] in lists[event[1]][event[2]]:
                    lists[event[1]][event[2]].remove(event[3])
            elif event[0] == "boot_block":
                counts[event[1]][9] += 1
                lists[event[1]][9].insert(0, event[2])
        if tape.event(position)[0] in ("list_add", "list_del", "alloc", "boot_block"):
            then = {z.index: z for z in tape.seek(position).zones}
            assert counts == {i: z.nr_free() for i, z in then.items()}, position
            for i, zone in then.items():
                assert [blocks[:4] for blocks in lists[i]] == [area.blocks()[:4] for area in zone.free_area], position


def test_moving_inside_the_window_sends_none(machine):
    tape = machine.record()
    machine.run(vmlab.workload("mixed", 5, 600))
    view = BuddyPicture(tape)
    serial = view.serial
    view.position -= 100
    assert view.serial == serial, "the browser has these events already"
    view.position = 5
    assert view.serial == serial + 1


def test_operations_span_their_events(machine):
    tape = machine.record()
    page = machine.alloc_pages(vmlab.GFP_KERNEL, 7, owner="me")
    machine.free_pages(page)
    first, second = BuddyPicture(tape).window["ops"]
    assert first == [0, tape.op_end(0), "alloc_pages(GFP_KERNEL, 7, owner='me')"]
    assert second == [tape.op_end(0) + 1, len(tape) - 1, f"free_pages({page.pfn}, 7)"]


def test_acting_at_the_end_changes_the_machine_itself(machine):
    view = views.buddy(machine)
    view.picture._on_message(None, {"action": "allocate", "gfp": "GFP_KERNEL", "order": "3", "owner": "me"}, None)
    pfn = int(view.picture.choices[0][0])
    assert machine.page(pfn).order == 3 and machine.page(pfn).owner == "me"
    assert view.picture.choices == [[pfn, f"{pfn} · order 3 · me"]]
    assert f"frame {pfn}" in view.picture.message["text"] and not view.picture.message["failed"]
    view.picture._on_message(None, {"action": "free", "pfn": str(pfn)}, None)
    assert machine.page(pfn).state == "free" and view.picture.choices == [] and len(view.picture.runs) == 1
    view.picture._on_message(None, {"action": "workload", "name": "mixed", "seed": "2", "n": "50"}, None)
    assert machine.stat.alloc > 20 and view.position == len(machine.tape) - 1
    machine.check()


def test_acting_in_the_past_makes_a_branch_and_leaves_the_run_alone(machine):
    view = views.buddy(machine)
    for order in (0, 1, 2):
        view.picture.allocate(order=order)
    before = machine.snapshot()
    end_of_first = view.tape.op_end(0)
    view.position = end_of_first
    view.picture.allocate(order=5, owner="other")
    assert machine.snapshot() == before
    assert view.picture.runs == ["the machine", f"branch 1: from event {end_of_first} of the machine"] and view.picture.run == 1
    assert view.machine is not machine and view.machine.stat.alloc == 2
    assert "other" in view.machine.owners and "other" not in machine.owners
    view.picture.show_run(0)
    assert view.machine is machine and view.position == len(machine.tape) - 1
    with pytest.raises(ValueError, match="runs 0 to 1"):
        view.picture.show_run(7)


def test_what_goes_wrong_is_said_and_changes_nothing(machine):
    view = views.buddy(machine).picture
    view._on_message(None, {"action": "free", "pfn": "5000"}, None)
    assert view.message["failed"] and "free already" in view.message["text"]
    view._on_message(None, {"action": "free", "pfn": ""}, None)
    assert view.message["failed"]
    view._on_message(None, {"action": "workload", "name": "mixed", "seed": "1", "n": "99999999"}, None)
    assert view.message["failed"] and "1 to 20000" in view.message["text"]
    view._on_message(None, {"action": "allocate", "gfp": "GFP_ATOMIC", "order": "99", "owner": ""}, None)
    assert view.message["failed"] and "no memory" in view.message["text"]
    machine.check()


def test_no_branch_is_kept_of_an_action_that_cannot_be_done():
    view = views.buddy(vmlab.record(ram="16M"))
    view.position = 3
    view.picture._on_message(None, {"action": "allocate", "gfp": "GFP_KERNEL", "order": "0", "owner": ""}, None)
    assert view.picture.message["failed"] and "not up yet" in view.picture.message["text"] and len(view.picture.runs) == 1


def test_a_finished_tape_is_acted_on_in_branches(machine):
    with machine.record() as tape:
        machine.alloc_pages(vmlab.GFP_KERNEL, 2)
    view = views.buddy(tape)
    assert not view.picture.growing
    view.picture.allocate(order=1)
    assert view.picture.run == 1 and machine.stat.alloc == 1


def test_a_tape_that_somebody_stopped_is_replaced(machine):
    view = views.buddy(machine)
    machine.alloc_pages()
    machine.tape.stop()
    machine.alloc_pages(vmlab.GFP_KERNEL, 4)
    view.refresh()
    assert machine.tape is view.tape and view.tape.recording and len(view.tape) == 0
    assert [row[1] for row in view.picture.table["rows"]] == machine.zones[1].nr_free()


def test_words_and_table_are_made_from_the_zone_at_that_event(machine):
    tape = machine.record()
    machine.alloc_pages(vmlab.GFP_KERNEL, 0)
    machine.run(vmlab.workload("checkerboard", 1, 300))
    view = views.buddy(tape)
    for position in (len(tape) - 1, 5):
        view.position = position
        then = tape.seek(position)
        assert [row[1] for row in view.picture.table["rows"]] == then.zones[1].nr_free()
        assert vmlab.describe(tape.event(position)) in view.text_alternative
    assert "order-0 list went from" in view.text_alternative, "the charts speak, too"
    view.picture.zone = 0
    assert "Zone DMA" in view.text_alternative
    with pytest.raises(Exception, match="zones"):
        view.picture.zone = 2


def test_the_history_is_what_the_lists_were(machine):
    tape = machine.record()
    machine.run(vmlab.workload("mixed", 2, 150))
    history = History(tape)
    samples = history.update()
    assert samples[0].event == -1 and samples[-1].event == len(tape) - 1
    for sample in samples[::20]:
        then = tape.seek(sample.event)
        assert sample.lengths == {z.index: z.nr_free() for z in then.zones}
        assert sample.fragmentation(1, 5) == pytest.approx(then.fragmentation(then.zones[1], 5))
    machine.run(vmlab.workload("mixed", 3, 3000))
    machine.alloc_pages()
    longer = history.update()
    assert history.update() == longer
    machine.alloc_pages()
    assert history.update()[-1].event == len(tape) - 1 > longer[-1].event
    longer = history.update()
    assert longer[-1].event == len(tape) - 1 and len(longer) <= MOST + 1
    assert [s.event for s in longer] == sorted({s.event for s in longer})


def test_the_history_looks_inside_the_boot():
    tape = vmlab.record(ram="16M")
    samples = History(tape).update()
    retires = next(k for k, op in enumerate(tape.ops) if op.args == ("mem_init",))
    inside = [s for s in samples if tape.ops[retires].first_event < s.event < tape.op_end(retires)]
    assert len(inside) > 20
    for sample in inside[::9]:
        assert sample.lengths == {z.index: z.nr_free() for z in tape.seek(sample.event).zones}


def test_the_charts_draw_the_samples(machine):
    view = views.buddy(machine)
    view.picture.run_workload("mixed", 1, 60)
    view.picture.order = 4
    lines, samples = view.charts._lines, History(view.tape).update()
    assert list(lines[4].x) == [s.event for s in samples] and list(lines[4].y) == [squeezed(s.lengths[1][4]) for s in samples]
    assert squeezed(0) == 0 and squeezed(7) == 3, "none has a place, eight times as many blocks are three steps up"
    assert lines[4].stroke_width > lines[3].stroke_width
    assert len({(line.line_style, *line.colors) for line in lines}) == 10 and len({line.line_style for line in lines}) == 4
    view.position = 7
    assert list(view.charts._here[0].x) == [7, 7]
    assert views.buddy(machine, charts=False).charts is None


def test_two_nodes_have_their_zones_by_name():
    view = views.buddy(vmlab.boot(nodes=[(0, 4096, 8192), (16384, 0, 8192)]))
    assert [z["name"] for z in view.picture.window["zones"]] == ["DMA, node 0", "Normal, node 0", "Normal, node 1"]
