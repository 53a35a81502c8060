"""Replay of the 2.6 traces of whole machines: processes, files, swap, reclaim and the OOM killer at once."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_golden import altered
from tests.core.test_golden_process import kinds, recorded, replay_without_divergence
from tests.helpers import golden
from vmlab import TraceError
from vmlab.cli import main
from vmlab.trace.golden import verify
from vmlab.trace.golden.v26_process import Process26Replay
from vmlab.trace.golden.verify import REPLAYS, difference, read_lines

SMALL = ["v26-faults-a", "v26-mmap-a", "v26-oom-a", "v26-swapfile-a", "v26-vmscan-oom-a", "v26-system-a-5"]  # in every checkout
NAMES = [*SMALL, "v26-vmscan-a", "v26-vmscan-io1-a", "v26-vmscan-press-a", *(f"v26-system-a-{i}" for i in (1, 2, 3, 4, 6, 7))]
ENOUGH = 6_000  # accesses after which a long trace is left; VMLAB_GOLDEN_WHOLE=1 replays all of it, as `vmlab verify` does


@pytest.mark.parametrize("name", NAMES)
def test_no_divergence(name: str) -> None:
    replay_without_divergence(name, ENOUGH)


@pytest.mark.parametrize("name", SMALL)
def test_every_altered_value_is_reported(name: str) -> None:
    """Alter 300 of the values recorded on the first lines, one at a time, and compare."""
    rng = random.Random(name)
    lines = [line for _, line in read_lines(golden(name))][:220]
    replay = REPLAYS[lines[0]["subsystem"]](lines[0])
    replayed = [replay(line) for line in lines[1:]]
    assert [difference(line, got) for line, got in zip(lines[1:], replayed, strict=True)] == [None] * len(replayed)
    missed = []
    for _ in range(300):
        i = rng.randrange(len(replayed))
        path = rng.choice(recorded(lines[i + 1]))
        if difference(altered(lines[i + 1], path, rng), replayed[i]) is None:
            missed.append((i + 2, path))
    assert missed == []


@pytest.mark.parametrize("name", SMALL)
def test_altered_files_exit_1(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value of each kind altered in the file: the command says which line and which field."""
    rng = random.Random(name)
    lines = [line for _, line in read_lines(golden(name))][:120]
    some = sorted(kinds(lines).items(), key=repr)
    for number, (_, places) in enumerate(rng.sample(some, min(10, len(some)))):
        i, path = rng.choice(places)
        target = tmp_path / f"altered-{number}.jsonl"
        target.write_text("".join(json.dumps(line) + "\n" for line in [*lines[:i], altered(lines[i], path, rng)]))
        assert main(["verify", str(target)]) == 1, (i + 1, path)
        out = capsys.readouterr().out
        assert f"line {i + 1}:" in out and str(path[0]) in out, (i + 1, path, out)


def test_a_field_too_few_or_too_many(tmp_path: Path) -> None:
    lines = [line for _, line in read_lines(golden("v26-faults-a"))][:60]
    for field in ("c", "pages", "a0", "pvi", "swap", "ptes", "anon_rss", "flt", "ret", "mmlist", "bcrc", "token"):
        i = max(n for n, line in enumerate(lines) if field in line and n > 20)
        for change in ("less", "more"):
            broken = copy.deepcopy(lines[: i + 1])
            if change == "less":
                del broken[i][field]
            else:
                broken[i]["procs"] = [[1, 0, 0, 0, 0, 0]]
            target = tmp_path / f"{field}-{change}.jsonl"
            target.write_text("".join(json.dumps(line) + "\n" for line in broken))
            found = verify(target).divergence
            assert found is not None and found.line == i + 1
            assert found.field == (field if change == "less" else "procs")


def test_a_page_is_printed_with_26s_numbers_of_its_flags() -> None:
    """PG_swapcache is bit 16, PG_uptodate 3, PG_lru 5 there; a page in the swap cache also tells its slot."""
    lines = [line for _, line in read_lines(golden("v26-faults-a"))][:80]
    replay = Process26Replay(lines[0])
    got = [replay(line) for line in lines[1:]]
    cached = [row for line in got for row in line.get("pages", []) if row[4] == -2]
    assert cached
    assert all(row[3] >> 16 & 1 and row[6] > 0 for row in cached)


def replayed(n: int = 16) -> Process26Replay:
    """The replay of v26-faults-a after *n* lines."""
    lines = [line for _, line in read_lines(golden("v26-faults-a"))][:n]
    replay = Process26Replay(lines[0])
    for line in lines[1:]:
        replay(line)
    return replay


@pytest.mark.parametrize(
    ("op", "says"),
    [
        ("touch", "a name and whole numbers"),
        (["touch", 2, 2.5, 0, 0], "a name and whole numbers"),
        (["touch", 2], "touch takes 4 to 5 numbers, not 1"),
        (["touch", 2, 1 << 70, 0, 0], "more than 64 bits"),
        (["shmget", 0, 0, 0, 0], "unknown operation 'shmget'"),
        (["boot", 8, 2048, 0], "on already"),
        (["new", 2], "process 2 cannot be made"),
        (["fork", 2, 2], "process 2 cannot be made"),
        (["fread", 99, 0, 10], "there is no file 99"),
        (["mkswap", 9, 2, 1, 10], "there is no disk 9"),
        (["mkswapfile", 5, 3, 1], "no swap file 5"),
        (["setmap", 0, 100000, 1], "there is no slot 100000"),
        (["shrink_cache", 7, 5, 6], "there is no zone 7"),
        (["shrink_zone", 0, 13], "a priority is 0 to 12"),
        (["setprio", 0, -1, 12], "a priority is 0 to 12"),
        (["try_free", 3, 0], "there is no zonelist 3"),
        (["kswapd", 1 << 40], "an order is 0 to 11"),
        (["grab", 1 << 40], "requests on a machine of 2048 frames"),
        (["accessed", 1 << 30], "there is no frame"),
        (["rlim", 2, 99, 1], "there is no limit number 99"),
        (["vme", 2, 3], "vme takes 3 numbers, not 2"),
        (["mapswap", 31, 0], "there is no"),
    ],
)
def test_malformed_operations(op: Any, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        replayed()({"op": op})


def test_boot_must_come_first_and_make_sense() -> None:
    header = next(read_lines(golden("v26-faults-a")))[1]
    with pytest.raises(TraceError, match="must be boot"):
        Process26Replay(header)({"op": ["new", 2]})
    for args in ([8, 2048], [0, 2048, 0], [8, 2048, 7], [1 << 20, 2048, 0]):
        with pytest.raises(TraceError):
            Process26Replay(header)({"op": ["boot", *args]})


def test_a_header_of_24_is_refused() -> None:
    header = next(read_lines(golden("faults-a")))[1]
    with pytest.raises(TraceError, match="names the kernel"):
        Process26Replay(header)


def test_a_dead_process_does_nothing() -> None:
    assert replayed()({"op": ["touch", 77, 0x40000000, 0, 0]}) == {"op": ["touch", 77, 0x40000000, 0, 0], "dead": 1}
