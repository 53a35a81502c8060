"""`vmlab grade DIR`: a whole class, from what was handed in to grade book, CSV and feedback pages.

DIR is an nbgrader course (it has submitted/ or nbgrader_config.py), or a folder STUDENT/ASSIGNMENT/*.ipynb; then a course is made in
DIR-graded beside it. First every submission is judged, in parallel; then one nbgrader process enters the results into the grade book and
writes the feedback, exactly as `nbgrader autograde` and `nbgrader generate_feedback` would.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from vmlab.course import bridge, generate, judge, sandbox, submission
from vmlab.course.exercise import Exercise, exercise, exercises
from vmlab.course.result import VERSION, Cell, CriterionResult, Result, TaskResult, exercise_version, fingerprint, submission_hash
from vmlab.course.submission import Notebook

STAGED, RELEASE = f"{bridge.PLACE}/staged", f"{bridge.PLACE}/release"


@dataclass
class Work:
    """One submission on its way: where it came from, what was made of it, its result."""

    student: str
    assignment: str
    file: Path | None
    notes: list[str] = field(default_factory=list)
    rebuilt: Notebook = field(default_factory=dict)
    result: Result | None = None


class Progress:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, stream: TextIO, quiet: bool) -> None:
        self.stream, self.quiet, self.began, self.last = stream, quiet, time.monotonic(), 0.0

    def show(self, what: str, done: int, of: int) -> None:
        """Report that `done` of `of` are through `what`."""
        now = time.monotonic()
        if self.quiet or of == 0:
            return
        spent = now - self.began
        if self.stream.isatty():
            bar = "█" * (30 * done // of) + "░" * (30 - 30 * done // of)
            self.stream.write(f"\r{what:<10} {bar} {done}/{of}  {spent:4.0f} s" + ("\n" if done == of else ""))
        elif done == of or now - self.last > 10:
            self.last = now
            self.stream.write(f"{what}: {done} of {of}, {spent:.0f} s\n")
        self.stream.flush()


# --- what was handed in ----------------------------------------------------------------------------------------------------------


def layout(folder: Path, out: Path | None) -> tuple[Path, Path]:
    """(course root, folder of submissions) for what was named on the command line. Raises ValueError when there is nothing to grade."""
    folder = folder.resolve()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    if (folder / "submitted").is_dir():
        return (out or folder).resolve(), folder / "submitted"
    if folder.name == "submitted" and (folder.parent / "nbgrader_config.py").exists():
        return (out or folder.parent).resolve(), folder
    if (folder / "nbgrader_config.py").exists():
        raise ValueError(f"{folder} is a course, but nothing has been handed in: it has no folder submitted/")
    if not any(folder.glob("*/*/*.ipynb")):
        raise ValueError(f"{folder} has neither submitted/ nor STUDENT/ASSIGNMENT/NOTEBOOK.ipynb in it")
    return (out or folder.with_name(folder.name + "-graded")).resolve(), folder


def masters(root: Path) -> dict[str, Path]:
    """The source notebook of every exercise there is, by assignment name: from the course's solutions/, else vmlab's own."""
    found: dict[str, Path] = {}
    for base in (generate.repository(), root):
        for path in generate.sources(base / "solutions"):
            if path.stem == path.parent.name and path.stem in exercises():
                found[path.stem] = path
    return found


def plain_folder(path: Path) -> bool:
    """Whether this is a folder whose name can be a student's or an assignment's."""
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(".") and path.name == path.name.strip()


def collect(folder: Path, known: dict[str, Path]) -> list[Work]:
    """Every submission of a known assignment; one without its notebook is there too, with a note."""
    found = []
    for student in sorted(p for p in folder.iterdir() if plain_folder(p)):
        for assignment in sorted(p for p in student.iterdir() if plain_folder(p) and p.name in known):
            work = Work(student.name, assignment.name, None)
            wanted = assignment / f"{assignment.name}.ipynb"
            others = sorted(p for p in assignment.glob("*.ipynb") if p.is_file() and not p.is_symlink())
            if wanted.is_file() and not wanted.is_symlink():
                work.file = wanted
            elif len(others) == 1:
                work.file = others[0]
                work.notes.append(f"The notebook was handed in as {others[0].name}; it was taken for {wanted.name}.")
            elif others:
                work.notes.append(f"There are {len(others)} notebooks but none is called {wanted.name}; none was graded.")
            else:
                work.notes.append(f"There is no notebook {wanted.name} in what was handed in.")
            found.append(work)
    return found


def furnish(root: Path, works: Sequence[Work], known: dict[str, Path]) -> None:
    """Copy sources and submissions into a new course, so that Formgrader and nbgrader's own commands work there as anywhere."""
    for name in {w.assignment for w in works}:
        target = root / "solutions" / name / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.resolve() != known[name].resolve():
            shutil.copy(known[name], target)
    for work in works:
        folder = root / "submitted" / work.student / work.assignment
        folder.mkdir(parents=True, exist_ok=True)
        if work.file is not None and work.file.stat().st_size <= submission.MAX_FILE:
            shutil.copy(work.file, folder / f"{work.assignment}.ipynb")


def prepare(work: Work, release: Notebook) -> None:
    """Read and rebuild one submission."""
    raw = b""
    if work.file is not None:
        try:
            with work.file.open("rb") as file:
                raw = file.read(submission.MAX_FILE + 1)
        except OSError as error:
            work.notes.append(f"The file could not be read ({error.strerror}).")
    rebuilt = submission.rebuild(raw, release)
    work.rebuilt = rebuilt.notebook
    work.notes += [] if work.file is None else rebuilt.notes


def stage(work: Work, root: Path) -> None:
    """Put the rebuilt notebook (and a readable timestamp) where nbgrader will take it from."""
    folder = root / STAGED / work.student / work.assignment
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{work.assignment}.ipynb").write_text(generate.to_text(work.rebuilt), encoding="utf-8")
    stamp = work.file.parent / "timestamp.txt" if work.file is not None else None
    if stamp is not None and stamp.is_file() and not stamp.is_symlink() and stamp.stat().st_size < 200:
        from nbgrader.utils import parse_utc

        text = stamp.read_text(encoding="utf-8", errors="replace").strip()
        try:
            parse_utc(text)
        except Exception:  # dateutil raises many kinds; a stamp nobody can read is no stamp
            work.notes.append("The time of handing in (timestamp.txt) cannot be read.")
        else:
            (folder / "timestamp.txt").write_text(text, encoding="utf-8")


# --- judging in parallel ---------------------------------------------------------------------------------------------------------


_stopped = False  # in a worker: Ctrl-C was pressed, judge nothing more


def _worker() -> None:
    """Prepare a worker process: Ctrl-C ends what it judges (the sandbox is closed on the way out) and what waits behind it."""

    def stop(number: int, frame: object) -> None:
        global _stopped
        if not _stopped:
            _stopped = True
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)


def _judge_one(exercise_id: str, cells: list[Cell], student: str, seed: str, notes: list[str], classmates: list[str]) -> Result:
    if _stopped:
        raise KeyboardInterrupt
    return judge.judge(exercise(exercise_id), cells, student, seed=seed, notes=notes, classmates=classmates)


def unjudged(found: Exercise, work: Work, seed: str, why: str) -> Result:
    """A result of 0 points that says the judge itself failed, so that a person looks at it."""
    result = Result(found.id, exercise_version(found), VERSION, work.student, "", seed, "", found.points,
                    notes=list(work.notes), warnings=[f"THE JUDGE FAILED on this submission ({why}); look at it by hand."])
    for task in found.tasks:
        criteria = [CriterionResult(c.id, c.says, c.points) for c in task.criteria]
        result.tasks.append(TaskResult(task.id, task.title, task.kind, task.points, criteria=criteria, answered=False,
                                             messages=["This task could not be judged; please tell your instructor."]))
    return result


def judge_all(works: Sequence[Work], root: Path, seed: str, releases: dict[str, Notebook], jobs: int, fresh: bool,
              progress: Progress) -> int:
    """Judge every submission that has no valid stored result; returns how many were taken from the store."""
    fingerprint(), sandbox.room()  # made once, before the workers exist: they inherit both
    names: dict[str, list[str]] = {}
    for work in works:
        names.setdefault(work.assignment, []).append(work.student)
    waiting: list[tuple[Work, list[Cell]]] = []
    for work in works:
        cells = submission.judged_cells(work.rebuilt, releases[work.assignment])
        old = None if fresh else bridge.kept(root, work.assignment, work.assignment, work.student)
        known = exercise(work.assignment)
        if old is not None and (old.submission, old.exercise_version, old.judge_version) == (
                submission_hash(cells, work.notes), exercise_version(known), VERSION):
            work.result = old
        else:
            waiting.append((work, cells))
    done = len(works) - len(waiting)
    reused = done
    progress.show("judging", done, len(works))
    while waiting:  # a second round only when a worker died; the one it died on is then judged alone
        futures: dict[Future[Result], Work] = {}
        with ProcessPoolExecutor(max_workers=max(1, min(jobs, len(waiting))), initializer=_worker) as pool:
            try:
                for work, cells in waiting:
                    mates = [n for n in names[work.assignment] if n != work.student]
                    futures[pool.submit(_judge_one, work.assignment, cells, work.student, seed, work.notes, mates)] = work
            except BrokenProcessPool:
                pass
            pending = set(futures)
            while pending:
                try:
                    finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                for future in finished:
                    work = futures[future]
                    try:
                        work.result = future.result()
                        bridge.keep(root, work.assignment, work.assignment, work.result)  # a run that is broken off goes on from here
                    except BrokenProcessPool:
                        continue
                    except Exception as error:  # a bug of ours on one submission; the others go on
                        work.result = unjudged(exercise(work.assignment), work, seed, f"{type(error).__name__}: {error}")
                    done += 1
                    progress.show("judging", done, len(works))
        waiting = [(work, cells) for work, cells in waiting if work.result is None]
        if waiting and jobs == 0:
            work, _ = waiting.pop(0)
            work.result = unjudged(exercise(work.assignment), work, seed, "its process died")
            done += 1
        jobs = 0
    for work in works:
        assert work.result is not None
        bridge.keep(root, work.assignment, work.assignment, work.result)
        bridge.precomputed[(work.assignment, work.assignment, work.student)] = work.result
    return reused


# --- nbgrader, in this process ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet_nbgrader(log: Path) -> Iterator[None]:
    """nbgrader's many lines go to a log file; SQLAlchemy's warnings about its session are not ours to show."""
    import logging

    handler = logging.FileHandler(log, mode="w", encoding="utf-8")
    logger = logging.getLogger("vmlab.nbgrader")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        handler.close()


def _named_only(converter: Any) -> Any:
    """An nbgrader converter that takes the one submission it is told about by name (its own search is a glob: `[` is special)."""

    def init_notebooks(self: Any) -> None:
        folder = self._format_source(self.coursedir.assignment_id, self.coursedir.student_id)
        self.assignments = {folder: [os.path.join(folder, f"{self.coursedir.assignment_id}.ipynb")]}

    return type(converter.__name__, (converter,), {"init_notebooks": init_notebooks})


class Nbgrader:
    """nbgrader's converters on one course, without its command line (which costs seconds a command)."""

    def __init__(self, root: Path) -> None:
        import logging

        from nbgrader.coursedir import CourseDirectory
        from traitlets.config import Config

        self.config = Config()
        bridge.configure(self.config, root)
        self.config.CourseDirectory.submitted_directory = STAGED
        self.config.CourseDirectory.release_directory = RELEASE
        self.root = root
        self.log = logging.getLogger("vmlab.nbgrader")
        self.coursedir = CourseDirectory(config=self.config)

    def _run(self, converter: Any, assignment: str, student: str, source: Path | None = None) -> str:
        """Run one converter; returns "" or what went wrong."""
        from nbgrader.converters.base import NbGraderException

        self.coursedir.assignment_id, self.coursedir.student_id = assignment, student
        self.coursedir.source_directory = str(source) if source is not None else "solutions"
        tool = _named_only(converter)(coursedir=self.coursedir, config=self.config, log=self.log)
        tool.force = True
        try:
            tool.start()
        except (NbGraderException, Exception) as error:  # the batch goes on; the failure is reported at the end
            return f"{type(error).__name__}: {error}"
        except SystemExit as error:
            return f"nbgrader stopped ({error})"
        return ""

    def register(self, assignment: str, source: Path) -> str:
        """Enter an assignment into the grade book (its release copy goes to .vmlab/release, exercises/ is not touched)."""
        from nbgrader.converters import GenerateAssignment

        return self._run(GenerateAssignment, assignment, ".", source)

    def autograde(self, work: Work, source: Path) -> str:
        """Enter one submission's scores into the grade book."""
        from nbgrader.converters import Autograde

        return self._run(Autograde, work.assignment, work.student, source)

    def feedback(self, work: Work) -> str:
        """Write one feedback page."""
        from nbgrader.converters import GenerateFeedback

        return self._run(GenerateFeedback, work.assignment, work.student)

    def scores(self, works: Sequence[Work]) -> dict[tuple[str, str], float]:
        """The points of the automatic tasks as the grade book has them, for comparing."""
        from nbgrader.api import Gradebook, MissingEntry

        found = {}
        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as book:
            for work in works:
                try:
                    entry = book.find_submission_notebook(work.assignment, work.assignment, work.student)
                except MissingEntry:
                    continue
                judged = [g for g in entry.grades if g.cell.name.startswith("check-")]
                found[work.assignment, work.student] = sum(float(g.auto_score or 0) for g in judged)
        return found

    def export(self, to: Path) -> None:
        """nbgrader's own CSV of the whole grade book."""
        from nbgrader.api import Gradebook
        from nbgrader.plugins import CsvExportPlugin

        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as book:
            plugin = CsvExportPlugin(log=self.log)
            plugin.to = str(to)
            plugin.export(book)


def write_details(works: Sequence[Work], to: Path) -> None:
    """A CSV with a line for each criterion of each submission: points and the first sentence of feedback."""
    with to.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["student", "assignment", "task", "criterion", "points", "earned", "feedback", "notes"])
        for work in works:
            assert work.result is not None
            for task in work.result.tasks:
                for criterion in task.criteria:
                    said = next((x for e in criterion.evidence for x in (e.mistake, e.note) if x and not e.ok), "")
                    row = [work.student, work.assignment, task.id, criterion.says, criterion.points, criterion.earned, said,
                           " ".join(work.result.notes)]
                    table.writerow([f"'{x}" if isinstance(x, str) and x and x[0] in "=+-@\t" else x for x in row])  # no formulas


def grade(folder: Path, *, out: Path | None = None, jobs: int = 0, seed: str = "", fresh: bool = False, feedback: bool = True,
          quiet: bool = False) -> int:
    """Grade a class; returns 0, or 1 when a submission could not be entered. Raises ValueError when there is nothing to grade."""
    root, handed_in = layout(folder, out)
    bridge.tools_on_path()
    known = masters(root)
    works = collect(handed_in, known)
    if not works:
        raise ValueError(f"nothing in {handed_in} belongs to an exercise ({', '.join(known) or 'there are none'})")
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "nbgrader_config.py").exists():
        config = Path(__file__).parent / "static" / "nbgrader_config.py.txt"
        shutil.copy(config, root / "nbgrader_config.py")
    if handed_in != root / "submitted":
        furnish(root, works, known)
    seed = seed or bridge.run_seed()
    progress = Progress(sys.stderr, quiet)
    shutil.rmtree(root / STAGED, ignore_errors=True)
    used = sorted({w.assignment for w in works})
    releases = {name: generate.strip(submission.read_release(known[name])) for name in used}
    for work in works:
        prepare(work, releases[work.assignment])
        stage(work, root)
    reused = judge_all(works, root, seed, releases, jobs or os.cpu_count() or 1, fresh, progress)
    failures: list[str] = []
    with quiet_nbgrader(root / bridge.PLACE / "nbgrader.log"):
        tool = Nbgrader(root)
        for name in used:
            trouble = tool.register(name, known[name].parents[1])
            failures += [f"{name}: {trouble}"] if trouble else []
        progress.began = time.monotonic()
        for number, work in enumerate(works, 1):
            trouble = tool.autograde(work, known[work.assignment].parents[1])
            failures += [f"{work.student}, {work.assignment}: {trouble}"] if trouble else []
            progress.show("grade book", number, len(works))
        entered = tool.scores(works)
        for work in works:
            assert work.result is not None
            have = entered.get((work.assignment, work.student))
            if have is None or abs(have - work.result.earned) > 1e-6:
                failures.append(f"{work.student}, {work.assignment}: the grade book has {have}, the judge {work.result.earned}")
        progress.began = time.monotonic()
        for number, work in enumerate(works if feedback else [], 1):
            trouble = tool.feedback(work)
            failures += [f"feedback for {work.student}, {work.assignment}: {trouble}"] if trouble else []
            progress.show("feedback", number, len(works))
        tool.export(root / "grades.csv")
    write_details(works, root / "grades-detail.csv")
    (root / bridge.PLACE / "run.json").write_text(json.dumps({"seed": seed, "judge": VERSION}, indent=1) + "\n", encoding="utf-8")
    summary(works, reused, root, failures)
    return 1 if failures else 0


def summary(works: Sequence[Work], reused: int, root: Path, failures: Sequence[str]) -> None:
    """What happened, in a few lines on stdout (failures and warnings on stderr)."""
    for name in sorted({w.assignment for w in works}):
        results = [w.result for w in works if w.assignment == name and w.result is not None]
        mean = sum(r.earned for r in results) / len(results)
        print(f"{name}: {len(results)} submissions, mean {mean:.1f} of {results[0].points:g} points")
    print(f"{len(works)} graded ({reused} unchanged since the last run). Scores: {root / 'grades.csv'} and {root / 'grades-detail.csv'}; "
          f"feedback: {root / 'feedback'}")
    alarms = dict.fromkeys(x for w in works if w.result is not None for x in w.result.warnings)
    for text in [*alarms, *failures]:
        print(f"WARNING: {text}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """`vmlab grade DIR`; returns the exit status: 0 done, 1 some submission could not be entered, 2 nothing to grade."""
    parser = argparse.ArgumentParser(prog="vmlab grade", description="Grade what a class handed in: judge, grade book, CSV, feedback.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="an nbgrader course, or a folder STUDENT/ASSIGNMENT/NOTEBOOK.ipynb")
    parser.add_argument("--out", type=Path, help="the course to write to (default: DIR itself, or DIR-graded)")
    parser.add_argument("--jobs", type=int, default=0, help="submissions judged at once (default: one a processor)")
    parser.add_argument("--seed", default="", help="repeat the run that had this seed (it is in every result)")
    parser.add_argument("--fresh", action="store_true", help="judge again even what has not changed since the last run")
    parser.add_argument("--no-feedback", action="store_true", help="do not write the feedback pages")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_args(argv)
    try:
        return grade(options.folder, out=options.out, jobs=options.jobs, seed=options.seed, fresh=options.fresh,
                     feedback=not options.no_feedback, quiet=options.quiet)
    except ValueError as error:
        print(f"vmlab grade: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nvmlab grade: interrupted. What was judged is kept; the same command goes on from there.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
