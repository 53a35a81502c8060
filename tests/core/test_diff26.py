"""vmlab diff-26: the differences are read from the docstrings of vmlab/v26."""

from __future__ import annotations

import pytest

from vmlab.cli import main
from vmlab.tools.diff26 import CHAPTERS, chapter_of, differences, references, sentence_of


def test_sentences_and_references() -> None:
    doc = """In 2.6 a page waits, because of locks; before that it did not.

    More. kernel: mm/swap.c:lru_cache_add, __pagevec_lru_add, include/linux/pagevec.h:pagevec_add
    """
    assert sentence_of(doc) == "In 2.6 a page waits, because of locks; before that it did not."
    assert references(doc) == ("mm/swap.c:lru_cache_add", "mm/swap.c:__pagevec_lru_add", "include/linux/pagevec.h:pagevec_add")
    assert sentence_of("What it does. kernel: mm/a.c:f") == ""
    assert sentence_of("In 2.6 new. kernel: mm/a.c:f") == "In 2.6 new."


@pytest.mark.parametrize(
    ("reference", "chapter"),
    [
        ("mm/page_alloc.c:expand", 6),
        ("mm/page_alloc.c:build_zonelists", 2),
        ("mm/memory.c:do_wp_page", 4),
        ("mm/rmap.c:page_referenced", 3),
        ("mm/vmscan.c:shrink_list", 10),
        ("mm/swapfile.c:map_swap_page", 11),
        ("mm/oom_kill.c:badness", 13),
        ("mm/swap_state.c:add_to_swap", 11),
        ("mm/swap.c:lru_add_drain", 10),
    ],
)
def test_chapters_of_kernel_functions(reference: str, chapter: int) -> None:
    assert chapter_of(reference) == chapter


def test_an_override_names_both_kernels_and_a_new_function_only_one() -> None:
    found = {entry.name: entry for entry in differences(6)}
    expand = found["PageAllocator26.expand"]
    assert expand.before == expand.after == ("mm/page_alloc.c:expand",)
    assert "lower half" in expand.sentence
    assert found["PageAllocator26.rmqueue"].before == ("mm/page_alloc.c:rmqueue",)
    assert found["PageAllocator26.rmqueue"].after == ("mm/page_alloc.c:__rmqueue",)
    assert not found["PageAllocator26.rmqueue_bulk"].before


def test_each_difference_is_in_one_chapter_of_the_book() -> None:
    every = differences()
    assert {entry.chapter for entry in every} <= set(CHAPTERS)
    assert sum(len(differences(chapter)) for chapter in CHAPTERS) == len(every)
    assert all(entry.sentence.startswith("In 2.6 ") for entry in every)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff-26", "5"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Chapter 5, Boot Memory Allocator: ")
    assert "mm/bootmem.c:" in said
    assert "vmlab/v26/bootmem.py:" in said
    assert main(["diff-26"]) == 0
    assert "lines of code" in capsys.readouterr().out
    assert main(["diff-26", "1"]) == 2
    assert "not 1" in capsys.readouterr().err
