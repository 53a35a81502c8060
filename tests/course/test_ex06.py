"""Exercise 6: the solution earns everything, the release nothing, and every known misunderstanding is named."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest

import vmlab
from vmlab.course import ex06_bench, ex06_flawed, ex06_questions, plain, submission
from vmlab.course.exercise import exercise
from vmlab.course.judge import Result
from vmlab.course.kit import MAX_ORDER
from vmlab.course.kit.buddy import BuddyBase, BuddyBug, Zone, _drive
from vmlab.course.plug06 import NewestFirst, Policy, boot_with, measure
from vmlab.course.testing import judge_with, notebook_path, sentences

ID = "06-buddy"
VARIANTS = Path(__file__).parent / "variants" / ID


class Variant(NamedTuple):
    """An answer to a code task: its source, and for a wrong one what the feedback must say and which criteria are lost."""

    title: str
    source: str
    words: str = ""
    lost: tuple[str, ...] = ()


def solution(grade_id: str) -> str:
    """The source of a solution cell."""
    for cell in submission.read_release(notebook_path(ID))["cells"]:
        if submission.grade_info(cell).get("grade_id") == grade_id:
            return submission.source_of(cell)
    raise ValueError(grade_id)


def variants(task: str, kind: str) -> list[Variant]:
    """The right or the wrong variants of a code task."""
    found = []
    for part in (VARIANTS / f"{task}.txt").read_text(encoding="utf-8").split("\n### ")[1:]:
        head, _, source = part.partition("\n")
        what, _, rest = head.partition(": ")
        title, words, lost = ([x.strip() for x in rest.split(" | ")] + ["", ""])[:3]
        if "(Right)" in source:
            source = solution(task).replace("class Allocating(", "class Right(") + "\n\n" + source
        if what == kind:
            found.append(Variant(title, source, words, tuple(lost.split())))
    return found


def lost(result: Result, task: str) -> set[str]:
    return {c.id for c in result.task(task).criteria if not c.ok}


# --- full marks and none -------------------------------------------------------------------------------------------------------------


def test_solution_earns_everything() -> None:
    for seed in ("one", "two"):
        result = judge_with(ID, seed=seed)
        assert result.earned == result.points == 41, [(t.id, t.earned) for t in result.tasks]
        assert not result.notes and not result.warnings


def test_release_earns_nothing() -> None:
    result = judge_with(ID, untouched=True)
    assert result.earned == 0
    assert not any(t.answered for t in result.tasks)


def test_seven_tasks_of_five_kinds() -> None:
    tasks = exercise(ID).tasks
    assert len(tasks) == 7 and {t.kind for t in tasks} == {"calculation", "parsons", "perform", "code", "analyse"}


@pytest.mark.parametrize("task", ["place", "watermarks", "trace", "policy"])
def test_solution_is_right_for_every_student(task: str) -> None:
    questions = set()
    for student in ("ada", "Grace Hopper", "42", "ünï"):
        assert judge_with(ID, student=student, only=task).task(task).earned == exercise(ID).task(task).points
        questions.add(str(exercise(ID).task(task).question(ID, student)))
    assert len(questions) > 2, "students have different numbers"


# --- code: variants ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "variant"), [(t, v) for t in ("allocating", "freeing") for v in variants(t, "right")],
                         ids=lambda x: getattr(x, "title", x))
def test_differently_written_right_answers(task: str, variant: Variant) -> None:
    result = judge_with(ID, {task: variant.source}, only=task)
    assert result.task(task).earned == 10, sentences(result, task)


@pytest.mark.parametrize(("task", "variant"), [(t, v) for t in ("allocating", "freeing") for v in variants(t, "wrong")],
                         ids=lambda x: getattr(x, "title", x))
def test_wrong_answers_are_refused_by_name(task: str, variant: Variant) -> None:
    result = judge_with(ID, {task: variant.source}, only=task)
    assert variant.lost and set(variant.lost) <= lost(result, task), (lost(result, task), sentences(result, task))
    assert variant.words and variant.words in sentences(result, task), sentences(result, task)


@pytest.mark.parametrize(("task", "kept"), [("allocating", "absolute frame numbers"), ("freeing", "absolute frame numbers"),
                                            ("allocating", "order 9 is toggled as well"), ("freeing", "order 9 looks for a buddy")])
def test_one_mistake_costs_one_criterion(task: str, kept: str) -> None:
    variant = next(v for v in variants(task, "wrong") if v.title == kept)
    result = judge_with(ID, {task: variant.source}, only=task)
    assert lost(result, task) == set(variant.lost) and result.task(task).earned == 9


KNOBS = {
    "allocating": [{"keep": "lower"}, {"put": "tail"}, {"take": "tail"}, {"take": "lowest"}, {"taken_bit": False}, {"split_bit": "none"},
                   {"split_bit": "high"}, {"search": "down"}, {"search": "exact"}, {"search": "short"}, {"charge": "found"},
                   {"charge": "order"}, {"charge": "one"}, {"charge": "none"}, {"count": "none"}, {"count": "all"}, {"base": "frames"},
                   {"pair_shift": 0}, {"leave": True}, {"top": 10}],
    "freeing": [{"put": "tail"}, {"buddy": "plus"}, {"buddy": "minus"}, {"buddy": "frames"}, {"test": "always"}, {"test": "never"},
                {"test": "inverted"}, {"test": "list"}, {"test": "untoggled"}, {"levels": 1}, {"stop_bit": False}, {"unlink": False},
                {"align": False}, {"late_order": True}, {"top": 8}, {"top": 10}, {"credit": "order"}, {"credit": "one"},
                {"credit": "merged"}, {"credit": "none"}, {"base": "frames"}, {"pair_shift": 0}],
}


@pytest.mark.parametrize("seed", ["a", "b", "c"])
@pytest.mark.parametrize("name", KNOBS)
def test_hidden_inputs_tell_every_known_flaw_apart_whatever_the_seed(name: str, seed: str) -> None:
    task = exercise(ID).task(name)
    assert task.hidden is not None
    cases = [case for run in "01" for case in task.hidden(random.Random(seed + run))]

    def wrong(**knobs: object) -> int:
        mine = {"it": ex06_flawed.flawed(**knobs)}
        verdicts = [task.judge(task, case, plain.normal(_drive("it", mine, case.data))) for case in cases]
        assert all(isinstance(v, dict) for v in verdicts)
        return sum(not v.ok for each in verdicts if isinstance(each, dict) for v in each.values())

    assert wrong() == 0
    for knobs in KNOBS[name]:
        assert wrong(**knobs) > 0, knobs


# --- the other tasks -----------------------------------------------------------------------------------------------------------------

AFTER = {  # lines added after the solution of a task, the words the feedback must hold, the criterion lost
    "place": [
        ("place['index'] = q['blocks']", "Absolute frame numbers", "index"),
        ("place['pair'] = [p >> 1 + q['order'] for p in q['blocks']]", "Absolute frame numbers", "pair"),
        ("place['pair'] = [i >> q['order'] for i in index]", "share one bit", "pair"),
        ("place['buddy'] = [p + (1 << q['order']) for p in q['blocks']]", "flip one bit", "buddy"),
        ("place['buddy'] = [p ^ (1 << q['order']) for p in q['blocks']]", "Absolute frame numbers", "buddy"),
        ("place['buddy'] = [i ^ (1 << q['order']) for i in index]", "Add the zone's first frame", "buddy"),
        ("place['merged'] = q['blocks']", "lower of the two buddies", "merged"),
        ("place['merged'] = [p & -2 << q['order'] for p in q['blocks']]", "Absolute frame numbers", "merged"),
        ("del place['merged']", "no entry 'merged'", "merged"),
        ("place = list(place.values())", "must be a dict", "index"),
    ],
    "watermarks": [
        ("first[1:] = [x - y + (1 << q['order']) for x, y in zip(first[1:], first)]", "running sum", "first"),
        ("second[1:] = [x - y + (1 << q['order']) for x, y in zip(second[1:], second)]", "running sum", "second"),
        ("watermarks['first'] = [x - (1 << q['order']) for x in first]", "starts with the request itself", "first"),
        ("watermarks['first'] = [x - (1 << q['order']) + q['order'] for x in first]", "order was added instead", "first"),
        ("watermarks['second'] = first", "pages_min, not with pages_low", "second"),
        ("watermarks['first'] = second", "", "first"),
        ("watermarks['first'] = [x // 2 + (1 << q['order'] - 1) for x in first]", "pages_low, not with pages_min", "first"),
        ("first.pop()", "which zones this request may use", "first"),
        ("watermarks['zone'] = next(z for z, x in zip(zonelist, first) if q['free'][z] >= x)", "not >=", "zone"),
    ],
    "trace": [
        ("trace['frames'] = trace['frames'][:-1]", "more allocations", "frames"),
        ("trace['frames'][0] += 1", "Entry 1 is the first", "frames"),
        ("trace['splits'] = [[p, o - 1] for p, o in trace['splits']]", "which block is cut", "splits"),
        ("trace['splits'] = trace['splits'][:1]", "Every cut counts", "splits"),
        ("trace['merges'] = [[p, o - 1] for p, o in trace['merges']]", "new order", "merges"),
        ("trace['merges'] = trace['merges'][-1:]", "Every step of a merge", "merges"),
        ("trace['lists'] = {o: x[::-1] for o, x in lists.items()}", "the head comes first", "lists"),
        ("trace['lists'] = {}", "Look again at order", "lists"),
        ("trace = [trace]", "must be a dict", "frames"),
    ],
    "policy": [
        ("policy['newest'], policy['oldest'] = policy['oldest'], policy['newest']", "another of the three policies", "newest"),
        ("policy['lowest'] = policy['newest']", "another of the three policies", "lowest"),
        ("policy['lowest'] *= 100", "not percentages", "lowest"),
        ("policy['oldest'] = 1 - policy['oldest']", "unusable one is asked for", "oldest"),
        ("policy['best'] = next(k for k, x in policy.items() if x == max(newest, oldest))", "*smallest* share", "best"),
        ("policy['best'] = 'lowst'", "", "best"),
        ("policy['newest'] = None", "has not been filled in", "newest"),
        ("policy['newest'] = 'about 77 %'", "", "newest"),
    ],
}


@pytest.mark.parametrize(("task", "line", "words", "criterion"), [(t, *row) for t, rows in AFTER.items() for row in rows])
def test_wrong_figures_are_refused_by_name(task: str, line: str, words: str, criterion: str) -> None:
    result = judge_with(ID, {task: solution(task) + "\n" + line}, only=task)
    assert criterion in lost(result, task)
    assert words in sentences(result, task), sentences(result, task)


FLAWS = [("keep", "lower", "lower half"), ("put", "tail", "adds at the head"), ("take", "lowest", "not sorted"),
         ("levels", 1, "after one step")]


@pytest.mark.parametrize(("knob", "value", "words"), FLAWS)
def test_a_zone_worked_with_a_misunderstanding(knob: str, value: object, words: str) -> None:
    for student in map(str, range(40)):  # somebody whose numbers tell this misunderstanding from the others
        question = exercise(ID).task("trace").question(ID, student)
        wrong = ex06_questions.trace_wrong(question, **{knob: value})
        others = [ex06_questions.trace_wrong(question, **{k: v}) for k, v in [*[f[:2] for f in FLAWS], ("take", "tail")] if v != value]
        if wrong and all(o is None or o["frames"] != wrong["frames"] and o["lists"] != wrong["lists"] for o in others):
            break
    result = judge_with(ID, {"trace": f"{solution('trace')}\ntrace.update({wrong!r})"}, only="trace", student=student)
    assert "lists" in lost(result, "trace") and words in sentences(result, "trace"), sentences(result, "trace")


@pytest.mark.parametrize(("student", "quartered", "words"), [("a", True, "quarter of pages_min; this one may wait"),
                                                             ("b", False, "needs only a quarter")])
def test_who_may_go_lower_in_the_second_pass(student: str, quartered: bool, words: str) -> None:
    task = exercise(ID).task("watermarks")
    waits = {"GFP_ATOMIC": False}
    who = next(f"{student}{i}" for i in range(50) if waits.get(task.question(ID, f"{student}{i}")["gfp"], True) == quartered)
    question = task.question(ID, who)
    wrong = ex06_questions.watermark_wrong(question, "second", quarter="always" if quartered else "never")
    result = judge_with(ID, {"watermarks": f"{solution('watermarks')}\nwatermarks['second'] = {wrong!r}"}, only="watermarks", student=who)
    assert lost(result, "watermarks") == {"second"} and words in sentences(result, "watermarks")


@pytest.mark.parametrize(("letters", "words"), [
    ("FKIEHJAB", "MAX_ORDER - 1"), ("FKCEDJAB", "flip one bit"), ("FKCEHJAG", "at the head"), ("FKCHEJAB", "without asking the pair bit"),
    ("FKCEHAJB", "*larger* block"), ("FKCEJHAB", "its list is another one"), ("FCEHJAB", "Nothing counts"), ("FCEHJAKB", "before the loop"),
    ("FKCLHJAB", "the toggled bit that tells"), ("FKBCEHJA", "after the merging is over"), ("FKCEHJA", "missing at the end"), ("", "yet"),
    ("FKCEHJABZ", "no line 'Z'"),
])
def test_wrong_orders_are_refused_by_name(letters: str, words: str) -> None:
    result = judge_with(ID, {"free-order": f"free_order = {list(letters)!r}"}, only="free-order")
    assert result.task("free-order").earned == 0 and words in sentences(result, "free-order"), sentences(result, "free-order")


@pytest.mark.parametrize("answer", ["list('KFCEHJAB')", "'F K C E H J A B'", "tuple('FKCEHJAB')"])
def test_right_orders(answer: str) -> None:
    assert judge_with(ID, {"free-order": f"print('!')\nfree_order = {answer}"}, only="free-order").task("free-order").earned == 3


@pytest.mark.parametrize(("task", "line"), [
    ("place", "place = {k: tuple(v) for k, v in place.items()}; print(place)"),
    ("watermarks", "import warnings; warnings.warn('w'); watermarks['extra'] = 1"),
    ("trace", "trace['lists'] = {str(o): x for o, x in lists.items() if x}"),
    ("policy", "policy['newest'] = round(policy['newest'], 3)"),
])
def test_other_right_forms(task: str, line: str) -> None:
    assert judge_with(ID, {task: solution(task) + "\n" + line}, only=task).task(task).earned == exercise(ID).task(task).points


# --- forgeries -----------------------------------------------------------------------------------------------------------------------

FORGERIES = {
    "claims without deeds": """
class Freeing(BuddyBase):
    def free_pages_ok(self, zone, pfn, order):
        zone.free_pages += 1 << order
        zone.free_area[order].blocks.insert(0, pfn)  # not through a primitive: nobody saw it
""",
    "the core, imported": """
from vmlab.mm.page_alloc import PageAllocator
class Freeing(BuddyBase):
    def free_pages_ok(self, zone, pfn, order):
        PageAllocator().free_pages_ok(pfn, order)
""",
    "the public answers, kept": """
from vmlab.course.kit import buddy
class Freeing(BuddyBase):
    seen = {}
    def free_pages_ok(self, zone, pfn, order):
        self.decisions += self.seen.get((zone.start_pfn, pfn, order), [["list_add", order, pfn]])
        zone.free_pages += 1 << order
""",
    "a log that repeats itself": """
class Freeing(BuddyBase):
    def free_pages_ok(self, zone, pfn, order):
        self.decisions = [["list_add", order, pfn]] * 2
""",
    "a judge's own module, replaced": """
import sys, vmlab.course.kit.buddy as kit
kit.drive_freeing = lambda namespace, data: [{"returned": None, "did": [], "free_pages": 0, "bug": None} for _ in data["ops"]]
class Freeing(BuddyBase):
    pass
""",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_decisions_gain_nothing(name: str) -> None:
    result = judge_with(ID, {"freeing": FORGERIES[name]}, only="freeing")
    gained = {c.id for c in result.task("freeing").criteria if c.ok}
    assert gained <= {"pages"}, sentences(result, "freeing")  # counting pages needs no list, and may be right


# --- the oracle, the plug and the policies -------------------------------------------------------------------------------------------


def test_bench_and_an_allocator_without_a_flaw_agree() -> None:
    """Two independent implementations, the core's and the kit's, over many zones."""
    for seed in range(60):
        r = random.Random(seed)
        bench = ex06_bench.churned(r, r.choice([0, 37, 4096]), r.choice([32, 100, 700]), steps=80)
        live = bench.live()
        r.shuffle(live)
        ops = [["free_pages_ok", *block] for block in live[:6]] + [["rmqueue", r.randrange(5)] for _ in range(6)]
        data = {"zone": bench.state(), "ops": ops}
        mine, right = ex06_flawed.outcome(data), ex06_bench.truth(data)
        assert mine == right


def own() -> type[BuddyBase]:
    """The class of the solution notebook."""
    space: dict[str, object] = {"BuddyBase": BuddyBase, "MAX_ORDER": MAX_ORDER}
    exec(solution("allocating") + "\n" + solution("freeing") + "\nclass MyBuddy(Freeing, Allocating): pass", space)
    found = space["MyBuddy"]
    assert isinstance(found, type) and issubclass(found, BuddyBase)
    return found


@pytest.mark.parametrize("options", [{"ram": "16M"}, {"ram": "64M"}, {"ram": "256M", "highmem_pages": 12345},
                                     {"nodes": [(0, 4096, 4096), (8192, 0, 4096)]}], ids=str)
def test_own_allocator_boots_the_machine_to_the_same_bits(options: dict[str, object]) -> None:
    mine, core = boot_with(own(), **options), vmlab.boot(**options)  # type: ignore[arg-type]
    assert not vmlab.compare(mine, core)
    runs = [m.run(vmlab.workload("mixed", seed=6, n=2000)) for m in (mine, core)]
    assert [p.pfn for p in runs[0].live.values()] == [p.pfn for p in runs[1].live.values()]
    assert not vmlab.compare(mine, core) and mine.mem.count == core.mem.count and mine.mem.flags == core.mem.flags
    for a, b in zip(mine.zones, core.zones, strict=True):
        assert [x.map for x in a.free_area] == [x.map for x in b.free_area]
    mine.check()


def test_own_allocator_can_be_recorded_and_copied() -> None:
    m = boot_with(own(), ram="16M")
    with m.record() as tape:
        m.run(vmlab.workload("devices", seed=2, n=200))
    assert len(tape) > 400 and not vmlab.compare(tape.seek(len(tape) - 1), m) and not vmlab.compare(m.copy(), m)


def test_an_allocator_that_misbehaves_is_stopped_with_a_sentence() -> None:
    class Greedy(own()):  # type: ignore[misc]
        def rmqueue(self, zone: Zone, order: int) -> int:
            return zone.start_pfn + 1

    with pytest.raises(vmlab.KernelBug, match="not a block it may give away"):
        boot_with(Greedy, ram="16M").alloc_pages(order=2)

    class Blind(own()):  # type: ignore[misc]
        def free_pages_ok(self, zone: Zone, pfn: int, order: int) -> None:
            self.toggle_pair(zone, 9, 0)

    with pytest.raises(BuddyBug, match="order 9 has no bitmap"):
        boot_with(Blind, ram="16M")
    with pytest.raises(TypeError, match="derived from BuddyBase"):
        boot_with(int)  # type: ignore[arg-type]


def test_policies_differ_and_the_kernels_own_is_the_kernels() -> None:
    figures = ex06_questions.policy_figures(11)
    assert figures["lowest"].unusable < min(figures["newest"].unusable, figures["oldest"].unusable)
    assert figures["lowest"].served > figures["newest"].served
    assert len({f.free_pages for f in figures.values()}) == 1
    kernel, newest = vmlab.boot(ram="32M"), vmlab.boot(ram="32M", page_allocator=NewestFirst)
    for m in (kernel, newest):
        m.run(vmlab.workload("mixed", seed=3, n=1500))
    assert not vmlab.compare(kernel, newest)


def test_a_policy_must_choose_among_what_it_is_shown() -> None:
    class Wrong(Policy):
        def choose(self, blocks: list[int]) -> int:
            return blocks[0] + 1

    with pytest.raises(ValueError, match="none of the"):
        measure(Wrong, 1)
