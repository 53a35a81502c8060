"""A task's result for people: as HTML for the notebook and the feedback page, and as plain text with the same words."""

from __future__ import annotations

import html
from collections.abc import Sequence

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


def _wrong(criterion: CriterionResult) -> list[Evidence]:
    seen: set[tuple[str, str, str]] = set()
    out = []
    for item in criterion.evidence:
        key = (item.tested, item.note, item.mistake)
        if not item.ok and key not in seen:
            seen.add(key)
            out.append(item)
    return out[:4]


def _shared(task: TaskResult) -> list[Evidence]:
    """What is wrong with every criterion alike (no answer, an exception, an endless loop): to be told once."""
    lists = [_wrong(c) for c in task.criteria]
    first = [(e.tested, e.note, e.data, e.got, e.expected, e.mistake) for e in lists[0]]
    same = all([(e.tested, e.note, e.data, e.got, e.expected, e.mistake) for e in x] == first for x in lists)
    return lists[0] if len(lists) > 1 and first and same else []


def _said(item: Evidence) -> str:
    tested = f"hidden inputs ({item.tested})" if item.hidden else item.tested
    return tested


def _text_items(items: Sequence[Evidence]) -> list[str]:
    lines = []
    for item in items:
        lines.append(f"      tested:   {_said(item)}{' ' + item.data if item.data else ''}")
        if item.expected:
            lines.append(f"      expected: {item.expected}")
        if item.got:
            lines.append(f"      got:      {item.got}")
        lines += [f"      {x}" for x in (item.mistake, item.note) if x]
    return lines


def _html_items(wrong: Sequence[Evidence]) -> str:
    e, out = html.escape, []
    notes = list(dict.fromkeys(x for item in wrong if not item.hidden for x in (item.mistake, item.note) if x))
    notes += [f"With {_said(item)}: {item.mistake or item.note or 'the answer was wrong.'}" for item in wrong if item.hidden]
    out += [f'<div style="margin:.2em 0"><em>{e(x)}</em></div>' for x in notes]
    rows = [item for item in wrong if item.expected or item.got or item.data]
    if rows:
        heads = "".join(f'<th scope="col" style="{CELL}">{h}</th>' for h in ("tested", "with", "expected", "got"))
        out.append(f'<table style="border-collapse:collapse;margin:.3em 0"><thead><tr>{heads}</tr></thead><tbody>')
        for item in rows:
            cells = (e(_said(item)), *(f"<code>{e(x)}</code>" if x else "–" for x in (item.data, item.expected, item.got)))
            out.append("<tr>" + "".join(f'<td style="{CELL}">{c}</td>' for c in cells) + "</tr>")
        out.append("</tbody></table>")
    return "".join(out)


def text(task: TaskResult, tail: Sequence[str] = ()) -> str:
    """The report as plain text."""
    lines, shared = [headline(task)], _shared(task)
    lines += _text_items(shared)
    for criterion in task.criteria:
        lines.append(f"  {criterion_line(criterion)}")
        lines += [] if shared else _text_items(_wrong(criterion))
    lines += [f"  {x}" for x in [*task.messages, *tail] if x]
    return "\n".join(lines)


def as_html(task: TaskResult, tail: Sequence[str] = ()) -> str:
    """The report as accessible HTML: a status region, a list of criteria, a table of tested, expected and got where something is wrong."""
    edge = GOOD if task.earned >= task.points else PART if task.earned > 0 else POOR
    e = html.escape
    shared = _shared(task)
    out = [f'<section role="status" aria-live="polite" aria-label="Result of {e(task.title)}" style="{STYLE.format(edge=edge)}">',
           f"<strong>{e(headline(task))}</strong>{_html_items(shared)}<ul style=\"margin:.3em 0 .3em 1.2em;padding:0\">"]
    for criterion in task.criteria:
        out.append(f"<li>{e(criterion_line(criterion))}{'' if shared else _html_items(_wrong(criterion))}</li>")
    out.append("</ul>")
    out += [f'<div style="margin:.2em 0">{e(x)}</div>' for x in [*task.messages, *tail] if x]
    out.append("</section>")
    return "".join(out)
