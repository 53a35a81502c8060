"""Steps of the slab allocator that only 2.6 has."""

from __future__ import annotations

from ..mm.events_base import spec

_C = "mm/slab.c:"
SPECS = [
    spec("array_refill", _C + "cache_alloc_refill", "cache objects", "the array of {cache} is empty and gets {objects} objects"),
    spec("array_alloc", _C + "__cache_alloc", "cache object left", "{cache} has {object:#x} at hand; {left} are left"),
    spec("array_free", _C + "__cache_free", "cache object avail", "{cache} keeps {object:#x} at hand; it has {avail} now"),
    spec("array_flush", _C + "cache_flusharray", "cache objects", "the array of {cache} is full: its {objects} oldest objects go back"),
    spec(
        "array_tune",
        _C + "do_tune_cpucache",
        "cache limit batchcount",
        "{cache}: an array of {limit} objects, moved {batchcount} at a time",
    ),
    spec("mempool_reserve", "mm/mempool.c:mempool_alloc", "left min_nr", "an element of the reserve: {left} of {min_nr} are left"),
]
