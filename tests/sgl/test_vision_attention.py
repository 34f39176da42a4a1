"""What the vision tower attends to, against the tower run with eager attention."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from transformers import AttentionInterface

from sgl.prompt import native_inputs
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, qwen2_5_vl, ragged_records

TILED = ["gemma3", "idefics3", "internvl", "smolvlm"]
MERGED = ["qwen2_5_vl", "qwen2_vl", "qwen3_vl"]


def found(vlm: VLM) -> list[np.ndarray]:
    scene = vlm.scene(ragged_records(), watch_vision=True)
    vision = scene.batch.vision
    assert vision is not None
    grids = [grid for layout in scene.batch.layouts for grid in layout.grids]
    importance_BT = vision.importance_BT(grids, scene.visual_BT)
    assert bool((importance_BT[~scene.visual_BT] == 0).all())
    return [
        one_T[visual_T].numpy()
        for one_T, visual_T in zip(importance_BT, scene.visual_BT, strict=True)
    ]


def inputs_of(vlm: VLM) -> dict[str, Tensor]:
    records = ragged_records()
    layouts = [vlm.encoder.lay_out(record) for record in records]
    return native_inputs(vlm.encoder, records, layouts)


@pytest.mark.parametrize("name", TILED)
@torch.inference_mode()
def test_it_is_the_eager_towers_last_layer_pooled(name: str) -> None:
    vlm = FAMILIES[name]()
    tower = vlm.family.vision_tower(vlm.model)
    images = inputs_of(vlm)["pixel_values"]
    tower.set_attn_implementation("eager")
    maps_BHTT = tower(images.flatten(0, -4), output_attentions=True).attentions[-1]
    tower.set_attn_implementation("sdpa")
    mean_BTT = maps_BHTT.mean(dim=1)
    # With a class token its row, over the patches; else what every patch receives from all.
    received_BP = mean_BTT[:, 0, 1:] if name == "internvl" else mean_BTT.mean(dim=1)
    side = round(received_BP.shape[1] ** 0.5)
    tokens = len(torch.cat([torch.from_numpy(one) for one in found(vlm)])) // len(received_BP)
    pool = side // round(tokens**0.5)
    expected = avg_pool2d(received_BP.view(-1, 1, side, side), pool).flatten()
    np.testing.assert_allclose(np.concatenate(found(vlm)), expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("name", MERGED)
@torch.inference_mode()
def test_it_is_what_the_native_merger_would_make_of_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merger gets the attention in place of features, and the tower puts it into order."""
    vlm = FAMILIES[name]()
    tower = vlm.family.vision_tower(vlm.model)
    received: list[Tensor] = []

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any) -> Any:
        probs_BHTT = (query @ key.transpose(2, 3) * options["scaling"]).softmax(dim=-1)
        if module is tower.blocks[-1].attn:
            received.append(probs_BHTT[0].mean(dim=(0, 1)))
        return (probs_BHTT @ value).transpose(1, 2), None

    AttentionInterface.register("vision_spy", spy)
    monkeypatch.setattr(
        tower.merger, "forward", lambda _: torch.cat(received).view(-1, 4).mean(dim=1)[:, None]
    )
    inputs = inputs_of(vlm)
    tower.set_attn_implementation("vision_spy")
    native = tower(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
    tower.set_attn_implementation("sdpa")
    monkeypatch.undo()
    np.testing.assert_allclose(np.concatenate(found(vlm)), native[:, 0].numpy(), rtol=1e-4)


@torch.inference_mode()
def test_the_tower_is_left_as_it_was() -> None:
    vlm = qwen2_5_vl()
    tower = vlm.family.vision_tower(vlm.model)
    before = vlm.prompts(ragged_records()).prompt.embeds_BTD
    watched = vlm.prompts(ragged_records(), watch_vision=True).prompt.embeds_BTD
    assert tower.config._attn_implementation == "sdpa"
    assert not hasattr(tower.blocks[-1].attn, "sgl_watch")
    assert torch.equal(before, watched)
