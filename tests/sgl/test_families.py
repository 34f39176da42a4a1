"""Where the visual tokens lie."""

import numpy as np
import pytest
from PIL import Image
from transformers import AutoConfig
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from sgl.errors import ImageError, UnsupportedModelError
from sgl.families import family_of
from sgl.language_model import check_decoder
from sgl.types import ImageQuestion, TokenGrid
from tests.tiny_models import (
    FAMILIES,
    internvl,
    llava_onevision,
    picture,
    qwen2_5_vl,
    ragged_records,
    smolvlm,
)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_grids_cover_each_image_once(name: str) -> None:
    vlm = FAMILIES[name]()
    records = ragged_records()
    for record, guidance in zip(records, vlm.guide(records, max_new_tokens=1), strict=True):
        assert sum(g.rows * g.columns for g in guidance.grids) == len(guidance.importance)
        assert [g.image for g in guidance.grids] == sorted(g.image for g in guidance.grids)
        for image in range(len(record.images)):
            tiles = [g for g in guidance.grids if g.image == image and not g.thumbnail]
            assert sum(map(area_in_image, tiles)) == pytest.approx(1.0, abs=0.05)


def area_in_image(grid: TokenGrid) -> float:
    left, top, right, bottom = np.clip(grid.box, 0, 1)
    return float((right - left) * (bottom - top))


def test_internvl_tiles_are_row_major_with_the_thumbnail_last() -> None:
    vlm = internvl()
    grids = vlm.family.layouts([(64, 64)])[0].grids
    assert [grid.box for grid in grids] == [
        (0.0, 0.0, 0.5, 0.5),
        (0.5, 0.0, 1.0, 0.5),
        (0.0, 0.5, 0.5, 1.0),
        (0.5, 0.5, 1.0, 1.0),
        (0.0, 0.0, 1.0, 1.0),
    ]
    assert [grid.thumbnail for grid in grids] == [False] * 4 + [True]


def test_llava_onevision_thins_out_large_grids_and_ends_their_rows() -> None:
    family = llava_onevision().family
    overview, *lines = family.layouts([(48, 48)])[0].grids
    assert (overview.rows, overview.columns, overview.thumbnail) == (4, 4, True)
    # 12 x 12 tokens of 9 tiles, thinned out to those of 4 tiles.
    assert [(line.rows, line.columns) for line in lines] == [(1, 8), (1, 1)] * 8
    for newline in lines[1::2]:
        assert newline.box[0] == newline.box[2] == 1.0
        assert not newline.thumbnail


def test_llava_onevision_looks_at_one_of_several_images_once() -> None:
    wide, square = llava_onevision().family.layouts([(32, 64), (8, 8)])
    for looked_at, newline in (wide.grids, square.grids):
        assert (looked_at.rows, looked_at.columns, newline.rows, newline.columns) == (4, 4, 1, 1)
    assert wide.grids[0].box == (0.0, -0.5, 1.0, 1.5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("vision_feature_select_strategy", "default"),
        ("vision_aspect_ratio", "square"),
        ("image_grid_pinpoints", [[16, 16]]),
    ],
)
def test_llava_onevision_with_other_packing_is_refused(setting: str, value: object) -> None:
    vlm = llava_onevision()
    setattr(vlm.family.config, setting, value)
    with pytest.raises(UnsupportedModelError, match=setting):
        type(vlm.family)(vlm.family.config, vlm.family.image_processor)


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 2), (3, 2)])
def test_smolvlm_prompts_as_its_native_processor_does(rows: int, columns: int) -> None:
    family = smolvlm().family
    # Images are scaled up to 48 pixels, so that none is a single tile unless splitting is off.
    family.image_processor.do_image_splitting = rows > 0
    family.image_processor.size = {"longest_edge": 16 * max(rows, columns, 1)}
    grids = family.layouts([(10 * max(rows, 1), 10 * max(columns, 1))])[0].grids
    assert len(grids) == rows * columns + 1
    marks = ("<fake_token_around_image>", "<image>", "<global-img>")
    assert family.placeholder_tokens(grids) == get_image_prompt_string(rows, columns, 4, *marks)


def test_smolvlm_keeps_tiles_of_zeros() -> None:
    vlm = smolvlm()
    vlm.family.image_processor.do_normalize = False
    black = ImageQuestion("a", "w1 w2", (np.zeros((16, 32, 3), np.uint8),))
    (guidance,) = vlm.guide([black], max_new_tokens=1)
    assert len(guidance.importance) == 4 * len(guidance.grids) > 4


def test_smolvlm_with_tiles_of_another_size_is_refused() -> None:
    vlm = smolvlm()
    vlm.family.image_processor.max_image_size = {"longest_edge": 8}
    with pytest.raises(UnsupportedModelError, match=r"tiles of 8 pixels .* takes 16"):
        type(vlm.family)(vlm.family.config, vlm.family.image_processor)


def test_smolvlm_with_sizes_that_are_no_multiple_of_its_tiles_is_refused() -> None:
    vlm = smolvlm()
    vlm.family.image_processor.size = {"longest_edge": 40}
    with pytest.raises(UnsupportedModelError, match=r"longest_edge \(40\) .* tiles \(16\)"):
        type(vlm.family)(vlm.family.config, vlm.family.image_processor)


def test_qwen_grid_follows_the_image() -> None:
    vlm = qwen2_5_vl()
    grid = vlm.family.layouts([(32, 64)])[0].grids[0]
    assert (grid.rows, grid.columns) == (4, 8)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_pil_images_and_arrays_are_the_same(name: str) -> None:
    vlm = FAMILIES[name]()
    array = picture(3, 64, 32)
    from_array, from_pil = vlm.guide(
        [
            ImageQuestion(str(i), "w1 w2", (image,))
            for i, image in enumerate([array, Image.fromarray(array)])
        ],
        max_new_tokens=2,
    )
    assert from_array.grids == from_pil.grids
    assert from_array.importance.tolist() == from_pil.importance.tolist()


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_any_pil_mode_is_turned_into_rgb(name: str) -> None:
    vlm = FAMILIES[name]()
    grey = Image.fromarray(picture(5, 40, 40)).convert("L")
    from_grey, from_alpha, from_rgb = (
        vlm.guide([ImageQuestion("a", "w1 w2", (grey.convert(mode),))], max_new_tokens=1)[0]
        for mode in ("L", "RGBA", "RGB")
    )
    assert from_grey.importance.tolist() == from_rgb.importance.tolist()
    assert from_alpha.importance.tolist() == from_rgb.importance.tolist()


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("size", [(3, 5), (4, 6), (6, 3), (1, 1)])
def test_tiny_images_are_images(name: str, size: tuple[int, int]) -> None:
    vlm = FAMILIES[name]()
    guidance = vlm.guide([ImageQuestion("a", "w1 w2", (picture(0, *size),))], max_new_tokens=1)[0]
    assert sum(g.rows * g.columns for g in guidance.grids) == len(guidance.importance) > 0


def test_unknown_families_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'bert'.*internvl, .*qwen2_5_vl"):
        family_of("bert")


def test_images_that_qwen_takes_for_a_line_are_bad_records() -> None:
    vlm = qwen2_5_vl()
    with pytest.raises(ImageError, match="300 x 1 pixels is more than 200 times"):
        vlm.guide([ImageQuestion("a", "w1", (picture(0, 1, 300),))], max_new_tokens=1)
    assert vlm.guide([ImageQuestion("a", "w1", (picture(0, 1, 200),))], max_new_tokens=1)


def test_layers_that_the_loop_would_run_wrongly_are_refused() -> None:
    window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}
    with pytest.raises(UnsupportedModelError, match=r"M-RoPE.*sliding_attention"):
        qwen2_5_vl(text=window)
    chunked = {"layer_types": ["chunked_attention"] * 5}
    with pytest.raises(UnsupportedModelError, match="chunked_attention"):
        internvl(text={"model_type": "qwen3", **chunked})
    with pytest.raises(UnsupportedModelError, match="gpt_oss"):
        check_decoder(AutoConfig.for_model("gpt_oss"), position_axes=1)
    ahead = AutoConfig.for_model("gemma3_text", use_bidirectional_attention=True)
    with pytest.raises(UnsupportedModelError, match="use_bidirectional_attention"):
        check_decoder(ahead, position_axes=1)
