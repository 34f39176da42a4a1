"""From a ModelConfig to a VLM on its device."""

from typing import TYPE_CHECKING, Literal

from actors.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from sgl.vlm import VLM


def device_type(config: ModelConfig) -> Literal["cuda", "cpu"]:
    """What a model runs on, in this process.

    Raises:
        ConfigurationError: CUDA is asked for and no CUDA device is visible.
    """
    import torch

    from sgl.errors import ConfigurationError

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            "device: 'cuda' was asked for, but no CUDA device is visible to this process; "
            "write 'auto' or 'cpu', or give the replica num_gpus >= 1"
        )
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def load_model(config: ModelConfig, *, device: "torch.device | str | None" = None) -> "VLM":
    """Load a checkpoint as its configuration says.

    Args:
        config: which checkpoint, in which dtype.
        device: where to; None means as configured. On the CPU the weights stay mapped from their
            file as long as their dtype is the file's, so that parts of them can be taken from
            there without a copy of the whole.

    Raises:
        ConfigurationError: CUDA is asked for and no CUDA device is visible.
        ModelLoadError: the checkpoint cannot be read.
        UnsupportedModelError: its architecture cannot be guided or pruned.
    """
    import torch

    import sgl

    runs_on = device_type(config)
    if runs_on == "cpu":
        torch.set_num_threads(config.cpu_threads)
    dtype = config.dtype
    if dtype == "auto":
        dtype = "float32" if runs_on == "cpu" else "bfloat16"
    return sgl.load(
        config.path,
        revision=config.revision,
        device=runs_on if device is None else device,
        dtype=getattr(torch, dtype),
    )
