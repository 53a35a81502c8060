"""Does the judge give right answers full marks, wrong ones a helpful refusal, and everybody the same result twice?"""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from tests.course import toy
from tests.course.corpus import SOURCE, honest
from tests.helpers import skip_loudly
from vmlab.course import judge, plain, sandbox, testing
from vmlab.course.exercise import Case, Mistake, Verdict, calculation, code, parsons
from vmlab.course.result import Cell, Result
from vmlab.course.testing import sentences


def judged(replace: dict[str, str], **kw: str) -> Result:
    return testing.judge_file(toy.EXERCISE, honest(replace), SOURCE, **kw)


# a wrong answer · where · what it must be told
WRONG = [
    (
        "watermarks",
        'q = course.question("00-toy/watermarks")\nlow = q["pages"] // 128\nwatermarks = {"min": low, "low": 2 * low, "high": 3 * low}',
        "alice",
        "kept between 20 and 255",
    ),
    ("watermarks", 'watermarks = {"min": 20.5, "low": 41.0, "high": 61.5}', "solution", "divide with //"),
    ("watermarks", 'watermarks = {"min": 20}', "solution", "no entry 'low'"),
    ("watermarks", "watermarks = [20, 40, 60]", "solution", "must be a dict"),
    ("watermarks", 'watermarks = {"min": ..., "low": 1, "high": 2}', "solution", "has not been filled in"),
    ("free-order", 'free_order = list("BACE")', "solution", "The first 1 line(s) are right"),
    ("free-order", 'free_order = list("BCDEA")', "solution", "Line D does not belong"),
    ("free-order", 'free_order = list("BCE")', "solution", "something is missing at the end"),
    ("free-order", 'free_order = list("BCEAD")', "solution", "lines follow that do not belong"),
    ("free-order", 'free_order = ["X"]', "solution", "There is no line 'X'"),
    ("free-order", "free_order = 7", "solution", "must be a list of letters"),
    (
        "split",
        'q = course.question("00-toy/split")\nsplit = [[q["pfn"], o] for o in range(q["found"] - 1, 0, -1)]',
        "solution",
        "lower half that is split",
    ),
    ("split", 'split = "abc"', "solution", "list of [pfn, order] pairs"),
    ("buddy-of", "def buddy_of(pfn, order):\n    return pfn + (1 << order)", "solution", "flip the bit"),
    ("buddy-of", "def buddy_of(pfn):\n    return pfn", "solution", "unexpected keyword argument 'order'"),
    ("buddy-of", "buddy_of = 5", "solution", "not a function"),
    (
        "buddy-of",
        "def buddy_of(pfn, order):\n    return pfn ^ (1 << order) if order else undefined",
        "solution",
        "NameError: name 'undefined' is not defined (line 2 of cell buddy-of)",
    ),
    ("buddy-of", "def buddy_of(pfn, order) return 1", "solution", "SyntaxError"),
    ("splits", "import numpy as np\ndef splits(pfn, found, order):\n    return np.array([1])", "solution", "numpy.array cannot be used"),
    ("choice", 'choice = {"unused": 0.3, "policy": "B"}', "solution", ""),
]


@pytest.mark.parametrize(("task", "source", "student", "says"), WRONG)
def test_wrong_answers_are_refused_with_a_message_that_helps(task: str, source: str, student: str, says: str) -> None:
    result = judged({task: source}, student=student)
    assert result.task(task).earned < result.task(task).points
    assert says in sentences(result, task)


def test_every_other_task_keeps_its_points() -> None:
    result = judged({"buddy-of": "import os\nos._exit(1)", "splits": "def splits(*a):\n    while True: pass"})
    assert result.task("buddy-of").earned == 0 and "exit code 1" in sentences(result, "buddy-of")
    assert result.task("splits").earned == 0
    assert result.earned == 13 - 2 - 2


def test_partial_credit_by_criterion() -> None:
    result = judged({"buddy-of": "def buddy_of(pfn, order):\n    return pfn ^ 1"})
    assert [c.earned for c in result.task("buddy-of").criteria] == [1, 0]
    result = judged({"split": 'q = course.question("00-toy/split")\nsplit = [[q["pfn"] + (1 << o), o] for o in range(1, q["found"])]'})
    assert [c.earned for c in result.task("split").criteria] == [1, 0]


def test_solution_is_right_for_every_student_and_untouched_for_none() -> None:
    for student in ("solution", "alice", "Ünïcode 学生", "a" * 300, ""):
        assert judged({}, student=student).earned == 13
    assert testing.judge_file(toy.EXERCISE, json.dumps(testing.release_of(SOURCE)).encode(), SOURCE).earned == 0


def test_students_get_different_numbers_and_names_are_forgiving() -> None:
    task = toy.EXERCISE.task("watermarks")
    assert task.question("00-toy", "alice") != task.question("00-toy", "bob")
    assert task.question("00-toy", "Alice ") == task.question("00-toy", "alice")


def test_copied_answers_are_recognised_by_the_name_in_the_notebook_and_by_classmates() -> None:
    numbers = toy.EXERCISE.task("watermarks").question("00-toy", "alice")
    low = toy.clamp(numbers["pages"])
    literal = f'watermarks = {{"min": {low}, "low": {2 * low}, "high": {3 * low}}}'
    named = judged({"watermarks": f'STUDENT = "alice"\n{literal}'}, student="mallory")
    assert named.task("watermarks").earned == 0
    assert "right for the numbers of 'alice', but it was handed in by 'mallory'" in sentences(named)
    rebuilt = [Cell("watermarks", literal)]
    silent = judge.judge(toy.EXERCISE, rebuilt, "mallory", seed="s", classmates=["bob", "alice"], only="watermarks")
    assert "fits the numbers of another student" in sentences(silent) and "alice" not in sentences(silent)
    wrong_name = judged({"watermarks": 'STUDENT = "bob"\nwatermarks = {"min": 1, "low": 1, "high": 1}'}, student="mallory")
    assert "worked under the name 'bob'" in sentences(wrong_name)


def test_same_submission_and_seed_give_the_same_bytes_and_another_seed_other_inputs() -> None:
    wrong = {"buddy-of": "def buddy_of(pfn, order):\n    return pfn + (1 << order)", "splits": "def splits(*a):\n    return a"}
    first, again, other = judged(wrong), judged(wrong), judged(wrong, seed="another")
    key = b"k" * 32
    assert first.sign(key).to_json() == again.sign(key).to_json()
    assert first.to_json() != other.sign(key).to_json() and first.earned == other.earned
    assert (first.seed, other.seed) == (testing.SEED, "another")


def test_results_are_signed_and_a_changed_one_is_noticed() -> None:
    key = b"k" * 32
    result = judged({"choice": "choice = 1"}).sign(key)
    back = Result.from_json(result.to_json())
    assert back == result and back.genuine(key)
    assert not dataclasses.replace(back, earned=13).genuine(key) and not back.genuine(b"other")
    with pytest.raises(ValueError, match="not a judge's result"):
        Result.from_json('{"tasks": [{"criteria": []}]}')


def test_hidden_inputs_do_not_leak_into_the_report() -> None:
    leak = "def splits(pfn, found, order):\n    raise ValueError(f'SEEN {pfn} {found}')"
    result = judged({"splits": leak})
    hidden = [e for c in result.task("splits").criteria for e in c.evidence if e.hidden]
    assert hidden and all("SEEN" not in e.note and not e.data and not e.expected and not e.got for e in hidden)
    assert any("SEEN 0 3" in e.note for c in result.task("splits").criteria for e in c.evidence if not e.hidden)


def test_an_answer_that_changes_from_run_to_run_is_noticed() -> None:
    result = judged({"choice": 'import os\nchoice = {"unused": int.from_bytes(os.urandom(4), "big"), "policy": "B"}'})
    assert "different each time" in sentences(result)


def test_a_judge_that_fails_or_counts_for_ever_ends_as_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "JUDGE_SECONDS", 0.2)

    def clumsy(task: object, case: Case, got: object) -> Verdict:
        if got == "loop":
            while True:
                pass
        return got["no such key"]  # type: ignore[index]

    one = dataclasses.replace(toy.EXERCISE.task("choice"), judge=clumsy)
    small = dataclasses.replace(toy.EXERCISE, tasks=(one,))
    for source in ("choice = 5", "choice = 'loop'"):
        result = judge.judge(small, [Cell("choice", source)], "x", seed="s")
        assert result.earned == 0 and "does not have the form" in sentences(result) and result.warnings


def test_no_sandbox_is_said_loudly_and_limits_still_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMLAB_SANDBOX", "none")
    sandbox.room.cache_clear()
    try:
        good, bad = judged({}), judged({"splits": "def splits(*a):\n    while True: pass", "buddy-of": "import os\nos.fork()"})
        assert good.earned == 13 and good.sandbox == "limits only"
        assert any("NO SANDBOX" in w for w in good.warnings)
        assert bad.task("splits").earned == 0
    finally:
        sandbox.room.cache_clear()


def test_the_child_sees_no_vmlab_no_environment_no_files() -> None:
    if sandbox.room().kind != "bubblewrap":
        skip_loudly("bubblewrap is not available here")
    os.environ["VMLAB_CANARY"] = "visible"
    probe = """
import os, sys
files = [os.path.join(t, f) for t, d, fs in os.walk("/") for f in fs]
found = [f for f in files if f.endswith(".ipynb") or "gradebook" in f or "/vmlab/" in f or "judge" in f]
environment = sorted(os.environ)
who = os.getuid()
site = [p for p in sys.path if "packages" in p]
homes = [p for p in ("/home", "/root", "/etc", "/proc", "/work", "/var") if os.path.exists(p)]
"""
    try:
        with sandbox.Child(sandbox.room(), {}) as child:
            assert child.load([["probe", probe]], 20).value == []
            get = {n: child.request({"op": "value", "name": n}, 5).value for n in ("found", "environment", "who", "site", "homes")}
    finally:
        del os.environ["VMLAB_CANARY"]
    assert get["found"] == [] and get["site"] == [] and get["homes"] == []
    assert get["who"] != 0 and "VMLAB_CANARY" not in get["environment"]


def test_plain_data_is_compared_by_value_and_exact_kind() -> None:
    assert plain.same([1, 2.0], [1, 2]) and plain.same({1: "a"}, {1: "a"})
    assert not plain.same(1, True) and not plain.same("1", 1) and not plain.same([1], [1, 2]) and not plain.same(None, 0)
    assert plain.same(0.25, 0.2501, tolerance=0.01) and not plain.same(0.25, 0.26, tolerance=0.01)
    assert plain.normal({"a": (1, {2})}) == {"a": [1, [2]]}
    for raw in (b"NaN", b"Infinity", b"\xff", b"[" * 200_000, b"{", b"1" * 2_000_000):
        with pytest.raises(plain.NotPlain):
            plain.parse(raw)
    for wire in ({"x": 1}, {"d": [[[], 1]]}, {"d": 3}, {"d": [], "s": []}, 1 << 5000):
        with pytest.raises(plain.NotPlain):
            plain.decode(wire)
    assert plain.first_difference([1, {"a": 2}], [1, {"a": 3}]) == "at [1]['a']: expected 2, got 3"


def test_definitions_that_cannot_work_are_refused_when_they_are_written() -> None:
    with pytest.raises(ValueError, match="bring 1 points"):
        calculation("x", "x", 2, answer="x", inputs=lambda r: 1, oracle=lambda q: 1, parts={"a": (1, "a")})
    with pytest.raises(ValueError, match="letter without a line"):
        parsons("x", "x", 2, answer="x", lines={"A": "a"}, orders=["AB"])
    with pytest.raises(ValueError, match="either an oracle or a judge"):
        code("x", "x", ask=toy.Call("f"), criteria=[toy.Criterion("a", 1, "a")], public=lambda r: [], hidden=lambda r: [])
    with pytest.raises(ValueError, match="there is no exercise"):
        testing.exercise("99-none")
    with pytest.raises(ValueError, match="has no task"):
        toy.EXERCISE.task("none")
    with pytest.raises(ValueError, match="at least one criterion"):
        dataclasses.replace(toy.EXERCISE.task("choice"), criteria=())
    assert not Mistake("m", "s", detect=lambda q, got: got["x"]).fits(1, 2)


def test_nan_is_refused_in_plain_words() -> None:
    with sandbox.Child(sandbox.room(), {}) as child:
        child.load([["cell", "answer = [1.0, float('nan')]"]], seconds=10)
        reply = child.request({"op": "value", "name": "answer"}, seconds=10)
    assert not reply.ok and reply.error["kind"] == "notplain" and "nan or infinity" in reply.error["text"]
