"""Replay of the real kernel's traces, and proof that the replay would notice a difference."""

from __future__ import annotations

import copy
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import golden
from vmlab.cli import main
from vmlab.trace.golden import verify
from vmlab.trace.golden.verify import REPLAYS, difference, read_lines

NAMES = ["zones-a", "bootmem-a", "buddy-a", *(f"numa-a-{i}" for i in range(1, 8))]

# What a line tells the replay to do; everything else on it is a record of what the kernel did.
INPUTS = {
    "zones": {"op", "machine.e820", "machine.kernel_end", "machine.highmem_param", "machine.nopse", "machine.memfrac"},
    "bootmem": {"op", "name", "seed", "addr", "size", "align", "goal", "mapstart", "start", "end", "sizes"},
    "buddy": {"op", "name", "seed", "e820", "kernel_end", "highmem_param", "gfp", "order", "memalloc", "pfn", "ret", "frees"},
    "numa": {"op"},
}


@pytest.mark.parametrize("name", NAMES)
def test_no_divergence(name: str) -> None:
    report = verify(golden(name))
    assert report.divergence is None, str(report)
    assert report.operations > 10


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every number, string and null inside a JSON value, and of every empty list."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, (*path, i))]
    return [path]


def recorded(subsystem: str, line: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Paths of what a line records of the kernel's state, as opposed to what it tells it to do."""

    def is_input(path: tuple[Any, ...]) -> bool:
        names = [str(p) for p in path]
        return (
            names[0] in INPUTS[subsystem] or ".".join(names[:2]) in INPUTS[subsystem] or (line.get("op") == "trace" and path[0] == "start")
        )

    if subsystem == "bootmem" and line.get("op") == "trace":
        return []
    return [path for path in leaves(line) if not is_input(path)]


def altered(line: dict[str, Any], path: tuple[Any, ...], rng: random.Random) -> dict[str, Any]:
    """A copy of *line* with the value at *path* changed."""
    line = copy.deepcopy(line)
    at: Any = line
    for step in path[:-1]:
        at = at[step]
    old = at[path[-1]]
    if isinstance(old, bool) or old is None:
        new: Any = 1
    elif isinstance(old, int):
        new = old + rng.choice((-1, 1, 4096))
    elif isinstance(old, str):
        new = ("0" if old[:1] != "0" else "1") + old[1:]
    else:
        new = [7]
    at[path[-1]] = new
    return line


def test_every_altered_value_is_reported() -> None:
    """Sample 1,000 recorded values over the ten files, alter each, and ask the comparison of that line."""
    rng = random.Random(2422)
    sampled = caught = 0
    for name in NAMES:
        lines = [line for _, line in read_lines(golden(name))]
        subsystem = lines[0]["subsystem"]
        places = [(i, path) for i, line in enumerate(lines[1:], 1) for path in recorded(subsystem, line)]
        by_line: dict[int, list[tuple[Any, ...]]] = {}
        for i, path in rng.sample(places, min(100, len(places))):
            by_line.setdefault(i, []).append(path)
        replay = REPLAYS[subsystem](lines[0])
        for i, line in enumerate(lines[1:], 1):
            got = replay(line)
            assert difference(line, got) is None
            for path in by_line.get(i, ()):
                sampled += 1
                found = difference(altered(line, path, rng), got)  # a replay never looks at what a line records
                caught += found is not None
    assert sampled == 1000
    assert caught == sampled


@pytest.mark.parametrize("name", ["zones-a", "bootmem-a", "buddy-a", "numa-a-3"])
def test_altered_files_exit_1(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole altered files through the command: 60 values a file, each divergence names its line and its field."""
    rng = random.Random(name)
    raw = gzip.decompress(golden(name).read_bytes()).decode().splitlines()
    subsystem = json.loads(raw[0])["subsystem"]
    early = raw[1:400]  # an altered file stops at the alteration, so early ones are quick
    places = [(i, path) for i, text in enumerate(early, 1) for path in recorded(subsystem, json.loads(text))]
    for number, (i, path) in enumerate(rng.sample(places, 60)):
        lines = raw[: i + 1]
        lines[i] = json.dumps(altered(json.loads(raw[i]), path, rng))
        target = tmp_path / f"altered-{number}.jsonl"
        target.write_text("\n".join(lines) + "\n")
        assert main(["verify", str(target)]) == 1, (i, path)
        out = capsys.readouterr().out
        assert f"line {i + 1}:" in out and "expected" in out and "got" in out and str(path[0]) in out


def test_good_file_says_how_many_operations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(golden("buddy-a"))]) == 0
    assert capsys.readouterr().out == "buddy-a: 8446 operations, 0 divergences\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"", "empty"),
        (b"hello\n", "not JSON"),
        (b"[1]\n", "JSON object"),
        (b'{"a": 1}\n', "no header"),
        (b'{"subsystem": "tea"}\n{"op": "x"}\n', "cannot be replayed"),
        (b'{"subsystem": "buddy"}\n', "no operations"),
        (b'{"subsystem": "buddy"}\n{"op": "alloc"}\n', "trace line must come first"),
        (b'{"subsystem": "zones"}\n{"op": "machine", "machine": {"e820": []}}\n', "line 2"),
        (b'{"subsystem": "numa", "nodes": [[0, 4096, 0]], "node_init_order": [0], "build": ""}\n{"op": ["free", 9, 1, 1]}\n', "no node 9"),
        (b'{"subsystem": "numa", "nodes": [[99999999999, 4096, 0]], "node_init_order": [0], "build": ""}\n{"op": []}\n', "at most 64 GiB"),
        (b"\x1f\x8b\x08 not gzip", "damaged gzip"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_malformed_files_exit_2(content: bytes | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "trace.jsonl"
    if content is not None:
        target.write_bytes(content)
    assert main(["verify", str(target)]) == 2
    error = capsys.readouterr().err
    assert says in error and str(target) in error


def test_truncated_gzip_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "cut.jsonl.gz"
    target.write_bytes(golden("zones-a").read_bytes()[:2000])
    assert main(["verify", str(target)]) == 2
    assert "damaged gzip" in capsys.readouterr().err


def test_worst_status_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad file does not keep the others from being replayed."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text("?")
    assert main(["verify", str(bad), str(golden("numa-a-1"))]) == 2
    assert "numa-a-1: 1632 operations, 0 divergences" in capsys.readouterr().out
