// What colour and which letter a frame of the map has, in each of the modes, and the legend that says so.

const STATE_NAMES = ["hole", "reserved", "allocated", "free", "moving"];
const HEAD = 0x80; // first frame of a block
const OWNER_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const [USED, KEPT] = ["#8a919c", "#4d5560"]; // allocated and reserved, where colour tells something else
const FREE_BEHIND_OWNERS = mix(PALETTE.state.free, PALETTE.ground, 0.72);

const stateAt = (cell) => STATE_NAMES[(cell >> 4) & 7];

// `now` holds the bytes of the moment: cells and owners.
function frameColours(model, now) {
  let data = null;

  const zoneAt = (pfn) => model.get("zones").find((zone) => pfn >= zone.start && pfn < zone.end);

  // Heads of blocks are a little darker, so that blocks can be told apart from far.
  const cellColour = (cell) => (cell & HEAD && cell & 15 ? mix(plainColour(cell), PALETTE.ground, 0.4) : plainColour(cell));
  function plainColour(cell) {
    const state = stateAt(cell);
    if (model.get("mode") === "order" && state === "free") return PALETTE.order[cell & 15];
    if (model.get("mode") === "order" && state !== "moving") return state === "allocated" ? USED : state === "reserved" ? KEPT : PALETTE.state.hole;
    return PALETTE.state[state];
  }
  const zoneColour = (zone, cell) => {
    const state = stateAt(cell);
    return state === "hole" || !zone ? PALETTE.state.hole : state === "free" ? PALETTE.zone[zone.kind] : mix(PALETTE.zone[zone.kind], PALETTE.ground, 0.52);
  };
  function ownerColour(cell, owner) {
    const state = stateAt(cell);
    if (state === "free") return FREE_BEHIND_OWNERS;
    if (state === "hole") return PALETTE.state.hole;
    if (state === "moving") return PALETTE.state.moving;
    return owner ? PALETTE.owner[(owner - 1) % PALETTE.owner.length] : state === "allocated" ? USED : KEPT;
  }
  const colourOf = (pfn) => {
    const mode = model.get("mode");
    if (mode === "zone") return zoneColour(zoneAt(pfn), now.cells[pfn]);
    return mode === "owner" ? ownerColour(now.cells[pfn], now.owners[pfn] ?? 0) : plainColour(now.cells[pfn]);
  };
  const letterOf = (pfn) => {
    const [cell, mode] = [now.cells[pfn], model.get("mode")];
    const state = stateAt(cell);
    if (state === "hole") return "";
    if (mode === "order" && state !== "reserved") return String(cell & 15);
    if (mode === "zone") return zoneAt(pfn)?.kind[0] ?? "";
    if (mode === "owner" && state !== "free") return now.owners[pfn] ? OWNER_LETTERS[(now.owners[pfn] - 1) % OWNER_LETTERS.length] : PALETTE.letter[state];
    return PALETTE.letter[state];
  };

  const word = (colour) => {
    const [r, g, b] = rgb(colour);
    return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0; // little-endian RGBA
  };

  // One pixel a frame, in memory; the map on screen is a stretched copy.
  function paintImage(image, cols, rows) {
    const context = image.getContext("2d");
    if (image.width !== cols || image.height !== rows) {
      image.width = cols;
      image.height = rows;
      data = context.createImageData(cols, rows);
    }
    const pixels = new Uint32Array(data.data.buffer);
    const table = new Uint32Array(256);
    const fill = (colours, start, end) => {
      for (let cell = 0; cell < 256; cell++) if (((cell >> 4) & 7) < 5 && (cell & 15) < 10) table[cell] = word(colours(cell));
      for (let pfn = start; pfn < end; pfn++) pixels[pfn] = table[now.cells[pfn]];
    };
    const mode = model.get("mode");
    if (mode === "zone") {
      fill((cell) => zoneColour(null, cell), 0, now.cells.length);
      for (const zone of model.get("zones")) fill((cell) => zoneColour(zone, cell), zone.start, Math.min(zone.end, now.cells.length));
    } else if (mode === "owner" && now.owners.length === now.cells.length) {
      const byOwner = new Map();
      for (let pfn = 0; pfn < pixels.length && pfn < now.cells.length; pfn++) {
        const key = ((now.cells[pfn] & 0x70) << 8) | now.owners[pfn];
        let colour = byOwner.get(key);
        if (colour === undefined) byOwner.set(key, (colour = word(ownerColour(now.cells[pfn], now.owners[pfn]))));
        pixels[pfn] = colour;
      }
    } else fill(cellColour, 0, now.cells.length);
    context.putImageData(data, 0, 0);
  }

  function fillLegend(legend) {
    const mode = model.get("mode");
    const hole = legendEntry(PALETTE.state.hole, "", "no RAM", true);
    if (mode === "state") legend.replaceChildren(...["free", "allocated", "reserved"].map((s) => legendEntry(PALETTE.state[s], PALETTE.letter[s], s)), hole);
    if (mode === "order") {
      legend.replaceChildren(h("li", {}, "free, by order:"), ...PALETTE.order.map((colour, order) => legendEntry(colour, order, "")),
        legendEntry(USED, "0–9", "allocated"), legendEntry(KEPT, "R", "reserved"), hole);
    }
    if (mode === "zone") {
      legend.replaceChildren(...model.get("zones").map((z) => legendEntry(PALETTE.zone[z.kind], z.kind[0], `${z.name}: frames ${z.start} to ${z.end - 1}`)),
        h("li", {}, "(darker: not free)"), hole);
    }
    if (mode === "owner") {
      const named = model.get("owners").map((owner, i) => ({ ...owner, i })).filter((owner) => owner.i && owner.frames && owner.name !== "BIOS hole");
      named.sort((a, b) => b.frames - a.frames);
      const [none] = model.get("owners");
      legend.replaceChildren(
        ...named.slice(0, 24).map((o) => legendEntry(ownerColour(0x20, o.i), OWNER_LETTERS[(o.i - 1) % OWNER_LETTERS.length], `${o.name} (${thin(o.frames)})`)),
        named.length > 24 ? h("li", {}, `and ${named.length - 24} more`) : "",
        ...(none?.frames ? [legendEntry(USED, "A", `${none.name} (${thin(none.frames)})`)] : []),
        legendEntry(FREE_BEHIND_OWNERS, "F", "free"), legendEntry(KEPT, "R", "reserved, no label"), hole);
    }
  }

  return { colourOf, letterOf, paintImage, fillLegend };
}
