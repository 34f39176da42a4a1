"""The vision tower: its features, and its first training, to name what is in every cell.

Shapes: B tiles, V visual tokens of a page, F features of one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from testbed.architecture import TILE_TOKENS, build_image_processor
from testbed.page import Item, Page, PageStyle, draw_page, header_cell
from testbed.render import TRAINING_HANDS, render
from testbed.schedule import learning_rate_factor
from testbed.vocabulary import COLOURS, DIGITS, LETTERS, ORDINALS

STEPS = 800
IGNORE = -100
_BATCH = 16
_LEARNING_RATE = 2e-3
_STYLES = (PageStyle(1, 30, 56), PageStyle(2, 60, 90))
_TALL_SHARE = 0.2
_TYPES = 6
BLANK, KEY, NUMBER, REFERENCE, HEADER, THUMBNAIL = range(_TYPES)
CLASSES = (_TYPES, len(COLOURS), len(LETTERS), len(DIGITS), len(DIGITS), len(ORDINALS))
"""Of each attribute of a cell: type, colour, letter, tens, units, number of the row."""


def tower_features(model: Any, pixels: Tensor) -> Tensor:
    """What the projector gets: (tiles, 256, F) from (tiles, 3, 256, 256)."""
    features: Tensor = model.model.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
    return features


def train_tower(model: Any, seed: int, log: Callable[[str], None]) -> None:
    """Teach the tower to name type, colour, letter, digits and row number of every cell."""
    rng = np.random.default_rng([seed, 0])
    width, device = model.config.vision_config.hidden_size, model.device
    heads = nn.ModuleList(nn.Linear(width, count) for count in CLASSES).to(device)
    weights = [*model.model.vision_tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=_LEARNING_RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * learning_rate_factor(step, STEPS)
        tall = rng.random() < _TALL_SHARE
        pages = [draw_page(rng, _STYLES[tall]) for _ in range(_BATCH // (3 if tall else 1))]
        pixels = _pixels(pages, rng, TRAINING_HANDS).to(device)
        targets_XK = torch.cat([cell_attributes(page) for page in pages]).to(device)
        read_XF = functional.layer_norm(tower_features(model, pixels), (width,)).flatten(0, 1)
        losses, right = [], []
        for head, target_X in zip(heads, targets_XK.unbind(-1), strict=True):
            counted = target_X != IGNORE
            logits_XN = head(read_XF[counted])
            losses.append(functional.cross_entropy(logits_XN, target_X[counted]))
            right.append(float((logits_XN.argmax(-1) == target_X[counted]).float().mean()))
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 100 == 0 or step == STEPS - 1:
            log(f"vision step {step}: type to row number right {np.round(right, 3).tolist()}")


def _pixels(pages: Sequence[Page], rng: np.random.Generator, hands: range) -> Tensor:
    images = [render(page, rng, hands) for page in pages]
    pixels: Tensor = build_image_processor()(images=images, return_tensors="pt")["pixel_values"]
    return pixels


def visual_tokens(page: Page) -> int:
    """Of a page, its thumbnail's included."""
    return page.cells + (TILE_TOKENS if page.tiles > 1 else 0)


def cell_attributes(page: Page) -> Tensor:
    """What each visual token shows: (V, 6) int64 of CLASSES, IGNORE where there is none."""
    shows = np.full((visual_tokens(page), len(CLASSES)), IGNORE)
    shows[: page.cells, 0] = BLANK
    shows[page.cells :, 0] = THUMBNAIL
    for row in range(page.rows):
        shows[header_cell(row), 0], shows[header_cell(row), 5] = HEADER, row
    for item in page.items:
        shows[item.cell, :3] = KEY, item.colour, item.letter
        if item.refers_to is not None:
            target = page.items[item.refers_to]
            shows[item.value_cell, :3] = REFERENCE, target.colour, target.letter
        else:
            assert item.number is not None
            shows[item.value_cell, 0] = NUMBER
            shows[item.value_cell, 3:5] = divmod(item.number, 10)
    return torch.from_numpy(shows)


BINDING_CLASSES = (len(COLOURS), len(LETTERS), len(COLOURS) + 1, len(LETTERS), len(ORDINALS))
"""Of what an item's tokens should know of their surroundings: colour and letter of its key, colour
(one more class: first in its row) and letter of the key before, number of the row."""


def bindings(page: Page) -> Tensor:
    """(V, 5) int64 of BINDING_CLASSES for an item's two tokens, IGNORE for all others."""
    bound = np.full((visual_tokens(page), len(BINDING_CLASSES)), IGNORE)
    before: Item | None = None
    for item in page.items:
        colour, letter = len(COLOURS), IGNORE
        if before and before.row == item.row:
            colour, letter = before.colour, before.letter
        bound[[item.cell, item.value_cell]] = item.colour, item.letter, colour, letter, item.row
        before = item
    return torch.from_numpy(bound)


@dataclass(frozen=True)
class PagePool:
    """Pages with their features, computed once while the tower is frozen.

    Attributes:
        pages: the pages.
        features: per page, (V, F) float16; V = 256, or 768 for tall pages.
    """

    pages: list[Page]
    features: list[Tensor]


@torch.no_grad()
def draw_pool(
    model: Any,
    rng: np.random.Generator,
    counts: Sequence[tuple[PageStyle, int]],
    hands: range = TRAINING_HANDS,
) -> PagePool:
    """Pages of several styles, as many of each as `counts` says."""
    pages, features = [], []
    for style, count in counts:
        left = count
        while left > 0:
            part = [draw_page(rng, style) for _ in range(min(left, _BATCH))]
            read = tower_features(model, _pixels(part, rng, hands).to(model.device)).half().cpu()
            features += [one.flatten(0, 1).clone() for one in read.split(len(read) // len(part))]
            pages += part
            left -= len(part)
    return PagePool(pages, features)
