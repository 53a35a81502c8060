"""Can anything a student hands in upset the reader? What comes out is always a valid notebook with every graded cell exactly once."""

from __future__ import annotations

import json
from typing import Any

import nbformat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.course.attacks import ATTACKS
from tests.course.corpus import HONEST, RELEASE, SOURCE, add_helper, cell, honest, rename, shaped
from vmlab.course import generate, submission
from vmlab.course.submission import grade_info, judged_cells, rebuild

IDS = [grade_info(c)["grade_id"] for c in RELEASE["cells"] if grade_info(c)]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(IDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
cells = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw"]) | anything,
        "source": st.text(max_size=30) | st.lists(st.text(max_size=9), max_size=3) | anything,
        "metadata": st.fixed_dictionaries(
            {
                "nbgrader": st.fixed_dictionaries(
                    {}, optional={"grade_id": st.sampled_from(IDS) | anything, "grade": anything, "solution": anything, "points": anything}
                )
            }
        )
        | anything,
        "outputs": anything,
        "id": anything,
    },
)


def check(raw: bytes) -> dict[str, Any]:
    rebuilt = rebuild(raw, RELEASE)
    nbformat.validate(nbformat.from_dict(rebuilt.notebook))
    found = [grade_info(c)["grade_id"] for c in rebuilt.notebook["cells"] if grade_info(c)]
    assert sorted(found) == sorted(IDS)
    for c in rebuilt.notebook["cells"]:
        if submission.is_test(c):
            assert c["source"] == cell(RELEASE, grade_info(c)["grade_id"])["source"]
            assert grade_info(c) == grade_info(cell(RELEASE, grade_info(c)["grade_id"]))
    assert json.dumps(rebuilt.notebook).encode("utf-8")
    judged_cells(rebuilt.notebook, RELEASE)
    again = rebuild(generate.to_text(rebuilt.notebook).encode(), RELEASE)
    assert again.notebook["cells"] == rebuilt.notebook["cells"], "reading what was rebuilt changes nothing more"
    return rebuilt.notebook


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"cells": st.lists(cells | anything, max_size=6)}, optional={"metadata": anything, "nbformat": anything}))
def test_any_json_with_cells_becomes_a_valid_notebook(data: dict[str, Any]) -> None:
    check(json.dumps(data).encode())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | anything.map(lambda x: json.dumps(x).encode()))
def test_any_bytes_become_a_valid_notebook(raw: bytes) -> None:
    check(raw)


def test_the_corpus_becomes_valid_notebooks() -> None:
    for entry in [*ATTACKS, *HONEST]:
        check(entry.raw)


def test_every_cut_of_a_submission_is_read() -> None:
    raw = honest({})
    for end in range(0, len(raw), 997):
        assert check(raw[:end])


def test_a_students_own_cells_stay_where_they_were() -> None:
    rebuilt = rebuild(shaped(add_helper, SOURCE), RELEASE)
    sources = [c["source"] for c in rebuilt.notebook["cells"]]
    assert rebuilt.notes == []
    assert sources.index("def flip(a, b):\n    return a ^ b") + 1 == sources.index(
        "def buddy_of(pfn, order):\n    return flip(pfn, 1 << order)"
    )


def test_a_renamed_solution_still_runs_and_its_empty_replacement_does_not() -> None:
    rebuilt = rebuild(shaped(rename, SOURCE), RELEASE)
    runs = [c.source for c in judged_cells(rebuilt.notebook, RELEASE) if "def buddy_of" in c.source]
    assert len(runs) == 1 and "NotImplementedError" not in runs[0]
    assert any("check-splits was missing" in n for n in rebuilt.notes)


def test_markdown_of_a_student_carries_no_html_into_the_instructors_browser() -> None:
    def inject(nb: dict[str, Any]) -> None:
        cell(nb, "defence")["source"] = "Because <script>alert(1)</script> 3 < 4 and <img src=x onerror=alert(1)>"
        nb["cells"].append({"cell_type": "markdown", "metadata": {}, "source": "<iframe src='//x'></iframe>"})
        nb["cells"].append({"cell_type": "raw", "metadata": {"format": "text/html"}, "source": "<script>1</script>"})

    text = json.dumps(rebuild(shaped(inject), RELEASE).notebook)
    assert "<script" not in text and "<img" not in text and "<iframe" not in text and "3 < 4" in text


def test_untouched_stubs_are_not_run() -> None:
    rebuilt = rebuild(json.dumps(RELEASE).encode(), RELEASE)
    assert rebuilt.notes == []
    labels = [c.label for c in judged_cells(rebuilt.notebook, RELEASE)]
    assert all(label.startswith("given cell") for label in labels)
