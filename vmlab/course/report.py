"""A task's result for people: as HTML for the notebook and the feedback page, and as plain text with the same words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from vmlab.course.result import CriterionResult, Evidence, TaskResult

STYLE = ("border-left:4px solid {edge};padding:.4em .8em;margin:.3em 0;font-size:14px;line-height:1.45;"
         "background:var(--jp-layout-color1,#fff);color:var(--jp-content-font-color1,#1a1a1a)")
GOOD, POOR, PART = "#009E73", "#D55E00", "#E69F00"  # Okabe–Ito: bluish green, vermilion, orange; always beside a word
CELL = "border:1px solid #767676;padding:.2em .5em;text-align:left;vertical-align:top"


def number(value: float) -> str:
    """Points without needless zeros."""
    return f"{value:g}"


def points_text(earned: float, of: float) -> str:
    """"2 of 3 points"."""
    return f"{number(earned)} of {number(of)} point{'' if of == 1 else 's'}"


def headline(task: TaskResult) -> str:
    """One line: title, points, and whether it is right."""
    if task.public and task.earned >= task.points:
        return f"{task.title}: all public tests passed"
    if not task.answered and task.earned == 0:
        word = "no answer that can be judged yet"
    else:
        word = "all right" if task.earned >= task.points else "partly right" if task.earned > 0 else "not right yet"
    return f"{task.title}: {word} ({points_text(task.earned, task.points)})"


def criterion_line(criterion: CriterionResult) -> str:
    """One line for a criterion: mark, what it looks at, points, and how many cases held."""
    if not criterion.tried:
        return f"○ not tried here: {criterion.says} (decided with hidden inputs; worth {number(criterion.points)})"
    mark = "✓ passed" if criterion.ok else "✗ not yet"
    tally = f", {criterion.passed} of {criterion.tried} inputs right" if criterion.tried > 1 and not criterion.ok else ""
    return f"{mark}: {criterion.says} ({points_text(criterion.earned, criterion.points)}{tally})"


@dataclass
class Row:
    """One case that went wrong: what was tried, with which data, and for each criterion it decides (name, expected, got)."""

    tested: str
    data: str
    parts: list[tuple[str, str, str]]


@dataclass
class Story:
    """What a report tells, each thing once: sentences for the whole task, sentences for each criterion, and the cases."""

    common: list[str] = field(default_factory=list)
    notes: list[list[str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def _sentences(item: Evidence) -> list[str]:
    return [x for x in (item.mistake, item.note) if x]


def _hidden_notes(hidden: Sequence[Evidence], told: set[str], more: bool) -> list[str]:
    """Of hidden inputs: their kind and the misunderstanding; what was told before is told again only where nothing else (`more`) is."""
    kinds: dict[str, list[str]] = {}
    for item in hidden:
        said = item.mistake or item.note or "the answer was wrong."
        kind = kinds.setdefault("the same." if said in told else said, [])
        if item.tested not in kind:
            kind.append(item.tested)
    told.update(x for item in hidden for x in (item.mistake or item.note,) if x)
    return [f"With hidden inputs ({'; '.join(kind)}): {said}" for said, kind in kinds.items() if not more or said != "the same."]


def _to_show(items: Sequence[Evidence]) -> list[Evidence]:
    """The public cases told of one criterion: the first, and the first that shows another misunderstanding."""
    public = [item for item in items if not item.hidden]
    return public[:1] + [item for item in public[1:] if item.mistake and item.mistake != public[0].mistake][:1]


def _story(task: TaskResult) -> Story:
    """Sort the evidence of what is wrong, so that no sentence and no input is repeated."""
    story = Story()
    wrong = [[item for item in c.evidence if not item.ok] for c in task.criteria]
    said_of = [{x for item in items for x in _sentences(item)} for items in wrong]
    every = set.union(*said_of) if said_of else set()
    whole = {x for x in every if not any(y != x and y.startswith(x) for y in every)}  # "…" and "… in operation 3" are one sentence
    shared = whole.intersection(*said_of) if len(wrong) > 1 else set[str]()
    alike = bool(shared) and every == shared  # no answer, an exception, an endless loop: the inputs do not matter
    story.common = [x for x in dict.fromkeys(x for items in wrong for item in items for x in _sentences(item)) if x in shared]
    told = set(story.common)
    rows: dict[tuple[str, str], Row] = {}
    for criterion, items in zip(task.criteria, wrong, strict=True):
        shown = _to_show(items)
        said = [x for x in dict.fromkeys(x for item in shown for x in _sentences(item)) if x not in told]
        told.update(said)
        hidden = [] if alike else [item for item in items if item.hidden]
        story.notes.append(said + _hidden_notes(hidden, told, bool(shown)))
        for item in shown:
            if item.expected or item.got not in ("", "None") or (item.data and not item.got and not alike):
                row = rows.setdefault((item.tested, item.data), Row(item.tested, item.data, []))
                row.parts.append((criterion.says, item.expected, item.got))
    story.rows = list(rows.values())
    return story


def _grouped(row: Row) -> list[tuple[str, str, str]]:
    """The parts of a case; those that only say that nothing came back are one."""
    real = [part for part in row.parts if part[1] or part[2]]
    return real or [("", "", "")]


def _several(story: Story) -> bool:
    """Whether the cases must say which criterion a value belongs to."""
    return len({part[0] for row in story.rows for part in row.parts}) > 1


def _text_rows(rows: Sequence[Row], several: bool) -> list[str]:
    lines = []
    for row in rows:
        lines.append(f"      tested:   {row.tested}{' ' + row.data if row.data else ''}")
        for says, expected, got in _grouped(row):
            lines += [f"      part:     {says}"] if several and says else []
            lines += [f"      expected: {expected}"] if expected else []
            lines += [f"      got:      {got}"] if got else []
    return lines


def _html_rows(rows: Sequence[Row], several: bool) -> str:
    if not rows:
        return ""
    e = html.escape
    heads = ("tested", "with", "part", "expected", "got") if several else ("tested", "with", "expected", "got")
    out = ['<table style="border-collapse:collapse;margin:.3em 0"><thead><tr>',
           "".join(f'<th scope="col" style="{CELL}">{h}</th>' for h in heads), "</tr></thead>"]
    for row in rows:
        parts = _grouped(row)
        span = f' rowspan="{len(parts)}"' if len(parts) > 1 else ""
        out.append("<tbody>")
        for number, (says, *values) in enumerate(parts):
            cells = [f"<td{span} style=\"{CELL}\">{x}</td>" for x in (e(row.tested), _code(row.data))] if number == 0 else []
            cells += [f'<td style="{CELL}">{e(says) or "–"}</td>'] if several else []
            cells += [f'<td style="{CELL}">{_code(x)}</td>' for x in values]
            out.append(f"<tr>{''.join(cells)}</tr>")
        out.append("</tbody>")
    return "".join([*out, "</table>"])


def _code(value: str) -> str:
    return f"<code>{html.escape(value)}</code>" if value else "–"


def text(task: TaskResult, tail: Sequence[str] = ()) -> str:
    """The report as plain text."""
    story = _story(task)
    lines = [headline(task), *(f"  {x}" for x in story.common)]
    for criterion, notes in zip(task.criteria, story.notes, strict=True):
        lines += [f"  {criterion_line(criterion)}", *(f"      {x}" for x in notes)]
    lines += _text_rows(story.rows, _several(story))
    lines += [f"  {x}" for x in [*task.messages, *tail] if x]
    return "\n".join(lines)


def as_html(task: TaskResult, tail: Sequence[str] = ()) -> str:
    """The report as accessible HTML: a status region, a list of criteria, and one table of the cases that went wrong."""
    edge = GOOD if task.earned >= task.points else PART if task.earned > 0 else POOR
    e, story = html.escape, _story(task)

    def said(notes: Sequence[str]) -> str:
        return "".join(f'<div style="margin:.2em 0"><em>{e(x)}</em></div>' for x in notes)

    out = [f'<section role="status" aria-live="polite" aria-label="Result of {e(task.title)}" style="{STYLE.format(edge=edge)}">',
           f"<strong>{e(headline(task))}</strong>{said(story.common)}<ul style=\"margin:.3em 0 .3em 1.2em;padding:0\">"]
    for criterion, notes in zip(task.criteria, story.notes, strict=True):
        out.append(f"<li>{e(criterion_line(criterion))}{said(notes)}</li>")
    out += ["</ul>", _html_rows(story.rows, _several(story))]
    out += [f'<div style="margin:.2em 0">{e(x)}</div>' for x in [*task.messages, *tail] if x]
    out.append("</section>")
    return "".join(out)
