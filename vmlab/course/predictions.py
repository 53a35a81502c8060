"""Predict, then run: a question before a demonstration, the student's answer kept, and later compared with what the machine did.

The answer lives in `.vmlab/predictions-<student>.json` beside the notebook, so it survives restarts and needs no widget: without one
(or executed headless) everything still runs, and an unanswered question says "no prediction yet".
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmlab.course import incell
from vmlab.course.store import Store

STATIC = Path(__file__).parent / "static"
_live: dict[str, Any] = {}  # the widget on screen for each prediction, so that reveal() can speak through it


def _number(value: Any) -> float | None:
    """A number from what somebody typed ("4096", "0x1000", "1,024", "1 024", "12 %"), None when it is not one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    text = "".join(str(value).split()).replace(",", "").replace("_", "").rstrip("%")  # split() takes narrow spaces away, too
    try:
        return float(int(text, 0))
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


class Prediction:
    """One question: `answer` is what the student committed to ("" for nothing yet). Made by `course.predict`."""

    def __init__(self, key: str, question: str, choices: Sequence[str], unit: str) -> None:
        self.key, self.question, self.choices, self.unit = key, question, list(choices), unit
        self._store = Store("predictions", incell.student())
        self.widget: Any = None

    @property
    def answer(self) -> str:
        """What was committed, "" for nothing yet."""
        kept = self._store.data.get(self.key)
        answer = kept.get("answer", "") if isinstance(kept, dict) else ""
        return answer if isinstance(answer, str) else ""

    def commit(self, answer: object) -> None:
        """Keep an answer (what the button does; also for use without widgets). Raises ValueError for a choice that is not offered."""
        text = str(answer).strip()
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r} is not one of the choices: {', '.join(self.choices)}")
        self._store.put(self.key, {"question": self.question, "answer": text, "truth": None, "right": None})
        if self.widget is not None:
            self.widget.answer = text

    def reveal(self, truth: object, because: str = "", tolerance: float = 0.0) -> None:
        """Compare the kept answer with `truth`, computed live, and show both; `because` explains, `tolerance` is relative."""
        right = self.is_right(truth, tolerance)
        shown = f"{truth}{' ' + self.unit if self.unit else ''}"
        e = html.escape
        if not self.answer:
            text = f"No prediction yet. Commit one above, then run this cell again. The machine says: {shown}. {because}".strip()
            inner = ("<strong>No prediction yet.</strong> Commit one above, then run this cell again."
                     f"<details><summary>Show what the machine says</summary><strong>{e(shown)}</strong> {e(because)}</details>")
            edge = "#767676"
        else:
            word = "as you predicted" if right else "not what you predicted"
            text = f"You predicted {self.answer}; the machine says {shown}: {word}. {because}".strip()
            inner = (f"You predicted <strong>{e(self.answer)}</strong>; the machine says <strong>{e(shown)}</strong>: "
                     f"<strong>{'✓' if right else '✗'} {word}</strong>. {e(because)}")
            edge = "#009E73" if right else "#D55E00"
            kept = {"question": self.question, "answer": self.answer, "truth": str(truth), "right": right}
            self._store.put(self.key, kept)
        incell.show(f'<div role="status" aria-live="polite" class="vmlab-reveal" style="border-left:4px solid {edge};padding:.4em .8em">'
                    f"{inner}</div>", text)
        if self.widget is not None:
            self.widget.outcome = text if self.answer else ""

    def is_right(self, truth: object, tolerance: float = 0.0) -> bool:
        """Whether the kept answer agrees with `truth`: as numbers when both are numbers, else as texts."""
        mine, real = _number(self.answer.strip().removesuffix(self.unit)) if self.answer else None, _number(truth)
        if mine is not None and real is not None:
            return abs(mine - real) <= tolerance * abs(real)
        return bool(self.answer) and self.answer.casefold() == str(truth).strip().casefold()

    def __repr__(self) -> str:
        options = f" [{' / '.join(self.choices)}]" if self.choices else f" ({self.unit})" if self.unit else ""
        return f"Your prediction: {self.question}{options}\n{self.answer or 'no prediction yet'}"


def predict(key: str, question: str, choices: Sequence[object] = (), unit: str = "") -> Prediction:
    """Ask for a prediction: `key` names it (unique in the course), `choices` are offered, or a free number or text is asked for
    (`unit` is shown behind the field). Shows the question at once; `reveal(truth)` in a later cell compares."""
    prediction = Prediction(key, question, [str(c) for c in choices], unit)
    if incell._shell() is None:
        return prediction
    try:
        from vmlab.course.asking import Asking
    except ImportError:
        incell.show(f"<p>{html.escape(repr(prediction))}</p>", repr(prediction))
        return prediction
    from IPython.display import display

    old = _live.pop(key, None)
    if old is not None:
        old.close()
    widget = Asking(question=question, choices=prediction.choices, unit=unit, answer=prediction.answer)
    widget.fallback = repr(prediction)
    prediction.widget = _live[key] = widget

    def keep(change: dict[str, Any]) -> None:
        if change["new"] and change["new"] != prediction.answer:
            prediction.commit(change["new"])

    widget.observe(keep, names="answer")
    display(widget)
    return prediction
