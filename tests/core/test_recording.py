"""The time machine: any event, forwards and backwards, branches, files."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab import GFP_ATOMIC, GFP_KERNEL, GFP_USER, KernelHang, PageAllocator, RecordingError
from vmlab.trace.keyframes import KeyFrames
from vmlab.trace.recording import Tape


def a_run(ram: str = "16M", seed: int = 1, n: int = 300) -> tuple[vmlab.Machine, Tape, list[vmlab.mm.events.Event]]:
    """A machine, its tape, and every event as a listener heard it at the time."""
    heard: list[vmlab.mm.events.Event] = []
    tape = vmlab.record(ram=ram, on_event=heard.append)
    tape.live.run(vmlab.workload("mixed", seed=seed, n=n))
    return tape.live, tape, heard


def test_events_come_back_as_they_were_heard() -> None:
    _, tape, heard = a_run()
    assert len(tape) == len(heard) > 3000
    assert tape.events(0, len(tape)) == heard
    for i in random.Random(1).sample(range(len(heard)), 40):
        assert tape.event(i) == heard[i]


def test_the_end_is_the_live_machine_and_the_start_is_off() -> None:
    machine, tape, _ = a_run()
    assert not vmlab.compare(tape.seek(len(tape) - 1), machine)
    assert tape.seek(-1).boot_stage == "off"
    assert tape.machine is tape.seek(-1) and tape.position == -1


def test_seek_lands_exactly_on_the_event() -> None:
    """Against a second run that stops by itself at the event, in the middle of an operation or not."""
    _, tape, _ = a_run(n=120)

    class Stop(Exception):
        pass

    for target in random.Random(7).sample(range(len(tape)), 25):
        count = 0

        def listen(event: vmlab.mm.events.Event, target: int = target) -> None:
            nonlocal count
            if count == target:
                raise Stop
            count += 1

        other = vmlab.Machine(ram="16M", on_event=listen)
        try:
            other.power_on()
            other.run(vmlab.workload("mixed", seed=1, n=120))
        except Stop:
            pass
        there = tape.seek(target)
        if target == tape.op_end(tape.op_at(target)):
            continue  # past the last event of an operation the tape finishes the operation
        assert there.mem.block == other.mem.block
        assert [z.nr_free() for z in there.zones] == [z.nr_free() for z in other.zones]
        assert [z.free_pages for z in there.zones] == [z.free_pages for z in other.zones]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-1, 2500), min_size=1, max_size=12), st.integers(1, 400))
def test_any_path_through_time_shows_the_same(path: list[int], interval: int) -> None:
    machine = vmlab.boot(ram="16M")
    tape = Tape(machine, key_interval=interval, max_bytes=200_000)
    machine.run(vmlab.workload("mixed", seed=9, n=250))
    reference = Tape(vmlab.boot(ram="16M"))
    reference.live.run(vmlab.workload("mixed", seed=9, n=250))
    assert len(tape) == len(reference) > 1000
    for target in path:
        target = min(target, len(tape) - 1)
        assert tape.seek(target).snapshot() == reference.seek(target).snapshot()
        assert target < 0 or tape.event(target) == reference.event(target)


def test_operations_know_their_events() -> None:
    _, tape, heard = a_run(n=50)
    assert [op.args for op in tape.ops[:2]] == [("setup_memory_region",), ("setup_memory",)]
    for k, op in enumerate(tape.ops):
        assert tape.op(k) == op
        if tape.op_end(k) >= op.first_event:
            assert tape.op_at(op.first_event) == tape.op_at(tape.op_end(k)) == k
    assert heard[tape.ops[-1].first_event][0] in ("alloc_begin", "free")


def test_branch_does_something_else_and_leaves_the_run_alone() -> None:
    machine, tape, _ = a_run()
    before = machine.snapshot()
    middle = len(tape) - 400
    other, its_tape = tape.branch(middle)
    assert its_tape.parent is not None and its_tape.parent[0] is tape and its_tape.parent[1] <= middle
    assert not vmlab.compare(other, tape.seek(its_tape.parent[1]))
    page = other.alloc_pages(GFP_USER, 4, owner="what if")
    assert page is not None and len(its_tape) > 0
    diff = vmlab.compare(other, tape.seek(its_tape.parent[1]))
    assert diff and "what if" in str(diff)
    assert machine.snapshot() == before


def test_branch_into_the_boot_can_finish_booting() -> None:
    machine, tape, _ = a_run(n=0)
    other, _ = tape.branch(5)
    assert other.boot_stage not in ("off", "mem_init")
    other.power_on()
    assert not vmlab.compare(other, machine)


def test_compare_wants_machines_of_one_shape() -> None:
    with pytest.raises(ValueError, match="same zones"):
        vmlab.compare(vmlab.boot(ram="16M"), vmlab.boot(ram="32M"))
    assert "same state" in str(vmlab.compare(vmlab.boot(ram="16M"), vmlab.boot(ram="16M")))


def test_recording_part_of_a_life() -> None:
    machine = vmlab.boot(ram="16M", reclaim=vmlab.ScriptedReclaim)
    pages = []
    while (page := machine.alloc_pages(GFP_ATOMIC)) is not None:
        pages.append(page)
    with machine.record() as tape:
        machine.queue_reclaim(1, [(pages[3].pfn, 0)])
        machine.alloc_pages(GFP_KERNEL, 0)
        with pytest.raises(KernelHang):
            machine.alloc_pages(GFP_KERNEL, 0)
        machine.set_task_flags(vmlab.PF_MEMALLOC)
        machine.alloc_pages(GFP_KERNEL, 0)
        machine.set_task_flags(0)
        machine.clear_need_balance()
        machine.write(0x200000, b"bytes travel too")
        machine.write(0x300000, b"not this")
        machine.clear_page(0x300)
    end = machine.snapshot()
    machine.free_pages(pages[7])  # no longer recorded
    assert tape.seek(len(tape) - 1).snapshot().blobs == end.blobs
    assert [op.name for op in tape.ops] == [
        "queue_reclaim",
        "alloc_pages",
        "alloc_pages",
        "set_task_flags",
        "alloc_pages",
        "set_task_flags",
        "clear_need_balance",
        "write",
        "write",
        "clear_page",
    ]
    with pytest.raises(ValueError, match="stays as it is"):
        tape.start()


def test_one_tape_at_a_time() -> None:
    machine = vmlab.boot(ram="16M")
    with machine.record(), pytest.raises(ValueError, match="being recorded already"):
        machine.record()
    machine.record().stop()


def test_wrong_events_are_explained() -> None:
    _, tape, _ = a_run(n=5)
    for wrong in (len(tape), -2, "3"):
        with pytest.raises(ValueError, match="this tape has events"):
            tape.seek(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no events yet"):
        vmlab.boot(ram="16M").record().seek(0)


def test_memory_is_bounded() -> None:
    machine = vmlab.boot(ram="64M")
    tape = Tape(machine, key_interval=200, max_bytes=150_000)
    machine.run(vmlab.workload("mixed", seed=2, n=6000))
    assert tape._keys.nbytes < 300_000 and tape._keys.interval > 200 and len(tape._keys) > 2
    assert not vmlab.compare(tape.seek(len(tape) - 1), machine)
    assert tape.seek(len(tape) // 2).nr_free_pages() > 0


def test_key_frames_share_what_did_not_change() -> None:
    machine = vmlab.boot(ram="64M")
    keys = KeyFrames(1, 1 << 30)
    keys.add(0, 0, machine)
    first = keys.nbytes
    keys.add(1, 1, machine)
    assert keys.nbytes == first
    machine.alloc_pages(GFP_KERNEL, 0)
    keys.add(2, 2, machine)
    assert 0 < keys.nbytes - first < 100_000
    assert keys.state(2) == machine.snapshot()


def test_save_and_load(tmp_path: Path) -> None:
    machine, tape, heard = a_run()
    tape.save(tmp_path / "run.vmlab")
    loaded = vmlab.load_recording(tmp_path / "run.vmlab")
    assert not vmlab.compare(loaded.live, machine)
    assert loaded.events(0, len(loaded)) == heard
    assert loaded.seek(1234).snapshot() == tape.seek(1234).snapshot()
    assert not list(tmp_path.glob("*.part"))


class Mine(PageAllocator):
    """A part a file cannot carry."""

    state_names = ("served",)

    def __init__(self) -> None:
        super().__init__()
        self.served = 0

    def alloc_pages(self, gfp_mask: int, order: int) -> int | None:
        self.served += 1
        return super().alloc_pages(gfp_mask, order)


def test_a_part_of_your_own_must_be_brought_along(tmp_path: Path) -> None:
    tape = vmlab.record(ram="16M", page_allocator=Mine)
    at_boot = tape.live.page_allocator.served  # type: ignore[attr-defined]
    for _ in range(5):
        tape.live.alloc_pages(GFP_KERNEL)
    assert at_boot and tape.seek(tape.ops[-2].first_event - 1).page_allocator.served == at_boot + 3  # type: ignore[attr-defined]
    tape.save(tmp_path / "mine.vmlab")
    with pytest.raises(RecordingError, match="Mine: pass page_allocator="):
        vmlab.load_recording(tmp_path / "mine.vmlab")
    loaded = vmlab.load_recording(tmp_path / "mine.vmlab", page_allocator=Mine)
    assert loaded.live.page_allocator.served == at_boot + 5  # type: ignore[attr-defined]


def test_numa_recordings_load(tmp_path: Path) -> None:
    tape = vmlab.record(nodes=[(0, 4096, 0, 0, 300, 0), (4096, 0, 4096, 0, 16, 0)])
    tape.live.alloc_pages(GFP_ATOMIC)
    tape.save(tmp_path / "numa.vmlab")
    assert not vmlab.compare(vmlab.load_recording(tmp_path / "numa.vmlab").live, tape.live)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    _, tape, _ = a_run(n=40)
    good = tmp_path / "good.vmlab"
    tape.save(good)
    raw = good.read_bytes()
    bad = tmp_path / "bad.vmlab"
    rng = random.Random(3)
    for _ in range(60):  # one byte anywhere
        at = rng.randrange(len(raw))
        bad.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :])
        with pytest.raises(RecordingError, match=r"bad\.vmlab"):
            vmlab.load_recording(bad)
    for cut in (0, 5, len(raw) // 2, len(raw) - 1):
        bad.write_bytes(raw[:cut])
        with pytest.raises(RecordingError):
            vmlab.load_recording(bad)
    with pytest.raises(RecordingError, match="cannot be read"):
        vmlab.load_recording(tmp_path / "nowhere")


def test_a_well_formed_lie_is_refused(tmp_path: Path) -> None:
    """A file with sound checksums that does not replay to what it says."""
    import hashlib

    _, tape, _ = a_run(n=40)
    path = tmp_path / "lie.vmlab"
    tape.save(path)
    data = zlib.decompress(path.read_bytes().partition(b"\n")[2])
    size = int.from_bytes(data[:8], "little")
    body = json.loads(data[8 : 8 + size])
    for change in (
        {"events": body["events"] + 1},
        {"ops": body["ops"][:-1]},
        {"ops": [["power_on", []], 5]},
        {"config": {}},
        {"plain": {}},
    ):
        text = json.dumps(body | change).encode()
        packed = zlib.compress(len(text).to_bytes(8, "little") + text + data[8 + size :])
        header = {"format": "vmlab-recording-1", "sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)}
        path.write_bytes(json.dumps(header).encode() + b"\n" + packed)
        with pytest.raises(RecordingError):
            vmlab.load_recording(path)


def test_workloads_are_reproducible_and_run_anywhere() -> None:
    for name in vmlab.WORKLOADS:
        assert list(vmlab.workload(name, seed=4, n=300)) == list(vmlab.workload(name, seed=4, n=300))
        machine = vmlab.boot(ram="16M", kernel_objects=None)
        result = machine.run(vmlab.workload(name, seed=4, n=2000))
        assert result.allocs and result.allocs - result.frees == len(result.live)
        machine.check()
    assert list(vmlab.workload("mixed", seed=1, n=50)) != list(vmlab.workload("mixed", seed=2, n=50))
    with pytest.raises(ValueError, match="no workload"):
        vmlab.workload("tea")
    with pytest.raises(ValueError, match="a step is"):
        vmlab.boot(ram="16M").run([("tea",)])


def test_events_before_any_seek_of_a_tape_begun_in_mid_life() -> None:
    machine = vmlab.boot(ram="16M")
    heard: list[vmlab.mm.events.Event] = []
    machine.on_event = heard.append
    tape = machine.record()
    machine.run(vmlab.workload("mixed", seed=6, n=20))
    assert heard and tape.events(0, len(tape)) == heard
