"""Page traces: read from lackey, moved into 3 GiB, kept small, refused when damaged."""

from __future__ import annotations

import pathlib
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import skip_loudly
from vmlab import cli
from vmlab.errors import TraceError
from vmlab.trace.lackey import fit, read_lackey, record_program
from vmlab.trace.pagetrace import PageTrace, find_regions, load_trace, shipped

LACKEY = b"""==12== Lackey, an example Valgrind tool
I  04016b80,3
 L 1ffefff7a8,8
 S 1ffefff7a8,8
I  04016b83,5
 M 0421c7cc,4
hello from the program
 L 0421c7cc,4
"""


def test_every_kind_of_line_becomes_a_reference() -> None:
    trace = read_lackey(LACKEY.splitlines())
    assert [(r >> 1, r & 1) for r in trace.refs] == [(0, 0), (1, 0), (1, 1), (0, 0), (2, 0), (2, 1), (2, 0)]
    assert len(trace.pages) == 3 and trace.writes == 2
    code, stack, data = trace.pages
    assert code < data < stack, "regions keep their order"
    assert all(0x8000 < page < 0xC0000 for page in trace.pages)


def test_options_leave_out_what_they_say() -> None:
    lines = LACKEY.splitlines()
    assert [r & 1 for r in read_lackey(lines, data_only=True).refs] == [0, 1, 0, 1, 0]
    assert len(read_lackey(lines, limit=3).refs) == 3
    assert len(read_lackey(lines, skip=2).refs) == 5
    switches = read_lackey(lines, switches=True, data_only=True)
    assert [(r >> 1, r & 1) for r in switches.refs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(TraceError, match="no memory references"):
        read_lackey([b"==1== nothing", b""])


@given(st.lists(st.integers(0, (1 << 35) - 1), min_size=1, max_size=60, unique=True))
def test_any_program_fits_into_three_gigabytes(pages: list[int]) -> None:
    moved = fit(pages)
    assert len(set(moved.values())) == len(pages)
    assert all(0x8000 <= page < 0xC0000 for page in moved.values())
    ordered = sorted(pages)
    for first, second in zip(ordered, ordered[1:], strict=False):
        assert moved[first] < moved[second]
        if second - first < 100:
            assert moved[second] - moved[first] == second - first, "distances inside a region stay"


def test_too_much_does_not_fit() -> None:
    with pytest.raises(TraceError, match="spreads over"):
        fit(range(0, 1 << 30, 1 << 14))


def test_regions_cover_all_pages_once() -> None:
    assert find_regions([5, 6, 9, 40, 100]) == [(5, 5), (40, 1), (100, 1)]
    assert find_regions([]) == []


@pytest.mark.parametrize("pages", [3, 40_000])
def test_save_and_load(tmp_path: pathlib.Path, pages: int) -> None:
    refs = [(i * 7919 % pages) << 1 | i % 3 // 2 for i in range(5000)]
    trace = PageTrace([0x40000 + 3 * i for i in range(pages)], refs, name="x", command="x -y")
    trace.save(tmp_path / "x.vmpt")
    again = load_trace(tmp_path / "x.vmpt")
    assert (again.refs, again.pages, again.regions, again.name, again.command) == (trace.refs, trace.pages, trace.regions, "x", "x -y")


def test_damaged_files_are_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "t.vmpt"
    PageTrace([1, 2], [0, 3, 2], name="t").save(path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(TraceError):
            load_trace(path)
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            trace = load_trace(path)
        except TraceError:
            continue
        assert len(trace.refs) == 3  # what changed was a letter of a name, or a region
    with pytest.raises(TraceError, match="shipped traces are"):
        load_trace("nosuch.vmpt")


def test_a_trace_must_make_sense() -> None:
    with pytest.raises(ValueError, match="each page once"):
        PageTrace([1, 1], [0])
    with pytest.raises(ValueError, match="only 1 pages"):
        PageTrace([1], [2])


def test_the_command(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "lackey.txt"
    source.write_bytes(LACKEY)
    out = tmp_path / "l.vmpt"
    assert cli.main(["trace", "record", "-o", str(out), "--name", "tiny", "--from", str(source)]) == 0
    assert cli.main(["trace", "info", str(out), "shell"]) == 0
    text = capsys.readouterr().out
    assert "tiny" in text and "references: 7" in text and "/bin/sh" in text
    assert cli.main(["trace", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"name:       {name}\n" in listed for name in shipped())
    assert cli.main(["trace", "record"]) == 2
    assert cli.main(["trace", "info", "/nonexistent"]) == 2
    assert "which program?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["trace"])


def test_a_real_program_is_recorded() -> None:
    if shutil.which("valgrind") is None:
        skip_loudly("valgrind is not installed: no program was recorded")
    trace = record_program(["true"], limit=20_000)
    assert len(trace) == 20_000 and len(trace.pages) > 10 and trace.writes > 100
    with pytest.raises(TraceError, match="no such program"):
        record_program(["no-such-program-anywhere"])
