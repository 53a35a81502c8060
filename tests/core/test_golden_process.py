"""Replay of the traces of whole machines: processes, files, swap, reclaim, slab, high memory and PAE at once."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_golden import altered, leaves
from tests.helpers import NOT_TESTED, golden, golden_folders
from vmlab import TraceError
from vmlab.cli import main
from vmlab.trace.golden import verify
from vmlab.trace.golden.verify import REPLAYS, difference, read_lines

NAMES = [
    *("mmap-a", "faults-a", "swapfile-a", "shmem-a", "oom-a", "pagecache-a", "pagecache-io1-a"),
    *("vmscan-a", "vmscan-io1-a", "vmscan-oom-a", "vmscan-press-a"),
    *(f"system-a-{i}" for i in range(1, 8)),
    "system-slab-a-1",
    *(f"system2-a-{i}" for i in range(1, 9)),
    *(f"system3-a-{i}" for i in range(1, 9)),
    *(f"pae-a-{i}" for i in range(1, 5)),
]
SMALL = ["faults-a", "oom-a", "pae-a-4", "shmem-a", "swapfile-a"]  # in every checkout; between them they have every kind of line
# Accesses after which a long trace is left; VMLAB_GOLDEN_WHOLE=1 replays all of it, as `vmlab verify` does.
ENOUGH = 10_000


def accesses(line: dict[str, Any]) -> int:
    """How many memory accesses an operation makes."""
    op = line["op"]
    return len(op) - 3 if op[0] == "tl" else op[3] if op[0] == "range" else 1


def replay_without_divergence(name: str, enough: int) -> None:
    """Replay a trace until it has made *enough* accesses; fails at the first difference, skips a trace that is not here."""
    if not any((folder / f"{name}.jsonl.gz").is_file() for folder in golden_folders()):  # the large ones are not in the checkout
        reason = "traces of whole systems (set VMLAB_GOLDEN to their folder)"
        if reason not in NOT_TESTED:
            NOT_TESTED.append(reason)
        pytest.skip(f"{name} is not here")
    if os.environ.get("VMLAB_GOLDEN_WHOLE"):
        report = verify(golden(name))
        assert report.divergence is None, str(report)
        return
    lines = read_lines(golden(name))
    _, header = next(lines)
    replay = REPLAYS[header["subsystem"]](header)
    done = operations = 0
    for number, line in lines:
        assert difference(line, replay(line)) is None, f"line {number}"
        done += accesses(line)
        operations += 1
        if done >= enough:
            break
    assert operations > 20


@pytest.mark.parametrize("name", NAMES)
def test_no_divergence(name: str) -> None:
    replay_without_divergence(name, ENOUGH)


def recorded(line: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Paths of what a line records; the operation is all it tells the replay to do."""
    return [path for path in leaves(line) if path[0] != "op"]


@pytest.mark.parametrize("name", [*SMALL, "system3-a-1"])
def test_every_altered_value_is_reported(name: str) -> None:
    """Alter 300 of the values recorded on the first lines, one at a time, and compare."""
    rng = random.Random(name)
    lines = [line for _, line in read_lines(golden(name))][:220]
    replay = REPLAYS[lines[0]["subsystem"]](lines[0])
    replayed = [replay(line) for line in lines[1:]]
    assert [difference(line, got) for line, got in zip(lines[1:], replayed, strict=True)] == [None] * len(replayed)
    numbers = list(range(len(replayed)))
    missed = []
    for _ in range(300):
        i = rng.choice(numbers)
        path = rng.choice(recorded(lines[i + 1]))
        if difference(altered(lines[i + 1], path, rng), replayed[i]) is None:
            missed.append((i + 2, path))
    assert missed == []


def kinds(lines: list[dict[str, Any]]) -> dict[tuple[Any, ...], list[tuple[int, tuple[Any, ...]]]]:
    """Places (line, path) of the recorded values, by kind of field: the names on the way to it."""
    found: dict[tuple[Any, ...], list[tuple[int, tuple[Any, ...]]]] = {}
    for i, line in enumerate(lines[1:], 1):
        for path in recorded(line):
            key = tuple(p for p in path if isinstance(p, str))
            found.setdefault((line["op"][0] == "boot", *key), []).append((i, path))
    return found


@pytest.mark.parametrize("name", SMALL)
def test_altered_files_exit_1(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value of each kind altered in the file: the command says which line and which field."""
    rng = random.Random(name)
    lines = [line for _, line in read_lines(golden(name))][:150]
    some = sorted(kinds(lines).items(), key=repr)
    for number, (_, places) in enumerate(rng.sample(some, min(14, len(some)))):
        i, path = rng.choice(places)
        target = tmp_path / f"altered-{number}.jsonl"
        target.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:i], altered(lines[i], path, rng)]))
        assert main(["verify", str(target)]) == 1, (i + 1, path)
        out = capsys.readouterr().out
        assert f"line {i + 1}:" in out and str(path[0]) in out, (i + 1, path, out)


def test_a_field_too_few_or_too_many(tmp_path: Path) -> None:
    lines = [line for _, line in read_lines(golden("faults-a"))][:60]
    for field in ("c", "pgcrc", "active", "swap", "ptes", "rss", "flt", "ret", "mmlist", "bcrc"):
        i = max(n for n, line in enumerate(lines) if field in line and n > 20)
        for change in ("less", "more"):
            broken = copy.deepcopy(lines[: i + 1])
            if change == "less":
                del broken[i][field]
            else:
                broken[i]["procs"] = [[1, 0, 0, 0, 0]]
            target = tmp_path / f"{field}-{change}.jsonl"
            target.write_text("".join(json.dumps(line) + "\n" for line in broken))
            found = verify(target).divergence
            assert found is not None and found.line == i + 1
            assert found.field == (field if change == "less" else "procs")


def test_a_missing_log_of_transfers_is_reported(tmp_path: Path) -> None:
    """The mask is never printed, but once a line has shown that transfers are logged, they must stay logged."""
    lines = [line for _, line in read_lines(golden("faults-a"))][:260]
    first, second = [i for i, line in enumerate(lines) if i and "io" in line][:2]
    broken = copy.deepcopy(lines[: second + 1])
    del broken[second]["io"]
    target = tmp_path / "t.jsonl"
    target.write_text("".join(json.dumps(line) + "\n" for line in broken))
    found = verify(target).divergence
    assert found is not None and found.line == second + 1 and found.field == "io"
    assert first < second


@pytest.mark.parametrize(
    ("op", "says"),
    [
        ("touch", "a name and whole numbers"),
        (["touch", 1, 2.5, 0, 0], "a name and whole numbers"),
        (["touch", 1, True, 0, 0], "a name and whole numbers"),
        (["touch", 1], "touch takes 4 to 5 numbers, not 1"),
        (["touch", 1, 1 << 70, 0, 0], "more than 64 bits"),
        (["fly", 1], "unknown operation 'fly'"),
        (["boot", 8, 2048, 0], "on already"),
        (["new", 1], "process 1 cannot be made"),
        (["fork", 1, 1], "process 1 cannot be made"),
        (["fread", 99, 0, 10], "there is no file 99"),
        (["shmget", 0, 0, 0, 0], "file 0 is not in tmpfs"),
        (["mkswap", 9, 2, 1, 10], "there is no disk 9"),
        (["setmap", 0, 100000, 1], "there is no slot 100000"),
        (["shrink_cache", 5, 7, 6], "there is no zone 7"),
        (["swap_out", 0, 0], "a priority is 1 or more"),
        (["accessed", 1 << 30], "there is no frame"),
        (["rlim", 1, 99, 1], "there is no limit number 99"),
    ],
)
def test_malformed_operations(op: Any, says: str) -> None:
    lines = [line for _, line in read_lines(golden("faults-a"))][:14]
    replay = REPLAYS["faults"](lines[0])
    for line in lines[1:]:
        replay(line)
    with pytest.raises(TraceError, match=says):
        replay({"op": op})


def test_boot_must_come_first_and_make_sense() -> None:
    header = next(read_lines(golden("faults-a")))[1]
    replay = REPLAYS["faults"](header)
    with pytest.raises(TraceError, match="must be boot"):
        replay({"op": ["new", 1]})
    for args in ([8, 2048], [0, 2048, 0], [8, 2048, 7], [8, 1 << 40, 0], [1 << 20, 2048, 0]):
        with pytest.raises(TraceError):
            REPLAYS["faults"](header)({"op": ["boot", *args]})


def test_a_dead_process_does_nothing() -> None:
    lines = [line for _, line in read_lines(golden("faults-a"))][:14]
    replay = REPLAYS["faults"](lines[0])
    for line in lines[1:]:
        replay(line)
    assert replay({"op": ["touch", 77, 0x40000000, 0, 0]}) == {"op": ["touch", 77, 0x40000000, 0, 0], "dead": 1}
