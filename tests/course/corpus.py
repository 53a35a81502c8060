"""Submissions as files: honest ones in odd shapes, and ones bent to fool or stop a grader. All on the toy exercise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.course import toy
from vmlab.course import testing
from vmlab.course.exercise import register

register(toy.EXERCISE)
SOURCE = toy.source()
RELEASE = testing.release_of(SOURCE)


@dataclass(frozen=True)
class Attack:
    """One submission: `what` it does, the bytes handed in, and what the student must read (a fragment of a sentence)."""

    name: str
    what: str
    raw: bytes
    says: str
    may_earn: float = 0.0


def shaped(change: Callable[[dict[str, Any]], Any], notebook: dict[str, Any] = RELEASE) -> bytes:
    """The bytes of a notebook after `change` worked on a copy of it."""
    copy = json.loads(json.dumps(notebook))
    return json.dumps(change(copy) or copy).encode()


def cell(notebook: dict[str, Any], grade_id: str) -> dict[str, Any]:
    return next(c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)


def fake_outputs(nb: dict[str, Any]) -> None:
    for c in nb["cells"]:
        if c["cell_type"] == "code":
            c["outputs"] = [{"output_type": "execute_result", "data": {"text/plain": "2.0"}, "metadata": {}, "execution_count": 1}]


def edit_tests(nb: dict[str, Any]) -> None:
    for c in nb["cells"]:
        if c["metadata"].get("nbgrader", {}).get("grade"):
            c["source"] = "pass"


def raise_points(nb: dict[str, Any]) -> None:
    cell(nb, "check-buddy-of")["metadata"]["nbgrader"]["points"] = 999


def unlock_tests(nb: dict[str, Any]) -> None:
    cell(nb, "check-buddy-of")["metadata"]["nbgrader"].update(solution=True, locked=False, grade=True)
    cell(nb, "check-buddy-of")["source"] = "13"


def watermarks_of(student: str) -> dict[str, int]:
    """The right answer to the first task for one student."""
    low = toy.clamp(toy.EXERCISE.task("watermarks").question(toy.EXERCISE.id, student)["pages"])
    return {"min": low, "low": 2 * low, "high": 3 * low}


FILES = [
    Attack("edits-test-cells", "empties every test cell", shaped(edit_tests), "had been changed"),
    Attack("fake-outputs", "hands in outputs that claim points", shaped(fake_outputs), "There is no"),
    Attack("raises-points", "sets a test cell's points to 999", shaped(raise_points), "There is no"),
    Attack("unlocks-tests", "turns a test cell into a solution cell worth its points", shaped(unlock_tests), "There is no"),
    Attack(
        "copied",
        "hands in another student's literal answers",
        testing.edited(RELEASE, {"watermarks": f"STUDENT = 'alice'\nwatermarks = {watermarks_of('alice')}"}),
        "is right for the numbers of 'alice'",
    ),
    Attack("empty-file", "hands in an empty file", b"", "The file is empty"),
    Attack("not-json", "hands in something that is no notebook", b"\x89PNG\r\n\x00\xff" * 50, "cannot be read"),
    Attack("json-no-notebook", "hands in JSON that is no notebook", b'{"cells": 7}', "not a notebook"),
    Attack("deep-json", "hands in JSON nested 100,000 deep", b"[" * 100_000 + b"]" * 100_000, "cannot be read"),
    Attack(
        "many-cells",
        "hands in 3,000 cells",
        shaped(lambda nb: nb["cells"].extend({"cell_type": "code", "metadata": {}, "source": "x = 1", "outputs": []} for _ in range(3000))),
        "only the first",
    ),
    Attack(
        "odd-types",
        "hands in cells of impossible types",
        shaped(
            lambda nb: nb.update(
                cells=[
                    None,
                    7,
                    {"cell_type": 9},
                    {"cell_type": "code", "source": {"a": 1}, "metadata": 3},
                    {"cell_type": "code", "source": ["x", 4]},
                ],
                metadata="none",
                nbformat="four",
            )
        ),
        "was missing",
    ),
]


def duplicate(nb: dict[str, Any]) -> None:
    nb["cells"].append(json.loads(json.dumps(cell(nb, "check-buddy-of"))))
    nb["cells"].append(json.loads(json.dumps(cell(nb, "buddy-of"))))


def rename(nb: dict[str, Any]) -> None:
    cell(nb, "buddy-of")["metadata"]["nbgrader"]["grade_id"] = "my-buddy"
    cell(nb, "check-splits")["metadata"]["nbgrader"]["grade_id"] = "check-everything"


def no_metadata(nb: dict[str, Any]) -> None:
    for c in nb["cells"]:
        c["metadata"] = {}


def delete_tests(nb: dict[str, Any]) -> None:
    nb["cells"] = [c for c in nb["cells"] if not str(c["metadata"].get("nbgrader", {}).get("grade_id", "")).startswith("check-")]


def add_helper(nb: dict[str, Any]) -> None:
    at = nb["cells"].index(cell(nb, "buddy-of"))
    nb["cells"].insert(
        at, {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 4, "source": "def flip(a, b):\n    return a ^ b"}
    )
    cell(nb, "buddy-of")["source"] = "def buddy_of(pfn, order):\n    return flip(pfn, 1 << order)"


def reverse(nb: dict[str, Any]) -> None:
    nb["cells"] = nb["cells"][:2] + nb["cells"][:1:-1]


def old_format(nb: dict[str, Any]) -> dict[str, Any]:
    cells = [{**c, "input": c["source"]} if c["cell_type"] == "code" else c for c in nb["cells"]]
    for c in cells:
        if c["cell_type"] == "code":
            del c["source"]
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}


NOISE = """import sys, warnings, logging
print("hello", file=sys.stderr); print("x" * 5000)
warnings.warn("look out"); logging.warning("careful"); logging.getLogger().error("noise")
%matplotlib inline
!ls -l
import numpy as np
"""


def honest(replace: dict[str, str]) -> bytes:
    return testing.edited(SOURCE, replace)


# Right answers in every dress: each must get full marks.
HONEST = [
    Attack("solution", "the model solution", honest({}), ""),
    Attack(
        "noisy",
        "prints, warns, logs, writes to stderr, uses magics and an unavailable import",
        honest(
            {
                "buddy-of": NOISE + "def buddy_of(pfn, order):\n    print('thinking')\n    warnings.warn('hm')\n"
                "    logging.error('!')\n    return pfn ^ (1 << order)"
            }
        ),
        "",
    ),
    Attack(
        "other-words",
        "returns the same in other types and by another way",
        honest(
            {
                "buddy-of": "def buddy_of(pfn, order):\n    size = 1 << order\n"
                "    return pfn + size if pfn // size % 2 == 0 else pfn - size",
                "splits": "from collections import deque\ndef splits(pfn, found, order):\n    out = deque()\n"
                "    for o in reversed(range(order, found)):\n"
                "        out.append([pfn + 2 ** o, o])\n    return out",
                "free-order": 'free_order = "B C E A"',
            }
        ),
        "",
    ),
    Attack(
        "slow",
        "thinks for a second, in a thread",
        honest(
            {
                "buddy-of": "import threading, time\ndef buddy_of(pfn, order):\n    out = []\n"
                "    t = threading.Thread(target=lambda: (time.sleep(0.1), "
                "out.append(pfn ^ (1 << order))))\n    t.start(); t.join()\n    return out[0]"
            }
        ),
        "",
    ),
    Attack(
        "bad-neighbour",
        "an extra cell that fails and one that exits do not matter",
        shaped(
            lambda nb: nb["cells"].extend(
                {"cell_type": "code", "metadata": {}, "outputs": [], "source": s}
                for s in ("1 / 0", "import os; os._exit(1)", "x = (", "%%bash\nrm -rf /")
            ),
            SOURCE,
        ),
        "",
    ),
    Attack("helper-cell", "a helper function in a cell of its own", shaped(add_helper, SOURCE), ""),
    Attack("duplicated", "graded cells pasted twice", shaped(duplicate, SOURCE), "more than once"),
    Attack("renamed", "graded cells renamed", shaped(rename, SOURCE), "this exercise does not have"),
    Attack("no-metadata", "saved by a program that drops nbgrader's metadata", shaped(no_metadata, SOURCE), "lost their nbgrader metadata"),
    Attack("tests-deleted", "test cells deleted", shaped(delete_tests, SOURCE), "was missing"),
    Attack("reordered", "cells in another order", shaped(reverse, SOURCE), ""),
    Attack("old-format", "a notebook of format 3", shaped(old_format, SOURCE), ""),
    Attack("with-bom", "a byte order mark in front", b"\xef\xbb\xbf" + honest({}), ""),
]
