"""Choosing a node on a machine that has several (CONFIG_DISCONTIGMEM). kernel: mm/numa.c"""

from __future__ import annotations

from .gfp import GFP_ZONEMASK
from .kernel import Kernel


def numa_alloc_pages(kernel: Kernel, gfp_mask: int, order: int) -> int | None:
    """Try each node in turn: from the start node to the end of the list, then from its head.

    The start is the local node with CONFIG_NUMA, else it goes round robin. A request that may
    wait for order ≤ 3 never gets past the first node: it reclaims there for ever.
    kernel: mm/numa.c:_alloc_pages
    """
    nodes = kernel.pgdat_list
    if kernel.config.numa:
        start = kernel.pgdats[kernel.numa_node_id]
    else:
        start = kernel.next_pgdat or nodes[0]
        after = nodes.index(start) + 1
        kernel.next_pgdat = nodes[after] if after < len(nodes) else None
    at = nodes.index(start)
    for pgdat in nodes[at:] + nodes[:at]:
        pfn = kernel.page_allocator.alloc_pages_zonelist(gfp_mask, order, pgdat.node_zonelists[gfp_mask & GFP_ZONEMASK])
        if pfn is not None:
            return pfn
    return None


def alloc_pages_node(kernel: Kernel, nid: int, gfp_mask: int, order: int) -> int | None:
    """Allocate on node *nid*: only there with CONFIG_NUMA, anywhere without. kernel: mm/numa.c:alloc_pages_node"""
    if kernel.page_allocator.knows_nodes:
        return kernel.page_allocator.alloc_pages_node(nid, gfp_mask, order)
    if not kernel.config.numa:
        return kernel.page_allocator.alloc_pages(gfp_mask, order)
    return kernel.page_allocator.alloc_pages_zonelist(gfp_mask, order, kernel.pgdats[nid].node_zonelists[gfp_mask & GFP_ZONEMASK])
