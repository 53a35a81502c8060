"""Where a view finds its machine: a running machine, or a tape at one of its events."""

from __future__ import annotations

from typing import Any

from ..machine import Machine
from ..mm.events import describe
from ..trace.recording import Tape

__all__ = ["Timeline"]


class Timeline:
    """A machine or a tape, seen the same way. ``tape`` is None for a machine that nobody records."""

    def __init__(self, source: Machine | Tape) -> None:
        if isinstance(source, Tape):
            self.tape: Tape | None = source
            self.live = source.live
        elif isinstance(source, Machine):
            self.tape = None
            self.live = source
        else:
            raise TypeError(f"a view shows a machine (vmlab.boot()) or a tape (vmlab.record()), not {source!r}")

    def __len__(self) -> int:
        return len(self.tape) if self.tape is not None else 0

    @property
    def end(self) -> int:
        """Number of the last event; -1 when there is none."""
        return len(self) - 1

    def at(self, event: int) -> Machine:
        """The machine right after *event*; the running one itself at the end of its own tape."""
        tape = self.tape
        if tape is None or (tape.recording and event >= len(tape) - 1):
            return self.live
        if not len(tape):
            return self.live
        return tape.seek(event)

    def sentence(self, event: int) -> str:
        """What happened at *event*, in words."""
        tape = self.tape
        if tape is None:
            return ""
        if event < 0:
            return "Before the first event."
        return describe(tape.event(event))

    def call(self, event: int) -> str:
        """The operation that *event* is part of, as a reader would type it; empty before the first."""
        if self.tape is None or event < 0:
            return ""
        op = self.tape.op(self.tape.op_at(event))
        return call(op.name, op.args)

    def op_boundary(self, event: int, direction: int) -> int:
        """The last event of the operation before (-1) or after (+1) the one *event* stands in or at the end of; -1 is the start."""
        tape = self.tape
        if tape is None or not len(tape):
            return -1
        if direction > 0:
            return tape.op_end(tape.op_at(min(event + 1, self.end)))
        if event < 0:
            return -1
        return tape.op(tape.op_at(event)).first_event - 1


def call(name: str, args: tuple[Any, ...]) -> str:
    """A recorded operation the way a reader would type it."""
    from ..mm.gfp import gfp_name

    if name == "alloc_pages":
        gfp, order, node, owner = args
        extra = (f", node={node}" if node is not None else "") + (f", owner={owner!r}" if owner else "")
        return f"alloc_pages({gfp_name(gfp)}, {order}{extra})"
    named = args[-1] if args and isinstance(args[-1], dict) else {}
    words = [_short(value) for value in (args[:-1] if named else args)] + [f"{key}={_short(value)}" for key, value in named.items()]
    if name == "syscall" and len(words) > 1:
        return f"process {words[0]}: {args[1]}({', '.join(words[2:])})"
    return f"{name}({', '.join(words)})"


def _short(value: Any) -> str:
    """An argument in a few letters; large numbers are addresses."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 20:
        return f"{value:#x}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:30]}… ({len(value)})" if hasattr(value, "__len__") else f"{text[:40]}…"
