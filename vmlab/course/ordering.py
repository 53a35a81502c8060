"""The Parsons widget: lines of an algorithm, some of them wrong, to be put in order with buttons or keys.

The widget only helps: what counts is the list of letters in the solution cell, which it spells out to be copied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from vmlab.course.exercise import Task, Value
from vmlab.course.store import Store

STATIC = Path(__file__).parent / "static"


class Ordering(anywidget.AnyWidget):
    """Lines to choose and order; `order` is the list of letters chosen so far."""

    _esm = STATIC / "ordering.js"
    _css = STATIC / "course.css"
    title = traitlets.Unicode().tag(sync=True)
    variable = traitlets.Unicode().tag(sync=True)
    lines = traitlets.List(trait=traitlets.List(trait=traitlets.Unicode())).tag(sync=True)
    order = traitlets.List(trait=traitlets.Unicode()).tag(sync=True)

    @property
    def text_alternative(self) -> str:
        """The same lines and the order so far, as text."""
        rows = [f"  {letter}  {line}" for letter, line in self.lines]
        return "\n".join([f"{self.title}: bring these lines into order (not all belong)", *rows, self.assignment])

    @property
    def assignment(self) -> str:
        """What to write into the solution cell."""
        return f"{self.variable} = {list(self.order)!r}"

    def __repr__(self) -> str:
        return self.text_alternative


def make(path: str, task: Task, who: str) -> Any:
    """The widget of a Parsons task, with the order this student left it in."""
    store = Store("orders", who)
    letters = [letter for letter, _ in task.lines]
    kept = store.data.get(path, [])
    order = [x for x in kept if x in letters] if isinstance(kept, list) else []
    variable = task.ask.name if isinstance(task.ask, Value) else "order"
    widget = Ordering(title=task.title, variable=variable, lines=[list(x) for x in task.lines], order=list(dict.fromkeys(order)))
    widget.observe(lambda change: store.put(path, list(change["new"])), names="order")
    return widget
