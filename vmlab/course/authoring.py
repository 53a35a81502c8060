"""Writing a source notebook from Python: the cells of a graded exercise with the nbgrader metadata they need.

    book = Book("06-buddy")
    book.text("# Exercise 6 …")
    book.student()
    book.given("from vmlab import course")
    book.task("expand", "## Task 3 …", '''def expand(…):\n    ### BEGIN SOLUTION\n    …\n    ### END SOLUTION\n''')
    book.written("defence", "Say in five sentences …", points=3, answer="A model answer.")
    book.save(Path("solutions"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmlab.course import generate
from vmlab.course.exercise import Exercise, exercise

KERNEL = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}


class Book:
    """A source notebook under construction; every method adds cells at the end."""

    def __init__(self, judged: str | Exercise) -> None:
        self.exercise = exercise(judged) if isinstance(judged, str) else judged
        self.cells: list[dict[str, Any]] = []

    def _add(self, kind: str, source: str, grade_id: str = "", points: float = 0, *, grade: bool = False, solution: bool = False,
             locked: bool = False) -> None:
        cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": source.strip("\n")}
        if grade_id:
            info: dict[str, Any] = {"grade": grade, "grade_id": grade_id, "locked": locked, "schema_version": 3, "solution": solution,
                                    "task": False, "cell_type": kind}
            cell["metadata"]["nbgrader"] = info | ({"points": points} if grade else {})
        self.cells.append(cell)

    def text(self, source: str) -> None:
        """A Markdown cell."""
        self._add("markdown", source)

    def given(self, source: str) -> None:
        """A code cell that comes with the notebook and is not graded (demonstrations, experiments)."""
        self._add("code", source)

    def student(self) -> None:
        """The cell in which students write their name, so that everybody sees their own numbers."""
        self.given('from vmlab import course\n\nSTUDENT = ""  # the name you hand in under; leave "" when the line below shows it already\n'
                   "course.student()")

    def answer(self, grade_id: str, source: str) -> None:
        """A solution cell: what stands between ### BEGIN SOLUTION and ### END SOLUTION is taken out of the release."""
        self._add("code", source, grade_id, solution=True)

    def check(self, task_id: str) -> None:
        """The thin test cell of a task; its points are the task's."""
        task = self.exercise.task(task_id)
        points = int(task.points) if float(task.points).is_integer() else task.points
        self._add("code", f'course.check("{self.exercise.id}/{task.id}")', f"check-{task.id}", points, grade=True, locked=True)

    def task(self, task_id: str, text: str, source: str) -> None:
        """A whole task: the text, for seeded tasks the cell that shows the numbers, the solution cell (grade_id = task id), the check."""
        self.text(text)
        task = self.exercise.task(task_id)
        if task.inputs is not None:
            self.given(f'course.question("{self.exercise.id}/{task.id}")')
        if task.kind == "parsons":
            self.given(f'course.parsons("{self.exercise.id}/{task.id}")')
        self.answer(task.id, source)
        self.check(task_id)

    def written(self, grade_id: str, text: str, points: float, answer: str) -> None:
        """A written answer that a person marks in Formgrader (`answer` is the model answer, not released)."""
        self.text(text)
        self._add("markdown", answer, grade_id, points, grade=True, solution=True)

    def notebook(self) -> dict[str, Any]:
        """The notebook in canonical form."""
        return generate.canonical({"cells": self.cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5})

    def save(self, solutions: Path) -> Path:
        """Write solutions/<id>/<id>.ipynb; raises ValueError when the notebook and the exercise do not fit together."""
        wrong = generate.problems(self.notebook(), self.exercise)
        if wrong:
            raise ValueError("; ".join(wrong))
        path = solutions / self.exercise.id / f"{self.exercise.id}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generate.to_text(self.notebook()), encoding="utf-8")
        return path
