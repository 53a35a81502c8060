"""The memory of the computer under the notebook, as its own kernel reports it: read only, never anything else.

On Linux these are three files under /proc; elsewhere a captured sample stands in, and says so.
Pure standard library.
"""

from __future__ import annotations

from .changes import CHANGES, Change
from .procfs import MigrateRow, OrderRow, PageTypes, ZoneRow, parse_buddyinfo, parse_pagetypeinfo, parse_zoneinfo
from .reading import Reading, read, sample, samples

__all__ = [
    "CHANGES",
    "Change",
    "MigrateRow",
    "OrderRow",
    "PageTypes",
    "Reading",
    "ZoneRow",
    "parse_buddyinfo",
    "parse_pagetypeinfo",
    "parse_zoneinfo",
    "read",
    "sample",
    "samples",
]
