"""Replay traces of the real kernel and compare every value they record.

A trace is JSON lines, maybe gzipped: a header that names the subsystem, then operations with the
state the kernel was in after each. ``vmlab verify`` comes here.
"""

from __future__ import annotations

from .verify import Divergence, Report, main, verify

__all__ = ["Divergence", "Report", "main", "verify"]
