"""From a checkpoint to a model, or to what lays out its prompts."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText

from sgl.checkpoint import read_family, read_image_processor, read_tokenizer
from sgl.errors import ModelLoadError, SglError
from sgl.layout import PromptEncoder
from sgl.vlm import VLM


def load(
    path_or_id: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
) -> VLM:
    """Load a checkpoint in native transformers format.

    Args:
        path_or_id: a folder or a hub id.
        device: default: CUDA where there is one, else the CPU.
        dtype: default: bfloat16 on CUDA, float32 on a CPU.
        revision: of a hub id.

    Raises:
        ModelLoadError: it cannot be read.
        UnsupportedModelError: its architecture cannot be guided or pruned.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    if dtype is None:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    source = str(path_or_id)
    encoder = load_encoder(source, revision=revision)
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            attn_implementation="sdpa",
            trust_remote_code=False,
            # The other format is a pickle, whose reader has run code of files before.
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unreadable(source, error) from error
    if missing := sorted(found["missing_keys"]):
        raise ModelLoadError(
            f"the checkpoint {source!r} lacks {len(missing)} of the model's weights "
            f"({', '.join(missing[:3])}, ...); download it again"
        )
    return VLM(model.to(device).eval(), encoder.tokenizer, encoder.family)


def load_encoder(path_or_id: str | Path, *, revision: str | None = None) -> PromptEncoder:
    """Load what lays out a checkpoint's prompts: everything but the weights.

    Args:
        path_or_id: a folder or a hub id.
        revision: of a hub id.

    Raises:
        ModelLoadError: it cannot be read.
        UnsupportedModelError: its architecture cannot be guided or pruned.
    """
    source = str(path_or_id)
    try:
        config, family_class = read_family(source, revision)
        family = family_class(config, read_image_processor(source, revision, family_class))
        return PromptEncoder(read_tokenizer(source, revision, family_class), family)
    except SglError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: str, error: Exception) -> ModelLoadError:
    return ModelLoadError(f"cannot load the checkpoint {source!r}: {error}")
