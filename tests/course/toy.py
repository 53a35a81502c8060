"""A toy exercise of every kind, for testing the framework. It is not part of the course."""

from __future__ import annotations

import json
from typing import Any

from vmlab.course.authoring import Book
from vmlab.course.exercise import (
    Call,
    Case,
    Criterion,
    Drive,
    Exercise,
    Mistake,
    Verdict,
    analyse,
    calculation,
    code,
    parsons,
    perform,
)


def clamp(pages: int) -> int:
    return min(max(pages // 128, 20), 255)


def buddy(q: dict[str, int]) -> int:
    return int(q["pfn"] ^ (1 << q["order"]))


def halves(q: dict[str, int]) -> list[list[int]]:
    """The blocks [pfn, order] that go back to the lists when `found` is split down to `order`."""
    return [[q["pfn"] + (1 << o), o] for o in range(q["found"] - 1, q["order"] - 1, -1)]


def judge_halves(task: Any, case: Case, got: Any) -> dict[str, Verdict]:
    want = halves(case.data)
    shape = isinstance(got, list) and all(isinstance(x, list) and len(x) == 2 for x in got)
    note = "" if shape else "The answer must be a list of [pfn, order] pairs."
    blocks = sorted(map(tuple, got)) == sorted(map(tuple, want)) if shape else False
    return {"blocks": Verdict(blocks, want, got, note), "order": Verdict(got == want, want, got, note)}


def splits(data: Any) -> list[list[int]]:
    pfn, found, order = data
    return halves({"pfn": pfn, "found": found, "order": order})


EXERCISE = Exercise(
    "00-toy",
    "A toy",
    (
        calculation(
            "watermarks",
            "Watermarks",
            3,
            answer="watermarks",
            inputs=lambda r: {"pages": r.choice([r.randrange(300, 2500), r.randrange(2600, 32_000), r.randrange(33_000, 90_000)])},
            text=lambda q: f"A zone has {q['pages']} pages. What are pages_min, pages_low and pages_high?",
            oracle=lambda q: {"min": clamp(q["pages"]), "low": 2 * clamp(q["pages"]), "high": 3 * clamp(q["pages"])},
            parts={"min": (1, "pages_min"), "low": (1, "pages_low"), "high": (1, "pages_high")},
            mistakes=[
                Mistake(
                    "no-clamp",
                    "The quotient is kept between 20 and 255 pages; it looks as if that was left out.",
                    gives=lambda q: q["pages"] // 128 if not 20 <= q["pages"] // 128 <= 255 else None,
                    criterion="min",
                ),
                Mistake(
                    "float",
                    "Pages are counted whole: divide with //, not with /.",
                    detect=lambda q, got: any(isinstance(v, float) and v != int(v) for v in got.values()),
                ),
            ],
        ),
        parsons(
            "free-order",
            "Order of freeing",
            2,
            answer="free_order",
            lines={
                "A": "put the block on its list",
                "B": "toggle the bit of the pair",
                "C": "if the buddy is free, take it off its list",
                "D": "clear the whole bitmap",
                "E": "go up one order",
            },
            orders=["BCEA"],
        ),
        perform(
            "split",
            "Split a block",
            2,
            answer="split",
            inputs=lambda r: {"pfn": 64 * r.randrange(50), "found": r.randrange(3, 7), "order": 1},
            judge=judge_halves,
            parts={"blocks": (1, "which blocks come back"), "order": (1, "in which order")},
            mistakes=[
                Mistake(
                    "upper",
                    "It is the lower half that is split on; the upper halves go back.",
                    detect=lambda q, got: any(b[0] == q["pfn"] for b in got),
                )
            ],
        ),
        code(
            "buddy-of",
            "The buddy of a block",
            ask=Call("buddy_of"),
            oracle=buddy,
            criteria=[Criterion("small", 1, "blocks of order 0"), Criterion("large", 1, "larger blocks")],
            public=lambda r: [
                Case({"pfn": 8, "order": 0}, "a single page", ("small",)),
                Case({"pfn": 8, "order": 3}, "eight pages", ("large",)),
            ],
            hidden=lambda r: (
                [Case({"pfn": r.randrange(9999), "order": 0}, "single pages", ("small",)) for _ in range(3)]
                + [Case({"pfn": r.randrange(999) << o, "order": o}, "larger blocks", ("large",)) for o in (1, 2, 5, 9)]
            ),
            mistakes=[
                Mistake(
                    "add",
                    "The buddy is not always above: flip the bit (^) instead of adding.",
                    gives=lambda q: q["pfn"] + (1 << q["order"]),
                )
            ],
            seconds=1,
        ),
        code(
            "splits",
            "Split in code",
            ask=Call("splits"),
            oracle=splits,
            criteria=[Criterion("answer", 2, "the blocks given back")],
            public=lambda r: [Case([0, 3, 0], "order 3 down to 0")],
            hidden=lambda r: [Case([1024 * r.randrange(9), r.randrange(4, 9), r.randrange(3)], "random blocks") for _ in range(4)],
            seconds=1,
        ),
        code(
            "shape",
            "A class of your own",
            ask=Drive("_shape:drive", "Counter"),
            oracle=lambda d: sum(d),
            criteria=[Criterion("sum", 1, "the sum")],
            public=lambda r: [Case([1, 2, 3], "1, 2, 3")],
            hidden=lambda r: [Case([r.randrange(99) for _ in range(5)], "random numbers")],
            seconds=1,
        ),
        analyse(
            "choice",
            "Choose a policy",
            1,
            answer="choice",
            inputs=lambda r: {"n": 12},
            oracle=lambda q: {"unused": 0.25, "policy": "B"},
            tolerance=0.01,
            parts={"unused": (0.5, "the measured share"), "policy": (0.5, "the choice")},
        ),
    ),
)

ANSWERS = {
    "watermarks": """q = course.question("00-toy/watermarks")
watermarks = {"min": ..., "low": ..., "high": ...}
### BEGIN SOLUTION
low = min(max(q["pages"] // 128, 20), 255)
watermarks = {"min": low, "low": 2 * low, "high": 3 * low}
### END SOLUTION""",
    "free-order": 'free_order = []\n### BEGIN SOLUTION\nfree_order = list("BCEA")\n### END SOLUTION',
    "split": """split = []
### BEGIN SOLUTION
q = course.question("00-toy/split")
split = [[q["pfn"] + (1 << o), o] for o in range(q["found"] - 1, q["order"] - 1, -1)]
### END SOLUTION""",
    "buddy-of": "def buddy_of(pfn, order):\n    ### BEGIN SOLUTION\n    return pfn ^ (1 << order)\n    ### END SOLUTION",
    "splits": """def splits(pfn, found, order):
    ### BEGIN SOLUTION
    out = []
    while found > order:
        found -= 1
        out.append((pfn + (1 << found), found))
    return out
    ### END SOLUTION""",
    "shape": """from vmlab.course.kit._shape import Shape

class Counter(Shape):
    ### BEGIN SOLUTION
    def total(self):
        return sum(self.numbers)
    ### END SOLUTION""",
    "choice": 'choice = {"unused": ..., "policy": ...}\n### BEGIN SOLUTION\nchoice = {"unused": 0.2501, "policy": "B"}\n### END SOLUTION',
}


def source() -> dict[str, Any]:
    """The source notebook of the toy."""
    book = Book(EXERCISE)
    book.text("# A toy")
    book.student()
    for task in EXERCISE.tasks:
        book.task(task.id, f"## {task.title}", ANSWERS[task.id])
    book.written("defence", "## Defend your choice", 2, "Because it is measured.")
    return dict(json.loads(json.dumps(book.notebook())))
