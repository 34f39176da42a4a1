"""Prompts laid out before their pixels are touched, against what the native model makes of them."""

import numpy as np
import pytest

from sgl.errors import PromptTooLongError, RecordError
from sgl.types import ImageQuestion
from tests.tiny_models import FAMILIES, internvl, picture

SIZES = [(1, 1), (7, 90), (200, 3), (48, 96), (97, 33), (64, 64), (150, 149), (31, 160)]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_lengths_are_those_that_the_native_model_fills(name: str) -> None:
    """The native forward raises where features and image tokens differ in number."""
    vlm = FAMILIES[name]()
    for height, width in SIZES:
        record = ImageQuestion("a", "w1 w2", (np.zeros((height, width, 3), np.uint8),))
        batch = vlm.prompts([record], 1)
        (layout,) = batch.layouts
        assert layout.length == batch.width
        assert layout.visual_tokens == int(batch.prompt.visual_BT.sum())
        assert layout.length - layout.rows_after_image - 1 == int(
            batch.prompt.visual_BT[0].nonzero().max()
        )


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_patches_are_those_of_the_vision_tower(name: str) -> None:
    vlm = FAMILIES[name]()
    seen = []
    towers = {"visual", "vision_tower", "vision_model"}
    (tower,) = (module for name, module in vlm.model.model.named_children() if name in towers)
    attention = next(
        module for module in tower.modules() if type(module).__name__.endswith("Attention")
    )
    attention.register_forward_pre_hook(
        lambda _module, args, kwargs: seen.append((*args, kwargs.get("hidden_states"))[0]),
        with_kwargs=True,
    )
    batch = vlm.prompts([ImageQuestion("a", "w1", (picture(0, 40, 60),))], 1)
    (hidden,) = seen
    assert batch.layouts[0].patches == hidden.numel() // hidden.shape[-1]


def test_several_images_are_numbered() -> None:
    images = (picture(0, 32, 32), picture(1, 32, 64))
    layout = internvl().encoder.lay_out(ImageQuestion("a", "w1", images))
    assert [grid.image for grid in layout.grids] == [0, 1, 1, 1]


def test_a_record_without_images_has_no_visual_tokens() -> None:
    layout = internvl().encoder.lay_out(ImageQuestion("a", "w1 w2"))
    assert (layout.grids, layout.visual_tokens, layout.rows_after_image) == ((), 0, 0)
    assert (layout.patches, layout.vision_flops) == (0, 0.0)


def test_a_record_s_own_limit_counts() -> None:
    encoder = internvl().encoder
    assert encoder.lay_out(ImageQuestion("a", "w1"), 7).max_new_tokens == 7
    assert encoder.lay_out(ImageQuestion("a", "w1", max_new_tokens=3), 7).max_new_tokens == 3
    with pytest.raises(RecordError, match="at least 1"):
        encoder.lay_out(ImageQuestion("a", "w1", max_new_tokens=0))
    context = encoder.family.config.text_config.max_position_embeddings
    with pytest.raises(PromptTooLongError, match=str(context)):
        encoder.lay_out(ImageQuestion("a", "w1", max_new_tokens=context))
