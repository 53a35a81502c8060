"""What a graded exercise is: tasks, the cases each is tried on, and how an answer is judged.

This is the instructor's side. Nothing in this module or in the chapters' `exNN.py` files is ever visible to the process that runs a
student's code: that process receives only `Case.data` and the name of what to call.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from vmlab.course import plain

Kind = Literal["calculation", "parsons", "perform", "code", "analyse"]
KINDS: tuple[Kind, ...] = ("calculation", "parsons", "perform", "code", "analyse")


@dataclass(frozen=True)
class Value:
    """Ask for the value of a variable of the notebook, e.g. `Value("watermarks")`."""

    name: str

    def request(self, data: Any) -> dict[str, Any]:
        return {"op": "value", "name": self.name}

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class Call:
    """Call a function of the student: `Call("buddy_of")` does `buddy_of(*data)` for a list or tuple, `buddy_of(**data)` for a dict."""

    name: str

    def request(self, data: Any) -> dict[str, Any]:
        return {"op": "call", "name": self.name, "data": plain.encode(data)}

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class Drive:
    """Run a driver of the kit in the child: `Drive("buddy:drive", "MyBuddy")` does
    `vmlab.course.kit.buddy.drive(namespace, data)`; the names are what the student must have defined."""

    driver: str
    names: tuple[str, ...]

    def __init__(self, driver: str, *names: str) -> None:
        object.__setattr__(self, "driver", driver)
        object.__setattr__(self, "names", names)

    def request(self, data: Any) -> dict[str, Any]:
        return {"op": "drive", "driver": self.driver, "names": list(self.names), "data": plain.encode(data)}

    @property
    def needs(self) -> tuple[str, ...]:
        return self.names


Ask = Value | Call | Drive


@dataclass(frozen=True)
class Criterion:
    """One named part of a task: what it looks at (a sentence fragment for people) and the points it brings."""

    id: str
    points: float
    says: str


@dataclass(frozen=True)
class Case:
    """One input. `data` is sent to the child (plain data); `says` tells a student what is tried; `criteria` restricts which
    criteria this case decides (empty: all of them). `secret` stays on the parent's side, for the judge only."""

    data: Any
    says: str
    criteria: tuple[str, ...] = ()
    secret: Any = None


@dataclass(frozen=True)
class Verdict:
    """The judge's word on one criterion of one case. `note` is a sentence for the student, shown for public and hidden cases
    alike: it must not contain hidden data. `where` (e.g. first difference) is shown only where the data may be shown."""

    ok: bool
    expected: Any = None
    got: Any = None
    note: str = ""
    where: str = ""


@dataclass(frozen=True)
class Mistake:
    """A known misunderstanding: `says` names it; `detect(data, got)` recognises its footprint in a wrong answer, or `gives(data)`
    computes the answer somebody with this misunderstanding would give (for the whole answer, or for `criterion` of a dict answer)."""

    id: str
    says: str
    detect: Callable[[Any, Any], bool] | None = None
    gives: Callable[[Any], Any] | None = None
    criterion: str = ""

    def fits(self, data: Any, got: Any) -> bool:
        """Whether this misunderstanding explains `got`; never raises (a detector meets arbitrary answers)."""
        try:
            if self.detect is not None:
                return bool(self.detect(data, got))
            if self.gives is None:
                return False
            wrong = plain.normal(self.gives(data))
            if self.criterion and isinstance(got, dict):
                return self.criterion in got and plain.same(wrong, got[self.criterion], tolerance=1e-9)
            return plain.same(wrong, got, tolerance=1e-9)
        except Exception:  # an answer of a shape the detector did not expect is simply not this mistake
            return False


Judge = Callable[["Task", Case, Any], "Verdict | Mapping[str, Verdict]"]


@dataclass(frozen=True)
class Task:
    """One graded task of an exercise. Use the builders below (`calculation`, `parsons`, `perform`, `code`, `analyse`)."""

    id: str
    title: str
    kind: Kind
    ask: Ask
    criteria: tuple[Criterion, ...]
    judge: Judge
    public: Callable[[random.Random], Sequence[Case]]
    hidden: Callable[[random.Random], Sequence[Case]] | None = None
    mistakes: tuple[Mistake, ...] = ()
    per_student: bool = False
    inputs: Callable[[random.Random], Any] | None = None
    text: Callable[[Any], str] | None = None
    seconds: float = 5.0
    lines: tuple[tuple[str, str], ...] = ()
    hint: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"task {self.id}: kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not self.criteria or len({c.id for c in self.criteria}) != len(self.criteria):
            raise ValueError(f"task {self.id}: needs at least one criterion, with distinct ids")
        if any(c.points <= 0 for c in self.criteria):
            raise ValueError(f"task {self.id}: every criterion must bring more than 0 points")

    @property
    def points(self) -> float:
        """Points of the whole task."""
        return round(sum(c.points for c in self.criteria), 4)

    def question(self, exercise_id: str, student: str) -> Any:
        """The numbers of this task for one student (plain data); None when every student has the same task."""
        if self.inputs is None:
            return None
        return plain.normal(self.inputs(student_rng(exercise_id, self.id, student)))


@dataclass(frozen=True)
class Exercise:
    """A graded notebook: `id` is also the nbgrader assignment name, the folder and the notebook name (e.g. "06-buddy")."""

    id: str
    title: str
    tasks: tuple[Task, ...]
    version: str = "1"
    index: Mapping[str, Task] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {t.id: t for t in self.tasks}
        if len(index) != len(self.tasks):
            raise ValueError(f"exercise {self.id}: two tasks have the same id")
        object.__setattr__(self, "index", index)

    @property
    def points(self) -> float:
        """Points of all tasks the judge decides (the written parts an instructor marks come on top)."""
        return round(sum(t.points for t in self.tasks), 4)

    def task(self, task_id: str) -> Task:
        """The task called `task_id`; raises ValueError naming those that exist."""
        try:
            return self.index[task_id]
        except KeyError:
            raise ValueError(f"exercise {self.id} has no task {task_id!r}; it has {', '.join(self.index)}") from None


# --- seeds -----------------------------------------------------------------------------------------------------------------------


def normal_student(student: str) -> str:
    """The form of a student's name that seeds use: surrounding spaces and the case of letters do not matter."""
    return student.strip().casefold()


def rng_for(*parts: str) -> random.Random:
    """A random generator that depends only on the given texts, the same on every platform."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "replace")).digest()
    return random.Random(int.from_bytes(digest, "big"))


def student_rng(exercise_id: str, task_id: str, student: str) -> random.Random:
    """The generator of one student's own numbers for one task."""
    return rng_for("vmlab-question", exercise_id, task_id, normal_student(student))


# --- judges ----------------------------------------------------------------------------------------------------------------------


def by_oracle(oracle: Callable[[Any], Any], *, tolerance: float = 0.0) -> Judge:
    """Judge by comparing the whole answer with `oracle(case.data)` (for every criterion of the case)."""

    def judge(task: Task, case: Case, got: Any) -> Verdict:
        expected = plain.normal(oracle(case.data))
        ok = plain.same(expected, got, tolerance=tolerance)
        where = "" if ok else plain.first_difference(expected, got)
        return Verdict(ok, expected, got, where=where if where.startswith("at ") else "")  # else the table says it already

    return judge


def by_key(oracle: Callable[[Any], Any], *, tolerance: float = 0.0) -> Judge:
    """Judge a dict answer key by key: the criteria are named like the keys of `oracle(case.data)`."""

    def judge(task: Task, case: Case, got: Any) -> Mapping[str, Verdict]:
        expected = plain.normal(oracle(case.data))
        out: dict[str, Verdict] = {}
        for criterion in task.criteria:
            want = expected[criterion.id]
            if not isinstance(got, dict):
                names = ", ".join(repr(c.id) for c in task.criteria)
                out[criterion.id] = Verdict(False, want, got, f"The answer must be a dict with the keys {names}.")
            elif criterion.id not in got:
                out[criterion.id] = Verdict(False, want, None, f"The answer has no entry {criterion.id!r}.")
            else:
                have = got[criterion.id]
                note = ""
                if have is Ellipsis or have is None:
                    note = f"The entry {criterion.id!r} has not been filled in."
                out[criterion.id] = Verdict(plain.same(want, have, tolerance=tolerance), want, have, note)
        return out

    return judge


# --- builders --------------------------------------------------------------------------------------------------------------------


def _criteria(task_id: str, points: float, parts: Mapping[str, tuple[float, str]] | None, says: str) -> tuple[Criterion, ...]:
    if parts is None:
        return (Criterion("answer", points, says),)
    total = round(sum(p for p, _ in parts.values()), 4)
    if total != round(points, 4):
        raise ValueError(f"task {task_id}: the parts bring {total} points, not {points}")
    return tuple(Criterion(key, p, text) for key, (p, text) in parts.items())


def _own_numbers(task_id: str, kind: Kind, title: str, points: float, answer: str, inputs: Callable[[random.Random], Any],
                 text: Callable[[Any], str] | None, oracle: Callable[[Any], Any] | None, judge: Judge | None,
                 parts: Mapping[str, tuple[float, str]] | None, mistakes: Iterable[Mistake], tolerance: float, hint: str) -> Task:
    if (oracle is None) == (judge is None):
        raise ValueError(f"task {task_id}: give either an oracle or a judge")
    if judge is None:
        assert oracle is not None
        judge = by_oracle(oracle, tolerance=tolerance) if parts is None else by_key(oracle, tolerance=tolerance)

    def cases(rng: random.Random) -> Sequence[Case]:
        return [Case(plain.normal(inputs(rng)), "your own numbers")]

    return Task(task_id, title, kind, Value(answer), _criteria(task_id, points, parts, "the answer"), judge, cases,
                mistakes=tuple(mistakes), per_student=True, inputs=inputs, text=text, hint=hint)


def calculation(task_id: str, title: str, points: float, *, answer: str, inputs: Callable[[random.Random], Any],
                oracle: Callable[[Any], Any], text: Callable[[Any], str] | None = None,
                parts: Mapping[str, tuple[float, str]] | None = None, mistakes: Iterable[Mistake] = (), tolerance: float = 0.0,
                hint: str = "") -> Task:
    """A seeded calculation, different for each student. `answer` is the variable that holds the answer, `inputs(rng)` makes the
    numbers, `oracle(numbers)` the right answer (a dict when `parts` maps its keys to (points, what it is)), `text(numbers)` the
    question in words."""
    return _own_numbers(task_id, "calculation", title, points, answer, inputs, text, oracle, None, parts, mistakes, tolerance, hint)


def perform(task_id: str, title: str, points: float, *, answer: str, inputs: Callable[[random.Random], Any],
            oracle: Callable[[Any], Any] | None = None, judge: Judge | None = None, text: Callable[[Any], str] | None = None,
            parts: Mapping[str, tuple[float, str]] | None = None, mistakes: Iterable[Mistake] = (), hint: str = "") -> Task:
    """"Perform the algorithm": like a calculation, but the answer is a list of steps or a resulting state, judged against `oracle`
    or by a `judge(task, case, got)` that replays the student's decisions."""
    return _own_numbers(task_id, "perform", title, points, answer, inputs, text, oracle, judge, parts, mistakes, 0.0, hint)


def parsons(task_id: str, title: str, points: float, *, answer: str, lines: Mapping[str, str], orders: Sequence[Sequence[str] | str],
            mistakes: Iterable[Mistake] = (), hint: str = "") -> Task:
    """A Parsons problem: `lines` maps letters to lines (distractors included, given in the order shown), `orders` lists every right
    order of letters ("CABE" or a list). The notebook's answer is a list of letters; a single text "C A B E" is accepted too."""
    accepted = [list(order) for order in orders]
    for order in accepted:
        if not set(order) <= set(lines):
            raise ValueError(f"task {task_id}: an accepted order uses a letter without a line")

    def judge(task: Task, case: Case, got: Any) -> Verdict:
        letters = list(got.replace(",", " ").replace(" ", "")) if isinstance(got, str) else got
        if not isinstance(letters, list) or not all(isinstance(x, str) for x in letters):
            return Verdict(False, None, got, f"The answer must be a list of letters such as {list(lines)[:3]!r}.")
        if not letters:
            return Verdict(False, None, letters, "No line has been chosen yet.")
        unknown = [x for x in letters if x not in lines]
        if unknown:
            return Verdict(False, None, letters, f"There is no line {unknown[0]!r}; the letters are {', '.join(lines)}.")
        if letters in accepted:
            return Verdict(True, letters, letters)
        best = max(accepted, key=lambda order: _common_prefix(order, letters))
        good = _common_prefix(best, letters)
        used = {x for order in accepted for x in order}
        note = "No line is in its place yet." if good == 0 else f"The first {good} line(s) are right; the next one is not."
        if good == len(letters):
            note = f"The {good} line(s) so far are right, but something is missing at the end."
        elif good == len(best):
            note = "Everything needed is there, but lines follow that do not belong."
        elif letters[good] not in used:
            note += f" Line {letters[good]} does not belong to the solution at all."
        return Verdict(False, None, letters, note)

    def cases(rng: random.Random) -> Sequence[Case]:
        return [Case(None, "the order of the lines")]

    return Task(task_id, title, "parsons", Value(answer), (Criterion("order", points, "the order of the lines"),), judge, cases,
                mistakes=tuple(mistakes), lines=tuple(lines.items()), hint=hint)


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    n = 0
    while n < len(a) and n < len(b) and a[n] == b[n]:
        n += 1
    return n


def code(task_id: str, title: str, *, ask: Call | Drive, criteria: Sequence[Criterion], public: Callable[[random.Random], Sequence[Case]],
         hidden: Callable[[random.Random], Sequence[Case]], oracle: Callable[[Any], Any] | None = None, judge: Judge | None = None,
         mistakes: Iterable[Mistake] = (), seconds: float = 5.0, hint: str = "") -> Task:
    """A function or class the student writes. `public(rng)` and `hidden(rng)` make cases (hidden ones from a secret seed, twice);
    a criterion is earned when every case that decides it is right. `oracle(data)` or `judge(task, case, got)` decides."""
    if (oracle is None) == (judge is None):
        raise ValueError(f"task {task_id}: give either an oracle or a judge")
    if judge is None:
        assert oracle is not None
        judge = by_oracle(oracle)
    return Task(task_id, title, "code", ask, tuple(criteria), judge, public, hidden, tuple(mistakes), seconds=seconds, hint=hint)


def analyse(task_id: str, title: str, points: float, *, answer: str, inputs: Callable[[random.Random], Any],
            judge: Judge | None = None, oracle: Callable[[Any], Any] | None = None, text: Callable[[Any], str] | None = None,
            parts: Mapping[str, tuple[float, str]] | None = None, mistakes: Iterable[Mistake] = (), tolerance: float = 0.0,
            hint: str = "") -> Task:
    """Measure and decide: the student measures on the real machine (with numbers of their own) and writes the figures and the
    choice into `answer` as a literal; the judge measures again. The written defence is an ordinary manually graded cell."""
    return _own_numbers(task_id, "analyse", title, points, answer, inputs, text, oracle, judge, parts, mistakes, tolerance, hint)


# --- finding exercises -----------------------------------------------------------------------------------------------------------

_registered: dict[str, Exercise] = {}
_loaded: set[str] = set()


def register(exercise: Exercise) -> Exercise:
    """Make an exercise known under its id; returns it."""
    _registered[exercise.id] = exercise
    return exercise


def _take(module: ModuleType) -> None:
    found = getattr(module, "EXERCISE", None)
    if isinstance(found, Exercise):
        register(found)


def load_file(path: str | Path) -> Exercise:
    """Load an exercise from a Python file that defines EXERCISE (an instructor's own, or a test's)."""
    path = Path(path).resolve()
    name = f"_vmlab_exercise_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ValueError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    found = getattr(sys.modules[name], "EXERCISE", None)
    if not isinstance(found, Exercise):
        raise ValueError(f"{path} defines no EXERCISE")
    return register(found)


def exercises() -> dict[str, Exercise]:
    """Every exercise known: the `exNN` modules of vmlab.course, the files named in $VMLAB_EXERCISES, and those registered."""
    package = importlib.import_module("vmlab.course")
    for info in pkgutil.iter_modules(package.__path__):
        if len(info.name) == 4 and info.name.startswith("ex") and info.name[2:].isdigit() and info.name not in _loaded:
            _take(importlib.import_module(f"vmlab.course.{info.name}"))
            _loaded.add(info.name)
    for path in os.environ.get("VMLAB_EXERCISES", "").split(os.pathsep):
        if path and path not in _loaded:
            load_file(path)
            _loaded.add(path)
    return dict(sorted(_registered.items()))


def exercise(exercise_id: str) -> Exercise:
    """The exercise called `exercise_id`; raises ValueError naming those that exist."""
    known = exercises()
    if exercise_id not in known:
        raise ValueError(f"there is no exercise {exercise_id!r}; there are {', '.join(known) or 'none'}")
    return known[exercise_id]


def find_task(path: str) -> tuple[Exercise, Task]:
    """The exercise and task behind a path such as "06-buddy/expand"."""
    exercise_id, _, task_id = path.partition("/")
    found = exercise(exercise_id)
    return found, found.task(task_id)
