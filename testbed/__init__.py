"""A trained tiny pair of vision-language models, and the task it was trained on.

It is the demo, the test fixture and the accuracy benchmark where no pretrained weights can be had.
Importing this package is light: torch and transformers load in its submodules.
"""

from pathlib import Path
from typing import Literal, get_args

ModelName = Literal["small", "large"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)

_HERE = Path(__file__).parent


def model_path(name: ModelName) -> Path:
    """The folder of a shipped checkpoint, in native transformers format."""
    return _HERE / "weights" / name


def heldout_path() -> Path:
    """The shipped records for figures: never trained on, never used for a choice."""
    return _HERE / "data" / "heldout.parquet"


def validation_path() -> Path:
    """The shipped records for choices, such as a threshold."""
    return _HERE / "data" / "validation.parquet"
