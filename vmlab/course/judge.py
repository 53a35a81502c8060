"""The judge: tries a student's cells in the sandbox on generated inputs and decides every criterion from plain data alone.

Two runs, two secret seeds, two fresh processes; a criterion is earned when every case that decides it is right in both. The result
depends only on the submission, the student's name and the seed, so it can be repeated byte for byte; it carries the seed and is
signed, so that a result file edited afterwards is noticed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vmlab.course import plain, sandbox
from vmlab.course.exercise import Case, Criterion, Exercise, Mistake, Task, Verdict, normal_student, rng_for
from vmlab.course.result import VERSION, Cell, CriterionResult, Evidence, Result, TaskResult, exercise_version, submission_hash

LOAD_SECONDS = 6.0  # for running all cells once
BUDGET_SECONDS = 90.0  # for a whole submission; a notebook full of endless loops ends here
JUDGE_SECONDS = 10.0  # for the parent's own work on one answer
RESTARTS = 14


# --- running the cells -----------------------------------------------------------------------------------------------------------


class Session:
    """The cells of one submission in a child, restarted as often as it takes: one task's endless loop costs only that task."""

    def __init__(self, cells: Sequence[Cell], questions: Mapping[str, Any], deadline: float, fatal: set[Cell] | None = None) -> None:
        self.cells = self.handed_in = list(cells)
        self.fatal = fatal if fatal is not None else set()  # cells that ended or hung a process; shared by the two runs
        self.questions = dict(questions)
        self.deadline = deadline
        self.cell_errors: dict[str, str] = {}
        self.trouble: list[str] = []
        self._child: sandbox.Child | None = None
        self._starts = 0
        self._hopeless = ""

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _start(self) -> None:
        """Start a child and run the cells; a cell that ends or hangs the process is left out and the rest are tried again."""
        while self._child is None and not self._hopeless:
            if self._starts > RESTARTS:
                self._hopeless = "ended its process again and again; the judge gave up"
                return
            if time.monotonic() > self.deadline:
                self._hopeless = f"used up the {BUDGET_SECONDS:g} seconds the judge gives a whole notebook"
                return
            self._starts += 1
            child = sandbox.Child(sandbox.room(), self.questions)
            self.trouble = child.trouble
            self.cells = [c for c in self.cells if c not in self.fatal]
            try:
                reply = child.load([[c.label, c.source] for c in self.cells], min(LOAD_SECONDS, self._left()))
            except BaseException:  # Ctrl-C
                child.close()
                raise
            if reply.ending is None:
                self._child = child
                for error in reply.value or []:
                    if isinstance(error, dict) and error.get("type") != "NotImplementedError":
                        self.cell_errors.setdefault(error["cell"], error_sentence(error, show_text=True))
                return
            child.close()
            number = reply.ending.cell
            if 0 <= number < len(self.cells):
                culprit = self.cells[number]
                self.fatal.add(culprit)
                self.cell_errors[culprit.label] = f"it {reply.ending.says}"
            else:
                self._hopeless = f"could not be run: it {reply.ending.says}"

    def _left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.1)

    def ask(self, task: Task, data: Any) -> sandbox.Reply:
        """Put one question to the student's code."""
        self._start()
        if self._child is None:
            return sandbox.Reply(ending=sandbox.Ending("died", self._hopeless))
        reply = self._child.request(task.ask.request(data), min(task.seconds, self._left()))
        if reply.ending is not None:
            self.close()
        return reply


def error_sentence(error: Mapping[str, Any], *, show_text: bool) -> str:
    """An error of the student's code in words: class, text (not for hidden inputs) and line."""
    at = f" (line {error['line']} of cell {error['cell']})" if error.get("line") and error.get("cell") else ""
    text = f": {error['text']}" if show_text and error.get("text") else ""
    name = error.get("type") or "an error"
    extra = " - more memory than is allowed" if name == "MemoryError" else ""
    return f"it stopped with {name}{text}{extra}{at}"


def _failure(task: Task, reply: sandbox.Reply, session: Session, hidden: bool) -> str:
    """The sentence for a request that brought no value."""
    name = " / ".join(task.ask.needs)
    if reply.ending is not None:
        return f"Your code {reply.ending.says}."
    kind = reply.error.get("kind")
    if kind == "missing":
        wanted = reply.error.get("name") or ""
        makes = re.compile(rf"^[ \t]*(?:(?:def|class)[ \t]+{re.escape(wanted)}\b|{re.escape(wanted)}[ \t]*[:=])", re.MULTILINE)
        makers = {c.label for c in session.handed_in if wanted and not c.label.startswith("given cell") and makes.search(c.source)}
        broken = [f"cell {label}: {text}" for label, text in session.cell_errors.items() if label in makers]
        why = f" A cell of yours failed, which may be the reason: {'; '.join(broken[:3])}." if broken else ""
        return f"There is no {reply.error.get('name') or name} in the notebook yet.{why}"
    if kind == "uncallable":
        return f"{name} is not a function."
    if kind == "raised":
        return f"Your code did not return: {error_sentence(reply.error, show_text=not hidden)}."
    what = f" (a {reply.error['type']})" if reply.error.get("type") else ""
    text = reply.error.get("text") or "it is not plain data"
    return f"The answer{what} cannot be judged: {text}. Return numbers, texts, lists or dicts."


# --- judging one task ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt this process's own work on one answer: an answer like 10**9 must not make a judge count that far. Raises TimeoutError.

    Only where signals exist and in the main thread; elsewhere there is no limit.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError("the answer could not be judged in reasonable time")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _verdicts(task: Task, case: Case, got: Any, warnings: list[str]) -> dict[str, Verdict]:
    concerned = case.criteria or tuple(c.id for c in task.criteria)
    try:
        with time_limit(JUDGE_SECONDS):
            word = task.judge(task, case, got)
        if isinstance(word, Verdict):
            return {name: word for name in concerned}
        return {name: word[name] for name in concerned if name in word}
    except Exception as error:  # an answer of unforeseen form must end as a sentence, never as a crash of the batch
        warning = f"task {task.id}: the judge could not read an answer ({type(error).__name__}: {plain.clean_text(str(error), 200)})"
        if warning not in warnings:
            warnings.append(warning)
        verdict = Verdict(False, None, got, "The answer does not have the form that was asked for.")
        return {name: verdict for name in concerned}


def _mistake(task: Task, case: Case, got: Any, criterion: str) -> Mistake | None:
    for mistake in task.mistakes:
        if (not mistake.criterion or mistake.criterion == criterion) and mistake.fits(case.data, got):
            return mistake
    return None


def _blank_answer(value: Any) -> bool:
    """Whether a literal answer has not been filled in at all (nothing but `...`, None and empty containers)."""
    if isinstance(value, dict):
        return all(_blank_answer(v) for v in value.values())
    if isinstance(value, list):
        return all(_blank_answer(v) for v in value)
    return value is None or value == ""


def try_case(task: Task, case: Case, session: Session, results: Mapping[str, CriterionResult], *, hidden: bool, reveal: bool,
             warnings: list[str], over: set[str]) -> tuple[bool, Any]:
    """Put one case to the code and enter the outcome into the criteria it decides; returns (answered, the answer).

    `over` collects criteria lost to a process that ended or hung: what only they would decide is not tried again (each
    endless loop costs seconds).
    """
    concerned = set(case.criteria or results)
    if concerned <= over:
        return False, None
    reply = session.ask(task, case.data)
    if reply.ending is not None:
        over |= concerned
    asked_data = "" if hidden or case.data is None else plain.show(case.data, 600)
    if not reply.ok:
        sentence = _failure(task, reply, session, hidden)
        for name in case.criteria or tuple(results):
            results[name].tried += 1
            results[name].evidence.append(Evidence(False, case.says, hidden, asked_data, note=sentence))
        return False, None
    answered = task.kind == "code" or not _blank_answer(reply.value)
    for name, verdict in _verdicts(task, case, reply.value, warnings).items():
        result = results[name]
        result.tried += 1
        result.passed += verdict.ok
        shown = not hidden
        item = Evidence(verdict.ok, case.says, hidden, asked_data)
        if shown:
            item.got = plain.show(verdict.got)
            if reveal and not (verdict.expected is None and not verdict.ok):
                item.expected = plain.show(verdict.expected)
        if not verdict.ok:
            item.note = " ".join(x for x in (verdict.note, verdict.where if shown and reveal else "") if x)
            mistake = _mistake(task, case, reply.value, name) if answered else None  # nothing written yet: nothing misunderstood
            item.mistake = mistake.says if mistake else ""
        result.evidence.append(item)
    return answered, reply.value


def public_cases(exercise: Exercise, task: Task, student: str) -> list[Case]:
    """The cases a student sees: their own numbers, or the public inputs of a code task."""
    if task.per_student:
        return [Case(task.question(exercise.id, student), "your own numbers")]
    return list(task.public(rng_for("vmlab-public", exercise.id, task.id)))


def _blank(criterion: Criterion) -> CriterionResult:
    return CriterionResult(criterion.id, criterion.says, criterion.points)


def _settle(task: Task, results: Mapping[str, CriterionResult]) -> TaskResult:
    """Points from the criteria: each is earned when all its cases were right, and at least one was tried."""
    out = TaskResult(task.id, task.title, task.kind, task.points, criteria=list(results.values()))
    for result in out.criteria:
        result.ok = result.tried > 0 and result.passed == result.tried
        result.earned = result.points if result.ok else 0.0
        keep: list[Evidence] = []
        seen: set[tuple[str, str, str, bool]] = set()
        for item in result.evidence:  # the same failure twice (two runs, many inputs) is told once
            signature = (item.tested, item.note, item.mistake, item.hidden)
            if not (item.hidden and (item.ok or signature in seen)) and len(keep) < 12:
                keep.append(item)
                seen.add(signature)
        result.evidence = keep
    out.earned = round(sum(r.earned for r in out.criteria), 4)
    return out


def questions(exercise: Exercise, student: str) -> dict[str, Any]:
    """The numbers of every seeded task of an exercise for one student, by path ("06-buddy/expand")."""
    found = {f"{exercise.id}/{t.id}": t.question(exercise.id, student) for t in exercise.tasks if t.inputs is not None}
    return {path: value for path, value in found.items() if value is not None}


def judge(exercise: Exercise, cells: Sequence[Cell], student: str, *, seed: str, notes: Sequence[str] = (),
          classmates: Sequence[str] = (), only: str = "") -> Result:
    """Judge one submission.

    `cells` are its code cells in order (test cells left out), `student` is the name the gradebook knows, `seed` the secret of this
    run, `notes` sentences about the file, `classmates` other names (to recognise their numbers), `only` one task id.
    Returns a Result without a signature. Never raises for anything a submission contains.
    """
    where = sandbox.room()
    result = Result(exercise.id, exercise_version(exercise), VERSION, student, submission_hash(cells, notes), seed, where.kind,
                    exercise.points, notes=list(notes), warnings=list(where.warnings))
    asked = questions(exercise, student)
    deadline = time.monotonic() + BUDGET_SECONDS
    fatal: set[Cell] = set()
    sessions = [Session(cells, asked, deadline, fatal) for _ in range(2)]
    recorded = ""
    try:
        for task in exercise.tasks:
            if not only or task.id == only:
                task_result, recorded = _judge_task(exercise, task, sessions, student, seed, recorded, classmates, result.warnings)
                result.tasks.append(task_result)
        for text in dict.fromkeys(x for s in sessions for x in s.trouble):
            result.warnings.append(f"sandbox: {text}")
        for label, text in sessions[0].cell_errors.items():
            if not label.startswith(("extra cell", "given cell")):
                result.notes.append(f"Cell {label}: {text}.")
    finally:
        for session in sessions:
            session.close()
    result.earned = round(sum(t.earned for t in result.tasks), 4)
    return result


def _recorded_student(session: Session, task: Task) -> str:
    probe = dataclasses.replace(task, ask=_STUDENT)
    reply = session.ask(probe, None)
    return plain.clean_text(reply.value, 80) if reply.ok and isinstance(reply.value, str) else ""


def _judge_task(exercise: Exercise, task: Task, sessions: Sequence[Session], student: str, seed: str, recorded: str,
                classmates: Sequence[str], warnings: list[str]) -> tuple[TaskResult, str]:
    results = {c.id: _blank(c) for c in task.criteria}
    answers: list[Any] = []
    answered, over = True, set[str]()
    for run, session in enumerate(sessions):
        for case in public_cases(exercise, task, student) if run == 0 or task.hidden is None else []:
            fine, answer = try_case(task, case, session, results, hidden=False, reveal=True, warnings=warnings, over=over)
            answered = answered and fine
            answers.append(answer)
        if task.hidden is not None:
            for case in task.hidden(rng_for("vmlab-hidden", seed, str(run), exercise.id, task.id)):
                try_case(task, case, session, results, hidden=True, reveal=False, warnings=warnings, over=over)
    if task.hidden is None:
        for r in results.values():  # both runs read the same literal: show it once
            r.tried, r.passed = min(r.tried, 1), int(r.tried > 0 and r.passed == r.tried)
            r.evidence = r.evidence[:1] if len({(e.ok, e.got) for e in r.evidence}) <= 1 else r.evidence
    out = _settle(task, results)
    out.answered = answered
    if len(answers) == 2 and task.hidden is None and not plain.same(answers[0], answers[1]):
        out.messages.append("The answer is different each time the notebook runs; write down one answer.")
    if task.per_student and out.earned < out.points and answered:
        recorded = recorded or _recorded_student(sessions[0], task)
        out.messages += _whose_numbers(exercise, task, answers[0] if answers else None, student, recorded, classmates, out)
    return out, recorded


def _fully_right(task: Task, data: Any, answer: Any) -> bool:
    verdicts = _verdicts(task, Case(data, ""), answer, [])
    return bool(verdicts) and all(v.ok for v in verdicts.values())


def _whose_numbers(exercise: Exercise, task: Task, answer: Any, student: str, recorded: str, classmates: Sequence[str],
                   out: TaskResult) -> list[str]:
    """Say so when the answer belongs to somebody else's numbers (a copied notebook), or the notebook carries another name."""
    mine = normal_student(student)
    other = normal_student(recorded)
    if other and other != mine and _fully_right(task, task.question(exercise.id, recorded), answer):
        return [f"This answer is right for the numbers of {recorded!r}, but it was handed in by {student!r}, whose numbers are different."]
    for name in classmates:
        if normal_student(name) not in (mine, other) and _fully_right(task, task.question(exercise.id, name), answer):
            return ["This answer fits the numbers of another student, not yours. Each student has different numbers."]
    if other and other != mine:
        return [f"The notebook was worked under the name {recorded!r} but handed in by {student!r}: the numbers were different ones. "
                f"Set STUDENT = {student!r} in the first cell and answer again."]
    return []


class _StudentName:
    """The question behind `STUDENT = "…"`: which name the notebook was worked under."""

    needs = ("STUDENT",)

    def request(self, data: Any) -> dict[str, Any]:
        return {"op": "value", "name": "STUDENT"}


_STUDENT: Any = _StudentName()


def check_public(exercise: Exercise, task: Task, cells: Sequence[Cell], student: str) -> TaskResult:
    """The public part of one task, through the same child and the same judge, for the check cell in the notebook.

    For a task with the student's own numbers the expected value is not revealed (the check cell shows a worked example instead).
    """
    session = Session(cells, questions(exercise, student), time.monotonic() + 30)
    results = {c.id: _blank(c) for c in task.criteria}
    answered, over = True, set[str]()
    warnings: list[str] = []
    try:
        for case in public_cases(exercise, task, student):
            reveal = not task.per_student
            fine, _ = try_case(task, case, session, results, hidden=False, reveal=reveal, warnings=warnings, over=over)
            answered = answered and fine
    finally:
        session.close()
    untested = [r for r in results.values() if r.tried == 0]
    out = _settle(task, results)
    for result in untested:  # decided by hidden inputs only
        if answered and all(r.ok for r in out.criteria if r not in untested):
            result.ok, result.earned = True, result.points
    out.earned = round(sum(r.earned for r in out.criteria), 4)
    out.answered, out.public = answered, task.hidden is not None
    out.messages += [f"Cell {label}: {text}." for label, text in session.cell_errors.items() if label.startswith("In")]
    return out
