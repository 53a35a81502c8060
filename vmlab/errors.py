"""The ways a machine can refuse: an impossible state, a panic, an endless wait, a damaged file."""

from __future__ import annotations

__all__ = ["KernelBug", "KernelHang", "KernelPanic", "RecordingError", "TraceError", "VmlabError"]


class VmlabError(Exception):
    """Base of every error that is vmlab's own."""


class KernelBug(VmlabError):
    """An impossible state: the kernel would execute BUG() (or oops) here.

    ``function`` names the kernel function that noticed; the state is left as the
    kernel would have left it, so that it can be looked at.
    """

    def __init__(self, function: str, why: str, kind: str = "") -> None:
        super().__init__(f"BUG in {function}: {why}")
        self.function = function
        self.why = why
        self.kind = kind  # which of the function's BUG() checks, in a word


class KernelHang(VmlabError):
    """The kernel would go round for ever here, and nothing in this machine can end it."""

    def __init__(self, function: str, why: str) -> None:
        super().__init__(f"{function} would never return: {why}")
        self.function = function
        self.why = why


class KernelPanic(VmlabError):
    """The kernel would call panic() here: it cannot go on."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Kernel panic: {text}")
        self.text = text


class RecordingError(VmlabError):
    """A recording cannot be read: damaged, cut short, or made by another version."""


class TraceError(VmlabError):
    """A golden trace cannot be read: not a trace, damaged, or of an unknown kind."""
