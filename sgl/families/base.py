"""What differs between model families, and nothing else."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL.Image import Image
from torch import Tensor

from sgl.flops import pair
from sgl.types import ImageInput, TokenGrid

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The box of a whole image."""


Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class ImageLayout:
    """What an image becomes, told by its size alone.

    Attributes:
        grids: its visual tokens in prompt order.
        patches: tokens of the vision tower, all tiles together.
        flops: the cost of turning it into visual embeddings (a multiply-add counts two).
    """

    grids: tuple[TokenGrid, ...]
    patches: int
    flops: float


class Family(ABC):
    """One model family: image preprocessing, placeholders, visual token layout, vision cost.

    Attributes:
        model_types: the `config.model_type` values it serves.
        placeholder: what the chat template writes for one image.
        region_marks: special tokens that a text may hold, as they mark regions of a picture; all
            others are the chat template's.
        position_axes: position ids per token, 1 or, for M-RoPE, 3.
        bidirectional_images: the tokens of an image attend to each other in both directions.
        class_token: the vision tower puts a class token before an image's patches.
        image_processor_class: the PIL one. It needs no torchvision, and since the pixels of the two
            backends differ by up to 0.03, one of them has to be pinned.
        image_processor_settings: what the family's native processor sets on every call, whatever
            the checkpoint's own file says.
    """

    model_types: ClassVar[frozenset[str]]
    placeholder: ClassVar[str]
    region_marks: ClassVar[frozenset[str]] = frozenset()
    position_axes: ClassVar[int] = 1
    bidirectional_images: ClassVar[bool] = False
    class_token: ClassVar[bool] = False
    image_processor_class: ClassVar[Any]
    image_processor_settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: Any, image_processor: Any) -> None:
        self.config = config
        self.image_processor = image_processor

    def preprocess(self, images: Sequence[ImageInput]) -> Any:
        """Run the image processor; left alone, it takes 3 rows of pixels for 3 channels."""
        return self.image_processor(
            images=self.arrays(images), input_data_format="channels_last", return_tensors="pt"
        )

    def arrays(self, images: Sequence[ImageInput]) -> list[npt.NDArray[np.uint8]]:
        """Each (height, width, 3)."""
        return [
            np.asarray(image.convert("RGB") if isinstance(image, Image) else image)
            for image in images
        ]

    @abstractmethod
    def layouts(self, sizes: Sequence[Size]) -> list[ImageLayout]:
        """What the images of one record become; `TokenGrid.image` is the index here.

        Raises:
            ImageError: an image is of a shape that the family does not take.
        """

    @abstractmethod
    def model_inputs(
        self, images: Sequence[ImageInput], images_per_record: Sequence[int]
    ) -> dict[str, Tensor]:
        """Preprocess a batch's images, at least one: arguments of the native forward.

        Args:
            images: of all records, one after the other.
            images_per_record: how many of them are whose; some families look at an image that is
                alone more closely.
        """

    @abstractmethod
    def placeholder_tokens(self, grids: tuple[TokenGrid, ...]) -> str:
        """The prompt text that stands for one image."""

    @property
    def vision_heads(self) -> int:
        """Attention heads of a layer of the vision tower."""
        vision = self.config.vision_config
        heads = getattr(vision, "num_attention_heads", None) or vision.num_heads
        return int(heads)

    @property
    def vision_obstacle(self) -> str | None:
        """Why the vision tower's attention says nothing of a visual token; None where it does."""
        return None

    def vision_tower(self, model: Any) -> Any:
        """The part of a native model whose attention tells what an image shows."""
        return model.model.vision_tower

    def last_vision_attention(self, tower: Any) -> Any:
        """The attention of the vision tower's last layer, whose output the visual tokens are."""
        return tower.encoder.layers[-1].self_attn

    def token_attention(self, received_P: Tensor, grid: TokenGrid) -> Tensor:
        """What (P,) patches of one image or tile receive, as the mean per visual token of its grid.

        Here both are row-major, and the grid's tokens are squares of patches.
        """
        side = math.isqrt(len(received_P))
        square = side // grid.rows
        return received_P.view(grid.rows, square, grid.columns, square).mean(dim=(1, 3)).flatten()

    @property
    def deepstack_layers(self) -> int:
        """Text layers that visual features are added to."""
        return 0

    @property
    def patch_values(self) -> int:
        """What the vision tower holds at once for one of its tokens, about: for `sgl.memory`."""
        vision = self.config.vision_config
        width = getattr(vision, "embed_dim", None) or vision.hidden_size
        inner = getattr(vision, "intermediate_size", None) or int(width * vision.mlp_ratio)
        patch_h, patch_w = pair(vision.patch_size)
        pixels = 3 * patch_h * patch_w * getattr(vision, "temporal_patch_size", 1)
        return int(3 * pixels + 4 * width + 4 * inner)

    def text_inputs(self, input_ids_BT: Tensor) -> dict[str, Tensor]:
        """Further native arguments that depend on the token ids; none by default."""
        return {}

    def reset(self, model: Any) -> None:  # noqa: B027 (most families have nothing to do)
        """Forget what the native model remembers of an earlier batch; nothing by default."""


def size_of(image: ImageInput) -> Size:
    """Of a picture of either kind."""
    return (image.height, image.width) if isinstance(image, Image) else image.shape[:2]
