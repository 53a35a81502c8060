"""Colours of the pictures, in one place: for the charts, for the JavaScript, and for the test that colour-blind eyes can tell them apart.

Okabe and Ito's palette, and viridis for things that have an order. Maps are drawn on a dark ground in both
themes, on which every colour here has a contrast of 3:1 or more. Colour never stands alone: a legend, letters
in the cells, dashes and markers on lines say the same.
"""

from __future__ import annotations

GROUND = "#14171c"  # behind every map

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#B4B9C2"
OKABE_ITO = [ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE]

# What a frame is. "moving": out of the lists for the moment, in the middle of an operation. The blue of reserved
# frames is bluer than Okabe and Ito's, which tritanopes take for the green of free ones.
STATE = {"hole": "#2b3038", "reserved": "#4a63d0", "allocated": ORANGE, "free": GREEN, "moving": "#ffffff"}
STATE_LETTER = {"hole": "", "reserved": "R", "allocated": "A", "free": "F", "moving": "M"}

# Orders 0 to 9, dark to light: viridis without its dark end, which would drown in the ground.
ORDER = ["#3f6a97", "#347899", "#2a8398", "#248e94", "#1f9b8d", "#26a784", "#40b972", "#6ccb5b", "#addc30", "#fde725"]

ZONE = {"DMA": YELLOW, "Normal": SKY, "HighMem": VERMILION}

# Owners take these in turn; their letters tell apart what shares a colour.
OWNER = [*OKABE_ITO, GREY]


def for_javascript() -> dict[str, object]:
    """Everything the views' JavaScript draws with, as plain data."""
    return {"ground": GROUND, "state": STATE, "letter": STATE_LETTER, "order": ORDER, "zone": ZONE, "owner": OWNER, "grey": GREY}
