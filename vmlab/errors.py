"""The ways a machine can refuse: an impossible state, a panic, an endless wait, a damaged file."""

from __future__ import annotations

__all__ = ["KernelBug", "KernelHang", "KernelPanic", "ProcessGone", "RecordingError", "Signalled", "TraceError", "VmlabError"]


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


class Signalled(VmlabError):
    """A process's access to memory ended in a signal: SIGSEGV (11), SIGBUS (7), or SIGKILL (9) for lack of memory."""

    def __init__(self, pid: int, signal: int, reason: str) -> None:
        super().__init__(f"process {pid}: {reason}")
        self.pid = pid
        self.signal = signal
        self.reason = reason


class ProcessGone(VmlabError):
    """The process has exited, or was killed."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid} is gone: it exited or was killed")
        self.pid = pid


class RecordingError(VmlabError):
    """A recording cannot be read: damaged, cut short, or made by another version."""


class TraceError(VmlabError):
    """A golden trace cannot be read: not a trace, damaged, or of an unknown kind."""
