"""Counters of one workload on two kernels, drawn by bqplot: a chart for each counter, a line for each kernel."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import bqplot
import ipywidgets as widgets

from .palette import GROUND, SKY, YELLOW

if TYPE_CHECKING:
    from ..trace.compare26 import KernelComparison

__all__ = ["Plot", "plot"]

STYLES = ((SKY, "solid", "━━━ solid"), (YELLOW, "dashed", "┅┅┅ dashed"))  # colour is never alone: so is the dash


class Plot(widgets.VBox):  # type: ignore[misc]
    """Charts one below the other, and what they show in words: ``text_alternative``."""

    def __init__(self, title: str, key: str, charts: Sequence[Any], words: str) -> None:
        self.text_alternative = words
        head = widgets.HTML(f"<b>{escape(title)}</b> &nbsp; {escape(key)}")
        super().__init__([head, *charts, widgets.HTML(f'<p class="vml-chart-words">{escape(words)}</p>')])


def plot(found: KernelComparison, *counters: str) -> Plot:
    """Counters over operations, a chart for each. Raises KeyError for an unknown counter.

    found: what ``vmlab.compare(workload, kernels=…)`` returned. counters: names from its rows; "free" if none is given.
    """
    names = counters or ("free",)
    charts = [_chart(found, counter) for counter in names]
    key = ", ".join(f"{run.kernel}: {mark}" for run, (_, _, mark) in zip(found.runs, STYLES, strict=True))
    return Plot(found.workload, key, charts, " ".join(_words(found, counter) for counter in names))


def _chart(found: KernelComparison, counter: str) -> Any:
    top = max([1, *(value for run in found.runs for value in run.series[counter])])
    x, y = bqplot.LinearScale(), bqplot.LinearScale(min=0, max=float(top))
    lines = [
        bqplot.Lines(x=run.operations, y=run.series[counter], scales={"x": x, "y": y}, colors=[colour], line_style=dash)
        for run, (colour, dash, _) in zip(found.runs, STYLES, strict=True)
    ]
    axes = [
        bqplot.Axis(scale=x, label="operations", grid_lines="none"),
        bqplot.Axis(scale=y, orientation="vertical", grid_lines="dashed", grid_color="#4d5560"),
    ]
    return bqplot.Figure(
        marks=lines,
        axes=axes,
        title=counter,
        animation_duration=0,
        background_style={"fill": GROUND},
        fig_margin={"top": 52, "bottom": 44, "left": 60, "right": 20},
        layout={"width": "auto", "height": "240px", "min_width": "320px"},
    )


def _words(found: KernelComparison, counter: str) -> str:
    """One sentence about a chart, from its data."""
    parts = []
    for run in found.runs:
        values = list(run.series[counter])
        ends = f"from {values[0]:,} to {values[-1]:,}, least {min(values):,}, most {max(values):,}" if values else "nothing was counted"
        parts.append(f"{run.kernel} {ends}")
    return f"{counter}: {'; '.join(parts)}."
