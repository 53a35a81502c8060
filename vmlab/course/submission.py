"""Submissions as files: reading whatever a student handed in, and putting it back on the skeleton of the released notebook.

A submission may be truncated, stripped of its metadata, full of duplicates, or built to confuse the grader. Everything nbgrader
later sees is therefore rebuilt here: the release's own cells with their metadata, the student's sources in the solution cells, and the
student's extra cells where they stood. What was wrong is said in notes, and the grading goes on.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmlab.course.plain import clean_text
from vmlab.course.result import Cell

MAX_FILE = 8 << 20  # bytes
MAX_CELLS = 1000
MAX_SOURCE = 200_000  # one cell, characters
Notebook = dict[str, Any]
CHECK = re.compile(r"^\s*(?:vmlab\.)?(?:course\.)?(check|question|parsons)\(")


@dataclass
class Raw:
    """A cell as the student handed it in, reduced to what matters."""

    kind: str
    source: str
    grade_id: str
    runs: bool = True


@dataclass
class Rebuilt:
    """A clean notebook made from a submission, with sentences about what had to be repaired."""

    notebook: Notebook
    notes: list[str] = field(default_factory=list)


def grade_info(cell: dict[str, Any]) -> dict[str, Any]:
    """The nbgrader metadata of a cell, {} when it has none."""
    found = cell.get("metadata", {}).get("nbgrader") if isinstance(cell.get("metadata"), dict) else None
    return found if isinstance(found, dict) and isinstance(found.get("grade_id"), str) else {}


def is_test(cell: dict[str, Any]) -> bool:
    """Whether this is an autograded test cell."""
    info = grade_info(cell)
    return bool(info.get("grade")) and not info.get("solution") and cell.get("cell_type") == "code"


def is_answer(cell: dict[str, Any]) -> bool:
    """Whether this is a cell a student fills in (code, or a written answer)."""
    return bool(grade_info(cell).get("solution"))


def source_of(cell: dict[str, Any]) -> str:
    """The source of a cell as one string, whatever form it has in the file."""
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(x for x in source if isinstance(x, str))
    return source if isinstance(source, str) else ""


def read_cells(raw: bytes) -> tuple[list[Raw], list[str]]:
    """The cells of a file that claims to be a notebook, and what is wrong with it. Never raises."""
    if len(raw) > MAX_FILE:
        return [], [f"The file is larger than {MAX_FILE >> 20} MiB and was not read."]
    if not raw.strip():
        return [], ["The file is empty."]
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        return [], ["The file is not a complete notebook (its JSON cannot be read, perhaps the upload was cut short), so it holds no "
                    "answers. Open it in JupyterLab, save it and hand it in again."]
    if not isinstance(data, dict):
        return [], ["The file is not a notebook."]
    cells = data.get("cells")
    if not isinstance(cells, list) and isinstance(data.get("worksheets"), list):  # notebooks of before 2015
        cells = [c for w in data["worksheets"] if isinstance(w, dict) for c in w.get("cells", []) if isinstance(c, dict)]
    if not isinstance(cells, list):
        return [], ["The file is not a notebook: it has no cells."]
    notes = []
    if len(cells) > MAX_CELLS:
        notes.append(f"The notebook has {len(cells)} cells; only the first {MAX_CELLS} were read.")
    out = []
    for cell in cells[:MAX_CELLS]:
        if isinstance(cell, dict) and cell.get("cell_type") in ("code", "markdown", "raw"):
            source = source_of(cell)
            if len(source) > MAX_SOURCE:
                notes.append(f"A cell of more than {MAX_SOURCE:,} characters was left out.")
                continue
            source = "".join(c for c in source.encode("utf-8", "replace").decode() if c >= " " or c in "\n\t")
            out.append(Raw(str(cell["cell_type"]), source, str(grade_info(cell).get("grade_id", ""))))
    return out, notes


def tame(markdown: str) -> str:
    """A student's Markdown without HTML tags: it is shown in the instructor's browser."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", markdown)


def _fresh(kind: str, source: str, runs: bool = True) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {} if runs else {"vmlab": {"given": True}}, "source": source}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell


def rebuild(raw: bytes, release: Notebook) -> Rebuilt:
    """Put a submission (bytes of a file) on the skeleton of the released notebook (parsed JSON); never raises."""
    cells, notes = read_cells(raw)
    masters = {str(grade_info(c)["grade_id"]): c for c in release["cells"] if grade_info(c)}
    order = list(masters)
    given = {source_of(c).strip() for c in release["cells"] if not grade_info(c)}
    last = {c.grade_id: i for i, c in enumerate(cells) if c.grade_id in masters}
    if cells and not any(c.grade_id for c in cells):
        notes.append("The cells have lost their nbgrader metadata (was the notebook saved by another program?); every code cell counted.")
    tests = {source_of(c).strip() for c in release["cells"] if is_test(c)}
    out: list[dict[str, Any]] = []
    place: dict[str, int] = {}
    for i, cell in enumerate(cells):
        master = masters.get(cell.grade_id)
        if master is not None and last[cell.grade_id] == i:
            new = copy.deepcopy(master)
            if is_answer(master):
                new["source"] = cell.source if cell.source == source_of(master) or master["cell_type"] == "code" else tame(cell.source)
                if cell.kind != master["cell_type"]:
                    notes.append(f"Cell {cell.grade_id} had been turned into a {cell.kind} cell; it was turned back.")
            elif cell.source.strip() != source_of(master).strip():
                notes.append(f"Cell {cell.grade_id} had been changed; the original was put back.")
            place[cell.grade_id] = len(out)
            out.append(new)
            continue
        if master is not None:
            notes.append(f"Cell {cell.grade_id} is there more than once; the last one counts.")
            if not is_answer(master):
                continue
        elif cell.grade_id:
            name = clean_text(cell.grade_id, 60)
            notes.append(f"There is a cell called {name!r}, which this exercise does not have; its code still counted.")
        if cell.source.strip() in tests:
            continue
        kind = cell.kind if cell.kind in ("code", "markdown") else "markdown"
        known = cell.source.strip() in given
        out.append(_fresh(kind, cell.source if known or kind == "code" else tame(cell.source), runs=not known))
    _restore(out, masters, order, place, notes if cells else [])
    return Rebuilt(finish(out, release, notes), notes)


def _restore(out: list[dict[str, Any]], masters: dict[str, dict[str, Any]], order: list[str], place: dict[str, int],
             notes: list[str]) -> None:
    """Put graded cells that are missing back in, each after the one it follows in the release."""
    for number, grade_id in enumerate(order):
        if grade_id in place:
            continue
        before = [place[g] for g in order[:number] if g in place]
        at = max(before) + 1 if before else (0 if place else len(out))
        out.insert(at, copy.deepcopy(masters[grade_id]))
        for other, index in place.items():
            if index >= at:
                place[other] = index + 1
        place[grade_id] = at
        notes.append(f"Cell {grade_id} was missing (deleted or renamed); an empty one was put in its place.")


def finish(cells: Iterable[dict[str, Any]], release: Notebook, notes: Iterable[str] = ()) -> Notebook:
    """A valid nbformat 4.5 notebook from cells: no outputs, ids made from the grade_id or the first words."""
    seen: set[str] = set()
    out = []
    for cell in cells:
        cell = dict(cell)
        name = str(grade_info(cell).get("grade_id", "")) or "-".join(re.findall(r"[a-zA-Z]+|[0-9]+", source_of(cell))[:5]).lower()
        base = re.sub(r"[^a-zA-Z0-9_-]", "-", name)[:50].strip("-") or f"{cell['cell_type']}-cell"
        ident, n = base, 1
        while ident in seen:
            n += 1
            ident = f"{base}-{n}"
        seen.add(ident)
        cell["id"], cell["source"] = ident, source_of(cell)
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        out.append(cell)
    metadata = {k: v for k, v in release.get("metadata", {}).items() if k in ("kernelspec", "language_info")}
    notes = list(dict.fromkeys(notes))
    if notes:
        metadata["vmlab"] = {"notes": notes}
    return {"cells": out, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def judged_cells(notebook: Notebook, release: Notebook) -> list[Cell]:
    """The code the judge runs, in order: solution cells that were touched, cells the student added, and the release's own setup cells.
    Test cells and untouched stubs are left out."""
    masters = {str(grade_info(c)["grade_id"]): c for c in release["cells"] if grade_info(c)}
    given = {source_of(c).strip() for c in release["cells"] if not grade_info(c)}
    out: list[Cell] = []
    for number, cell in enumerate(notebook["cells"], 1):
        source, name = source_of(cell), str(grade_info(cell).get("grade_id", ""))
        if cell["cell_type"] != "code" or is_test(cell) or not source.strip():
            continue
        if name in masters and is_answer(cell) and source.strip() == source_of(masters[name]).strip():
            continue
        if CHECK.match(source) and "\n" not in source.strip():
            continue
        kind = name or (f"given cell {number}" if source.strip() in given else f"extra cell {number}")
        out.append(Cell(kind, source))
    return out


def notes_of(notebook: Notebook) -> list[str]:
    """The notes `rebuild` left in a notebook."""
    found = notebook.get("metadata", {}).get("vmlab", {})
    notes = found.get("notes", []) if isinstance(found, dict) else []
    return [clean_text(str(x), 400) for x in notes] if isinstance(notes, list) else []


def read_release(path: Path) -> Notebook:
    """A trusted notebook (release or source) as parsed JSON. Raises OSError or ValueError."""
    data: Notebook = json.loads(path.read_text(encoding="utf-8"))
    return data
