// The tree of one allocation or free: the largest block on top, its halves below, lower addresses on the left.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function treeHeading({ kind, nodes }) {
  const bottom = nodes[nodes.length - 1];
  if (kind === "alloc") return nodes.length > 1 ? `Splitting ${nodes[0].pfn} for an order-${bottom.order} request` : `Block ${bottom.pfn} fits: nothing to split`;
  return nodes.length > 1 ? `Freeing ${bottom.pfn}: merging with its buddies` : `Freeing ${bottom.pfn}`;
}

function treeWords({ kind, nodes }) {
  const [first, last] = [nodes[0], nodes[nodes.length - 1]];
  if (kind === "alloc") {
    if (nodes.length === 1) return `Block ${first.pfn} of order ${first.order} is allocated whole.`;
    const halves = nodes.slice(1).map((n) => `${n.sibling.pfn} (order ${n.sibling.order})`).join(", ");
    return `Block ${first.pfn} of order ${first.order} is split ${nodes.length - 1} times; the lower halves ${halves} go to the free lists; ${last.pfn} of order ${last.order} is allocated.`;
  }
  if (nodes.length === 1) return `Block ${last.pfn} of order ${last.order} is freed and stays alone: its buddy is in use.`;
  const buddies = nodes.slice(1).reverse().map((n) => `${n.sibling.pfn} (order ${n.sibling.order})`).join(", ");
  return `Block ${last.pfn} of order ${last.order} merges with ${buddies} into ${first.pfn} of order ${first.order}.`;
}

// What a node is at event `here`: moving, split (or merged away), free, allocated; a ghost when it is still to come.
function nodeLook(kind, node, isBottom, here) {
  if (here < node.at) return "ghost";
  if (node.final !== undefined && here >= node.final) return kind === "alloc" ? "allocated" : "free";
  return here >= node.done && !(kind === "alloc" && isBottom) ? "split" : "moving";
}

function paintTree(tree, operation, here, state) {
  const { kind, nodes } = operation;
  const [tall, wide, high, side] = [44, 112, 28, 62];
  const zone = state.zones.get(operation.zone);
  const boxes = [];
  const lines = [];
  const labels = [];
  const box = (x, level, pfn, look, now, words) => {
    const colour = PALETTE.state[look];
    boxes.push(svg("g", { class: `vml-${look}${now ? " vml-now" : ""}`, transform: `translate(${x},${level * tall})`, "data-pfn": pfn, "data-look": look },
      svg("rect", { x: -wide / 2, y: -high / 2, width: wide, height: high, rx: 5, fill: colour, stroke: "#000" }),
      svg("text", { y: 1, fill: colour && inkOn(colour) }, words ?? `${PALETTE.letter[look] ? PALETTE.letter[look] + " " : ""}${pfn}`)));
  };
  let above = null;
  nodes.forEach((node, level) => {
    const { sibling } = node;
    const size = 1 << node.order;
    // Its place among the two halves; the block on top stands in the middle, unless its buddy stands beside it.
    const [top, known] = [level === 0, zone && node.order < 9];
    const right = sibling ? node.pfn > sibling.pfn : known ? ((node.pfn - zone.start) & size) !== 0 : false;
    const lone = top && kind === "free" && known && node.final !== undefined && here >= node.final;
    const x = sibling || lone ? (right ? side : -side) : 0;
    const isBottom = level === nodes.length - 1;
    const now = here === node.final || (here === node.at && node.final !== node.at);
    box(x, level, node.pfn, nodeLook(kind, node, isBottom, here), now);
    if (sibling) {
      const look = kind === "alloc" ? (here >= sibling.at ? "free" : "ghost") : here >= sibling.gone ? "split" : "free";
      box(-x, level, sibling.pfn, look, here === (kind === "alloc" ? sibling.at : sibling.gone));
    } else if (lone) {
      const buddy = zone.start + ((node.pfn - zone.start) ^ size);
      const whole = (state.block[buddy] & 0xcf) === (0x40 | node.order);
      if (buddy + size <= zone.end) box(-x, level, buddy, whole ? "allocated" : "split", false, `${whole ? "A " : ""}${buddy}${whole ? "" : " in part"}`);
    }
    for (const to of sibling && above !== null ? [x, -x] : []) {
      const [from, end] = [(level - 1) * tall + high / 2, level * tall - high / 2];
      lines.push(svg("path", { d: `M${above},${from} C${above},${from + 10} ${to},${end - 10} ${to},${end}` }));
    }
    labels.push(svg("text", { class: "vml-side", x: side + wide / 2 + 8, y: level * tall + 1 }, lone ? `order ${node.order}: buddy in use` : `order ${node.order}`));
    above = x;
  });
  const width = 2 * side + wide + 150;
  const height = (nodes.length - 1) * tall + high + 8;
  tree.setAttribute("viewBox", `${-side - wide / 2 - 4} ${-high / 2 - 4} ${width} ${height}`);
  tree.style.maxWidth = `${width}px`;
  tree.style.maxHeight = `${Math.max(height, 60)}px`;
  tree.replaceChildren(...lines, ...boxes, ...labels);
  tree.setAttribute("aria-label", treeWords(operation));
}
