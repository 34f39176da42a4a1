"""Trained tiny vision-language models, and the task they were trained on.

It is the demo, the test fixture and the accuracy benchmark where no pretrained weights can be had.
Importing this package is light: torch and transformers load in its submodules.
"""

from pathlib import Path
from typing import Literal, get_args

ModelName = Literal["small", "large"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
GUIDES: tuple[ModelName, ...] = ("small",)
"""Models that may guide the large one."""

_HERE = Path(__file__).parent


def model_path(name: ModelName) -> Path:
    """The folder of a shipped checkpoint, in native transformers format."""
    return _HERE / "weights" / name
