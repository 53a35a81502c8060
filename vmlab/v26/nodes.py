"""In which order a request goes through the nodes of a machine. kernel: mm/page_alloc.c"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import KernelBug
from ..mm.gfp import DMA, HIGHMEM
from ..mm.mmzone import ZONE_DMA, ZONE_HIGHMEM, ZONE_NORMAL

if TYPE_CHECKING:
    from ..mm.kernel import Kernel
    from ..mm.mmzone import PgData, Zone

LOCAL_DISTANCE, REMOTE_DISTANCE = 10, 20  # as ACPI's tables have it
PENALTY_FOR_NODE_WITH_CPUS = 1
MAX_NUMNODES = 16


def node_distance(a: int, b: int) -> int:
    """How far node *b*'s memory is from node *a*'s processors. kernel: include/linux/topology.h:node_distance"""
    return LOCAL_DISTANCE if a == b else REMOTE_DISTANCE


class NodeOrder:
    """The zonelists of all nodes. Part of the zone setup: see page_init.py."""

    kernel: Kernel

    def build_all_zonelists(self) -> None:
        """In 2.6 zonelists are built when all nodes stand, because they run through all of them; before that node by node.

        kernel: mm/page_alloc.c:build_all_zonelists
        """
        load = [0] * len(self.kernel.pgdats)
        for pgdat in self.kernel.pgdats:
            self.fill_zonelists(pgdat, self.node_order(pgdat.nid, load))

    def build_zonelists(self, pgdat: PgData) -> None:
        """In 2.6 zones of other nodes follow a node's own, because a request then need not be repeated for each; before that they did not.

        kernel: mm/page_alloc.c:build_zonelists
        """
        self.fill_zonelists(pgdat, self.node_order(pgdat.nid, [0] * len(self.kernel.pgdats)))

    def node_order(self, local: int, load: list[int]) -> list[int]:
        """In 2.6 the node after the local one comes next and so on round, because always beginning with node 0 would fill that first;
        before that the nodes were tried in the order of their list.

        With CONFIG_NUMA the nearest comes next, of those equally near the one that was so favoured least often (*load*).
        kernel: mm/page_alloc.c:build_zonelists, find_next_best_node
        """
        nodes = len(self.kernel.pgdats)
        if not self.kernel.config.numa:
            return [(local + i) % nodes for i in range(nodes)]
        order: list[int] = []
        previous, weight = local, nodes
        while len(order) < nodes:
            best = local
            if local in order:
                values = {}
                for i in range(nodes):
                    node = (local + i) % nodes
                    if node not in order:
                        value = node_distance(local, node) + PENALTY_FOR_NODE_WITH_CPUS
                        values[node] = value * nodes * MAX_NUMNODES + load[node]
                best = min(values, key=values.__getitem__)
            order.append(best)
            if node_distance(local, best) != node_distance(local, previous):
                load[best] += weight
            previous = best
            weight -= 1
        return order

    def fill_zonelists(self, pgdat: PgData, order: list[int]) -> None:
        """In 2.6 three lists a node, because two bits of a mask choose one; before that sixteen.

        Each is, for every node in *order*, the zone asked for and those below it, empty ones left out.
        kernel: mm/page_alloc.c:build_zonelists, build_zonelists_node
        """
        kernel = self.kernel
        for i in range(len(pgdat.node_zonelists)):
            first = ZONE_NORMAL
            if i & HIGHMEM:
                first = ZONE_HIGHMEM
            if i & DMA:
                first = ZONE_DMA
            zonelist: list[Zone] = []
            for nid in order:
                zones = kernel.pgdats[nid].node_zones
                if first == ZONE_HIGHMEM and zones[ZONE_HIGHMEM].realsize and not kernel.config.highmem:
                    raise KernelBug("build_zonelists", f"node {nid} has high memory, but this kernel is built without it", "highmem")
                zonelist += [zones[j] for j in range(first, -1, -1) if zones[j].realsize]
            pgdat.node_zonelists[i] = zonelist
