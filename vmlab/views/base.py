"""What every picture shares: one ES module and one style sheet a view, a text alternative, a data table, refreshing.

A view reads a machine or a tape and puts what it finds into traits; its JavaScript draws the traits. No simulator
logic lives here. ``static/common.js`` and ``static/common.css`` are put in front of each view's own files.
"""

from __future__ import annotations

import functools
import json
import pathlib
import weakref
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from . import palette

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..machine import Machine

__all__ = ["View", "css", "esm", "number"]

STATIC = pathlib.Path(__file__).with_name("static")


@functools.cache
def esm(*names: str) -> str:
    """An ES module: the palette, what all views share, and a view's own files, which go by *names*."""
    colours = f"const PALETTE = {json.dumps(palette.for_javascript())};\n"
    return colours + "".join((STATIC / f"{name}.js").read_text() for name in ("common", *names))


@functools.cache
def css(name: str) -> str:
    """The style sheet of the view *name*, after the common one."""
    own = STATIC / f"{name}.css"
    return (STATIC / "common.css").read_text() + (own.read_text() if own.exists() else "")


def number(value: int) -> str:
    """A count as people read it, with thin spaces: 262 144."""
    return f"{value:,}".replace(",", "\u202f")


class View(anywidget.AnyWidget):
    """A picture. ``text_alternative`` says in words what it shows, and ``table`` in numbers; both are made from the data."""

    text_alternative = traitlets.Unicode(help="What the picture shows, in words, from the data.").tag(sync=True)
    table = traitlets.Dict(help="caption, head and rows of the data table.").tag(sync=True)
    serial = traitlets.Int(0, help="Goes up by one with each change that was sent.").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._stop_watching: Callable[[], None] = _after_each_cell(self)

    def refresh(self) -> None:
        """Read the machine again and redraw. Happens by itself after each notebook cell."""
        raise NotImplementedError

    def close(self) -> None:
        """Take the picture away for good."""
        getattr(self, "_stop_watching", lambda: None)()  # not there yet when a subclass's __init__ has raised
        super().close()

    def __repr__(self) -> str:  # the widget's own would print every byte of the map
        return f"<{type(self).__name__}: {self.text_alternative}>"


def _after_each_cell(view: View) -> Callable[[], None]:
    """Have IPython refresh *view* after every cell, so that a picture never shows an old state. Returns what ends it."""
    try:
        from IPython import get_ipython
    except ImportError:
        return lambda: None
    shell = get_ipython()
    if shell is None:
        return lambda: None
    held = weakref.ref(view)

    def refresh(_result: Any = None) -> None:
        alive = held()
        if alive is None:
            stop()
        else:
            alive.refresh()

    def stop() -> None:
        if refresh in shell.events.callbacks["post_run_cell"]:
            shell.events.unregister("post_run_cell", refresh)

    shell.events.register("post_run_cell", refresh)
    return stop


def zone_rows(machine: Machine) -> list[dict[str, Any]]:
    """The zones as a view needs them: names, frames (start, end exclusive), index in ``zone_table``."""
    several = len(machine.pgdats) > 1
    return [
        {"index": z.index, "kind": z.name, "name": f"{z.name}, node {z.pgdat.nid}" if several else z.name, "node": z.pgdat.nid,
         "start": z.start_pfn, "end": z.end_pfn}
        for z in machine.zones
    ]
