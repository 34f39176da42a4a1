"""Pages as pixels, composed from stored glyphs, so that every machine draws the same.

glyphs.npz (uint8) holds two fonts, drawn once with Pillow's built-in ones (rasterisers differ
between versions), and the 1,797 handwritten digits of scikit-learn's `load_digits` (8 x 8 pixels,
UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, CC BY 4.0).
Shapes: R lines of cells, C columns, S x S pixels of a cell.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from testbed.page import COLUMNS, Page, header_cell
from testbed.vocabulary import COLOURS, DIGITS, LETTERS

CELL = 16
"""Pixels of a cell's side."""
TRAINING_HANDS, VALIDATION_HANDS, HELDOUT_HANDS = (
    range(1200),
    range(1200, 1500),
    range(1500, 1797),
)
"""Handwritten samples of each split: no split sees another's."""

_PALETTE = np.array(
    [
        [235, 90, 90],
        [100, 200, 100],
        [110, 150, 245],
        [240, 225, 90],
        [190, 110, 220],
        [250, 170, 70],
        [90, 220, 220],
        [180, 130, 90],
    ],
    np.float32,
)
_HEADER_GREY = 200.0
_SHIFTS = 3
_ARROW = (8, 12, 14, 12, 8)
_FILLERS = 12
_SPECKLES = 0.02
_SPECKLE_DEPTH = 90
_BRIGHTNESS = 0.06
_FADING = 0.25
"""Noise at strength 1: dust darkens 2 % of the pixels by up to 90 of 255 levels, boxes vary in
brightness by 6 %, ink by a quarter."""


def _place(glyphs: npt.NDArray[np.uint8], left: int, top: int) -> npt.NDArray[np.uint8]:
    """Put (N, h, w) glyphs into cells, one copy per vertical shift: (shifts, N, S, S)."""
    count, height, width = glyphs.shape
    placed = np.zeros((_SHIFTS, count, CELL, CELL), np.uint8)
    for shift in range(_SHIFTS):
        down = top - 1 + shift
        placed[shift, :, down : down + height, left : left + width] = glyphs
    return placed


class _Inks:
    """Every ink that a cell may show, as one table, and where each group starts in it.

    A cell shows up to two inks: (left, right) digits, (arrow, letter), or one and a blank.
    """

    def __init__(self) -> None:
        with np.load(Path(__file__).with_name("glyphs.npz")) as stored:
            arrays: dict[str, Any] = {name: stored[name] for name in stored.files}
        digits = len(DIGITS)
        arrow = np.zeros((1, 5, 5), np.uint8)
        for line, bits in enumerate(_ARROW):
            arrow[0, line] = [255 * (bits >> (4 - column) & 1) for column in range(5)]
        groups = {
            "blank": _place(np.zeros((1, 1, 1), np.uint8), 0, 2),
            "arrow": _place(arrow, 1, 5),
            "filler": _place(_fillers(), 0, 4),
            "left_hand": _place(arrays["handwritten"], 0, 4),
            "right_hand": _place(arrays["handwritten"], 8, 4),
        }
        for font in ("sans", "mono"):
            glyphs = arrays[font]
            groups[f"left_{font}"] = _place(glyphs[:digits], 1, 2)
            groups[f"right_{font}"] = _place(glyphs[:digits], 8, 2)
            groups[f"middle_{font}"] = _place(glyphs[:digits], 4, 2)
            groups[f"key_{font}"] = _place(glyphs[digits:], 4, 2)
            groups[f"target_{font}"] = _place(glyphs[digits:], 8, 2)
        self.table = np.concatenate(list(groups.values()), axis=1)
        sizes = [group.shape[1] for group in groups.values()]
        self.start = dict(zip(groups, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self.hands_of_digit = [
            np.flatnonzero(arrays["handwritten_digit"] == digit) for digit in range(digits)
        ]


def _fillers() -> npt.NDArray[np.uint8]:
    """Strokes that look like running text: (fillers, 7, 16)."""
    rng = np.random.default_rng(0)
    strokes = np.zeros((_FILLERS, 7, CELL), np.uint8)
    strokes[:, 2:6, 1:15] = 150 * (rng.random((_FILLERS, 4, 14)) < 0.55)
    return strokes


_INKS = _Inks()


def _fills() -> npt.NDArray[np.float32]:
    """Where a cell is filled with its colour, 0 or 1: nothing, box, tag, line, bars of 4-16 px."""
    fills = np.zeros((8, CELL, CELL), np.float32)
    fills[1, :15, :15] = 1
    fills[2, 1:14, 7:16] = 1
    fills[3, 14:] = 1
    for quarter in range(1, 5):
        fills[3 + quarter, 3:12, : 4 * quarter] = 1
    return fills


_FILLS = _fills()
_NOTHING, _BOX, _TAG, _LINE, _BAR = 0, 1, 2, 3, 4
_BAR_UNITS = 8
"""Numbers per quarter of a cell of a bar's length."""


@dataclass
class _Cells:
    """What to draw into each cell: two inks, a fill and its colour, all flat over the page."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    fill: npt.NDArray[np.int64]
    colour: npt.NDArray[np.float32]


def render(
    page: Page, rng: np.random.Generator, hands: range = TRAINING_HANDS, noise: float = 1.0
) -> npt.NDArray[np.uint8]:
    """Draw a page: (tiles * 256, 256, 3) uint8.

    Args:
        page: what it shows.
        rng: consumed.
        hands: the handwritten samples to choose from.
        noise: strength of dust, fading and uneven light.
    """
    cells = _compose(page, rng, hands)
    lines = page.cells // COLUMNS
    shift = rng.integers(0, _SHIFTS, len(cells.first))
    strength = rng.uniform(max(0.0, 1 - _FADING * noise), 1.0, len(cells.first)) / 255
    ink_NSS = _INKS.table[shift, cells.first].astype(np.float32)
    ink_NSS += _INKS.table[shift, cells.second]
    light_NSS = 1 - ink_NSS * strength.astype(np.float32)[:, None, None]
    paper = rng.uniform(225, 252, 3).astype(np.float32)
    if page.layout == "scene":
        paper *= rng.uniform(0.75, 0.95, 3).astype(np.float32)
    brightness = rng.uniform(1 - _BRIGHTNESS * noise, 1 + _BRIGHTNESS * noise, len(cells.first))
    fill_N3 = cells.colour * brightness.astype(np.float32)[:, None] - paper
    image_RSCSK = np.empty((lines, CELL, COLUMNS, CELL, 3), np.float32)
    drawn = image_RSCSK.transpose(0, 2, 1, 3, 4)
    mask_NSS = _FILLS[cells.fill]
    for channel in range(3):
        plane_NSS = paper[channel] + mask_NSS * fill_N3[:, channel, None, None]
        plane_NSS *= light_NSS
        drawn[..., channel] = plane_NSS.reshape(lines, COLUMNS, CELL, CELL)
    image = image_RSCSK.reshape(lines * CELL, COLUMNS * CELL, 3)
    if page.layout == "scene":
        slope = np.linspace(1.0, rng.uniform(0.7, 1.0), image.shape[1], dtype=np.float32)
        image *= slope[None, :, None]
    dust = rng.integers(0, image.shape[0] * image.shape[1], int(_SPECKLES * noise * lines * 4096))
    depth = rng.uniform(0, _SPECKLE_DEPTH, (len(dust), 1)).astype(np.float32)
    image.reshape(-1, 3)[dust] -= depth
    return image.clip(0, 255).astype(np.uint8)


def _compose(page: Page, rng: np.random.Generator, hands: range) -> _Cells:
    start = _INKS.start
    cells = _Cells(
        first=np.full(page.cells, start["blank"]),
        second=np.full(page.cells, start["blank"]),
        fill=np.zeros(page.cells, np.int64),
        colour=np.zeros((page.cells, 3), np.float32),
    )
    font = ("sans", "mono")[int(rng.integers(2))]
    if page.layout == "document":
        texts = np.flatnonzero(rng.random(page.cells) < 0.6)
        cells.first[texts] = start["filler"] + rng.integers(0, _FILLERS, len(texts))
    for row in range(page.rows):
        cell = header_cell(row)
        cells.first[cell], cells.second[cell] = _ordinal(row + 1, font)
        cells.fill[cell], cells.colour[cell] = _BOX, _HEADER_GREY
    draws = rng.random((len(page.items), 2))
    for item, (one, two) in zip(page.items, draws.tolist(), strict=True):
        key, value = item.cell, item.value_cell
        cells.first[key] = start[f"key_{font}"] + item.letter
        cells.second[key] = start["blank"]
        cells.fill[key], cells.colour[key] = _BOX, _PALETTE[item.colour]
        if item.refers_to is not None:
            target = page.items[item.refers_to]
            cells.first[value] = start["arrow"]
            cells.second[value] = start[f"target_{font}"] + target.letter
            cells.fill[value], cells.colour[value] = _TAG, _PALETTE[target.colour]
            continue
        assert item.number is not None
        tens, units = divmod(item.number, 10)
        if page.layout == "scene":
            cells.first[value] = start["left_hand"] + _hand(tens, hands, one)
            cells.second[value] = start["right_hand"] + _hand(units, hands, two)
        else:
            cells.first[value] = start[f"left_{font}"] + tens
            cells.second[value] = start[f"right_{font}"] + units
        if page.layout == "form":
            cells.fill[value] = _LINE
        if page.layout == "chart":
            _draw_bar(cells, item.value_cell + 1, item.number, _PALETTE[item.colour])
    return cells


def _draw_bar(cells: _Cells, cell: int, number: int, colour: npt.NDArray[np.float32]) -> None:
    quarters = number // _BAR_UNITS
    for part in range(3):
        length = min(4, quarters - 4 * part)
        if length > 0:
            cells.fill[cell + part] = _BAR + length - 1
            cells.colour[cell + part] = colour


def _ordinal(number: int, font: str) -> tuple[int, int]:
    if number < 10:
        return _INKS.start[f"middle_{font}"] + number, _INKS.start["blank"]
    tens, units = divmod(number, 10)
    return _INKS.start[f"left_{font}"] + tens, _INKS.start[f"right_{font}"] + units


def _hand(digit: int, hands: range, draw: float) -> int:
    of_digit = _INKS.hands_of_digit[digit]
    low, high = np.searchsorted(of_digit, (hands.start, hands.stop))
    return int(of_digit[low + int(draw * (high - low))])


assert len(_PALETTE) == len(COLOURS)
assert len(LETTERS) == _INKS.table.shape[1] - _INKS.start["target_mono"]
