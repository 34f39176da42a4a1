"""Tensor parallelism: every rank holds its heads and its slice of every MLP of all layers.

Query, key, value, gate and up projections keep a rank's share of their outputs; output and down
projections its share of their inputs, and their partial sums are added over the ranks: two
collectives per layer. The output head keeps a share of the vocabulary, and the logits are joined.
The vision tower, the embeddings and the norms are whole on every rank.

All ranks choose the same tokens, whatever their devices round: each logit is computed by exactly
one rank, and what goes into the first layer is rank 0's.

Shapes: N vocabulary, D hidden.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Linear, Parameter

from sgl.errors import DeviceError
from sgl.vlm import VLM

OUTPUTS_SPLIT = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    *("mlp.gate_proj", "mlp.up_proj"),
)
INPUTS_SPLIT = ("self_attn.o_proj", "mlp.down_proj")
PROJECTIONS = (*OUTPUTS_SPLIT, *INPUTS_SPLIT)

Result = TypeVar("Result")


class Collectives:
    """The collectives of this process's default group, counted.

    Attributes:
        entered: so far.
        rank: of this process.
        ranks: how many there are.
    """

    def __init__(self) -> None:
        self.entered = 0
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()

    def add(self, tensor: Tensor) -> Tensor:
        """Add over the ranks, in place."""
        self._enter(dist.all_reduce, tensor)
        return tensor

    def first(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, bit for bit, on every rank."""
        tensor = tensor.contiguous()
        self._enter(dist.broadcast, tensor, src=0)
        return tensor

    def add_alike(self, tensor: Tensor) -> Tensor:
        """As `add`, with the same bits on every rank whatever order each adds in."""
        return self.first(self.add(tensor))

    def join(self, tensor: Tensor) -> Tensor:
        """The ranks' tensors of equal shape, one behind the other in the last dimension."""
        tensor = tensor.contiguous()
        parts = [tensor.new_empty(tensor.shape) for _ in range(self.ranks)]
        self._enter(dist.all_gather, parts, tensor)
        return torch.cat(parts, dim=-1)

    def _enter(self, collective: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        self.entered += 1
        try:
            return collective(*args, **kwargs)
        except RuntimeError as error:
            raise DeviceError(f"the ranks lost each other: {error}") from error


def obstacle(model: Any) -> str | None:
    """Why a native model's layers cannot be split; None if they can. Looks at shapes only."""
    config = model.get_decoder().config
    head_dim = getattr(config, "head_dim", None)
    head_dim = head_dim or config.hidden_size // config.num_attention_heads
    for layer in model.get_decoder().layers:
        modules = dict(layer.named_modules())
        for name in PROJECTIONS:
            if type(modules.get(name)) is not Linear:
                return f"its layers have no plain linear {name}"
        for name, parameter in layer.named_parameters():
            # What stays whole must mean the same on every rank: a vector over all heads would not.
            width = head_dim if name.startswith("self_attn.") else config.hidden_size
            if name.rpartition(".")[0] not in PROJECTIONS and tuple(parameter.shape) != (width,):
                return f"its layers have a parameter {name} that this split does not know"
    if type(model.get_output_embeddings()) is not Linear:
        return "its output head is no plain linear"
    return None


@dataclass(frozen=True, slots=True)
class Parameters:
    """How many values a model, or a rank's share of it, holds.

    Attributes:
        split: in the projections that are split, which are all large ones of the decoder layers.
        total: in all.
    """

    split: int
    total: int


def parameters(model: Any) -> Parameters:
    """Count those of a native model."""
    projections = [
        layer.get_submodule(name) for layer in model.get_decoder().layers for name in PROJECTIONS
    ]
    return Parameters(
        split=sum(projection.weight.numel() for projection in projections),
        total=sum(parameter.numel() for parameter in model.parameters()),
    )


def split(vlm: VLM, collectives: Collectives) -> None:
    """Leave this rank's share in place of the whole model.

    `obstacle` has found none, and heads and MLP units divide by the ranks. What stays is copied,
    so that a checkpoint that is mapped into memory is let go.
    """
    for layer in vlm.model.get_decoder().layers:
        for name in OUTPUTS_SPLIT:
            _keep_outputs(layer.get_submodule(name), collectives)
        for name in INPUTS_SPLIT:
            _keep_inputs(layer.get_submodule(name), collectives)
    _split_head(vlm.model.get_output_embeddings(), collectives)
    vlm.sum_over_heads = collectives.add_alike

    def take_first(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {name: _first(value, collectives) for name, value in kwargs.items()}

    vlm.model.get_decoder().register_forward_pre_hook(take_first, with_kwargs=True)


def _first(value: Any, collectives: Collectives) -> Any:
    """Rank 0's embeddings in place of one's own; other arguments are the same anyway."""
    if isinstance(value, list | tuple):
        return type(value)(_first(one, collectives) for one in value)
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return collectives.first(value)
    return value


def _keep_outputs(linear: Linear, collectives: Collectives) -> None:
    rank, ranks = collectives.rank, collectives.ranks
    for name, parameter in list(linear.named_parameters()):
        share = parameter.chunk(ranks, dim=0)[rank].clone()
        setattr(linear, name, Parameter(share, requires_grad=False))
    linear.out_features //= ranks


def _keep_inputs(linear: Linear, collectives: Collectives) -> None:
    rank, ranks = collectives.rank, collectives.ranks
    share = linear.weight.chunk(ranks, dim=1)[rank].clone()
    linear.weight = Parameter(share, requires_grad=False)
    linear.in_features //= ranks
    if rank:  # the bias is added once
        linear.bias = None  # type: ignore[assignment]
    linear.register_forward_hook(lambda _module, _args, output: collectives.add(output))


def _split_head(head: Linear, collectives: Collectives) -> None:
    """Leave a share of the vocabulary; the last one is filled up, as joining needs equal shapes."""
    vocabulary = head.out_features
    width = -(-vocabulary // collectives.ranks)
    start = collectives.rank * width
    for name, parameter in list(head.named_parameters()):
        share = parameter.new_zeros(width, *parameter.shape[1:])
        kept = parameter[start : start + width]
        share[: len(kept)] = kept
        setattr(head, name, Parameter(share, requires_grad=False))
    head.out_features = width
    head.register_forward_hook(
        lambda _module, _args, logits: collectives.join(logits)[..., :vocabulary]
    )
