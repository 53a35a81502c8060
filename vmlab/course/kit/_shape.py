"""The smallest kit there can be: a shape to fill in and the driver that runs it. A pattern for the chapters, and the framework's test."""

from __future__ import annotations

from typing import Any


class Shape:
    """Numbers to add up; a student's subclass writes `total`."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers

    def total(self) -> int:
        """The sum; to be written."""
        raise NotImplementedError("total is yours to write")


def drive(namespace: dict[str, Any], data: list[int]) -> Any:
    """Build the student's `Counter` from plain data, run it, and return plain data. Runs in the child."""
    return namespace["Counter"](data).total()
