"""What the judge says about a submission, as data: criteria, evidence, points; written, read back, signed.

A result depends only on the submission, the student's name, the seed and the code that decided, and is written as the same bytes
every time; its signature shows whether it was edited afterwards.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vmlab.course.exercise import Exercise

VERSION = "1"  # of the judge: part of every result


@dataclass(frozen=True)
class Cell:
    """One code cell of a submission: `label` names it to the student (the nbgrader id, or "extra cell 3")."""

    label: str
    source: str


@dataclass
class Evidence:
    """One case as it is reported. For hidden cases the data, the expected and the given value stay empty."""

    ok: bool
    tested: str
    hidden: bool = False
    data: str = ""
    expected: str = ""
    got: str = ""
    note: str = ""
    mistake: str = ""


@dataclass
class CriterionResult:
    """One criterion of a task with the points it brought."""

    id: str
    says: str
    points: float
    earned: float = 0.0
    ok: bool = False
    evidence: list[Evidence] = field(default_factory=list)
    passed: int = 0
    tried: int = 0


@dataclass
class TaskResult:
    """One task: points, criteria, and sentences for the student (`messages`)."""

    id: str
    title: str
    kind: str
    points: float
    earned: float = 0.0
    criteria: list[CriterionResult] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    answered: bool = True
    public: bool = False  # only the public inputs were tried (a check in the notebook); hidden ones decide


@dataclass
class Result:
    """A whole submission, judged. `notes` are about the file as handed in, `warnings` are for the instructor."""

    exercise: str
    exercise_version: str
    judge_version: str
    student: str
    submission: str
    seed: str
    sandbox: str
    points: float
    earned: float = 0.0
    tasks: list[TaskResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    signature: str = ""

    def to_json(self) -> str:
        """The result as text, always the same bytes for the same result."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Read a result written by `to_json`. Raises ValueError when it is not one."""
        try:
            raw = json.loads(text)
            tasks = []
            for t in raw.pop("tasks"):
                criteria = []
                for c in t.pop("criteria"):
                    evidence = [Evidence(**e) for e in c.pop("evidence")]
                    criteria.append(CriterionResult(**c, evidence=evidence))
                tasks.append(TaskResult(**t, criteria=criteria))
            return cls(**raw, tasks=tasks)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a judge's result: {error}") from None

    def sign(self, key: bytes) -> Result:
        """Put the signature in; returns self."""
        self.signature = ""
        self.signature = hmac.new(key, self.to_json().encode(), hashlib.sha256).hexdigest()
        return self

    def genuine(self, key: bytes) -> bool:
        """Whether the signature is the one `key` gives for this content."""
        bare = dataclasses.replace(self, signature="")
        return hmac.compare_digest(hmac.new(key, bare.to_json().encode(), hashlib.sha256).hexdigest(), self.signature)

    def task(self, task_id: str) -> TaskResult:
        """The result of one task; raises KeyError."""
        for task in self.tasks:
            if task.id == task_id:
                return task
        raise KeyError(task_id)


def submission_hash(cells: Iterable[Cell], notes: Iterable[str] = ()) -> str:
    """A name for exactly this submission: everything of it that can change the result."""
    text = json.dumps([[c.label, c.source] for c in cells] + list(notes))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def fingerprint() -> str:
    """A name for the code that decides: the course's, the core's and that of exercises loaded from files."""
    package = Path(__file__).resolve().parents[1]
    files = sorted([*package.glob("course/*.py"), *package.glob("course/kit/*.py"), *package.glob("mm/*.py"), *package.glob("hw/*.py"),
                    *package.glob("*.py")])
    extra = [Path(p) for p in os.environ.get("VMLAB_EXERCISES", "").split(os.pathsep) if p]
    digest = hashlib.sha256()
    for path in [*files, *(p for p in extra if p.is_file())]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def exercise_version(exercise: Exercise) -> str:
    """The version of an exercise as results record it: its own number and the fingerprint of the code."""
    return f"{exercise.version}+{fingerprint()}"


def signing_key(folder: Path) -> bytes:
    """The instructor's key in `folder` (made on first use, readable by its owner only)."""
    path = folder / "judge.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()
