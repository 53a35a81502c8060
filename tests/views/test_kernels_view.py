"""Two kernels in one picture: told apart without colour, and in words."""

from __future__ import annotations

import pytest

import vmlab
from vmlab.views import kernels


@pytest.fixture(scope="module")
def found():
    return vmlab.compare("loader", kernels=("2.4", "2.6"))


def test_each_counter_has_a_chart_with_a_line_for_each_kernel(found) -> None:
    picture = kernels.plot(found, "free", "areas")
    charts = [child for child in picture.children if hasattr(child, "marks")]
    assert [chart.title for chart in charts] == ["free", "areas"]
    for chart, counter in zip(charts, ("free", "areas"), strict=True):
        assert [list(line.y) for line in chart.marks] == [list(run.series[counter]) for run in found.runs]
        assert len({line.line_style for line in chart.marks}) == 2, "colour alone tells nobody apart"


def test_the_words_come_from_the_data(found) -> None:
    words = kernels.plot(found, "areas").text_alternative
    last = [run.series["areas"][-1] for run in found.runs]
    assert f"to {last[0]:,}," in words and f"to {last[1]:,}," in words and "2.4" in words and "2.6" in words
    assert "free:" in kernels.plot(found).text_alternative


def test_an_unknown_counter_is_told(found) -> None:
    with pytest.raises(KeyError):
        kernels.plot(found, "tea")
