"""From a ModelConfig to a VLM on its device."""

from typing import TYPE_CHECKING

from actors.config import ModelConfig

if TYPE_CHECKING:
    from sgl.vlm import VLM


def load_model(config: ModelConfig) -> "VLM":
    """Load a checkpoint as its configuration says.

    Raises:
        ConfigurationError: CUDA is asked for and no CUDA device is visible.
        ModelLoadError: the checkpoint cannot be read.
        UnsupportedModelError: its architecture cannot be guided or pruned.
    """
    import torch

    import sgl
    from sgl.errors import ConfigurationError

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            "device: 'cuda' was asked for, but no CUDA device is visible to this process; "
            "write 'auto' or 'cpu', or give the replica num_gpus >= 1"
        )
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    if not on_gpu:
        torch.set_num_threads(config.cpu_threads)
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if on_gpu else "float32"
    return sgl.load(
        config.path,
        revision=config.revision,
        device="cuda" if on_gpu else "cpu",
        dtype=getattr(torch, dtype),
    )
