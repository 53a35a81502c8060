"""The graded exercise of chapter 6, Physical Page Allocation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vmlab.course import ex06_questions as ask
from vmlab.course import plain
from vmlab.course.ex06_bench import claims
from vmlab.course.ex06_cases import allocating_hidden, allocating_public, freeing_hidden, freeing_public, judge_decisions
from vmlab.course.ex06_flawed import looks_like
from vmlab.course.exercise import Criterion, Drive, Exercise, Mistake, analyse, calculation, code, parsons, perform

ABSOLUTE = ("Absolute frame numbers were used where the place in the zone is meant: everything about buddies is counted from the zone's "
            "first frame (pfn - zone.start_pfn).")
PLUS = "The buddy is not always the block above: flip one bit of the index (index ^ (1 << order)) instead of adding."
LOWER = "The lower half was kept. expand() puts the lower half on a list and goes on with the upper one."
TAIL = "Blocks were added at the tail of a list. The kernel adds at the head, so that what was freed last is taken first."
BLIND = "Blocks were merged without asking the pair bit whether the buddy is free."
MERGED = ("A block was to be merged although its buddy is in use: the pair bit was not asked, or read the wrong way round (1 before: "
          "exactly one was free, the buddy; 0 before: stop).")


# --- 1 and 2: calculations -----------------------------------------------------------------------------------------------------------


def _place_text(q: dict[str, Any]) -> str:
    a, b = q["blocks"]
    return (f"A zone begins at frame {q['start']}. Two allocated blocks of order {q['order']} begin at frames {a} and {b}; their buddies "
            "are free. Each is now freed. For both blocks, in this order: its index in the zone, the number of its pair's bit in the map "
            "of its order, the first frame of its buddy, and the first frame of the block the two merge into.")


def _place(key: str, **wrong: Any) -> Callable[[Any], Any]:
    return lambda q: ask.place_wrong(q, key, **wrong)


PLACE = calculation(
    "place", "Where a block stands", 4, answer="place", inputs=ask.place_inputs, oracle=ask.place_oracle, text=_place_text,
    parts={"index": (1, "index of the block in its zone"), "pair": (1, "number of the pair bit"), "buddy": (1, "first frame of the buddy"),
           "merged": (1, "first frame of the merged block")},
    mistakes=[Mistake(f"absolute-{key}", ABSOLUTE, gives=_place(key, absolute=True), criterion=key)
              for key in ("index", "pair", "buddy", "merged")]
    + [Mistake("plus", PLUS, gives=_place("buddy", plus=True), criterion="buddy"),
       Mistake("plus-absolute", PLUS, gives=_place("buddy", plus=True, absolute=True), criterion="buddy"),
       Mistake("block-not-pair", "That is the number of the block. Two buddies share one bit: shift by 1 + order, not by order.",
               gives=_place("pair", shift=0), criterion="pair"),
       Mistake("block-not-pair-absolute", "Two things: two buddies share one bit (shift by 1 + order), and the place is counted from the "
                                          "zone's first frame.", gives=_place("pair", shift=0, absolute=True), criterion="pair"),
       Mistake("index-for-frame", "That is an index in the zone; a frame number is asked for. Add the zone's first frame again.",
               detect=lambda q, got: any(got[k] == [p - q["start"] for p in ask.place_oracle(q)[k]] for k in ("buddy", "merged"))),
       Mistake("not-rounded", "The merged block begins at the lower of the two buddies, whichever of them was freed.",
               gives=lambda q: q["blocks"], criterion="merged")],
    hint="Write pfn - zone.start_pfn in binary: the lowest `order` bits are 0, and the next one tells the two buddies apart.")


def _watermark_text(q: dict[str, Any]) -> str:
    zones = "; ".join(f"{z}: {q['size'][z]} pages, {q['free'][z]} free" for z in ask.ZONES)
    return (f"A machine with one node and no holes has these zones: {zones}. The task, with no process flags set, asks for a block of "
            f"order {q['order']} with {q['gfp']}; every zone has large enough blocks. For each zone of the zonelist, best first: how "
            "many free pages must it have more than in the first pass of __alloc_pages ('first'), and in the second ('second')? Which zone "
            "serves the request ('zone'), in which pass ('pass', 1 or 2)?")


def _bar(key: str, **wrong: Any) -> Callable[[Any], Any]:
    return lambda q: ask.watermark_wrong(q, key, **wrong)


NO_SUM = ("The bars are a running sum: each further zone of the zonelist must stand above its own watermark plus those of all zones "
          "before it.")
NO_PAGES = "The sum starts with the request itself, 2^order pages."
WATERMARKS = calculation(
    "watermarks", "Watermarks of one request", 4, answer="watermarks", inputs=ask.watermark_inputs, oracle=ask.watermark_oracle,
    text=_watermark_text,
    parts={"first": (1, "the bars of the first pass"), "second": (1, "the bars of the second pass"), "zone": (1, "the zone that serves"),
           "pass": (1, "the pass in which it serves")},
    mistakes=[Mistake("no-sum-first", NO_SUM, gives=_bar("first", sums=False), criterion="first"),
              Mistake("no-sum-second", NO_SUM, gives=_bar("second", sums=False), criterion="second"),
              Mistake("no-request-first", NO_PAGES, gives=_bar("first", pages="none"), criterion="first"),
              Mistake("no-request-second", NO_PAGES, gives=_bar("second", pages="none"), criterion="second"),
              Mistake("order-first", NO_PAGES + " Its order was added instead.", gives=_bar("first", pages="order"), criterion="first"),
              Mistake("order-second", NO_PAGES + " Its order was added instead.", gives=_bar("second", pages="order"), criterion="second"),
              Mistake("min-first", "The first pass counts with pages_low, not with pages_min.", gives=_bar("second", quarter="never"),
                      criterion="first"),
              Mistake("low-second", "The second pass counts with pages_min, not with pages_low.", gives=_bar("first"), criterion="second"),
              Mistake("no-quarter", "A request that cannot wait (no __GFP_WAIT) needs only a quarter of each pages_min in the second pass.",
                      gives=_bar("second", quarter="never"), criterion="second"),
              Mistake("quarter-always", "Only a request that cannot wait gets by with a quarter of pages_min; this one may wait.",
                      gives=_bar("second", quarter="always"), criterion="second"),
              Mistake("quarter-sum", "Each zone's pages_min is quartered before it is added; neither the sum nor the 2^order pages are.",
                      gives=_bar("second", quarter="sum"), criterion="second"),
              Mistake("backwards", "The zonelist begins with the zone that fits the request best and goes down to DMA.",
                      detect=lambda q, got: any(len(ask.marks(q)[0]) == len(got[k]) > 1 and ask.marks(q)[1]["DMA"][i] + (1 << q["order"])
                                                == got[k][0] for k, i in (("first", 1), ("second", 0)))),
              Mistake("wrong-zones", "Look again at which zones this request may use: GFP_HIGHUSER begins at HighMem, GFP_KERNEL and "
                                     "GFP_ATOMIC at Normal.",
                      detect=lambda q, got: any(len(got[k]) != len(ask.marks(q)[0]) for k in ("first", "second"))),
              Mistake("not-strict", "A zone that has exactly as many free pages as the bar is refused: the comparison is >, not >=.",
                      gives=_bar("zone", strict=False), criterion="zone"),
              Mistake("not-strict-pass", "A zone that has exactly as many free pages as the bar is refused: the comparison is >, not >=.",
                      gives=_bar("pass", strict=False), criterion="pass"),
              Mistake("no-sum-zone", NO_SUM, gives=_bar("zone", sums=False), criterion="zone"),
              Mistake("no-sum-pass", NO_SUM, gives=_bar("pass", sums=False), criterion="pass")],
    hint="pages_min is size // 128, but at least 20 and at most 255; pages_low is twice as much (chapter 2).")

# --- 3: order the lines --------------------------------------------------------------------------------------------------------------

FREE_LINES = {
    "A": "    page_idx &= -1 << order",
    "B": "add page_idx at the head",
    "C": "while order < MAX_ORDER - 1:",
    "D": "    unlink page_idx + (1 << order)",
    "E": "    if not toggle(bit): break",
    "F": "page_idx = pfn - start_pfn",
    "G": "add page_idx at the tail",
    "H": "    unlink page_idx ^ (1 << order)",
    "I": "while order < MAX_ORDER:",
    "J": "    order += 1",
    "K": "free_pages += 1 << order",
    "L": "    if buddy is free: toggle(bit)",
}


def _before(first: str, second: str) -> Callable[[Any, Any], bool]:
    return lambda q, got: got.index(first) < got.index(second)


def _uses(letter: str) -> Callable[[Any, Any], bool]:
    return lambda q, got: letter in got


ORDER = parsons(
    "free-order", "Steps of __free_pages_ok", 3, answer="free_order", lines=FREE_LINES,
    orders=["FKCEHJAB", "KFCEHJAB"],
    mistakes=[Mistake("top", "Blocks of order 9 have no bit and no buddy: the loop ends at MAX_ORDER - 1.", detect=_uses("I")),
              Mistake("plus", PLUS, detect=_uses("D")),
              Mistake("tail", TAIL, detect=_uses("G")),
              Mistake("toggle-late", "The bit is toggled each time a block of the pair changes hands, whatever the other one does; and "
                                     "it is the toggled bit that tells whether the buddy is free.", detect=_uses("L")),
              Mistake("blind", BLIND, detect=_before("H", "E")),
              Mistake("mask-early", "page_idx is rounded down to the start of the *larger* block: the order must have grown before.",
                      detect=_before("A", "J")),
              Mistake("unlink-late", "Once the order has grown, its list is another one, and so is the buddy: unlink the buddy first.",
                      detect=_before("J", "H")),
              Mistake("account-late", "Count the pages before the loop: in the loop `order` grows, and 1 << order with it.",
                      detect=_before("C", "K")),
              Mistake("no-account", "Nothing counts the freed pages: zone.free_pages must grow.", detect=lambda q, got: "K" not in got),
              Mistake("list-early", "The block goes on a list once, after the merging is over.", detect=_before("B", "C"))],
    hint="Start with where the block stands and how many pages it has; then one round of the loop is one merge.")

# --- 4: perform ----------------------------------------------------------------------------------------------------------------------


def _trace_text(q: dict[str, Any]) -> str:
    steps = "; ".join(f"({i}) " + (f"allocate order {op[1]}" if op[0] == "alloc" else f"free the block at {op[1]} (order {op[2]})")
                      for i, op in enumerate(q["ops"], 1))
    lists = "; ".join(f"order {o}: {', '.join(map(str, blocks))}" for o, blocks in q["lists"].items())
    return (f"A zone of {q['size']} pages begins at frame {q['start']}. Its free lists, heads first: {lists}; everything else is in use. "
            f"Now: {steps}.")


def _trace(part: str, **knobs: Any) -> Callable[[Any, Any], bool]:
    def detect(q: Any, got: Any) -> bool:
        wrong = ask.trace_wrong(q, **knobs)
        have = ask.tidy_lists(got[part]) if part == "lists" else got[part]
        return wrong is not None and plain.same(wrong[part], have)

    return detect


_FLAWS: list[tuple[str, str, dict[str, Any]]] = [
    ("lower", LOWER, {"keep": "lower"}),
    ("tail", TAIL, {"put": "tail"}),
    ("take-tail", "The block at the head of a list is taken, not the one at its tail.", {"take": "tail"}),
    ("take-lowest", "Lists are not sorted: the block at the head is taken, not the lowest.", {"take": "lowest"}),
    ("once", "Merging does not end after one step: the larger block may have a free buddy, too.", {"levels": 1}),
    ("never", "Freed blocks whose buddy is free were not merged.", {"test": "never", "levels": 0}),
    ("largest", "The search begins at the order asked for and goes up; the largest block is the last resort.", {"search": "down"}),
]
TRACE = perform(
    "trace", "Six operations by hand", 6, answer="trace", inputs=ask.trace_inputs, judge=ask.trace_judge, text=_trace_text,
    parts={"frames": (2, "the frames returned"), "splits": (1, "the blocks cut in two"), "merges": (1, "the blocks merged"),
           "lists": (2, "the free lists at the end")},
    mistakes=[Mistake(f"{name}-{part}", says, detect=_trace(part, **knobs), criterion=part) for part in ("frames", "lists")
              for name, says, knobs in _FLAWS]
    + [Mistake("split-result", "Say which block is cut (its order before the cut), not what comes out of it.", criterion="splits",
               detect=lambda q, got: got["splits"] == [[p, o - 1] for p, o in ask.trace_oracle(q)["splits"]]),
       Mistake("merge-before", "Give the new order of each merged block: one more than that of the two buddies.", criterion="merges",
               detect=lambda q, got: got["merges"] == [[p, o - 1] for p, o in ask.trace_oracle(q)["merges"]]),
       Mistake("merge-last", "Every step of a merge counts: a block that merges twice makes two entries.", criterion="merges",
               detect=lambda q, got: 0 < len(got["merges"]) < len(ask.trace_oracle(q)["merges"])),
       Mistake("split-last", "Every cut counts: going down two orders makes two entries.", criterion="splits",
               detect=lambda q, got: 0 < len(got["splits"]) < len(ask.trace_oracle(q)["splits"]))],
    hint="Draw the 32 pages as a row and keep the lists beside it; after each operation, strike out and add at the head.")

# --- 5 and 6: code -------------------------------------------------------------------------------------------------------------------


def _flaw(name: str, says: str, criterion: str = "", **knobs: Any) -> Mistake:
    return Mistake(name, says, detect=looks_like(**knobs), criterion=criterion)


def _bug(name: str, kind: str, says: str) -> Mistake:
    def detect(data: Any, got: Any) -> bool:
        steps = claims(data, got)
        return bool(steps and steps[-1]["bug"] and steps[-1]["bug"][0] == kind)

    return Mistake(name, says, detect=detect)


def _forgot_return(data: Any, got: Any) -> bool:
    return bool(got[0]["returned"] is None and got[0]["did"] and not got[0]["bug"])


def _index_returned(data: Any, got: Any) -> bool:
    start = data["zone"]["start"]
    return start > 0 and all(isinstance(s["returned"], int) and 0 <= s["returned"] < data["zone"]["size"] for s in got)


TOP = "Order 9 has no bitmap (no two of its blocks merge): its pair bit must not be toggled, the test is order < MAX_ORDER - 1."
ALLOCATING = code(
    "allocating", "rmqueue and expand of your own", ask=Drive("buddy:drive_allocating", "Allocating"), judge=judge_decisions,
    public=allocating_public, hidden=allocating_hidden, seconds=2.0,
    criteria=[Criterion("expand", 1, "expand by itself"), Criterion("frame", 1, "which frame is returned"),
              Criterion("lists", 2, "the free lists and their order afterwards"), Criterion("bits", 2, "the pair bits afterwards"),
              Criterion("account", 1, "free_pages of the zone, and the page count"),
              Criterion("none", 1, "a request nothing is large enough for"), Criterion("top", 1, "blocks of order 9"),
              Criterion("relative", 1, "zones that do not start at frame 0")],
    mistakes=[_flaw("lower", LOWER, keep="lower"), _flaw("tail", TAIL, put="tail"),
              _flaw("take-tail", "The tail of the list is taken, or the lowest block. The kernel takes the head: what was freed last.",
                    take="tail"),
              _flaw("take-lowest", "The lowest block of the list is taken. Lists are not sorted: the kernel takes the head.",
                    take="lowest"),
              _flaw("top-bit", TOP, top=10),
              _flaw("not-toggled", "The pair bit of the block that is taken off its list was not toggled: it changes hands, too.",
                    taken_bit=False),
              _flaw("split-not-toggled", "The halves that expand puts on lists change hands: the pair bit of each must be toggled.",
                    split_bit="none"),
              _flaw("split-high", "expand toggles the bit of the pair of the *smaller* order: go down one order first, then toggle.",
                    split_bit="high"),
              _flaw("search-down", "The search starts with the largest blocks. It begins at the order asked for and goes up.",
                    search="down"),
              _flaw("search-exact", "Only the list of the order asked for is looked at. When it is empty, go up and split a larger block.",
                    search="exact"),
              _flaw("search-short", "The search ends one order too early: blocks of order 9 (MAX_ORDER - 1) can be split as well.",
                    search="short"),
              _flaw("charge-found", "free_pages shrinks by the pages handed out (1 << order), not by those of the block that was found: "
                                    "the other halves stay free.", charge="found"),
              _flaw("charge-none", "free_pages was left as it is; it shrinks by 1 << order.", charge="none"),
              _flaw("charge-order", "free_pages counts pages: an order-n block has 1 << n of them, not n.", charge="order"),
              _flaw("charge-one", "free_pages counts pages, not blocks: it shrinks by 1 << order.", charge="one"),
              _flaw("count-none", "The page count of the block's first frame was not set to 1.", count="none"),
              _flaw("count-all", "Only the first page of the block gets the count 1; the others keep 0.", count="all"),
              _flaw("absolute", ABSOLUTE, base="frames"),
              _flaw("pair-shift", "Two buddies share one bit: the pair is index >> (1 + order).", pair_shift=0),
              _flaw("leave", "The block was given away but left on its list (list_del is missing).", leave=True),
              Mistake("no-return", "The lists were changed, but None was returned: is a `return` missing?", detect=_forgot_return),
              Mistake("index", "An index in the zone is returned where a frame number is asked for.", detect=_index_returned),
              _bug("leave-any", "listed-twice", "A block was put on a list that it is on already: was it taken off (list_del) first?"),
              _bug("top-any", "no-map", TOP),
              _bug("order-any", "no-order", "The search goes past the last list: orders go from 0 to MAX_ORDER - 1, which is 9."),
              _bug("pair-any", "no-pair", "That pair bit does not exist in this zone. " + ABSOLUTE)],
    hint="Work through one split on paper: which block goes to which list, which bit, and where does the rest begin?")

FREEING = code(
    "freeing", "free_pages_ok of your own", ask=Drive("buddy:drive_freeing", "Freeing"), judge=judge_decisions,
    public=freeing_public, hidden=freeing_hidden, seconds=2.0,
    criteria=[Criterion("single", 2, "a block that does not merge"), Criterion("merge", 3, "blocks that merge: the free lists afterwards"),
              Criterion("bits", 2, "the pair bits afterwards"), Criterion("pages", 1, "free_pages of the zone"),
              Criterion("top", 1, "merging up to order 9, and freeing a block of order 9"),
              Criterion("relative", 1, "zones that do not start at frame 0")],
    mistakes=[_flaw("absolute-buddy", ABSOLUTE, "relative", buddy="frames"), _flaw("tail", TAIL, put="tail"),
              _flaw("plus", PLUS, buddy="plus"), _flaw("minus", PLUS, buddy="minus"),
              _flaw("always", MERGED, test="always"),
              _flaw("never", "The block is never merged: where the toggled bit was 1 before, the buddy is free.", test="never"),
              _flaw("inverted", "The bit is read the wrong way round: it was 1 before when exactly one of the two was free, and that is "
                                "the buddy. Merge then, stop when it was 0.", test="inverted"),
              _flaw("stop-bit", "The bit that ends the merging must be toggled and stay so: this block is free now.", stop_bit=False),
              _flaw("once", "Merging ends after one step: the larger block may have a free buddy, too.", levels=1),
              _flaw("once-bit", "Merging ends after one step: the larger block may have a free buddy, too.", levels=1, stop_bit=False),
              _flaw("list-not-bit", "The lists look right, but no pair bit was toggled: the kernel cannot search a list for a buddy, it "
                                    "relies on the bits.", test="list"),
              _flaw("untoggled", "The bit was looked at but does not stay toggled: it changes whenever one of the pair changes hands.",
                    test="untoggled"),
              _flaw("unlink", "The buddy was left on its list: take it off (list_del) before the two become one block.", unlink=False),
              _flaw("unlink-tail", "The buddy was left on its list, and blocks were added at the tail.", unlink=False, put="tail"),
              _flaw("not-aligned", "The merged block begins at the lower of the two buddies: round the index down to a multiple of the new "
                                   "size.", align=False),
              _flaw("late-order", "The merged block was put on the list of the order it was freed with, not on that of its new order.",
                    late_order=True),
              _flaw("top-missing", "Two free buddies of order 8 make a block of order 9: the loop ends one order too early.", top=8),
              _flaw("top-bit", TOP, top=10),
              _flaw("credit-none", "free_pages was left as it is; it grows by 1 << order.", credit="none"),
              _flaw("credit-order", "free_pages counts pages: an order-n block has 1 << n of them, not n.", credit="order"),
              _flaw("credit-one", "free_pages counts pages, not blocks: it grows by 1 << order.", credit="one"),
              _flaw("credit-merged", "free_pages grew by the pages of the merged block; the buddy's pages were counted when it was freed. "
                                     "Count before the order grows.", credit="merged"),
              _flaw("absolute", ABSOLUTE, base="frames"),
              _flaw("pair-shift", "Two buddies share one bit: the pair is index >> (1 + order).", pair_shift=0),
              _bug("top-any", "no-map", TOP),
              _bug("order-any", "no-order", "The merging goes past the last list: orders go from 0 to MAX_ORDER - 1, which is 9."),
              _bug("pair-any", "no-pair", "That pair bit does not exist in this zone. " + ABSOLUTE),
              _bug("buddy-any", "not-listed", "The buddy that was to be taken off its list is not on it: is it really free (the bit was 1 "
                                              "before), is it index ^ (1 << order), and counted from the zone's first frame?")],
    hint="Free two buddies one after the other on paper, with the bit of their pair beside them.")

# --- 7: analyse ----------------------------------------------------------------------------------------------------------------------


def _policy_text(q: dict[str, Any]) -> str:
    return f"Your workload is the one with seed {q['seed']}."


def _swapped(q: Any, got: Any) -> bool:
    right = ask.policy_oracle(q)
    return any(plain.same(right[a], got[b], tolerance=0.002) for a in ("newest", "oldest", "lowest") for b in ("newest", "oldest", "lowest")
               if a != b and not plain.same(right[b], got[b], tolerance=0.002))


def _usable(q: Any, got: Any) -> bool:
    right = ask.policy_oracle(q)
    return any(plain.same(1 - right[k], got[k], tolerance=0.004) for k in ("newest", "oldest", "lowest"))


POLICY = analyse(
    "policy", "Three policies measured", 4, answer="policy", inputs=lambda r: {"seed": r.randrange(101, 125)}, oracle=ask.policy_oracle,
    text=_policy_text, tolerance=0.002,
    parts={"newest": (1, "unusable share, newest first"), "oldest": (1, "unusable share, oldest first"),
           "lowest": (1, "unusable share, lowest address first"), "best": (1, "the policy that keeps most memory usable")},
    mistakes=[Mistake("percent", "Give shares between 0 and 1, not percentages.",
                      detect=lambda q, got: any(isinstance(got[k], (int, float)) and got[k] > 1 for k in ("newest", "oldest", "lowest"))),
              Mistake("swapped", "That figure belongs to another of the three policies: `blocks` comes newest first.", detect=_swapped),
              Mistake("usable", "That is the usable share; the unusable one is asked for.", detect=_usable),
              Mistake("other-seed", "That is the figure of another workload: measure with your own seed.",
                      detect=lambda q, got: any(plain.same(ask.policy_oracle({"seed": s})[k], got[k], tolerance=0.0005)
                                                for s in (1, 6) for k in ("newest", "oldest", "lowest"))),
              Mistake("most", "The best policy leaves the *smallest* share unusable.", criterion="best",
                      gives=lambda q: max(("newest", "oldest", "lowest"), key=lambda k: ask.policy_oracle(q)[k]))])

EXERCISE = Exercise("06-buddy", "Physical page allocation: the buddy allocator",
                    (PLACE, WATERMARKS, ORDER, TRACE, ALLOCATING, FREEING, POLICY))
