"""Several nodes: what the recorded traces do not say in words."""

from __future__ import annotations

import pytest

import vmlab
from vmlab import GFP_ATOMIC, GFP_DMA, GFP_KERNEL, KernelHang

NODES = [(0, 4096, 0, 0, 300, 0), (4096, 0, 4096, 0, 16, 0)]


def test_zonelists_hold_a_nodes_own_zones_only() -> None:
    m = vmlab.boot(nodes=NODES)
    for pgdat in m.pgdats:
        assert all(z.pgdat is pgdat for zonelist in pgdat.node_zonelists for z in zonelist)
    assert [p.nid for p in m.pgdat_list] == [1, 0]  # pushed on the head: the reverse of initialisation
    m.check()


def test_round_robin_and_local_first() -> None:
    m = vmlab.boot(nodes=NODES)
    assert [m.alloc_pages(GFP_ATOMIC).node.nid for _ in range(4)] == [1, 0, 1, 0]  # type: ignore[union-attr]
    m = vmlab.boot(nodes=NODES, numa=True)
    m.set_cpu_node(1)
    assert {m.alloc_pages(GFP_ATOMIC).node.nid for _ in range(4)} == {1}  # type: ignore[union-attr]
    page = m.alloc_pages(GFP_KERNEL, 0, node=0)
    assert page is not None and page.node is m.pgdats[0]


def test_waiting_requests_never_reach_the_second_node() -> None:
    m = vmlab.boot(nodes=NODES, numa=True)
    while m.alloc_pages(GFP_ATOMIC, 0, node=0) is not None:
        pass
    free_elsewhere = m.pgdats[1].node_zones[1].free_pages
    with pytest.raises(KernelHang):
        m.alloc_pages(GFP_KERNEL, 0)
    assert m.pgdats[1].node_zones[1].free_pages == free_elsewhere > 3000
    page = m.alloc_pages(GFP_ATOMIC, 0)  # one that cannot wait falls through
    assert page is not None and page.node is m.pgdats[1]


def test_a_node_without_dma_sends_dma_requests_on() -> None:
    m = vmlab.boot(nodes=NODES, numa=True)
    m.set_cpu_node(1)
    page = m.alloc_pages(GFP_DMA, 0)
    assert page is not None and page.node is m.pgdats[0]


def test_copy_keeps_the_round_robin_place() -> None:
    m = vmlab.boot(nodes=NODES)
    m.alloc_pages(GFP_ATOMIC)
    other = m.copy()
    assert m.alloc_pages(GFP_ATOMIC) == m.page(other.alloc_pages(GFP_ATOMIC).pfn)  # type: ignore[union-attr]


def test_wrong_node_is_explained() -> None:
    m = vmlab.boot(nodes=NODES)
    with pytest.raises(ValueError, match="nodes 0 to 1"):
        m.set_cpu_node(2)
