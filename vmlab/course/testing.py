"""For tests of exercises: judge a notebook with some of its cells replaced, in one call.

    result = judge_with("06-buddy", {"expand": "def expand(...): ..."})
    assert result.task("expand").earned == 0

The start is the source notebook in solutions/ (all answers right) unless `untouched=True` (the release, nothing answered).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from vmlab.course import generate, submission
from vmlab.course.exercise import Exercise, exercise
from vmlab.course.judge import judge
from vmlab.course.result import Result

STUDENT = "solution"
SEED = "a fixed seed for tests"


def notebook_path(exercise_id: str, root: Path | None = None) -> Path:
    """The source notebook of an exercise."""
    return (root or generate.repository()) / "solutions" / exercise_id / f"{exercise_id}.ipynb"


@functools.lru_cache(maxsize=16)
def _release(text: str) -> str:
    return json.dumps(generate.strip(json.loads(text)))


def release_of(source: submission.Notebook) -> submission.Notebook:
    """The release of a source notebook (cached by content)."""
    found: submission.Notebook = json.loads(_release(json.dumps(source)))
    return found


def edited(source: submission.Notebook, replace: Mapping[str, str]) -> bytes:
    """The bytes of a submission: `source` with the cells named in `replace` (by grade_id) holding other sources."""
    notebook = json.loads(json.dumps(source))
    todo = dict(replace)
    for cell in notebook["cells"]:
        name = submission.grade_info(cell).get("grade_id")
        if name in todo:
            cell["source"] = todo.pop(name)
    if todo:
        raise ValueError(f"the notebook has no cell {', '.join(todo)}")
    return json.dumps(notebook).encode()


def judge_file(judged: Exercise, raw: bytes, source: submission.Notebook, *, student: str = STUDENT, seed: str = SEED) -> Result:
    """Judge the bytes of a submitted file exactly as the grader does."""
    release = release_of(source)
    rebuilt = submission.rebuild(raw, release)
    cells = submission.judged_cells(rebuilt.notebook, release)
    return judge(judged, cells, student, seed=seed, notes=rebuilt.notes)


def judge_with(exercise_id: str, replace: Mapping[str, str] | None = None, *, untouched: bool = False, student: str = STUDENT,
               seed: str = SEED, only: str = "", root: Path | None = None) -> Result:
    """Judge the solution of an exercise with some cells replaced.

    `replace` maps grade_ids of solution cells to sources; `untouched` starts from the released notebook; `only` judges one task (much
    faster in a table of variants). Answers of seeded tasks in the solution notebook must be computed from `course.question(…)`, so that
    they are right for any `student`.
    """
    judged = exercise(exercise_id)
    source = submission.read_release(notebook_path(exercise_id, root))
    release = release_of(source)
    raw = edited(release if untouched else source, replace or {})
    rebuilt = submission.rebuild(raw, release)
    cells = submission.judged_cells(rebuilt.notebook, release)
    return judge(judged, cells, student, seed=seed, notes=rebuilt.notes, only=only)


def sentences(result: Result, task_id: str = "") -> str:
    """Every sentence the student would read (of one task, or of all), for asserting that a message helps."""
    out: list[str] = list(result.notes)
    for task in result.tasks:
        if not task_id or task.id == task_id:
            out += task.messages
            for criterion in task.criteria:
                for item in criterion.evidence:
                    out += [item.note, item.mistake]
                    out += [f"expected {item.expected}, got {item.got}"] if item.expected and not item.ok else []
    return "\n".join(x for x in out if x)
