"""Steps of the slab allocator. Addresses are the kernel's, sizes in bytes."""

from __future__ import annotations

from .events_base import spec

_C = "mm/slab.c:"

SPECS = [
    spec(
        "cache_create",
        _C + "kmem_cache_create",
        "cache objsize num gfporder colour off_slab",
        "new cache {cache}: objects of {objsize} bytes, {num} in a slab of order {gfporder}, {colour} colours",
    ),
    spec("cache_destroy", _C + "kmem_cache_destroy", "cache", "cache {cache} is gone"),
    spec("cache_shrink", _C + "__kmem_cache_shrink_locked", "cache slabs", "{slabs} free slabs of {cache} were given back"),
    spec("reap_look", _C + "kmem_cache_reap", "cache pages why", "reap looks at {cache}: {pages} pages could be had ({why})"),
    spec("reap", _C + "kmem_cache_reap", "cache slabs pages", "reap takes {slabs} slabs, {pages} pages, from {cache}"),
    spec("slab_grow", _C + "kmem_cache_grow", "cache pfn slab colouroff", "{cache} grows: slab at frame {pfn}, objects at +{colouroff}"),
    spec("slab_destroy", _C + "kmem_slab_destroy", "cache pfn slab", "the slab of {cache} at frame {pfn} is given back"),
    spec("slab_list", _C + "kmem_cache_alloc_one_tail", "cache slab list", "the slab moves to {cache}'s list of {list} slabs"),
    spec("ctor", _C + "kmem_cache_init_objs", "cache object", "constructor of {cache} on {object:#x}"),
    spec("dtor", _C + "kmem_slab_destroy", "cache object", "destructor of {cache} on {object:#x}"),
    spec("object_alloc", _C + "kmem_cache_alloc_one_tail", "cache object slab number", "{cache} hands out object {number} at {object:#x}"),
    spec("object_free", _C + "kmem_cache_free_one", "cache object slab number", "{cache} takes object {number} back ({object:#x})"),
    spec("kmalloc", _C + "kmalloc", "size cache", "kmalloc of {size} bytes: {cache} is the smallest that fits"),
    spec("cc_hit", _C + "__kmem_cache_alloc", "cache cpu object avail", "CPU {cpu} has {object:#x} at hand ({avail} left)"),
    spec("cc_refill", _C + "kmem_cache_alloc_batch", "cache cpu objects", "CPU {cpu} fetches {objects} objects of {cache}"),
    spec("cc_park", _C + "__kmem_cache_free", "cache cpu object avail", "CPU {cpu} keeps {object:#x} at hand ({avail} now)"),
    spec("cc_flush", _C + "free_block", "cache cpu objects", "{objects} objects of CPU {cpu} go back to the slabs of {cache}"),
    spec("cc_tune", _C + "kmem_tune_cpucache", "cache limit batchcount", "{cache}: {limit} objects a CPU, moved {batchcount} at a time"),
    spec("smp_call", _C + "smp_call_function_all_cpus", "cache function", "every CPU runs {function} for {cache}"),
    spec("poison", _C + "kmem_poison_obj", "cache object", "the free object {object:#x} is filled with the poison pattern"),
    spec("red_zone", _C + "kmem_cache_alloc_one_tail", "cache object active", "the red zones of {object:#x} are set (active: {active})"),
]
