"""Charts over the time of a tape, drawn by bqplot: free-list lengths, and the fragmentation index."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import bqplot
import ipywidgets
import traitlets

from ..mm.mmzone import MAX_ORDER
from .palette import GROUND, ORDER

if TYPE_CHECKING:
    from .history import Sample

__all__ = ["BuddyCharts"]

DASHES = ["solid", "dashed", "dotted", "dash_dotted"]  # with the colour, so that colour is never alone
INDEX_ORDERS = [1, 3, 5, 9]
WHITE = "#ffffff"


class BuddyCharts(ipywidgets.VBox):  # type: ignore[misc]
    """Two charts side by side; the order that is looked at stands out, the others stay in the background."""

    text_alternative = traitlets.Unicode(help="What the charts show, in words, from the data.")

    def __init__(self) -> None:
        self._axes: list[list[Any]] = []
        self._x = bqplot.LinearScale()
        self._lengths = bqplot.LinearScale(min=0)
        self._index = bqplot.LinearScale(min=0, max=1)
        self._lines = [self._line(self._lengths, ORDER[order], DASHES[order % 4]) for order in range(MAX_ORDER)]
        self._ends = self._labels(self._lengths)
        self._curves = [self._line(self._index, ORDER[order], DASHES[i]) for i, order in enumerate(INDEX_ORDERS)]
        self._tips = self._labels(self._index)
        self._here = [self._line(scale, WHITE, "solid", 1.5, "linear") for scale in (self._lengths, self._index)]
        figures = [
            self._figure("Blocks on the free lists, by order (log scale)", self._lengths, [*self._lines, self._ends, self._here[0]], "d"),
            self._figure("Fragmentation index, by order asked for", self._index, [*self._curves, self._tips, self._here[1]], ".1f"),
        ]
        self._words = ipywidgets.HTML()
        super().__init__([ipywidgets.HBox(figures, layout={"flex_flow": "row wrap"}), self._words])
        self.add_class("vml-charts")

    def _line(self, y: Any, colour: str, dash: str, width: float = 1.5, interpolation: str = "step-after") -> Any:
        return bqplot.Lines(x=[0, 0], y=[0, 0], scales={"x": self._x, "y": y}, colors=[colour], line_style=dash, stroke_width=width,
                            interpolation=interpolation)

    def _labels(self, y: Any) -> Any:
        scales = {"x": self._x, "y": y}
        return bqplot.Label(x=[0], y=[0], text=[""], scales=scales, default_size=11, x_offset=4, y_offset=-5, colors=[WHITE])

    def _figure(self, title: str, y: Any, marks: list[Any], form: str) -> Any:
        axes = [
            bqplot.Axis(scale=self._x, label="event", label_offset="32px", tick_format="d", grid_lines="none"),
            bqplot.Axis(scale=y, orientation="vertical", tick_format=form, grid_lines="dashed", grid_color="#4d5560"),
        ]
        self._axes.append(axes)
        return bqplot.Figure(
            marks=marks, axes=axes, title=title, animation_duration=0, padding_x=0, padding_y=0, background_style={"fill": GROUND},
            fig_margin={"top": 34, "bottom": 38, "left": 46, "right": 14},
            layout={"width": "auto", "flex": "1 1 380px", "height": "230px", "min_width": "320px"})

    def show(self, samples: list[Sample], zone: int, order: int, position: int) -> None:
        """Draw *samples*; *order* stands out, *position* is marked."""
        events = [s.event for s in samples]
        if len(events) == 1:
            events = [events[0], events[0] + 1]
            samples = samples * 2
        empty = [0] * MAX_ORDER
        for i, line in enumerate(self._lines):
            lengths = [squeezed(s.lengths.get(zone, empty)[i]) for s in samples]
            with line.hold_sync():
                line.x, line.y = events, lengths
                line.stroke_width, line.opacities = (3.5, [1.0]) if i == order else (1.5, [0.85])
        top = max(1, *(n for s in samples for n in s.lengths.get(zone, empty)))
        ticks = [n for n in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000) if n <= top * 1.5]
        high = squeezed(max(top, ticks[-1]))
        self._lengths.max = high * 1.05
        self._axes[0][1].tick_labels = {f"{squeezed(n):.10g}": f"{n:,}" for n in ticks}  # keys as the browser writes numbers
        self._x.min, self._x.max = events[0], events[-1] + (events[-1] - events[0]) * 0.14  # room for the labels at the line ends
        for (across, upwards), marks in zip(self._axes, ([squeezed(n) for n in ticks], [0, 0.2, 0.4, 0.6, 0.8, 1.0]), strict=True):
            across.tick_values = [n for n in nice(events[-1]) if n >= events[0]]
            upwards.tick_values = marks
        last = samples[-1].lengths.get(zone, empty)
        self._label(self._ends, events[-1], [(squeezed(n), str(i)) for i, n in enumerate(last)], high)
        tips: list[tuple[float, str]] = []
        for wanted, curve in zip(INDEX_ORDERS, self._curves, strict=True):
            values = [s.fragmentation(zone, wanted) for s in samples]
            with curve.hold_sync():
                curve.x, curve.y = events, values
                curve.stroke_width = 3.5 if wanted == order else 1.8
            tips.append((values[-1], str(wanted)))
        self._label(self._tips, events[-1], tips, 1.0)
        self._span = high
        self.mark(position)
        first = samples[0]
        self.text_alternative = (
            f"Over {len(samples)} samples up to event {events[-1]}, the order-{order} list went from "
            f"{first.lengths.get(zone, empty)[order]} to {last[order]} blocks; the fragmentation index for order {order} "
            f"from {first.fragmentation(zone, order):.2f} to {samples[-1].fragmentation(zone, order):.2f}.")
        self._words.value = f'<p class="vml-chart-words">{self.text_alternative} Numbers at the line ends are orders.</p>'

    @staticmethod
    def _label(mark: Any, x: int, ends: list[tuple[float, str]], top: float) -> None:
        """Write each line's order at its end; lines that end at the same height share one label."""
        groups: list[tuple[float, list[str]]] = []
        for value, text in sorted(ends):
            if groups and value - groups[-1][0] < top * 0.07:
                groups[-1][1].append(text)
            else:
                groups.append((value, [text]))
        with mark.hold_sync():
            mark.x, mark.y = [x] * len(groups), [g[0] for g in groups]
            mark.text = [" ".join(g[1]) if len(g[1]) < 4 else f"{g[1][0]} {g[1][1]} … {g[1][-1]}" for g in groups]

    def mark(self, position: int) -> None:
        """Move the vertical line that shows where in time the picture stands."""
        for line, top in zip(self._here, (self._span * 1.05, 1.0), strict=True):
            with line.hold_sync():
                line.x, line.y = [position, position], [0, top]

    _span = 1.0


def squeezed(n: int) -> float:
    """Where a count stands on the chart: a logarithm that has a place for none, rounded as the browser writes it."""
    return round(math.log2(1 + n), 6)


def nice(top: float) -> list[int]:
    """About five round numbers from 0 up to *top*."""
    step = 1
    while top / step > 5:
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return list(range(0, int(top) + 1, step))
