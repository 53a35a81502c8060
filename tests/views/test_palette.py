"""Can eyes of every kind tell the colours of the pictures apart? Distances under simulated colour blindness, and contrasts."""

from __future__ import annotations

import itertools
import re

import pytest

from vmlab.views import palette
from vmlab.views.base import css, esm

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB; grey keeps the luminance alone.
EYES = {
    "usual": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "greyscale": [[0.2126, 0.7152, 0.0722]] * 3,
}


def linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]


def luminance(colour: str) -> float:
    return sum(k * v for k, v in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast, 1 to 21."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, eyes: str) -> tuple[float, float, float]:
    """CIE L*a*b* of a colour as these eyes see it."""
    rgb = [min(max(sum(k * v for k, v in zip(row, linear(colour), strict=True)), 0), 1) for row in EYES[eyes]]
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = (sum(k * v for k, v in zip(row, rgb, strict=True)) / white for row, white in zip(to_xyz, (0.9505, 1, 1.089), strict=True))
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def distance(a: str, b: str, eyes: str) -> float:
    return sum((p - q) ** 2 for p, q in zip(lab(a, eyes), lab(b, eyes), strict=True)) ** 0.5


def test_the_simulation_knows_what_is_hard():
    assert distance("#ff0000", "#007f00", "usual") > 100
    assert distance("#d00000", "#5c5c00", "deuteranopia") < 25, "red and olive are alike to deuteranopes"
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("name", ["state", "zone"])
def test_colours_that_mean_something_stay_apart(eyes, name):
    colours = palette.for_javascript()[name]
    for (one, a), (other, b) in itertools.combinations(colours.items(), 2):
        assert distance(a, b, eyes) >= (10 if eyes == "greyscale" else 20), f"{one} and {other} look alike to {eyes} eyes"


@pytest.mark.parametrize("eyes", EYES)
def test_higher_orders_are_lighter_to_everybody(eyes):
    lightness = [lab(colour, eyes)[0] for colour in palette.ORDER]
    assert all(after - before > 2 for before, after in itertools.pairwise(lightness))


def test_every_mark_stands_out_from_the_ground():
    marks = [c for name, c in palette.STATE.items() if name != "hole"] + palette.ORDER + list(palette.ZONE.values()) + palette.OWNER
    for colour in marks:
        assert contrast(colour, palette.GROUND) >= 2.95, colour  # WCAG 1.4.11 asks for 3:1


def test_letters_on_marks_can_be_read():
    """Cells carry black or white letters; the JavaScript chooses by luminance as here."""
    for colour in [*palette.STATE.values(), *palette.ORDER, *palette.ZONE.values(), *palette.OWNER]:
        ink = "#000000" if luminance(colour) > 0.18 else "#ffffff"
        assert contrast(colour, ink) >= 4.5, colour
    assert "> 0.18" in esm("frames_colours", "frames"), "the same threshold in common.js"


def test_no_state_is_told_by_colour_alone():
    letters = [letter for name, letter in palette.STATE_LETTER.items() if name != "hole"]
    assert all(letters) and len(set(letters)) == len(letters)


@pytest.mark.parametrize("name", ["frames", "buddy"])
def test_buttons_and_motion_keep_the_rules(name):
    style = css(name)
    assert "prefers-reduced-motion" in style and ":focus-visible" in style
    for height in re.findall(r"\.vml-(?:button|choice span)[^{]*\{[^}]*?[^-]height: (\d+)px", style):
        assert int(height) >= 24, "WCAG 2.5.8: targets of at least 24 pixels"
    assert contrast("#0b6aa2", "#ffffff") >= 4.5, "white on the main buttons"
