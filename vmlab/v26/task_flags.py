"""Bits of ``task->flags`` that 2.6's OOM killer looks at. kernel: include/linux/sched.h"""

from __future__ import annotations

PF_EXITING = 0x00000004  # on its way out: its memory comes soon
PF_SWAPOFF = 0x00080000  # in the middle of swapoff(): the first to kill
