"""Free-list lengths over the time of a tape, sampled at the ends of operations: what the charts show."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..mm.mmzone import MAX_ORDER

if TYPE_CHECKING:
    from ..machine import Machine
    from ..trace.recording import Tape

__all__ = ["History", "Sample"]

LONG = 200  # events of an operation that is sampled inside, too
MOST = 480  # samples kept; a chart has about that many pixels
Lengths = dict[int, list[int]]  # zone index → blocks on each list, order 0 to 9


class Sample(NamedTuple):
    """Free-list lengths of every zone right after *event*."""

    event: int
    lengths: Lengths

    def fragmentation(self, zone: int, order: int) -> float:
        """Share (0 to 1) of the zone's free pages in blocks too small for *order*; 0 when nothing is free."""
        lengths = self.lengths.get(zone, [0] * MAX_ORDER)
        free = sum(n << i for i, n in enumerate(lengths))
        return 1.0 - sum(n << i for i, n in enumerate(lengths) if i >= order) / free if free else 0.0


class History:
    """Samples of a tape that may still grow: at every operation, or every 2nd, 4th … of a long tape."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.samples: list[Sample] = []
        self._next_op = 0
        self._step = 1
        self._between = False  # whether the last sample stands between two steps

    def update(self) -> list[Sample]:
        """Take in what the tape has recorded since the last time. Returns all samples, oldest first."""
        tape = self.tape
        if not self.samples:
            self.samples.append(Sample(-1, _lengths(tape.seek(-1) if len(tape) else tape.live)))
        n_ops = tape.n_ops
        while n_ops - self._next_op > MOST * self._step:
            self._step *= 2
        if self._between:
            self.samples.pop()  # it was there for being the last
        for op in range(self._next_op, n_ops, self._step):
            self._sample(op)
            self._next_op = op + self._step
        while len(self.samples) > MOST:
            self.samples = self.samples[:1] + self.samples[1:-1:2] + self.samples[-1:]
            self._step *= 2
        self._between = n_ops > 0 and self._sample(n_ops - 1)  # the end is always there
        return list(self.samples)

    def _sample(self, op: int) -> bool:
        """Look at the end of operation *op*; False if it made no event that is new."""
        tape = self.tape
        first, event = tape.op(op).first_event, tape.op_end(op)
        if event <= self.samples[-1].event:
            return False
        if event - first >= LONG:
            self._inside(first, event)
        self.samples.append(Sample(event, _lengths(self._machine(event))))
        return True

    def _inside(self, first: int, last: int) -> None:
        """Samples inside a long operation, as the hand-over of boot memory is: counted along its events."""
        every = (last - first) // 100 + 1
        lengths = _lengths(self.tape.seek(first))
        for at, event in enumerate(self.tape.events(first + 1, last), first + 1):
            if event[0] in ("list_add", "list_del", "boot_block"):
                order = 9 if event[0] == "boot_block" else event[2]
                lengths.setdefault(event[1], [0] * MAX_ORDER)[order] += -1 if event[0] == "list_del" else 1
            if at % every == 0 and at > self.samples[-1].event:
                self.samples.append(Sample(at, {zone: list(row) for zone, row in lengths.items()}))

    def _machine(self, event: int) -> Machine:
        tape = self.tape
        return tape.live if tape.recording and event == len(tape) - 1 else tape.seek(event)


def _lengths(machine: Machine) -> Lengths:
    return {zone.index: zone.nr_free() for zone in machine.zones}
