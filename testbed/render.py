"""Pages as pixels: boxes and glyphs copied from a stored atlas, so that every machine agrees.

The atlas (atlas.npy, float32, (glyphs, 11, 8), 0 to 1) was drawn once with Pillow's built-in font;
font rasterisers differ between versions.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from testbed.page import COLUMNS, Label, Page

SLOT = 24
"""Pixels of a slot's side."""

_ATLAS: npt.NDArray[np.float32] = np.load(Path(__file__).with_name("atlas.npy"))
_DIGITS = 10
_PALETTE = np.array(
    [
        [235, 90, 90],
        [100, 200, 100],
        [110, 150, 245],
        [240, 225, 90],
        [190, 110, 220],
        [250, 170, 70],
    ],
    np.float32,
)
_PAPER = 245
_SPECKLES = 0.03
_SPECKLE_DEPTH = 90
"""Dust on a share of the pixels, darkening them by up to so many of 255 levels. Sparse noise keeps
a page's PNG at 12 to 22 kB; noise on every pixel made it 54 kB."""


def render(page: Page, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw a page with jitter, uneven ink and dust: (rows * 24, 192, 3) uint8."""
    image = np.full((page.rows * SLOT, COLUMNS * SLOT, 3), _PAPER, np.float32)
    for label in page.labels:
        _draw(image, label, rng)
    speckled = rng.random(image.shape[:2]) < _SPECKLES
    image[speckled] -= rng.uniform(0, _SPECKLE_DEPTH, (int(speckled.sum()), 1))
    return image.clip(0, 255).astype(np.uint8)


def _draw(image: npt.NDArray[np.float32], label: Label, rng: np.random.Generator) -> None:
    down, right = rng.integers(0, 2, 2)
    top, left = label.row * SLOT + down, label.column * SLOT + right
    ink = np.zeros((SLOT - 1, SLOT - 1, 1), np.float32)
    ink[:11, 8:16, 0] = _ATLAS[_DIGITS + label.letter]
    ink[12:, 3:11, 0] = _ATLAS[label.number // 10]
    ink[12:, 12:20, 0] = _ATLAS[label.number % 10]
    box = _PALETTE[label.colour] * rng.uniform(0.92, 1.05)
    image[top : top + SLOT - 1, left : left + SLOT - 1] = box * (1 - ink * rng.uniform(0.75, 1.0))
