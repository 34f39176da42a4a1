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
from sgl.vlm import VLM
from tests.tiny_models import FAMILIES, internvl, ragged_records


def save(vlm: VLM, path: Path) -> None:
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(path)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_saved_checkpoint_loads_and_answers_the_same(name: str, tmp_path: Path) -> None:
    vlm = FAMILIES[name]()
    save(vlm, tmp_path)
    loaded = sgl.load(tmp_path, device="cpu")
    records = ragged_records()
    for one, other in zip(
        vlm.guide(records, max_new_tokens=3), loaded.guide(records, max_new_tokens=3), strict=True
    ):
        assert one.token_ids == other.token_ids
        np.testing.assert_allclose(one.importance, other.importance, rtol=1e-6)
    half = sgl.load(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert half.model.dtype is torch.bfloat16
    for one in half.guide(records, max_new_tokens=2):
        assert np.isfinite(one.importance).all()


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


def test_weights_that_are_a_pickle_are_refused(tmp_path: Path) -> None:
    vlm = internvl()
    save(vlm, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(vlm.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="safetensors"):
        sgl.load(tmp_path, device="cpu")


def test_a_chat_template_runs_no_code(tmp_path: Path) -> None:
    save(internvl(), tmp_path)
    trace = tmp_path / "trace"
    escape = f"{{{{ cycler.__init__.__globals__.os.mkdir('{trace}') }}}}<IMG_CONTEXT>"
    (tmp_path / "chat_template.jinja").write_text(escape)
    with pytest.raises(ModelLoadError, match="chat template"):
        sgl.load(tmp_path, device="cpu")
    assert not trace.exists()


def test_checkpoints_that_bring_code_are_refused_without_running_it(tmp_path: Path) -> None:
    config = {"model_type": "internvl_chat", "auto_map": {"AutoConfig": "config.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "config.py").write_text("raise SystemExit('the code of a checkpoint ran')")
    with pytest.raises(UnsupportedModelError, match=r"internvl_chat.*native transformers format"):
        sgl.load(tmp_path)


def test_an_unsupported_text_model_is_refused_before_the_weights_load(tmp_path: Path) -> None:
    config = {"model_type": "internvl", "text_config": {"model_type": "gpt_oss"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=r"gpt_oss.*another kind.*llama"):
        sgl.load(tmp_path)


def test_the_processors_chat_template_wins_over_the_tokenizers(tmp_path: Path) -> None:
    """LLaVA-OneVision's tokenizer has Qwen2's text-only template, its processor the right one."""
    vlm = internvl()
    right = vlm.tokenizer.chat_template
    vlm.tokenizer.chat_template = "{{ messages[0]['content'] + 'text only' }}"
    save(vlm, tmp_path)
    template = tmp_path / "chat_template.jinja"
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["chat_template"] = template.read_text()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    template.unlink()
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": right}))
    assert sgl.load(tmp_path, device="cpu").tokenizer.chat_template == right


def test_a_checkpoint_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    vlm = internvl()
    vlm.tokenizer.chat_template = None
    save(vlm, tmp_path)
    with pytest.raises(ModelLoadError, match="no chat template"):
        sgl.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "template", ["{{ 'user: ' + messages[0]['content'] }}", "{{ messages[0]['content'] }}"]
)
def test_a_chat_template_without_images_is_refused(template: str, tmp_path: Path) -> None:
    vlm = internvl()
    vlm.tokenizer.chat_template = template
    save(vlm, tmp_path)
    with pytest.raises(ModelLoadError, match="does not write '<IMG_CONTEXT>' for an image"):
        sgl.load(tmp_path, device="cpu")


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
    save(vlm, tmp_path)
    path = tmp_path / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    for said in (None, False):
        settings.pop("crop_to_patches", None)
        path.write_text(
            json.dumps(settings if said is None else {**settings, "crop_to_patches": said})
        )
        family = sgl.load(tmp_path, device="cpu").family
        assert len(family.layouts([(32, 96)])[0].grids) == 4  # three tiles and a thumbnail


def test_a_checkpoint_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    vlm = internvl()
    save(vlm, tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    lost = next(name for name in weights if name.endswith("layers.0.self_attn.q_proj.weight"))
    kept = {name: weight for name, weight in weights.items() if name != lost}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="lacks 1 of the model's weights"):
        sgl.load(tmp_path, device="cpu")


def test_a_truncated_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    vlm = internvl()
    save(vlm, tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="cannot load"):
        sgl.load(tmp_path, device="cpu")
