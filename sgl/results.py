"""What a batch's generation comes to, record by record: guidance, or answers."""

from collections.abc import Sequence

from torch import Tensor

from sgl import early_exit
from sgl.generation import Generation
from sgl.prompt import PromptBatch
from sgl.pruning import Pruner
from sgl.ranking import staged_retention
from sgl.selection import Plan
from sgl.types import (
    Answer,
    Certainty,
    Criterion,
    Guidance,
    ImageQuestion,
    Pruning,
    Route,
    Usage,
)


def guidances(
    records: Sequence[ImageQuestion],
    batch: PromptBatch,
    answers: Generation,
    texts: Sequence[str],
    certainties: Sequence[Certainty],
    importance_BT: Tensor,
    usage: Sequence[Usage],
    criterion: Criterion,
) -> list[Guidance]:
    """Of the small model, one per record.

    Args:
        records: of the batch; everything else is in their order.
        batch: their prompts.
        answers: their tokens.
        texts: likewise, decoded.
        certainties: of these answers.
        importance_BT: of every token of the prompts, of which the visual ones count.
        usage: of every record.
        criterion: what the exit score is.
    """
    visual_BT = batch.prompt.visual_BT
    return [
        Guidance(
            id=record.id,
            answer=texts[b],
            token_ids=tuple(answers.token_ids[b]),
            certainty=certainties[b],
            criterion=criterion,
            exit_score=early_exit.exit_score(criterion, certainties[b], record.id),
            importance=importance_BT[b, visual_BT[b]].cpu().numpy(),
            grids=batch.layouts[b].grids,
            usage=usage[b],
        )
        for b, record in enumerate(records)
    ]


def large_answers(
    records: Sequence[ImageQuestion],
    guidance: Sequence[Guidance] | None,
    answers: Generation,
    texts: Sequence[str],
    prunings: Sequence[Pruning | None],
    usage: Sequence[Usage],
) -> list[Answer]:
    """Of the large model, one per record; arguments as of `guidances`.

    Args:
        records: of the batch.
        guidance: of the same records; None where no small model ran.
        answers: see above.
        texts: see above.
        prunings: how each was pruned.
        usage: see above.
    """
    return [
        Answer(
            id=record.id,
            text=texts[b],
            token_ids=tuple(answers.token_ids[b]),
            route=Route.LARGE,
            usage=usage[b],
            pruning=prunings[b],
            accepted_draft_tokens=answers.accepted[b],
            guidance=guidance[b] if guidance else None,
        )
        for b, record in enumerate(records)
    ]


def prunings_of(
    pruner: Pruner | None,
    plan: Plan,
    visual_tokens: Sequence[int],
    layers: int,
    prune_layer: float,
    keep_ratio: float,
) -> list[Pruning | None]:
    """How each record was pruned; None where nothing was.

    Args:
        pruner: that chose; None where none did.
        plan: its choice.
        visual_tokens: of each record.
        layers: L of the model.
        prune_layer: as it was asked for, a share of the layers.
        keep_ratio: likewise, of the visual tokens.
    """
    if pruner is None:
        return [None] * len(visual_tokens)
    return [
        Pruning(prune_layer, keep_ratio, staged_retention(cuts, layers, visual), pruner.name)
        if visual
        else None
        for cuts, visual in zip(plan.cuts, visual_tokens, strict=True)
    ]
