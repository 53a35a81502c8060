"""The header page of a swap area: ours, util-linux's, and what file(1) says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.processes import machine
from vmlab.hw.disk import FileDisk
from vmlab.mm.swap_header import mkswap, read_header, write_header
from vmlab.mm.task import CAP_SYS_ADMIN


@given(st.integers(10, 40000), st.sets(st.integers(1, 9)), st.sampled_from([1, 2]))
def test_a_header_is_read_as_it_was_written(size: int, bad: set[int], version: int) -> None:
    header = read_header(mkswap(size, version, sorted(bad)))
    assert header.magic == version
    if version == 2:
        assert (header.version, header.last_page, header.badpages) == (1, size - 1, tuple(sorted(bad)))
    else:
        assert header.usable == tuple(i for i in range(1, min(size, 8 * 4086)) if i not in bad)


@pytest.mark.parametrize(
    ("args", "word"), [((9,), "10"), ((20, 3), "version"), ((20, 2, [20]), "bad page 20"), ((900, 2, range(1, 640)), "637")]
)
def test_areas_that_mkswap_refuses(args: tuple[int, ...], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        mkswap(*args)  # type: ignore[arg-type]


def test_a_page_without_signature() -> None:
    assert read_header(bytes(4096)).magic == read_header(write_header(0, 1, 99)).magic == 0
    with pytest.raises(ValueError, match="4096"):
        read_header(b"SWAPSPACE2")


# Is the header that of util-linux, both ways?
@pytest.mark.skipif(shutil.which("mkswap", path="/sbin:/usr/sbin:/usr/bin:/bin") is None, reason="util-linux is not installed")
def test_the_header_is_that_of_util_linux(tmp_path: Path) -> None:
    image = tmp_path / "swap"
    image.write_bytes(bytes(64 * 4096))
    image.chmod(0o600)
    program = shutil.which("mkswap", path="/sbin:/usr/sbin:/usr/bin:/bin")
    subprocess.run([str(program), "-U", "clear", str(image)], check=True, capture_output=True)
    theirs = image.read_bytes()[:4096]
    assert theirs == mkswap(64)
    m = machine()
    m.init_task.cap_effective |= 1 << CAP_SYS_ADMIN
    m.block.add_disk(0, FileDisk(image))
    assert m.swapfile.sys_swapon(0) == 0
    assert (m.swapfile.nr_swap_pages, m.swapfile.swap_info[0].max) == (62, 63), "2.4 never uses the last page"


@pytest.mark.skipif(shutil.which("file") is None, reason="file(1) is not installed")
@pytest.mark.parametrize("version", [1, 2])
def test_file_knows_our_headers(tmp_path: Path, version: int) -> None:
    image = tmp_path / "swap"
    image.write_bytes(mkswap(64, version) + bytes(63 * 4096))
    text = subprocess.run(["file", "-b", str(image)], check=True, capture_output=True, text=True).stdout
    assert "swap file" in text
