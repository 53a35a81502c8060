"""What a cell of an exercise notebook calls: whose numbers, which numbers, is it right, lines to order."""

from __future__ import annotations

import ast
import getpass
import html
import os
from collections.abc import Sequence
from typing import Any

from vmlab.course import exercise as definitions
from vmlab.course import plain, report
from vmlab.course.child import prepare
from vmlab.course.exercise import Case, Exercise, Task, rng_for
from vmlab.course.judge import check_public
from vmlab.course.result import Cell, TaskResult
from vmlab.course.store import Store

SHARED_ACCOUNTS = {"root", "jovyan", "user", "student", "guest", "ubuntu", "admin"}


def _shell() -> Any:
    """The IPython shell of this notebook, or None outside one."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


class Student(str):
    """The name of a student, which shows where it came from."""

    origin = ""

    def __repr__(self) -> str:
        text = f"Your numbers belong to the name {str(self)!r} ({self.origin})."
        if self.origin != "STUDENT in this notebook":
            text += " If you hand in under another name, write it into STUDENT above and run that cell again."
        return text


def student() -> Student:
    """Whose numbers this notebook shows: STUDENT in the notebook, else $JUPYTERHUB_USER, else the name of the system account.

    It must be the name the work is handed in under: the judge uses the gradebook's.
    """
    shell = _shell()
    typed = shell.user_ns.get("STUDENT", "") if shell is not None else ""
    if isinstance(typed, str) and typed.strip():
        found, origin = Student(typed.strip()), "STUDENT in this notebook"
    elif os.environ.get("JUPYTERHUB_USER"):
        found, origin = Student(os.environ["JUPYTERHUB_USER"]), "your JupyterHub name"
    else:
        try:
            name = getpass.getuser()
        except (OSError, KeyError):
            name = "nobody"
        found = Student(name)
        shared = ", an account many people share" if name in SHARED_ACCOUNTS else ""
        origin = f"the account of this computer{shared}"
    found.origin = origin
    return found


class Question(dict[str, Any]):
    """The numbers of a task for one student: a dict that shows itself as the question in words."""

    def __init__(self, values: dict[str, Any], words: str, who: str) -> None:
        super().__init__(values)
        self.words, self.who = words, who

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(f"{self.words}\n(numbers of {self.who}: {dict(self)})")

    def _repr_html_(self) -> str:
        rows = "".join(f'<tr><th scope="row" style="{report.CELL}">{html.escape(str(k))}</th>'
                       f'<td style="{report.CELL}"><code>{html.escape(plain.show(v, 400))}</code></td></tr>' for k, v in self.items())
        return (f"<p>{html.escape(self.words)}</p><table style=\"border-collapse:collapse\">"
                f"<caption style=\"text-align:left;white-space:nowrap\">The numbers of {html.escape(self.who)}</caption>"
                f"<tbody>{rows}</tbody></table>")


def question(path: str) -> Any:
    """The numbers of the task `path` ("06-buddy/split") for this student: a dict to calculate with, which shows the question."""
    exercise, task = definitions.find_task(path)
    who = student()
    values = task.question(exercise.id, who)
    if values is None:
        raise ValueError(f"the task {path!r} has no numbers of its own; it is the same for everybody")
    words = task.text(values) if task.text is not None else task.title
    return Question(values, words, str(who)) if isinstance(values, dict) else values


# --- which cells matter ----------------------------------------------------------------------------------------------------------


class _Names(ast.NodeVisitor):
    """Names a cell defines at its top level, and names it uses anywhere."""

    def __init__(self) -> None:
        self.defines: set[str] = set()
        self.uses: set[str] = set()
        self.depth = 0

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        if not self.depth:
            self.defines.add(node.name)
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _function

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.uses.add(node.id)
        elif not self.depth:
            self.defines.add(node.id)

    def visit_alias(self, node: ast.alias) -> None:
        if not self.depth:
            self.defines.add((node.asname or node.name).partition(".")[0])

    def _changes(self, node: ast.Attribute | ast.Subscript) -> None:
        inner: ast.expr = node
        while isinstance(inner, (ast.Attribute, ast.Subscript)):
            inner = inner.value
        if isinstance(inner, ast.Name) and isinstance(node.ctx, ast.Store) and not self.depth:
            self.defines.add(inner.id)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript = _changes

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute) and not self.depth:
            inner: ast.expr = node.value.func.value
            if isinstance(inner, ast.Name) and inner.id != "course":  # `steps.append(3)` changes steps; `course.check(…)` nothing
                self.defines.add(inner.id)
        self.generic_visit(node)


def needed_cells(history: Sequence[str], names: Sequence[str]) -> list[Cell]:
    """Of the cells run so far, those that the given names depend on, in order; the rest (demonstrations, plots) need not run again."""
    wanted = set(names)
    chosen: list[Cell] = []
    seen: set[str] = set()
    for number in range(len(history) - 1, -1, -1):
        source = history[number]
        if not source.strip():
            continue
        again = source in seen  # of a cell run several times the last run counts
        if again and history.index(source) < number:
            continue
        seen.add(source)
        found = _Names()
        try:
            tree = ast.parse(prepare(source))
            found.visit(tree)
        except (SyntaxError, ValueError, RecursionError):
            continue  # a cell that does not compile never ran
        if again and not any(isinstance(statement, (ast.Import, ast.ImportFrom)) for statement in tree.body):
            continue  # but what it imports was there for the cells before that, from its first run on
        if found.defines & wanted:
            wanted |= found.uses
            chosen.append(Cell(f"In [{number}]", source))
    return chosen[::-1]


# --- check -----------------------------------------------------------------------------------------------------------------------


class CheckFailed(Exception):
    """The public part of a task is not (fully) right; raised only while nbgrader validates the notebook, to show the report there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def _render_traceback_(self) -> list[str]:
        return self.text.split("\n")


class Shown:
    """Something with an HTML form and a text form that say the same."""

    def __init__(self, as_html: str, as_text: str) -> None:
        self.as_html, self.as_text = as_html, as_text

    def _repr_html_(self) -> str:
        return self.as_html

    def __repr__(self) -> str:
        return self.as_text


def show(as_html: str, as_text: str) -> None:
    """Show something in the notebook, or print it outside one."""
    if _shell() is None:
        print(as_text)
        return
    from IPython.display import display

    display(Shown(as_html, as_text))


def _example(exercise: Exercise, task: Task, who: str) -> str:
    """A worked example with other numbers: the question's numbers and the right answer to them. "" when there is none."""
    if task.inputs is None or task.kind == "analyse":
        return ""
    data = plain.normal(task.inputs(rng_for("vmlab-example", exercise.id, task.id)))
    if data == task.question(exercise.id, who):
        return ""
    try:
        word = task.judge(task, Case(data, ""), None)
    except Exception:  # a judge that cannot read "no answer" simply has no example to offer
        return ""
    found = {"answer": word} if not isinstance(word, dict) else word
    expected = {k: v.expected for k, v in found.items() if hasattr(v, "expected") and v.expected is not None}
    if not expected:
        return ""
    values = list(expected.values())
    right = values[0] if len({plain.show(v) for v in values}) == 1 else expected
    return f"Worked example with other numbers: for {plain.show(data, 300)} the right answer is {plain.show(right, 300)}."


def _tail(exercise: Exercise, task: Task, result: TaskResult, attempts: int, who: str) -> list[str]:
    out = []
    if result.earned < result.points and result.answered:
        out.append(_example(exercise, task, who))
    if result.earned < result.points and task.hint:
        out.append(task.hint)
    if task.hidden is not None:
        out.append("These were the public tests; the grade is decided with hidden inputs of the same kind.")
    elif task.per_student:
        out.append(f"Checked with the numbers of {who}; the grade is decided with the numbers of the name you hand in under.")
    out.append(f"Attempt {attempts}.")
    return out


def check(path: str) -> float | None:
    """Try the task `path` now, with the public inputs, in the same sandbox and by the same judge that will grade it.

    Shows what was tested, expected and got. Returns None, except where nbgrader runs the notebook itself: then the points
    (and while it validates, anything less than full points raises CheckFailed so that the Validate button shows the report).
    """
    exercise, task = definitions.find_task(path)
    shell = _shell()
    history = [str(x) for x in shell.user_ns.get("In", [])] if shell is not None else []
    who = student()
    result = check_public(exercise, task, needed_cells(history, [*task.ask.needs, "STUDENT"]), str(who))
    validating = bool(os.environ.get("NBGRADER_VALIDATING"))
    store = Store("attempts", who)
    attempts = store.data.get(path, 0) if isinstance(store.data.get(path, 0), int) else 0
    if not validating:
        attempts += 1
        store.put(path, attempts)
    tail = _tail(exercise, task, result, max(attempts, 1), str(who))
    if validating and result.earned < result.points:
        raise CheckFailed(report.text(result, tail))
    show(report.as_html(result, tail), report.text(result, tail))
    if not os.environ.get("NBGRADER_EXECUTION"):
        return None
    return result.earned if result.earned < result.points else None


def parsons(path: str) -> Any:
    """Show the lines of a Parsons task to be brought into order; the widget gives the list to write into the solution cell."""
    from vmlab.course.ordering import make

    _, task = definitions.find_task(path)
    if not task.lines:
        raise ValueError(f"the task {path!r} has no lines to order")
    return make(path, task, student())
