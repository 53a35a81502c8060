// Frames first to last of a zone in one row, as blocks of the size they have; [frame, frames] in `marked` get an outline.

function paintStrip(strip, { block, moving }, zone, first, last, marked) {
  const width = strip.clientWidth;
  if (!width) return;
  const [high, top] = [56, 8];
  const tall = high - 26;
  const c = fitCanvas(strip, width, high);
  const w = width / (last - first + 1);
  c.fillStyle = PALETTE.ground;
  c.fillRect(0, 0, width, high);
  c.textAlign = "center";
  c.textBaseline = "middle";

  // A block, with the longest of some texts that fits.
  const paint = (pfn, frames, state, ...texts) => {
    const colour = PALETTE.state[state];
    c.fillStyle = colour;
    c.fillRect((pfn - first) * w, top, frames * w, tall);
    c.strokeStyle = "#0b0d10";
    c.lineWidth = w < 2.5 && frames === 1 ? 0.4 : 1.5;
    c.strokeRect((pfn - first) * w, top, frames * w, tall);
    c.fillStyle = inkOn(colour);
    c.font = "600 12px system-ui, sans-serif";
    const fitting = texts.find((text) => c.measureText(text).width + 3 <= frames * w);
    if (fitting) c.fillText(fitting, (pfn - first + frames / 2) * w, top + tall / 2);
  };
  const paintBlock = (pfn, frames, kind) => {
    const [state, letter] = kind & 0x80 ? ["free", "F"] : ["allocated", "A"];
    paint(pfn, frames, state, `${state}, order ${kind & 15}`, `${letter}${kind & 15}`, letter);
  };

  let pfn = first;
  const reaching = blockOver(block, zone, first); // a block may begin before what is shown
  if (reaching !== null && reaching < first) {
    pfn = Math.min(reaching + (1 << (block[reaching] & 15)), last + 1);
    paintBlock(first, pfn - first, block[reaching]);
  }
  while (pfn <= last) {
    const kind = block[pfn];
    let frames = 1;
    if (pfn === moving?.pfn) {
      frames = Math.min(1 << moving.order, last - pfn + 1);
      paint(pfn, frames, "moving", `on its way, order ${moving.order}`, `M${moving.order}`, "M");
    } else if (kind & 0xc0) {
      frames = Math.min(1 << (kind & 15), last - pfn + 1);
      paintBlock(pfn, frames, kind);
    } else paint(pfn, 1, kind & 0x20 ? "reserved" : "hole", kind & 0x20 ? "R" : "");
    pfn += frames;
  }

  c.strokeStyle = "#fff";
  c.lineWidth = 2;
  for (const [at, frames] of marked) c.strokeRect((at - first) * w + 1, 3, Math.max(frames * w - 2, 2), high - 16);
  c.fillStyle = "#fff";
  c.font = "11px ui-monospace, monospace";
  c.textAlign = "left";
  c.fillText(first, 4, high - 7);
  c.textAlign = "right";
  c.fillText(last, width - 4, high - 7);
  c.textAlign = "center";
  if ((last - first + 1) % 2 === 0) c.fillText((first + last + 1) / 2, width / 2, high - 7);
}

// First frame of the block that frame `pfn` is in, or null.
function blockOver(block, zone, pfn) {
  for (let back = 0; back < 512 && pfn - back >= zone.start; back++) {
    const kind = block[pfn - back];
    if (kind & 0xc0) return 1 << (kind & 15) > back ? pfn - back : null;
  }
  return null;
}
