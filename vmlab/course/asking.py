"""The widget behind `course.predict`: a question, choices or a field, a button, and a region that screen readers follow."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

STATIC = Path(__file__).parent / "static"


class Asking(anywidget.AnyWidget):
    """Shows a question and sends back the committed answer in `answer`; `outcome` is what reveal() said."""

    _esm = STATIC / "asking.js"
    _css = STATIC / "course.css"
    question = traitlets.Unicode().tag(sync=True)
    choices = traitlets.List(trait=traitlets.Unicode()).tag(sync=True)
    unit = traitlets.Unicode().tag(sync=True)
    answer = traitlets.Unicode().tag(sync=True)
    outcome = traitlets.Unicode().tag(sync=True)
    fallback = ""

    @property
    def text_alternative(self) -> str:
        """The question, what is offered and what was committed, as text."""
        return self.fallback or self.question

    def __repr__(self) -> str:
        return self.text_alternative
