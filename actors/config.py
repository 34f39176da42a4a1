"""Settings of the models on devices: frozen, strict, light to import."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from sgl.early_exit import needs_consistency
from sgl.types import ConsistencyForm, Criterion


class StrictModel(BaseModel):
    """Base of every setting: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What every generator of random numbers takes."""


class ModelConfig(StrictModel):
    """Which checkpoint, on what.

    Attributes:
        path: a local folder or a hub id in native transformers format.
        revision: hub revision; None means the default branch.
        dtype: "auto" is float32 on a CPU and bfloat16 on a GPU.
        device: "auto" is CUDA where a device is visible, else the CPU.
        cpu_threads: torch threads of one process; only meaningful on a CPU.
        batch_size: records per forward pass.
        tensor_parallel: processes of one replica that split every layer between them, with a GPU
            each or, where the replica has none, on the CPU. None: as many as the replica has GPUs,
            if the model can be split so, else its layers are spread over them. 1: always spread.
        cuda_graphs: whether the large model decodes as one CUDA graph per batch, which takes a
            second copy of its caches. Only for a model on one GPU.
    """

    path: str = Field(min_length=1)
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpu_threads: int = Field(default=1, ge=1)
    batch_size: int = Field(default=16, ge=1)
    tensor_parallel: int | None = Field(default=None, ge=1)
    cuda_graphs: bool = False


class DecodingConfig(StrictModel):
    """Greedy decoding of both models.

    Attributes:
        max_new_tokens: limit for records that name none.
        min_new_tokens: the end token is barred before; 1, as in the paper's code, bars an empty
            answer.
    """

    max_new_tokens: int = Field(default=64, ge=1)
    min_new_tokens: int = Field(default=1, ge=0)


class GuidanceConfig(StrictModel):
    """The small model's side of the method (paper, sections 3.2 and 3.3).

    Attributes:
        consistency: how the consistency pass becomes one number.
        consistency_keep_ratio: share of its own top visual tokens that pass sees.
        include_last_visual_row: count the last visual token's row, as the paper's code does.
        criterion: what the exit score is; the default is the paper's. Where it needs no consistency
            pass, none is run and rows have no consistency.
        all_criteria: run that pass all the same, so that rows have every score.
    """

    consistency: ConsistencyForm = ConsistencyForm.PRODUCT
    consistency_keep_ratio: float = Field(default=0.05, gt=0, le=1)
    include_last_visual_row: bool = False
    criterion: Criterion = Criterion.MEAN
    all_criteria: bool = False

    @property
    def looks_again(self) -> bool:
        """Whether the consistency pass runs."""
        return self.all_criteria or needs_consistency(self.criterion)


PrunerName = Literal["guided", "own", "fastv", "pyramid", "vision", "diverse", "uniform", "random"]
"""As in `sgl.pruners`, which is not light to import."""


class PruningConfig(StrictModel):
    """The large model's side (paper, section 3.2): K = int(L * prune_layer), keep_ratio of V.

    The paper's presets: (0.4, 0.4), (0.19, 0.2), (0.04, 0.05).

    Attributes:
        prune_layer: share of the layers below the pruning.
        keep_ratio: share of the visual tokens from there on; 1 is unpruned.
        pruner: who chooses them: the small model ("guided"), or a rule of another paper, which
            needs no small model. As data it is left out where it is "guided", so that outputs and
            policies from before there was a choice go on.
    """

    prune_layer: float = Field(default=0.19, ge=0, lt=1)
    keep_ratio: float = Field(default=0.2, gt=0, le=1)
    pruner: PrunerName = "guided"

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if data.get("pruner") == "guided":
            del data["pruner"]
        return data
