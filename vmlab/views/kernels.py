"""Counters of one workload on two kernels, drawn by bqplot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bqplot

from .palette import GROUND, SKY, YELLOW

if TYPE_CHECKING:
    from ..trace.compare26 import KernelComparison

__all__ = ["plot"]

DASHES = ("solid", "dashed", "dotted", "dash_dotted")


def plot(found: KernelComparison, *counters: str) -> Any:
    """Counters over operations, a line for each kernel and counter. Raises KeyError for an unknown counter.

    found: what ``vmlab.compare(workload, kernels=…)`` returned. counters: names from its rows; "free" if none is given.
    """
    x, y = bqplot.LinearScale(), bqplot.LinearScale(min=0)
    names = counters or ("free",)
    lines = [
        bqplot.Lines(
            x=run.operations,
            y=run.series[counter],
            scales={"x": x, "y": y},
            colors=[colour],
            line_style=DASHES[i % len(DASHES)],
            labels=[f"{counter}, {run.kernel}"],
            display_legend=True,
        )
        for i, counter in enumerate(names)
        for run, colour in zip(found.runs, (SKY, YELLOW), strict=True)
    ]
    axes = [
        bqplot.Axis(scale=x, label="operations", grid_lines="none"),
        bqplot.Axis(scale=y, orientation="vertical", grid_lines="dashed", grid_color="#4d5560"),
    ]
    return bqplot.Figure(
        marks=lines,
        axes=axes,
        title=f"{found.workload}: {', '.join(names)}",
        legend_location="top-left",
        animation_duration=0,
        background_style={"fill": GROUND},
        layout={"width": "auto", "height": "300px", "min_width": "320px"},
    )
