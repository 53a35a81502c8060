"""The bridge to nbgrader: its flow stays as it is, its scores come from the judge.

Two replacements, both made by `configure` (called from nbgrader_config.py): submissions are read by `SubmissionExporter`, which puts
whatever was handed in back on the skeleton of the release; and instead of nbgrader's Execute, which would run student code in the
grader's own kernel, `JudgeScores` runs the judge's sandbox and writes its points into the outputs of the test cells, in the form
from which nbgrader determines a grade.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    IgnorePattern,
    LimitOutput,
    SaveAutoGrades,
)
from nbgrader.preprocessors.base import NbGraderPreprocessor

from vmlab.course import generate, judge, report, submission
from vmlab.course.exercise import Exercise, exercise
from vmlab.course.result import Result, signing_key
from vmlab.course.submission import Notebook, grade_info, is_test

PLACE = ".vmlab"  # in the course's root: key, results, staging; never handed out
_seed = ""
precomputed: dict[tuple[str, str, str], Result] = {}  # (assignment, notebook, student) -> result, put here by `vmlab grade`


def run_seed() -> str:
    """The secret of this run of the grader: $VMLAB_GRADE_SEED to repeat an old one, else fresh randomness."""
    global _seed
    _seed = _seed or os.environ.get("VMLAB_GRADE_SEED", "") or secrets.token_hex(16)
    return _seed


def exercise_for(assignment: str, notebook: str) -> Exercise:
    """The exercise of a notebook: by the notebook's name, else by the assignment's. Raises ValueError when there is none."""
    try:
        return exercise(notebook)
    except ValueError:
        return exercise(assignment)


def release_of(coursedir: Any, assignment: str, notebook: str) -> Notebook:
    """The released notebook; made from the source when nothing was released yet. Raises OSError or ValueError."""
    released = Path(coursedir.format_path(coursedir.release_directory, ".", assignment)) / f"{notebook}.ipynb"
    if released.exists():
        return submission.read_release(released)
    source = Path(coursedir.format_path(coursedir.source_directory, ".", assignment)) / f"{notebook}.ipynb"
    return generate.strip(submission.read_release(source))


class SubmissionExporter(NotebookExporter):
    """Reads a submission of any shape (truncated, duplicated, stripped…) as a clean notebook on the release's skeleton."""

    def from_filename(self, filename: str, resources: Any = None, **kw: Any) -> tuple[Any, Any]:
        """nbconvert's entry: the notebook file → (text, resources)."""
        if not getattr(self.parent, "_sanitizing", False):
            read: tuple[Any, Any] = super().from_filename(filename, resources=resources, **kw)
            return read
        autograde: Any = self.parent
        info = resources["nbgrader"]
        try:
            raw = Path(filename).read_bytes()
        except OSError as error:
            self.log.warning("%s cannot be read: %s", filename, error)
            raw = b""
        rebuilt = submission.rebuild(raw, release_of(autograde.coursedir, info["assignment"], info["notebook"]))
        for note in rebuilt.notes:
            self.log.warning("%s: %s", filename, note)
        resources["metadata"] = {"name": info["notebook"], "path": os.path.dirname(filename), "modified_date": ""}
        clean: tuple[Any, Any] = self.from_notebook_node(nbformat.from_dict(rebuilt.notebook), resources=resources, **kw)  # type: ignore[no-untyped-call]
        return clean


class JudgeScores(NbGraderPreprocessor):  # type: ignore[misc]
    """In the place of nbgrader's Execute: the judge's points as the outputs of the test cells. No student code runs here."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Judge the notebook (or take the result that is already there) and write the reports into it."""
        info = resources["nbgrader"]
        try:
            result = self._result(nb, info)
        except Exception as error:  # one submission must not stop the batch; the instructor sees it in the log and on the page
            self.log.error("The judge failed on %s of %s: %s: %s", info["notebook"], info["student"], type(error).__name__, error)
            result = None
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            if is_test(cell):
                cell.outputs = [nbformat.from_dict(x) for x in outputs(grade_info(cell), result)]
        if result is not None:
            note = notes_cell(result)
            if note:
                nb.cells.insert(0, nbformat.from_dict(note))
        return nb, resources

    def _result(self, nb: Any, info: dict[str, str]) -> Result:
        key = (info["assignment"], info["notebook"], info["student"])
        if key in precomputed:
            return precomputed[key]
        autograde = self.parent.parent
        coursedir = autograde.coursedir
        found = exercise_for(info["assignment"], info["notebook"])
        release = release_of(coursedir, info["assignment"], info["notebook"])
        plain_nb: Notebook = json.loads(json.dumps(nb))
        cells = submission.judged_cells(plain_nb, release)
        result = judge.judge(found, cells, info["student"], seed=run_seed(), notes=submission.notes_of(plain_nb))
        keep(Path(coursedir.root), info["assignment"], info["notebook"], result)
        return result


def outputs(info: dict[str, Any], result: Result | None) -> list[dict[str, Any]]:
    """The outputs of one test cell from which nbgrader's determine_grade reads exactly the judge's points."""
    name = str(info.get("grade_id", "")).removeprefix("check-")
    try:
        if result is None:
            raise KeyError
        task = result.task(name)
    except KeyError:
        text = "This task could not be judged; please tell your instructor." if result is None else f"The judge knows no task {name!r}."
        return [{"output_type": "error", "ename": "NotJudged", "evalue": text, "traceback": [text]}]
    if float(info.get("points", -1)) < task.earned:
        text = f"The notebook gives this task {info.get('points')} points but the judge {task.points}; regenerate the assignment."
        return [{"output_type": "error", "ename": "NotJudged", "evalue": text, "traceback": [text]}]
    shown = {"text/html": report.as_html(task), "text/plain": report.text(task)}
    score = {"text/plain": repr(float(task.earned))}
    return [{"output_type": "display_data", "data": shown, "metadata": {}},
            {"output_type": "execute_result", "data": score, "metadata": {}, "execution_count": None}]


def notes_cell(result: Result) -> dict[str, Any] | None:
    """A cell for the top of the graded notebook: what was wrong with the file, and the judge's warnings. None when all was well."""
    said = [*result.notes, *result.warnings]
    if not said:
        return None
    lines = "\n".join("- " + submission.tame(x).replace("\n", " ") for x in said[:30])
    return {"cell_type": "markdown", "id": "judge-notes", "metadata": {}, "source": f"**Notes of the judge**\n\n{lines}"}


def keep(root: Path, assignment: str, notebook: str, result: Result) -> Path:
    """Sign a result and write it under the course's `.vmlab/results/`; returns the file."""
    folder = root / PLACE
    result.sign(signing_key(folder))
    path = folder / "results" / assignment / notebook / f"{result.student}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.to_json(), encoding="utf-8")
    return path


def kept(root: Path, assignment: str, notebook: str, student: str) -> Result | None:
    """The stored result of a submission, when there is one and its signature holds."""
    path = root / PLACE / "results" / assignment / notebook / f"{student}.json"
    try:
        result = Result.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if result.genuine(signing_key(root / PLACE)) else None


def tools_on_path() -> None:
    """nbgrader runs `alembic` by name when it makes a grade book; without an activated environment it would not be found."""
    if shutil.which("alembic") is None:
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def configure(c: Any, root: Path) -> None:
    """Fill nbgrader's configuration `c` for a course in `root` (solutions/ → exercises/, scores from the judge)."""
    tools_on_path()
    c.CourseDirectory.root = str(root)
    c.CourseDirectory.course_id = "vmlab"
    c.CourseDirectory.source_directory = "solutions"
    c.CourseDirectory.release_directory = "exercises"
    c.ClearSolutions.code_stub = {"python": f"{generate.STUB}\nraise NotImplementedError()"}
    c.ClearSolutions.text_stub = generate.TEXT_STUB
    c.Autograde.exporter_class = "vmlab.course.bridge.SubmissionExporter"
    after = [IgnorePattern, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata]
    c.Autograde.autograde_preprocessors = [JudgeScores, *after]
    c.Execute.timeout = 120
    exchange = Path(os.environ.get("NBGRADER_EXCHANGE", root / PLACE / "exchange"))
    try:
        exchange.mkdir(parents=True, exist_ok=True)
        exchange.chmod(0o777)
    except OSError:
        pass  # somebody else's directory: nbgrader says what is wrong with it when it is used
    c.Exchange.root = str(exchange)
