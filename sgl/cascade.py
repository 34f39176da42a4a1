"""The whole method for one batch, in the paper's order (figure 2): the reference for the pipeline.

| paper                         | here                          |
|-------------------------------|-------------------------------|
| small VLM, global attention   | small.guide -> importance     |
| early-exit score, threshold   | exits(exit_score, threshold)  |
| large VLM, guided pruning     | large.answer(guidance=...)    |

Departure from the paper's code: the large model sees escalated records only.
"""

from collections.abc import Sequence

from sgl.early_exit import exits
from sgl.layout import DEFAULT_MAX_NEW_TOKENS
from sgl.types import Answer, ConsistencyForm, Criterion, Guidance, ImageQuestion, Route
from sgl.vlm import VLM


def run_cascade(
    small: VLM,
    large: VLM,
    records: Sequence[ImageQuestion],
    *,
    threshold: float,
    prune_layer: float = 0.19,
    keep_ratio: float = 0.2,
    consistency: ConsistencyForm = ConsistencyForm.PRODUCT,
    consistency_keep_ratio: float = 0.05,
    criterion: Criterion = Criterion.MEAN,
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
) -> list[Answer]:
    """Answer a batch with the small model where it is sure, else with the pruned large one.

    Args:
        small: answers, scores and ranks every record.
        large: answers the records whose exit score is below the threshold.
        records: one batch.
        threshold: 0 exits everything, above 1 escalates everything.
        prune_layer: K = int(L * prune_layer) of the large model.
        keep_ratio: share of the visual tokens it keeps from layer K on.
        consistency: product (the paper) or geometric mean (captions).
        consistency_keep_ratio: share of visual tokens in the consistency pass.
        criterion: what the exit score is.
        max_new_tokens: for records that name no limit of their own.

    Returns:
        One answer per record, in order.

    Raises:
        RecordError: one of the records is bad.
    """
    guidance = small.guide(
        records,
        max_new_tokens=max_new_tokens,
        consistency=consistency,
        consistency_keep_ratio=consistency_keep_ratio,
        criterion=criterion,
    )
    answers = [small_answer(one) for one in guidance]
    escalated = [b for b, one in enumerate(guidance) if not exits(one.exit_score, threshold)]
    if escalated:
        from_large = large.answer(
            [records[b] for b in escalated],
            [guidance[b] for b in escalated],
            prune_layer=prune_layer,
            keep_ratio=keep_ratio,
            max_new_tokens=max_new_tokens,
        )
        for b, answer in zip(escalated, from_large, strict=True):
            answers[b] = answer
    return answers


def small_answer(guidance: Guidance) -> Answer:
    """The final answer of a record that exits."""
    return Answer(
        id=guidance.id,
        text=guidance.answer,
        token_ids=guidance.token_ids,
        route=Route.SMALL,
        usage=guidance.usage,
        guidance=guidance,
    )
