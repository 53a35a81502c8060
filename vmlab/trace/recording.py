"""The time machine: record a run, go to any event of it, branch off and do something else.

A tape keeps the *operations* (calls of the machine's methods) and now and then a key frame of
the state. Everything is deterministic, so the events between are made again by replaying; a
tape of a million events is some thirty megabytes.

Only operations through the machine's own methods are recorded. A part of yours must be
deterministic too, and name its own attributes in ``state_names``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from ..machine import Machine, start
from ..mm.events import Event
from ..mm.state import State, capture, restore
from ..mm.task import Task
from .keyframes import KeyFrames

__all__ = ["Op", "Tape", "record"]

KEY_INTERVAL = 1 << 15  # events between key frames at first
MAX_BYTES = 400 << 20  # of key frames; past that every second one is dropped
_NEAR = 4  # states kept near the last seeks
_LONG = 4096  # events into an operation from which on the way back to its start is kept at once


class Op(NamedTuple):
    """One recorded operation: the machine's method, its arguments, and its first event's number."""

    name: str
    args: tuple[Any, ...]
    first_event: int


class _Reached(BaseException):
    """Raised by the replay's listener at the event that was asked for; no kernel code catches it."""


def perform(machine: Machine, name: str, args: tuple[Any, ...]) -> None:
    """Do a recorded operation again; an error it raised then, it raises now, and that is part of the run."""
    try:
        if name == "alloc_pages":
            gfp_mask, order, node, owner = args
            machine.alloc_pages(gfp_mask, order, node=node, owner=owner)
        elif name == "write":
            machine.write(args[0], bytes.fromhex(args[1]))
        elif args and isinstance(args[-1], dict):
            getattr(machine, name)(*args[:-1], **args[-1])
        else:
            getattr(machine, name)(*args)
    except Exception:  # the run went on after it, so does the replay
        pass


class Tape:
    """A recording of a machine, from where it stood when the tape was made.

    ``len(tape)`` is the number of events. ``live`` is the machine being recorded;
    ``machine`` is the one that ``seek`` moves through time.
    """

    def __init__(self, machine: Machine, *, key_interval: int = KEY_INTERVAL, max_bytes: int = MAX_BYTES) -> None:
        if machine.tape is not None:
            raise ValueError("this machine is being recorded already: use its tape, or stop() that first")
        self.live = machine
        self.parent: tuple[Tape, int] | None = None  # the tape this one branched from, and at which event
        self._names: list[str] = []
        self._args: list[tuple[Any, ...]] = []
        self._first = array("Q")
        self._events = 0
        self._fresh: list[Event] = []
        self._keys = KeyFrames(key_interval, max_bytes)
        self._next_key = self._keys.add(0, 0, machine)
        self._replica: Machine | None = None
        self._inside = -1  # the operation the last seek went into
        self._replica_op = -1  # the replica stands before this operation; -1 when inside one
        self._near: OrderedDict[int, State] = OrderedDict()
        self._event_cache: OrderedDict[int, list[Event]] = OrderedDict()
        self._position: int | None = None
        self.recording = False
        self.start()

    # -- recording ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin recording (a new tape does so at once)."""
        if self.recording:
            return
        if self._names:
            raise ValueError("a tape that was stopped stays as it is; record() again for a new one")
        self.recording = True
        self.live.tape = self
        self.live._recorder = self._fresh.append
        self.live.wire()

    def stop(self) -> None:
        """Stop recording; the tape can still be played."""
        if not self.recording:
            return
        self._count()
        self.recording = False
        self.live.tape = None
        self.live._recorder = None
        self.live.wire()

    def __enter__(self) -> Tape:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def begin(self, name: str, args: tuple[Any, ...]) -> None:
        """The machine calls this at the start of each operation."""
        fresh = self._fresh
        events = self._events = self._events + len(fresh)
        fresh.clear()
        if events >= self._next_key:
            self._next_key = self._keys.add(len(self._names), events, self.live)
        self._names.append(name)
        self._args.append(args)
        self._first.append(events)

    def _count(self) -> None:
        self._events += len(self._fresh)
        self._fresh.clear()

    # -- looking ------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of events so far."""
        return self._events + len(self._fresh)

    @property
    def ops(self) -> list[Op]:
        """Every operation, oldest first."""
        return [Op(n, a, f) for n, a, f in zip(self._names, self._args, self._first, strict=True)]

    def op(self, index: int) -> Op:
        """Operation number *index*."""
        return Op(self._names[index], self._args[index], self._first[index])

    @property
    def n_ops(self) -> int:
        """Number of operations."""
        return len(self._names)

    def op_at(self, event: int) -> int:
        """Index of the operation that event number *event* belongs to."""
        self._check(event, low=0)
        return bisect_right(self._first, event) - 1

    def op_end(self, index: int) -> int:
        """Number of the last event of operation *index* (one less than its first, when it made none)."""
        return (self._first[index + 1] if index + 1 < len(self._first) else len(self)) - 1

    def event(self, i: int) -> Event:
        """Event number *i*."""
        k = self.op_at(i)
        return self._events_of(k)[i - self._first[k]]

    def events(self, start: int, stop: int) -> list[Event]:
        """Events number *start* to *stop* - 1."""
        stop = min(stop, len(self))
        found: list[Event] = []
        if start >= stop:
            return found
        k = self.op_at(start)
        while k < len(self._names) and self._first[k] < stop:
            made = self._events_of(k)
            first = self._first[k]
            found += made[max(0, start - first) : stop - first]
            k += 1
        return found

    @property
    def nbytes(self) -> int:
        """About how many bytes the tape holds: key frames and operations."""
        return self._keys.nbytes + 160 * len(self._names) + len(self._first) * 8

    # -- moving through time ------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The event after which :attr:`machine` stands; the last one before any seek."""
        return len(self) - 1 if self._position is None else self._position

    @property
    def machine(self) -> Machine:
        """The machine as it was right after event number :attr:`position`. Look only: to act, branch()."""
        if self._replica is None or self._position is None:
            return self.seek(len(self) - 1)
        return self._replica

    def seek(self, event: int) -> Machine:
        """Go to the state right after event number *event* (-1: before the first). Returns the machine there.

        An event in the middle of an operation shows the machine in the middle of it.
        """
        self._check(event, low=-1)
        if event == self._position and self._replica is not None:
            return self._replica
        if event < 0:
            self._to_op(0)
        else:
            k = bisect_right(self._first, event) - 1
            if event == self.op_end(k):
                self._to_op(self._next_op(event))
            else:
                self._to_op(k)
                self._into(k, event - self._first[k])
        self._position = event
        assert self._replica is not None
        return self._replica

    def at_end(self) -> Machine:
        """The machine after the last operation, one that made no event included. Look only."""
        self._count()
        self._to_op(len(self._names))
        self._position = len(self) - 1
        return self._machine()

    def branch(self, event: int) -> tuple[Machine, Tape]:
        """A new machine, standing at the operation boundary at or before *event*, and its own tape.

        The original run is not touched.
        """
        self._check(event, low=-1)
        k = 0
        if event >= 0:
            k = bisect_right(self._first, event) - 1
            if event == self.op_end(k):
                k = self._next_op(event)
        self._position = None
        self._to_op(k)
        assert self._replica is not None
        machine = self._replica.copy()
        tape = Tape(machine)
        tape.parent = (self, (self._first[k] if k < len(self._first) else len(self)) - 1)
        return machine, tape

    def save(self, path: str | Path) -> None:
        """Write the tape to a file; ``vmlab.load_recording`` reads it."""
        from .tapefile import save

        save(self, path)

    # -- replay -------------------------------------------------------------------------------

    def _check(self, event: int, low: int) -> None:
        self._count()
        if not isinstance(event, int) or not low <= event < self._events:
            raise ValueError(
                f"event {event!r}: this tape has events {low} to {self._events - 1}" if self._events else "this tape has no events yet"
            )

    def _next_op(self, event: int) -> int:
        """The operation that makes the event after *event*; operations between that make none are done by then."""
        return len(self._names) if event + 1 >= self._events else bisect_right(self._first, event + 1) - 1

    def _machine(self) -> Machine:
        if self._replica is None:
            self._replica = self.live.twin()
            self._replica_op = -1
        return self._replica

    def _to_op(self, k: int) -> None:
        """Put the replica right before operation *k*."""
        machine = self._machine()
        key_op = self._keys.before(k)
        state: State | None = None
        for near in self._near:
            if key_op < near <= k:
                key_op, state = near, self._near[near]
        if not key_op <= self._replica_op <= k:
            if state is None:
                state = self._keys.state(key_op)
            restore(machine, state)
            self._replica_op = key_op
        while self._replica_op < k:
            perform(machine, self._names[self._replica_op], self._args[self._replica_op])
            self._replica_op += 1

    def _into(self, k: int, offset: int) -> None:
        """From right before operation *k*, go on to its event number *offset*."""
        machine = self._machine()
        again, self._inside = self._inside == k, k
        if k not in self._near and (again or offset >= _LONG):
            self._near[k] = capture(machine)
            while len(self._near) > _NEAR:
                self._near.popitem(last=False)
        left = offset
        sched = machine.more_parts.get("sched")
        held: tuple[Task, dict[str, object]] | None = None

        def listen(event: Event) -> None:
            nonlocal left, held
            if not left:
                if held is None:
                    held = machine.current, dict(vars(sched)) if sched is not None else {}
                    machine.interrupted = True
                raise _Reached
            left -= 1

        self._replica_op = -1
        machine._recorder = listen
        machine.wire()
        try:
            perform(machine, self._names[k], self._args[k])
        except _Reached:
            pass
        finally:
            machine._recorder = None
            machine.wire()
            machine.interrupted = False
        if held is not None and sched is not None:
            # On its way out a kernel says who runs again, and whose turn ended: as it was when it was stopped.
            machine.current = held[0]
            vars(sched).update(held[1], on_event=sched.on_event)

    def _events_of(self, k: int) -> list[Event]:
        """The events operation *k* makes."""
        made = self._event_cache.get(k)
        if made is None:
            if k in self._near or self._replica_op != k:
                self._position = None
                self._to_op(k)
            machine = self._machine()
            made = []
            machine._recorder = made.append
            machine.wire()
            try:
                perform(machine, self._names[k], self._args[k])
            finally:
                machine._recorder = None
                machine.wire()
            self._replica_op = k + 1
            self._position = None
            self._event_cache[k] = made
            while len(self._event_cache) > 2048:
                self._event_cache.popitem(last=False)
        return made

    def __repr__(self) -> str:
        return f"<Tape {len(self)} events, {len(self._names)} operations{', recording' if self.recording else ''}>"


def record(ram: int | str = "64M", *, swap: int | str | None = None, **options: Any) -> Tape:
    """Boot a machine with the tape running from power-on, so that the boot itself can be looked at.

    Takes what ``vmlab.boot`` takes. Returns the tape; the machine is ``tape.live``.
    """
    machine = Machine(ram, **options)
    tape = Tape(machine)
    start(machine, swap)
    return tape
