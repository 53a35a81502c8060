"""What an event is; each area of the kernel lists its own in an ``events_*.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Event = tuple[Any, ...]
Listener = Callable[[Event], None]


class EventSpec(NamedTuple):
    """What an event's fields are, where in the kernel it happens, and a sentence for people."""

    name: str
    kernel: str
    fields: tuple[str, ...]
    text: str


def spec(name: str, kernel: str, fields: str, text: str) -> EventSpec:
    """An event *name* of kernel function *kernel* (file:function) with space-separated *fields* and a sentence with {field}s."""
    return EventSpec(name, kernel, tuple(fields.split()), text)
