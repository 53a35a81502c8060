"""`vmlab grade`: a class with every kind of submission goes through, nothing stops it, and the grade book says what the judge says."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.course import toy
from tests.course.attacks import ATTACKS, MARKER
from tests.course.corpus import HONEST, SOURCE, honest
from tests.helpers import ROOT, skip_loudly
from vmlab.course import bridge, exercise, generate, grade, sandbox
from vmlab.course.result import Result

# Not handed in again here (tests/course/test_attacks.py has them all): those that take seconds, and a few of each kind that are alike.
SLOW = {"endless-deaf", "endless-cell", "fork-bomb", "flood-stdout", "closes-pipes", "deletes-files", "writes-gradebook", "flood-reply"}
SLOW |= {"int-in-disguise", "input-transformer", "patches-json", "reads-requests", "right-only-once", "swallows", "sys-exit", "segfault"}
SLOW |= {"nan", "huge-int", "deep", "circular", "big-answer", "fills-disk", "recursion", "pickle", "knows-public-cases", "json-no-notebook"}


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VMLAB_EXERCISES", str(Path(toy.__file__)))
        patch.setattr(exercise, "_loaded", set(exercise._loaded))
        yield patch


def hand_in(root: Path, student: str, raw: bytes | None, name: str = "00-toy.ipynb") -> Path:
    folder = root / student / "00-toy"
    folder.mkdir(parents=True)
    if raw is not None:
        (folder / name).write_bytes(raw)
    return folder


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch) -> Path:
    """A course with the corpus handed in, graded once."""
    if sandbox.room().kind != "bubblewrap":
        skip_loudly("hostile code is only run where bubblewrap works")
    root = tmp_path_factory.mktemp("class")
    (root / "solutions/00-toy").mkdir(parents=True)
    (root / "solutions/00-toy/00-toy.ipynb").write_text(generate.to_text(SOURCE), encoding="utf-8")
    submitted = root / "submitted"
    for entry in [*ATTACKS, *HONEST]:
        if entry.name not in SLOW:
            hand_in(submitted, entry.name, entry.raw)
    hand_in(submitted, "missing", None)
    hand_in(submitted, "other-name", honest({}), "00-toy (1).ipynb")
    hand_in(submitted, "two-names", honest({}), "a.ipynb")
    (submitted / "two-names/00-toy/b.ipynb").write_bytes(b"{}")
    (hand_in(submitted, "symlink", None) / "00-toy.ipynb").symlink_to(submitted / "solution/00-toy/00-toy.ipynb")
    (hand_in(submitted, "late", honest({})) / "timestamp.txt").write_text("2026-11-01 10:00:00 UTC")
    (hand_in(submitted, "bad-stamp", honest({})) / "timestamp.txt").write_text("the day before yesterday")
    hand_in(submitted, "o'hara [x] + ünï", honest({}))
    (hand_in(submitted, "extra-files", honest({})) / "gradebook.db").write_bytes(b"rubbish")
    (submitted / "nobody" / "99-other").mkdir(parents=True)
    (submitted / "stray-file").write_text("x")
    (root / "keep-me").write_text("still here")
    assert grade.grade(root, quiet=True) == 0
    return root


def scores(root: Path) -> dict[str, float]:
    with (root / "grades.csv").open(encoding="utf-8") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}


def test_everybody_gets_the_score_they_earned(graded: Path) -> None:
    found = scores(graded)
    for entry in ATTACKS:
        if entry.name not in SLOW:
            assert found[entry.name] <= entry.may_earn, entry.name
    for name in [h.name for h in HONEST] + ["other-name", "late", "bad-stamp", "o'hara [x] + ünï", "extra-files"]:
        assert found[name] == toy.EXERCISE.points, name
    assert found["missing"] == found["two-names"] == found["symlink"] == 0
    assert "nobody" not in found and "stray-file" not in found


def test_everybody_gets_a_page_that_says_why(graded: Path) -> None:
    def page(student: str) -> str:
        return (graded / "feedback" / student / "00-toy" / "00-toy.html").read_text(encoding="utf-8")

    assert "There is no notebook 00-toy.ipynb" in page("missing") and "There is no notebook 00-toy.ipynb" in page("symlink")
    assert "was handed in as 00-toy (1).ipynb" in page("other-name") and "There are 2 notebooks" in page("two-names")
    assert "cannot be read" in page("bad-stamp")
    for student in scores(graded):
        text = page(student)
        assert "<script>alert" not in text and "\ufffd[2J" not in text.replace("&#xFFFD;", "") or student == "surrogates"
        assert "Watermarks" in text


def test_nothing_else_was_touched_and_nothing_is_left_running(graded: Path) -> None:
    assert (graded / "keep-me").read_text() == "still here"
    assert not list((graded / "feedback").rglob("gradebook.db")) and not list((graded / "autograded").rglob("gradebook.db"))
    assert sqlite3.connect(graded / "gradebook.db").execute("pragma integrity_check").fetchone() == ("ok",)
    lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [x for x in lines if MARKER.encode() in x]


def test_results_are_kept_signed_and_reused_until_something_changes(
    graded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (graded / ".vmlab/judge.key").stat().st_mode & 0o077 == 0
    file = graded / ".vmlab/results/00-toy/00-toy/endless.json"
    forged = json.loads(file.read_text())
    forged["earned"] = 13
    file.write_text(json.dumps(forged))
    assert bridge.kept(graded, "00-toy", "00-toy", "endless") is None, "an edited result is not believed"
    before = scores(graded)
    (graded / "submitted/late/00-toy/00-toy.ipynb").write_bytes(honest({"choice": "choice = 1"}))
    assert grade.grade(graded, quiet=True, feedback=False) == 0
    total = len(before)
    assert f"{total} graded ({total - 2} unchanged" in capsys.readouterr().out
    assert scores(graded) == before | {"late": 12}
    assert bridge.kept(graded, "00-toy", "00-toy", "endless") is not None


def test_a_plain_folder_becomes_a_course_beside_it_and_a_seed_repeats_a_run(
    tmp_path: Path, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setattr(grade, "masters", lambda root: {"00-toy": source})
    source = tmp_path / "solutions/00-toy/00-toy.ipynb"
    source.parent.mkdir(parents=True)
    source.write_text(generate.to_text(SOURCE), encoding="utf-8")
    for student in ("ann", "ben"):
        hand_in(tmp_path / "class", student, honest({} if student == "ann" else {"splits": "def splits(*a): return [a]"}))
    results = []
    for out in ("one", "two"):
        assert grade.main([str(tmp_path / "class"), "--out", str(tmp_path / out), "--seed", "1234", "--quiet", "--no-feedback"]) == 0
        assert scores(tmp_path / out) == {"ann": 13, "ben": 11}
        results.append(Result.from_json((tmp_path / out / ".vmlab/results/00-toy/00-toy/ben.json").read_text()))
    results[0].signature = results[1].signature = ""
    assert results[0].to_json() == results[1].to_json() and results[0].seed == "1234"
    assert (tmp_path / "one/nbgrader_config.py").exists(), "Formgrader can be opened there"
    assert grade.layout(tmp_path / "class", None)[0] == tmp_path / "class-graded"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        ((), "neither submitted/ nor"),
        (("nbgrader_config.py",), "nothing has been handed in"),
        (("submitted/a/99-x/99-x.ipynb",), "belongs to an exercise"),
    ],
)
def test_nothing_to_grade_is_a_sentence(make: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in make:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert grade.main([str(tmp_path)]) == 2 and says in capsys.readouterr().err
    assert grade.main([str(tmp_path / "nowhere")]) == 2 and "is not a folder" in capsys.readouterr().err


def test_a_child_cannot_reach_a_server_on_this_machine() -> None:
    if sandbox.room().kind != "bubblewrap":
        skip_loudly("without bubblewrap the network is open (and the report says so)")
    reached = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(3)
        port = server.getsockname()[1]

        def listen() -> None:
            try:
                reached.append(server.accept())
            except OSError:
                pass

        thread = threading.Thread(target=listen)
        thread.start()
        with sandbox.Child(sandbox.room(), {}) as child:
            reply = child.load([["net", f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=1).send(b'x')"]], 5)
        with socket.create_connection(("127.0.0.1", port)):  # the server does listen: this connection is the one it takes
            thread.join()
    assert reply.value and reply.value[0]["type"] in ("OSError", "ConnectionRefusedError", "PermissionError")
    assert len(reached) == 1 and os.getpid()


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C of a process group")
def test_ctrl_c_ends_the_run_at_once_keeps_what_was_judged_and_leaves_nothing(tmp_path: Path) -> None:
    busy = "import time\ntime.sleep(2)\ndef buddy_of(pfn, order):\n    return 0"
    for name in "abcdef":
        hand_in(tmp_path / "class", name, honest({} if name == "a" else {"buddy-of": busy}))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-m", "vmlab.course.grade", str(tmp_path / "class"), "--jobs", "2"]
    source = tmp_path / "class-graded/solutions/00-toy/00-toy.ipynb"
    source.parent.mkdir(parents=True)
    source.write_text(generate.to_text(SOURCE), encoding="utf-8")
    env = {**os.environ, "VMLAB_EXERCISES": str(Path(toy.__file__)), "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    results = tmp_path / "class-graded/.vmlab/results"
    run = subprocess.Popen(command, env=env, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while not list(results.rglob("a.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=60)[1]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 130 and "goes on from there" in said and "Traceback" not in said, said
    judged = {path.stem for path in results.rglob("*.json")}
    assert "a" in judged and len(judged) < 6
    assert list(temporary.iterdir()) == []


def test_what_killed_runs_left_behind_is_swept_away_after_a_day(tmp_path: Path) -> None:
    for name in ("vmlab-box-old", "vmlab-run-old", "vmlab-run-new", "other"):
        (tmp_path / name).mkdir()
        if not name.endswith("new"):
            os.utime(tmp_path / name, (1, 1))
    (tmp_path / "vmlab-run-link").symlink_to(tmp_path / "other")
    sandbox._sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"vmlab-run-new", "other", "vmlab-run-link"}
