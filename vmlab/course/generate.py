"""exercises/ from solutions/: the same bytes for the same sources, and a word when they are out of date.

    python -m vmlab.course.generate            write exercises/
    python -m vmlab.course.generate --check    exit status 1 and a list when exercises/ is stale
    python -m vmlab.course.generate --tidy     also put solutions/*.ipynb into canonical form (ids, no outputs)

What is generated is what `nbgrader generate_assignment` would release (its own solution and hidden-test clearing is used), with stable cell
ids and without outputs; so the two can be mixed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmlab.course import submission
from vmlab.course.exercise import Exercise, exercise
from vmlab.course.submission import Notebook, grade_info, is_answer, is_test

STUB = "# YOUR CODE HERE"
TEXT_STUB = "YOUR ANSWER HERE"


def repository() -> Path:
    """The checkout this package runs from (where solutions/ and exercises/ are), else the current directory."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "solutions").is_dir() else Path.cwd()


def canonical(notebook: Notebook) -> Notebook:
    """A source notebook in canonical form: stable ids, no outputs, no editor metadata."""
    cells = []
    for cell in notebook["cells"]:
        info = grade_info(cell)
        kept: dict[str, Any] = {k: v for k, v in cell.get("metadata", {}).items() if k in ("tags", "editable", "deletable") and not info}
        if info:
            order = ("grade", "grade_id", "locked", "points", "schema_version", "solution", "task")
            kept["nbgrader"] = {k: info[k] for k in order if k in info} | {"cell_type": cell["cell_type"]}
        cells.append({**cell, "metadata": kept})
        cells[-1].pop("attachments", None) if not cell.get("attachments") else None
    return submission.finish(cells, notebook)


def strip(notebook: Notebook) -> Notebook:
    """The release of a source notebook, through nbgrader's own preprocessors, in canonical form."""
    import nbformat
    from nbgrader.preprocessors import (
        ClearHiddenTests,
        ClearMarkScheme,
        ClearOutput,
        ClearSolutions,
        ComputeChecksums,
        IncludeHeaderFooter,
        LockCells,
    )
    from traitlets.config import Config

    node = nbformat.from_dict(canonical(notebook))
    config = Config({"ClearSolutions": {"code_stub": {"python": f"{STUB}\nraise NotImplementedError()"}, "text_stub": TEXT_STUB}})
    resources: dict[str, Any] = {"nbgrader": {}}
    for step in (IncludeHeaderFooter, LockCells, ClearSolutions, ClearOutput, ClearHiddenTests, ClearMarkScheme, ComputeChecksums):
        node, resources = step(config=config).preprocess(node, resources)
    plain: Notebook = json.loads(json.dumps(node))
    return submission.finish(plain["cells"], plain)


def to_text(notebook: Notebook) -> str:
    """The bytes of a notebook file as this project writes them: one space of indentation, sources as lists of lines."""
    cells = [{**c, "source": c["source"].splitlines(keepends=True)} for c in notebook["cells"]]
    return json.dumps({**notebook, "cells": cells}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def problems(notebook: Notebook, judged: Exercise) -> list[str]:
    """What is wrong with a source notebook: every task needs its check cell with the right points, every id is unique, and so on."""
    found: list[str] = []
    ids = [str(grade_info(c)["grade_id"]) for c in notebook["cells"] if grade_info(c)]
    found += [f"grade_id {i!r} is used more than once" for i in sorted(set(ids)) if ids.count(i) > 1]
    tests = {str(grade_info(c)["grade_id"]): c for c in notebook["cells"] if is_test(c)}
    for task in judged.tasks:
        cell = tests.pop(f"check-{task.id}", None)
        if cell is None:
            found.append(f"task {task.id} has no test cell with grade_id 'check-{task.id}'")
            continue
        if float(grade_info(cell).get("points", 0)) != task.points:
            found.append(f"cell check-{task.id} has {grade_info(cell).get('points')} points; the task has {task.points}")
        if f'course.check("{judged.id}/{task.id}")' not in submission.source_of(cell):
            found.append(f'cell check-{task.id} must call course.check("{judged.id}/{task.id}")')
    found += [f"test cell {name!r} belongs to no task of the exercise" for name in tests]
    named = any('STUDENT = ""' in submission.source_of(c) for c in notebook["cells"] if c["cell_type"] == "code" and not is_answer(c))
    if not named and any(t.per_student for t in judged.tasks):
        found.append('there is no given cell with STUDENT = "" (Book.student() makes one)')
    return found


def sources(solutions: Path) -> list[Path]:
    """The source notebooks, in order."""
    return sorted(p for p in solutions.glob("*/*.ipynb") if not p.name.startswith("."))


def generate(root: Path, *, check: bool = False, tidy: bool = False) -> list[str]:
    """Write (or with `check` compare) exercises/ under `root`; returns one sentence for each file written, stale or wrong."""
    said: list[str] = []
    wanted: set[Path] = set()
    for path in sources(root / "solutions"):
        notebook = submission.read_release(path)
        where = path.relative_to(root)
        try:
            said += [f"WRONG {where}: {text}" for text in problems(notebook, exercise(path.parent.name))]
        except ValueError as error:
            said.append(f"WRONG {where}: {error}")
        if tidy or check:
            text = to_text(canonical(notebook))
            if path.read_text(encoding="utf-8") != text and tidy:
                path.write_text(text, encoding="utf-8")
                said.append(f"tidied {where}")
        target = root / "exercises" / path.parent.name / path.name
        wanted.add(target)
        text = to_text(strip(notebook))
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            if check:
                said.append(f"STALE {target.relative_to(root)}: run python -m vmlab.course.generate")
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8")
                said.append(f"wrote {target.relative_to(root)}")
    for extra in sorted(set((root / "exercises").glob("*/*.ipynb")) - wanted):
        if check:
            said.append(f"STALE {extra.relative_to(root)}: there is no such notebook in solutions/")
        else:
            extra.unlink()
            said.append(f"removed {extra.relative_to(root)}")
    return said


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0 fine, 1 stale or wrong."""
    parser = argparse.ArgumentParser(prog="python -m vmlab.course.generate", description="Make exercises/ from solutions/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when exercises/ is stale")
    parser.add_argument("--tidy", action="store_true", help="also rewrite solutions/*.ipynb in canonical form")
    parser.add_argument("--root", type=Path, default=None, help="the checkout (default: the one this package is in)")
    options = parser.parse_args(argv)
    said = generate(options.root or repository(), check=options.check, tidy=options.tidy)
    for line in said:
        print(line)
    return 1 if any(line.startswith(("STALE", "WRONG")) for line in said) else 0


if __name__ == "__main__":
    sys.exit(main())
