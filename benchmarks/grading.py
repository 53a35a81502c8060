"""How long does it take to grade a class? 30 students, every chapter with exercises, judge and nbgrader included.

A third of the class hands in the model solutions; the others leave answers out and break some, each in a way of their own (seeded).
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from vmlab.course import generate, grade, submission, testing

STUDENTS = 30
REACH = 300.0  # seconds on two processors


def hand_in(folder: Path, exercise_id: str, students: int) -> None:
    """Write the submissions of a class for one exercise."""
    source = submission.read_release(testing.notebook_path(exercise_id))
    stubs = {submission.grade_info(c).get("grade_id"): submission.source_of(c) for c in testing.release_of(source)["cells"]}
    answers = [submission.grade_info(c)["grade_id"] for c in source["cells"] if submission.is_answer(c) and c["cell_type"] == "code"]
    for number in range(students):
        r = random.Random(f"{exercise_id} {number}")
        spoilt = {name: r.choice([stubs[name], "1 / 0"]) for name in answers if number % 3 and r.random() < 0.25}
        target = folder / f"student{number:02}" / exercise_id
        target.mkdir(parents=True)
        (target / f"{exercise_id}.ipynb").write_bytes(testing.edited(source, spoilt))


def processor_time() -> float:
    """Seconds of processor time of this process and the ended ones it started."""
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def main() -> None:
    """Grade the class once and say how long it took."""
    chapters = [p.parent.name for p in generate.sources(generate.repository() / "solutions")]
    with tempfile.TemporaryDirectory() as scratch:
        for exercise_id in chapters:
            hand_in(Path(scratch) / "class", exercise_id, STUDENTS)
        began, cpu = time.perf_counter(), processor_time()
        status = grade.main([str(Path(scratch) / "class"), *([] if sys.stderr.isatty() else ["--quiet"])])
        wall, cpu = time.perf_counter() - began, processor_time() - cpu
    count = STUDENTS * len(chapters)
    print(f"grading {STUDENTS} students x {len(chapters)} chapters, judge and nbgrader included (exit status {status})")
    print(f"  wall {wall:.0f} s on {os.cpu_count()} processors, processor time {cpu:.0f} s, {wall / count:.2f} s a submission")
    print(f"  to reach: {REACH:.0f} s; ratio {wall / REACH:.2f}")


if __name__ == "__main__":
    main()
