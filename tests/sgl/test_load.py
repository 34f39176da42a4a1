"""Checkpoints on disk, and what importing the package costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

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
