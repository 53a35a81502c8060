"""Small things every lesson needs: a table that reads well, a tape in sentences, one request watched."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from vmlab import KernelHang, KernelPanic, Machine, Page, Tape, describe, gfp_name

__all__ = ["table", "tell", "watch"]

# What the allocator decides on the way; the other events are how it carries the decision out.
DECISIONS = {"alloc_begin", "watermark", "need_balance", "wake_kswapd", "reclaim", "local_page", "yield", "alloc", "alloc_fail"}


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Show *rows* as a table under *caption*: the first cell names its row, columns of numbers are set right."""
    from IPython.display import HTML, display

    texts = [[str(value) for value in row] for row in rows]
    sides = ["left" if any(text.strip("0123456789,.%–") for text in column) else "right" for column in zip(*texts, strict=True)]
    sides = sides or ["left"] * len(head)

    def line(kinds: Sequence[str], cells: Sequence[str]) -> str:
        parts = zip(kinds, sides, cells, strict=True)
        return "".join(f'<{kind} style="text-align:{side}">{html.escape(text)}</{kind[:2]}>' for kind, side, text in parts)

    top = line(['th scope="col"'] * len(head), head)
    kinds = ['th scope="row"'] + ["td"] * (len(head) - 1)
    body = "".join(f"<tr>{line(kinds, row)}</tr>" for row in texts)
    title = f'<caption style="text-align:left;white-space:nowrap"><b>{html.escape(caption)}</b></caption>'
    display(HTML(f"<table>{title}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"))


def tell(tape: Tape, steps: int | None = None) -> None:
    """Print the events of *tape*, or the first *steps* of them, as numbered sentences."""
    for number, event in enumerate(tape.events(0, len(tape) if steps is None else steps)):
        print(f"{number:3}  {describe(event)}")


def watch(machine: Machine, gfp_mask: int, order: int = 0) -> Page | None:
    """Make one request of *machine* and print what the allocator decides on the way. Returns the page, or None."""
    before = machine.on_event
    machine.on_event = lambda event: print("  ", describe(event)) if event[0] in DECISIONS else None
    print(f"{gfp_name(gfp_mask)}, order {order}:")
    try:
        return machine.alloc_pages(gfp_mask, order)
    except (KernelHang, KernelPanic) as hang:
        print("   …", hang)
        return None
    finally:
        machine.on_event = before
