"""Checkpoints on disk, and what importing the package costs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sgl
from sgl.errors import ModelLoadError, SglError, UnsupportedModelError
from tests.tiny_models import internvl, qwen2_5_vl, ragged_records


@pytest.mark.parametrize("make", [internvl, qwen2_5_vl])
def test_a_saved_checkpoint_loads_and_answers_the_same(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    vlm = make()
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(tmp_path)
    loaded = sgl.load(tmp_path, device="cpu")
    records = ragged_records()
    for one, other in zip(
        vlm.guide(records, max_new_tokens=3), loaded.guide(records, max_new_tokens=3), strict=True
    ):
        assert one.token_ids == other.token_ids
        np.testing.assert_array_equal(one.importance, other.importance)
    assert sgl.load(tmp_path, device="cpu", dtype=torch.bfloat16).model.dtype is torch.bfloat16


def test_a_missing_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="nowhere"):
        sgl.load(tmp_path / "nowhere")


def test_a_folder_that_is_no_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="cannot load"):
        sgl.load(tmp_path)


def test_an_unsupported_checkpoint_is_refused_before_its_weights_load(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UnsupportedModelError, match="gpt2"):
        sgl.load(tmp_path)


def test_every_error_has_the_root() -> None:
    assert issubclass(ModelLoadError, SglError)
    assert issubclass(ModelLoadError, OSError)
    assert issubclass(UnsupportedModelError, ValueError)


def test_importing_the_package_is_light() -> None:
    program = "import sys, sgl, sgl.types; print({'torch', 'transformers'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


def test_internvl_tiles_whatever_its_file_says(tmp_path: Path) -> None:
    """Published checkpoints do not say that images are tiled; their native processor does it."""
    vlm = internvl()
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    for said in (None, False):
        settings.pop("crop_to_patches", None)
        path.write_text(
            json.dumps(settings if said is None else {**settings, "crop_to_patches": said})
        )
        family = sgl.load(tmp_path, device="cpu").family
        wide = np.zeros((32, 96, 3), np.uint8)
        assert len(family.encode_images([wide], [1]).grids[0]) == 4  # three tiles and a thumbnail


def test_a_checkpoint_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    vlm = internvl()
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    lost = next(name for name in weights if name.endswith("layers.0.self_attn.q_proj.weight"))
    kept = {name: weight for name, weight in weights.items() if name != lost}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="lacks 1 of the model's weights"):
        sgl.load(tmp_path, device="cpu")


def test_a_truncated_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    vlm = internvl()
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="cannot load"):
        sgl.load(tmp_path, device="cpu")
