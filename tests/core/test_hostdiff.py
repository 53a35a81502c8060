"""The model against the Linux this runs on: the same calls, the same answers. And the comparison must be able to fail."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmlab.tools.hostdiff import EXCEPTIONS, HostDiff, main
from vmlab.tools.hosted import NotHere, Result
from vmlab.tools.shadow import Difference

W = 0x10000000
FIXED_ANON, ANON = 0x32, 0x22


@pytest.fixture
def run(tmp_path: Path) -> Iterator[HostDiff]:
    try:
        made = HostDiff(7, tmp_path)
    except NotHere as why:
        warnings.warn(f"NOT COMPARED with a real kernel: {why}", stacklevel=1)
        pytest.skip(f"no host kernel to compare with: {why}")
    yield made
    made.host.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_few_thousand_calls_agree(run: HostDiff, seed: int) -> None:
    run.rng.seed(seed)
    run.run(2000)
    assert run.calls >= 2000 and min(run.made.values()) > 20 and run.probed >= 2048
    assert all(run.failed[name] > 5 for name in ("mmap", "munmap", "mprotect", "mremap")), "errors are compared too"


def test_a_wrong_answer_is_a_difference(run: HostDiff, monkeypatch: pytest.MonkeyPatch) -> None:
    right = run.model.call

    def wrong(name: str, *args: Any) -> Result:
        ret = right(name, *args)
        return Result(-1, 22) if name == "mprotect" and ret.errno == 12 else ret

    monkeypatch.setattr(run.model, "call", wrong)
    with pytest.raises(Difference, match=r"mprotect.*model errno 22, host errno 12"):
        run.run(1000)


def test_a_lost_right_and_a_page_that_cannot_be_touched_are_differences(run: HostDiff) -> None:
    run.both("mmap", W, 0x4000, 3, FIXED_ANON, None, 0)
    run.compare_maps()
    run.compare_pages()
    vma = next(vma for vma in run.model.process.areas if vma.vm_start == W)
    vma.vm_flags &= ~2
    with pytest.raises(Difference, match="maps differ"):
        run.compare_maps()
    vma.vm_flags |= 2
    run.model.call("mprotect", W + 0x1000, 0x1000, 1)
    with pytest.raises(Difference, match=r"page 0x10001000: the model allows read, the host read and write"):
        run.compare_pages()


def test_sigbus_past_the_end_of_a_file_and_rights_of_its_descriptor(run: HostDiff) -> None:
    assert run.both("mmap", W, 0x8000, 3, 0x11, "rw", 0)[0].value == W
    assert run.both("mmap", W + 0x10000, 0x2000, 1, 0x11, "ro", 0)[0].errno == 0
    assert run.both("mprotect", W + 0x10000, 0x1000, 3)[0].errno == 13
    assert run.both("mmap", W + 0x20000, 0x1000, 3, 0x11, "ro", 0)[0].errno == 13
    run.compare_pages()
    assert run.model.probe(W, 8) == b"\3\3\3\3\3\3\0\0"  # 5 pages and 100 bytes


def test_the_exceptions_are_real(run: HostDiff) -> None:
    """What the table says of 2.4 and of today, tried on both."""
    if not run.host.exact:
        pytest.skip("this sandbox randomises addresses")

    def each(name: str, *args: Any) -> tuple[int, int]:
        return run.model.call(name, *args).errno, run.host.call(name, *args).errno

    run.both("mmap", W, 0x4000, 3, FIXED_ANON, None, 0)
    assert each("mmap", W + 0x100000, 0, 3, FIXED_ANON, None, 0) == (0, 22)  # mmap-zero
    assert each("mremap", W + 0x200000, 0x2000, 0x1000, 1, 0) == (0, 14)  # mremap-unmapped
    assert each("mremap", W, 0x4000, 0x2000, 3, W + 0x300000) == (14, 0)  # mremap-fixed-shrink
    run.both("mmap", W, 0x4000, 3, FIXED_ANON, None, 0)
    assert each("mremap", W, 0x1000, 0x1000, 5, 0)[0] == 22  # mremap-dontunmap
    assert each("mmap", W + 0x400000, 0x1000, 3, 0x33, None, 0)[0] == 22  # map-type-3
    ours, theirs = (process.call("mmap", W + 0x500001, 0x1000, 3, ANON, None, 0) for process in (run.model, run.host))
    assert (ours.value, theirs.value) == (W + 0x501000, W + 0x500000)  # hint
    run.both("mmap", W + 0x600000, 0x1000, 2, FIXED_ANON, None, 0)
    assert (run.model.machine.process(run.model.process.pid).walk(W + 0x600000).physical, run.host.probe(W + 0x600000, 1)) == (None, b"\3")


def test_the_command_lists_its_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--exceptions"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: " in out for name in EXCEPTIONS)
