"""The vision tower: its features, and its first training, to name what is in every slot.

Shapes: B tiles or pages, V visual tokens of a page, F features of one (four patches joined).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from testbed.architecture import TILE_TOKENS, build_image_processor
from testbed.page import COLUMNS, STYLES, Page, PageStyle, draw_page
from testbed.render import render
from testbed.schedule import learning_rate_factor
from testbed.vocabulary import COLOURS, LETTERS

STEPS = 400
_BATCH = 16
_LEARNING_RATE = 2e-3
_CROWDED = PageStyle(rows=8, fewest=16, most=48)
_IGNORE = -100


def tower_features(model: Any, pixels: Tensor) -> Tensor:
    """What the projector gets: (tiles, 64, F) from (tiles, 3, 192, 192)."""
    patches = model.model.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    square = patches.reshape(patches.shape[0], side, side, -1)
    return model.model.pixel_shuffle(square, scale_factor=0.5).flatten(1, 2)


def train_tower(model: Any, seed: int, log: Callable[[str], None]) -> None:
    """Teach the tower to name colour, letter and both digits of every slot."""
    rng = np.random.default_rng([seed, 0])
    processor = build_image_processor()
    features = 4 * model.config.vision_config.hidden_size
    heads = nn.ModuleList(nn.Linear(features, n) for n in (len(COLOURS) + 1, len(LETTERS), 10, 10))
    weights = [*model.model.vision_tower.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=_LEARNING_RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * learning_rate_factor(step, STEPS)
        pages = [draw_page(rng, _CROWDED) for _ in range(_BATCH)]
        images = [render(page, rng) for page in pages]
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        targets_BVK = torch.stack([slot_attributes(page, page.rows * 8) for page in pages])
        read_BVF = functional.layer_norm(tower_features(model, pixels), (features,))
        losses, right = [], []
        for head, target_BV in zip(heads, targets_BVK.unbind(-1), strict=True):
            logits_BVN = head(read_BVF)
            losses.append(
                functional.cross_entropy(
                    logits_BVN.flatten(0, 1), target_BV.flatten(), ignore_index=_IGNORE
                )
            )
            counted = target_BV != _IGNORE
            right.append(float((logits_BVN.argmax(-1) == target_BV)[counted].float().mean()))
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 50 == 0 or step == STEPS - 1:
            log(f"vision step {step}: colour, letter, tens, units {np.round(right, 3).tolist()}")


def slot_attributes(page: Page, tokens: int) -> Tensor:
    """(tokens, 4) int64: colour (an empty slot has a class of its own), letter, tens, units."""
    attributes = torch.full((tokens, 4), _IGNORE)
    attributes[:, 0] = len(COLOURS)
    for label in page.labels:
        tens, units = divmod(label.number, 10)
        attributes[label.visual_token] = torch.tensor([label.colour, label.letter, tens, units])
    return attributes


def neighbour_attributes(attributes_V4: Tensor, page: Page) -> Tensor:
    """(V, 8) int64: what the slots to the left of and above each one show, empty ones ignored."""
    slots_RC4 = attributes_V4[: page.rows * COLUMNS].view(page.rows, COLUMNS, 4).clone()
    slots_RC4[slots_RC4[..., 1] == _IGNORE] = _IGNORE
    beside = torch.full((2, page.rows, COLUMNS, 4), _IGNORE)
    beside[0, :, 1:] = slots_RC4[:, :-1]
    beside[1, 1:] = slots_RC4[:-1]
    around_V8 = torch.full((len(attributes_V4), 8), _IGNORE)
    around_V8[: page.rows * COLUMNS] = beside.permute(1, 2, 0, 3).reshape(-1, 8)
    return around_V8


@dataclass(frozen=True)
class PagePool:
    """Pages with their features, computed once while the tower is frozen.

    Attributes:
        pages: the pages.
        features: per page, (V, F) float16; V = 64, or 192 for tall pages.
    """

    pages: list[Page]
    features: list[Tensor]


@torch.no_grad()
def draw_pool(model: Any, seed: int, counts: tuple[int, ...]) -> PagePool:
    """Pages of every style, as many of each as `counts` says."""
    rng = np.random.default_rng([seed, 1])
    processor = build_image_processor()
    pages = [
        draw_page(rng, style)
        for style, count in zip(STYLES, counts, strict=True)
        for _ in range(count)
    ]
    features: list[Tensor] = []
    for start in range(0, len(pages), _BATCH):
        images = [render(page, rng) for page in pages[start : start + _BATCH]]
        encoded = processor(images=images, return_tensors="pt")
        read = tower_features(model, encoded["pixel_values"]).half()
        tiles = [int(count) for count in encoded["num_patches"]]
        features += [part.flatten(0, 1).clone() for part in read.split(tiles)]
    assert all(len(part) % TILE_TOKENS == 0 for part in features)
    return PagePool(pages, features)
