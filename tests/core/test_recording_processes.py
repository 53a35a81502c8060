"""The time machine over processes, files and swap: any event, any branch and any file give back exactly what was."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmlab
from vmlab import RecordingError, Tape
from vmlab.mm.state import capture
from vmlab.trace.tapefile import state_digest

BOOTED = vmlab.boot("16M", swap="2M")


def machine() -> vmlab.Machine:
    """A small machine with swap, switched on once and copied for each test."""
    return BOOTED.copy()


def step(m: vmlab.Machine, rng: random.Random) -> None:
    """One operation that somebody might do; errors are part of life."""
    alive = m.processes
    if not alive or rng.random() < 0.04:
        m.spawn(rng.choice(["sh", "editor", "cc"]))
        return
    p = rng.choice(alive)
    areas = p.areas
    if not areas:
        p.mmap(1 << 14)
        return
    area = rng.choice(areas)
    at = area.vm_start + rng.randrange(area.vm_end - area.vm_start >> 12) * 4096
    n = rng.randrange(1, 40)
    choices: list[Callable[[], Any]] = [
        lambda: p.mmap(n << 12, rng.choice(["r", "rw"]), shared=rng.random() < 0.3),
        lambda: p.munmap(at, n << 12),
        lambda: p.mprotect(at, n << 12, rng.choice(["r", "rw", "none"])),
        lambda: p.mremap(at, 4096, n << 12),
        lambda: p.touch(at, rng.random() < 0.7, rng.randrange(1 << 32)),
        lambda: p.touch_pages(area.vm_start, min(n, area.vm_end - area.vm_start >> 12), rng.random() < 0.7),
        lambda: p.write(at + 100, bytes(rng.randrange(256) for _ in range(n))),
        lambda: p.read(at, n),
        lambda: p.fork(),
        lambda: p.exit() if len(alive) > 4 else None,
        lambda: m.create_file(f"f{rng.randrange(5)}", rng.choice([b"some bytes" * 900, n << 12])),
        lambda: p.open(f"f{rng.randrange(5)}", rng.choice(["r", "r+", "a"])),
        lambda: p.mmap(n << 12, "rw", fd=0, shared=rng.random() < 0.5),
        lambda: p.write_file(0, b"abc" * n),
        lambda: p.read_file(0, n << 10),
        lambda: p.seek(0, n << 8),
        lambda: p.fsync(0),
        lambda: p.madvise(at, n << 12, rng.choice(["dontneed", "willneed"])),
        lambda: m.alloc_pages(vmlab.GFP_USER, rng.randrange(4), owner="driver"),
        lambda: m.kmalloc(rng.randrange(1, 5000)),
        lambda: m.vmalloc(n << 12),
        lambda: m.tick(n),
        lambda: m.swapoff(0) if rng.random() < 0.2 else m.add_swap("1M") if rng.random() < 0.2 else None,
        lambda: m.kmem_cache_reap(),
    ]
    try:
        rng.choice(choices)()
    except (ValueError, OSError, vmlab.VmlabError):
        pass


def a_life(seed: int, steps: int, key_interval: int = 1 << 16) -> tuple[vmlab.Machine, Tape]:
    """A machine that lived through *steps* operations, and the tape of that."""
    rng = random.Random(seed)
    m = machine()
    tape = Tape(m, key_interval=key_interval)
    for _ in range(steps):
        step(m, rng)
    tape.stop()
    return m, tape


def state_at(tape: Tape, event: int) -> str:
    """The state at *event*, found without any seeking: by doing all operations again and looking when it happens.

    Where it is an operation's last event, the state before the next operation that makes any.
    """
    m = machine()
    heard = 0
    found = []

    def listen(_: Any) -> None:
        nonlocal heard
        if heard == event:
            found.append(state_digest(m))
        heard += 1

    m.on_event = listen
    for k, (name, args, first) in enumerate(tape.ops):
        if heard == event + 1 and tape.op_end(k) >= first:
            break
        redo(m, name, args)
        if heard > event + 1:
            return found[0]
    return state_digest(m)


def redo(m: vmlab.Machine, name: str, args: tuple[Any, ...]) -> None:
    """Do an operation again, as a person would who reads it off the tape."""
    keywords = args[-1] if args and isinstance(args[-1], dict) else {}
    try:
        if name == "alloc_pages":
            m.alloc_pages(args[0], args[1], node=args[2], owner=args[3])
        else:
            getattr(m, name)(*(args[:-1] if keywords else args), **keywords)
    except (ValueError, OSError, vmlab.VmlabError):
        pass


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_any_event_shows_the_machine_as_it_was(seed: int, data: st.DataObject) -> None:
    m, tape = a_life(seed, 60, key_interval=300)
    end = state_digest(m)
    assert state_digest(tape.at_end()) == end
    for _ in range(4):
        event = data.draw(st.integers(0, len(tape) - 1))
        assert state_digest(tape.seek(event)) == state_at(tape, event), f"event {event}: {tape.event(event)}"
    assert state_digest(tape.at_end()) == end
    assert tape.events(0, len(tape)) == [tape.event(i) for i in range(len(tape))]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_a_branch_stands_where_it_left_and_disturbs_nothing(seed: int, where: float) -> None:
    m, tape = a_life(seed, 50)
    before = state_digest(m)
    event = int(where * (len(tape) - 1))
    branch, other = tape.branch(event)
    boundary = other.parent[1] if other.parent else -1
    assert state_digest(branch) == state_digest(tape.seek(boundary))
    for i in range(5):
        step(branch, random.Random(seed + i))
    assert state_digest(other.at_end()) == state_digest(branch)
    step(branch, random.Random(seed + 1))
    copied = branch.copy()
    assert state_digest(copied) == state_digest(branch) and not vmlab.compare(copied, branch)
    assert state_digest(m) == before


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_a_run_survives_its_file(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    m, tape = a_life(seed, 50)
    path = tmp_path_factory.mktemp("runs") / "run.vmlab"
    tape.save(path)
    loaded = vmlab.load_recording(path)
    assert state_digest(loaded.live) == state_digest(m)
    assert not vmlab.compare(loaded.live, m)
    assert len(loaded) == len(tape) and loaded.ops == tape.ops
    middle = len(tape) // 2
    assert state_digest(loaded.seek(middle)) == state_digest(tape.seek(middle))


def test_a_run_under_pressure_is_played_again_page_by_page() -> None:
    m = machine()
    with m.record() as tape:
        p = m.spawn("hog")
        a = p.mmap(15 << 20)
        p.touch_pages(a, 3000, True)
        q = p.fork()
        q.touch_pages(a, 3000, True)
    assert m.sched.kstat.pswpout > 100 and m.sched.kstat.kswapd_runs
    assert state_digest(tape.at_end()) == state_digest(m)
    swapping = next(i for i, event in enumerate(tape.events(0, len(tape))) if event[0] == "kswapd")
    assert tape.seek(swapping).current.comm == "kswapd", "seen in the middle of its turn"
    assert state_digest(tape.seek(swapping)) == state_at(tape, swapping)


def test_what_was_given_to_an_operation_is_kept_as_it_was_then() -> None:
    m = machine()
    with m.record() as tape:
        p = m.spawn()
        a = p.mmap(1 << 16)
        data, references = bytearray(b"first"), [a >> 12 << 1 | 1]
        m.user_write(p.pid, a, data)  # type: ignore[arg-type]
        m.touch_list(p.pid, references)
        page = m.alloc_pages()
        assert page is not None
        m.kmap(page)
        data[:] = b"later"
        references.append(0)
    assert [op.args for op in tape.ops if op.name in ("user_write", "touch_list", "kmap")] == [
        (p.pid, a, b"first"),
        (p.pid, [a >> 12 << 1 | 1]),
        (page.pfn,),
    ]
    assert state_digest(tape.at_end()) == state_digest(m)


def test_operations_without_events_are_not_lost(tmp_path: Path) -> None:
    m = machine()
    with m.record() as tape:
        m.tick(5)
        m.overcommit(1)
    assert tape.at_end().mmap.sysctl_overcommit_memory == 1
    tape.save(tmp_path / "quiet.vmlab")
    assert vmlab.load_recording(tmp_path / "quiet.vmlab").live.sched.jiffies == m.sched.jiffies


def test_a_state_has_one_fingerprint_however_it_came_about() -> None:
    m, _ = a_life(3, 40)
    digest = state_digest(m)
    assert state_digest(m.copy()) == digest == state_digest(m.copy().copy())
    m.ram.words(4000)  # somebody looks at a frame that nobody wrote to
    assert state_digest(m) == digest
    p = m.spawn()
    spawned = state_digest(m)
    p.touch(p.mmap(4096), True, 7)
    assert len({digest, spawned, state_digest(m)}) == 3


def test_files_of_the_host_must_be_what_they_were(tmp_path: Path) -> None:
    book = tmp_path / "book"
    book.write_bytes(b"once upon a time" * 1000)
    m = machine()
    with m.record() as tape:
        m.import_file("book", book)  # type: ignore[arg-type]
        p = m.spawn()
        p.open("book")
        assert p.read_file(0, 4) == b"once"
    tape.save(tmp_path / "read.vmlab")
    assert vmlab.load_recording(tmp_path / "read.vmlab").live.files() == m.files()
    book.write_bytes(b"long ago")
    with pytest.raises(RecordingError, match="book of this computer, and that is not what it was"):
        vmlab.load_recording(tmp_path / "read.vmlab")


def test_own_parts_of_a_whole_machine_come_along_by_name(tmp_path: Path) -> None:
    from vmlab.mm.slab_debug import DebugSlabAllocator
    from vmlab.mm.swap import LruCache

    class MyLru(LruCache):
        pass

    tape = vmlab.record("16M", parts={"slab": DebugSlabAllocator}, io_mode=1)
    tape.live.spawn()
    tape.save(tmp_path / "debug.vmlab")
    loaded = vmlab.load_recording(tmp_path / "debug.vmlab")
    assert isinstance(loaded.live.slab, DebugSlabAllocator) and loaded.live.config.io_mode == 1
    tape = vmlab.record("16M", parts={"swap": MyLru})
    tape.save(tmp_path / "mine.vmlab")
    with pytest.raises(RecordingError, match=r"MyLru: pass parts=\{'swap': that class\}"):
        vmlab.load_recording(tmp_path / "mine.vmlab")
    assert isinstance(vmlab.load_recording(tmp_path / "mine.vmlab", parts={"swap": MyLru}).live.swap, MyLru)


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    _, tape = a_life(5, 30)
    good, bad = tmp_path / "good.vmlab", tmp_path / "bad.vmlab"
    tape.save(good)
    raw = good.read_bytes()
    rng = random.Random(4)
    for _ in range(25):
        at = rng.randrange(len(raw))
        bad.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :])
        with pytest.raises(RecordingError, match=r"bad\.vmlab"):
            vmlab.load_recording(bad)


def repacked(path: Path, change: dict[str, Any], blob: tuple[bytes, bytes] = (b"", b"")) -> None:
    """The same file with other contents and sound checksums; *blob*: bytes to replace among the blobs."""
    import hashlib
    import json
    import zlib

    data = zlib.decompress(path.read_bytes().partition(b"\n")[2])
    size = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + size]) | change).encode()
    packed = zlib.compress(len(text).to_bytes(8, "little") + text + data[8 + size :].replace(*blob))
    header = {"format": "vmlab-recording-1", "sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)}
    path.write_bytes(json.dumps(header).encode() + b"\n" + packed)


@pytest.mark.parametrize(
    ("change", "blob", "says"),
    [
        ({"ops": [["save", ["x"]]]}, (b"", b""), "'save' is no operation"),
        ({"ops": [["__class__", []]]}, (b"", b""), "no operation"),
        ({"ops": []}, (b"", b""), "another final state"),
        ({"config": {"e820": []}}, (b"", b""), "no sense"),
        ({"parts": {"slab": "Tea"}}, (b"", b""), "Tea"),
        ({}, (b"vmlab.mm.sched", b"vmlab.os.sched"), "lie.vmlab"),
        ({}, (b"KernelStat", b"KernelTea!"), "lie.vmlab"),
    ],
)
def test_a_lie_with_sound_checksums_is_refused(tmp_path: Path, change: dict[str, Any], blob: tuple[bytes, bytes], says: str) -> None:
    m, tape = a_life(6, 20)
    path = tmp_path / "lie.vmlab"
    tape.save(path)
    repacked(path, change, blob)
    assert blob[0] in capture(m).blobs["objects"]
    with pytest.raises(RecordingError, match=says):
        vmlab.load_recording(path)


def test_a_difference_between_processes_is_told() -> None:
    m = machine()
    p = m.spawn("editor")
    a = p.mmap(1 << 16)
    p.write(a, b"text")
    other = m.copy()
    assert not vmlab.compare(m, other) and "same state" in str(vmlab.compare(m, other))
    twin = other.process(p.pid)
    twin.write(a + 4096, b"more")
    twin.mprotect(a, 4096, "r")
    other.spawn("shell")
    diff = vmlab.compare(m, other)
    said = str(diff)
    assert diff and set(diff.processes) == {p.pid, p.pid + 1}
    assert f"process {p.pid}: minor faults 2 and 3" in said or "minor faults" in said
    assert "shell is only in the second" in said and f"page {a:#010x}" in said and "only in the first" in said
    m.process(p.pid).exit()
    assert "editor is only in the second" in str(vmlab.compare(m, other))
