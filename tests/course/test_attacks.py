"""What do hostile submissions gain? Nothing. What do odd but honest ones lose? Nothing."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.course import attacks, toy
from tests.course.attacks import ATTACKS, MARKER, run
from tests.course.corpus import HONEST, Attack
from tests.helpers import skip_loudly
from vmlab.course import report, sandbox
from vmlab.course.testing import sentences

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def sandboxed() -> None:
    if sandbox.room().kind != "bubblewrap":
        skip_loudly("hostile code is only run where bubblewrap works: " + "; ".join(sandbox.room().warnings))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_attack_gains_nothing(attack: Attack) -> None:
    sentinel = Path("/tmp/owned")
    result = run(attack)
    assert result.earned <= attack.may_earn
    said = sentences(result)
    assert attack.says in said and said.strip()
    assert not sentinel.exists()
    for task in result.tasks:
        page = report.as_html(task)
        assert "<script" not in page and "\x1b" not in page and page.encode()


@pytest.mark.parametrize("entry", HONEST, ids=lambda a: a.name)
def test_honest_submission_loses_nothing(entry: Attack) -> None:
    result = run(entry)
    assert result.earned == toy.EXERCISE.points
    assert entry.says in sentences(result)


def test_no_process_of_an_attack_is_still_alive() -> None:
    assert run(next(a for a in ATTACKS if a.name == "daemon")).earned == 0
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [x for x in lines if MARKER.encode() in x]


def test_the_published_table_is_what_happens() -> None:
    """docs/grader.md is made by `python -m tests.course.attacks`."""
    have, want = (ROOT / "docs" / "grader.md").read_text(encoding="utf-8"), attacks.table()
    assert have == want, "\n".join(difflib.unified_diff(have.splitlines(), want.splitlines(), lineterm=""))
