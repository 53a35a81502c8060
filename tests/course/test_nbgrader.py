"""The instructor's flow with nbgrader's own commands: generate, validate, autograde, feedback, export, Formgrader, grade book."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from traitlets.config.loader import PyFileConfigLoader

from tests.course import toy
from tests.course.corpus import SOURCE, duplicate, edit_tests, fake_outputs, honest, rename, shaped
from vmlab.course import generate

ROOT = Path(__file__).parents[2]
HANDED_IN = {
    "alice": honest({}),
    "bob": b"",  # becomes the release, untouched
    "carol": honest({"buddy-of": "def buddy_of(pfn, order):\n    return pfn + (1 << order) if order else pfn ^ 1", "split": "split = 5"}),
    "dave": shaped(duplicate, SOURCE),
    "erin": shaped(rename, SOURCE),
    "frank": honest({})[:2000],
    "grace": honest({"splits": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"}),
    "heidi": shaped(lambda nb: (edit_tests(nb), fake_outputs(nb), None)[2]),
}
SCORES = {"alice": 13, "bob": 0, "carol": 10, "dave": 13, "erin": 13, "frank": 0, "grace": 11, "heidi": 0}


def nbgrader(course: Path, *args: str) -> str:
    """Run one nbgrader command in a course; returns what it said. Its environment has no activated venv, on purpose."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "VMLAB_EXERCISES": str(Path(toy.__file__)), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-m", "nbgrader", *args], cwd=course, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A course that has been through the whole flow."""
    root = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    (root / "solutions/00-toy").mkdir(parents=True)
    (root / "solutions/00-toy/00-toy.ipynb").write_text(generate.to_text(SOURCE), encoding="utf-8")
    nbgrader(root, "generate_assignment", "00-toy")
    release = (root / "exercises/00-toy/00-toy.ipynb").read_bytes()
    for student, raw in HANDED_IN.items():
        folder = root / "submitted" / student / "00-toy"
        folder.mkdir(parents=True)
        (folder / "00-toy.ipynb").write_bytes(release if student == "bob" else raw)
    nbgrader(root, "autograde", "00-toy")
    nbgrader(root, "generate_feedback", "00-toy")
    nbgrader(root, "export")
    yield root


def test_generate_assignment_writes_the_bytes_our_generator_writes(course: Path) -> None:
    assert generate.main(["--check", "--root", str(course)]) == 0


def test_scores_in_the_export_are_the_judges(course: Path) -> None:
    with (course / "grades.csv").open() as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {s: float(r["score"]) for s, r in rows.items()} == SCORES
    assert {float(r["max_score"]) for r in rows.values()} == {15}, "13 from the judge, 2 for the written answer"


def test_grade_book_wants_a_person_for_the_written_answer_only(course: Path) -> None:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        entry = book.find_submission_notebook("00-toy", "00-toy", "alice")
        assert [g.name for g in entry.grades if g.needs_manual_grade] == ["defence"]
        untouched = book.find_submission_notebook("00-toy", "00-toy", "bob")
        assert not [g for g in untouched.grades if g.needs_manual_grade]


def feedback(course: Path, student: str) -> str:
    return (course / "feedback" / student / "00-toy" / "00-toy.html").read_text(encoding="utf-8")


def test_feedback_pages_show_our_messages_and_no_hidden_data(course: Path) -> None:
    carol = feedback(course, "carol")
    assert (
        "flip the bit" in carol
        and "list of [pfn, order] pairs" in carol
        and carol.count("The buddy is not always above") == 1  # with the public input; hidden ones add nothing to it
    )
    hidden_rows = re.findall(r"<tr><td[^>]*>hidden inputs.*?</tr>", carol)
    assert hidden_rows == []
    assert "It holds no answers" in feedback(course, "frank") or "so it holds no answers" in feedback(course, "frank")
    assert "more than once" in feedback(course, "dave") and "was killed" in feedback(course, "grace")
    assert "had been changed; the original was put back" in feedback(course, "heidi")
    assert "all right (2 of 2 points)" in feedback(course, "alice")


def test_validate_shows_the_report_for_what_is_wrong_and_success_for_what_is_right(course: Path) -> None:
    released = nbgrader(course, "validate", "exercises/00-toy/00-toy.ipynb")
    assert "VALIDATION FAILED ON 8 CELL(S)" in re.sub(r"\s+", " ", released) and "no answer that can be judged yet" in released
    fine = nbgrader(course, "validate", "submitted/alice/00-toy/00-toy.ipynb")
    assert "Success! Your notebook passes all the tests." in fine


def test_autograding_again_gives_the_same_scores_even_after_somebody_touched_the_result(course: Path) -> None:
    nbgrader(course, "autograde", "00-toy", "--student", "carol", "--force")
    nbgrader(course, "export")
    with (course / "grades.csv").open() as file:
        assert {r["student_id"]: float(r["score"]) for r in csv.DictReader(file)} == SCORES


def test_formgrader_lists_the_submissions_with_these_scores(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formgrader's pages are made from this API."""
    from nbgrader.apps.api import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Config

    from vmlab.course import bridge

    config = Config()
    bridge.configure(config, course)
    api = NbGraderAPI(CourseDirectory(config=config), config=config)
    found = {s["student"]: s for s in api.get_submissions("00-toy")}
    assert {k: v["score"] for k, v in found.items()} == SCORES and all(s["autograded"] for s in found.values())
    assert api.get_assignment("00-toy")["status"] == "released" or api.get_assignment("00-toy")["release_path"]


def test_the_configuration_loads_and_says_what_it_should() -> None:
    """nbgrader only logs an exception in its configuration and goes on without it."""
    config = PyFileConfigLoader("nbgrader_config.py", str(ROOT)).load_config()
    assert config.CourseDirectory.root == str(ROOT)
    assert (config.CourseDirectory.source_directory, config.CourseDirectory.release_directory) == ("solutions", "exercises")
    names = [p.__name__ for p in config.Autograde.autograde_preprocessors]
    assert "Execute" not in names and names.index("JudgeScores") < names.index("SaveAutoGrades")
    assert Path(config.Exchange.root).is_dir()
    copy = ROOT / "vmlab" / "course" / "static" / "nbgrader_config.py.txt"
    assert copy.read_bytes() == (ROOT / "nbgrader_config.py").read_bytes(), "the copy that `vmlab grade` puts into a new course"
