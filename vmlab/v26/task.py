"""What 2.6 knows about a task beyond 2.4: more PF_ flags, and how long a second is. kernel: include/linux/sched.h"""

from __future__ import annotations

HZ = 1000  # jiffies in a second: ten times as many as in 2.4
SHIFT_HZ = 10  # log2 of HZ, rounded

PF_EXITING = 0x00000004  # on its way out
PF_DEAD = 0x00000008
PF_KSWAPD = 0x00040000  # a kswapd
PF_SWAPOFF = 0x00080000  # in swapoff: the first to go when memory runs out
PF_LESS_THROTTLE = 0x00100000  # it cleans memory: hold it up less
