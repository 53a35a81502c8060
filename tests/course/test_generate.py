"""Is exercises/ what solutions/ says? Is generating it repeatable, and does it leave nothing of the solutions behind?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.course import toy
from tests.course.corpus import RELEASE, SOURCE
from vmlab.course import generate
from vmlab.course.authoring import Book
from vmlab.course.generate import canonical, main, problems, strip, to_text

ROOT = Path(__file__).parents[2]


def test_exercises_of_this_course_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--check", "--root", str(ROOT)])
    assert status == 0, capsys.readouterr().out


@pytest.fixture
def course(tmp_path: Path) -> Path:
    folder = tmp_path / "solutions" / "00-toy"
    folder.mkdir(parents=True)
    (folder / "00-toy.ipynb").write_text(to_text(SOURCE), encoding="utf-8")
    return tmp_path


def test_generating_twice_gives_the_same_bytes_and_staleness_is_noticed(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--root", str(course)]) == 1 and "STALE exercises/00-toy" in capsys.readouterr().out
    assert main(["--root", str(course)]) == 0
    first = (course / "exercises/00-toy/00-toy.ipynb").read_bytes()
    assert main(["--root", str(course)]) == 0 and main(["--check", "--root", str(course)]) == 0
    assert (course / "exercises/00-toy/00-toy.ipynb").read_bytes() == first
    source = course / "solutions/00-toy/00-toy.ipynb"
    source.write_text(source.read_text().replace("# A toy", "# Another toy"))
    assert main(["--check", "--root", str(course)]) == 1
    extra = course / "exercises/99-gone/99-gone.ipynb"
    extra.parent.mkdir()
    extra.write_text("{}")
    capsys.readouterr()
    assert main(["--check", "--root", str(course)]) == 1 and "there is no such notebook in solutions/" in capsys.readouterr().out
    assert main(["--root", str(course)]) == 0 and not extra.exists()


def test_nothing_of_a_solution_is_released() -> None:
    released = to_text(RELEASE)
    for secret in ("BEGIN SOLUTION", "return pfn ^", "BCEA", "0.2501", "Because it is measured", "sum(self.numbers)"):
        assert secret in to_text(SOURCE) and secret not in released
    assert released.count("# YOUR CODE HERE") == len(toy.EXERCISE.tasks)
    assert all(not c.get("outputs") for c in RELEASE["cells"])


def test_outputs_ids_and_editors_do_not_change_what_is_released() -> None:
    busy = json.loads(json.dumps(SOURCE))
    for number, c in enumerate(busy["cells"]):
        c["id"] = f"random-{number * 7919 % 1000}"
        c["metadata"] |= {"collapsed": True, "execution": {"x": 1}}
        if c["cell_type"] == "code":
            c["outputs"], c["execution_count"] = [{"output_type": "stream", "name": "stdout", "text": "x"}], 5
    assert to_text(strip(busy)) == to_text(strip(SOURCE))
    assert to_text(canonical(busy)) == to_text(canonical(SOURCE))


def test_notebooks_that_do_not_fit_their_exercise_are_refused(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = json.loads(json.dumps(SOURCE))
    cells = {c["metadata"].get("nbgrader", {}).get("grade_id"): c for c in wrong["cells"]}
    cells["check-split"]["metadata"]["nbgrader"]["points"] = 5
    cells["check-choice"]["metadata"]["nbgrader"]["grade_id"] = "check-chioce"
    cells["splits"]["metadata"]["nbgrader"]["grade_id"] = "shape"
    cells["check-shape"]["source"] = "1"
    wrong["cells"] = [c for c in wrong["cells"] if 'STUDENT = ""' not in c["source"]]
    said = "\n".join(problems(wrong, toy.EXERCISE))
    for part in (
        "check-split has 5 points; the task has 2",
        "task choice has no test cell",
        "'check-chioce' belongs to no task",
        "'shape' is used more than once",
        'must call course.check("00-toy/shape")',
        "no given cell with STUDENT",
    ):
        assert part in said
    (course / "solutions/00-toy/00-toy.ipynb").write_text(to_text(wrong))
    assert main(["--root", str(course)]) == 1 and "WRONG" in capsys.readouterr().out
    book = Book(toy.EXERCISE)
    book.text("# Nothing here")
    with pytest.raises(ValueError, match="has no test cell"):
        book.save(course / "solutions")


def test_tidy_writes_canonical_sources(course: Path) -> None:
    source = course / "solutions/00-toy/00-toy.ipynb"
    source.write_text(json.dumps(SOURCE))
    assert main(["--tidy", "--root", str(course)]) == 0
    assert source.read_text() == to_text(canonical(SOURCE)) == to_text(SOURCE)
    assert generate.sources(course / "solutions") == [source]
