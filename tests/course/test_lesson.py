"""The small helpers of the lessons."""

from __future__ import annotations

from typing import Any

import pytest

import vmlab
from vmlab import GFP_ATOMIC, GFP_KERNEL, course


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """HTML that was displayed."""
    pages: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda thing: pages.append(thing.data))
    return pages


def test_table_has_a_caption_headers_and_escaped_cells(shown: list[str]) -> None:
    course.table("Zones & pages", ["zone", "pages", "note"], [("<DMA>", "4,096", "a"), ("Normal", 12288, "b")])
    (page,) = shown
    assert "<b>Zones &amp; pages</b></caption>" in page and "&lt;DMA&gt;</th>" in page
    assert page.count('scope="col"') == 3 and page.count('scope="row"') == 2
    assert 'text-align:right">4,096</td>' in page and 'text-align:left">a</td>' in page


def test_table_without_rows(shown: list[str]) -> None:
    course.table("Nothing", ["a", "b"], [])
    assert "<tbody></tbody>" in shown[0]


def test_tell_numbers_the_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    m = vmlab.boot(ram="16M")
    with m.record() as tape:
        m.alloc_pages(GFP_KERNEL, 1)
    course.tell(tape, steps=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("  0  request 2^1 pages")
    course.tell(tape)
    assert len(capsys.readouterr().out.splitlines()) == len(tape)


def test_watch_tells_the_decisions_and_gives_the_listener_back(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[Any] = []
    m = vmlab.boot(ram="16M", kernel_objects=None)
    m.on_event = heard.append
    page = course.watch(m, GFP_KERNEL, 2)
    assert page is not None and page.order == 2 and not heard and m.on_event is not None
    out = capsys.readouterr().out
    assert out.startswith("GFP_KERNEL, order 2:") and "pass 1" in out and "pair bit" not in out
    while m.alloc_pages(GFP_ATOMIC):
        pass
    assert course.watch(m, GFP_KERNEL) is None
    assert "never return" in capsys.readouterr().out
    whole = vmlab.boot(ram="16M")
    with pytest.raises(vmlab.KernelPanic):
        while whole.alloc_pages(GFP_KERNEL):
            pass
    while course.watch(whole, GFP_KERNEL) is not None:
        pass
    assert "no killable processes" in capsys.readouterr().out
