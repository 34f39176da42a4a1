"""Every Arrow schema of the pipeline, and nothing else.

A record's columns grow along the graph: READ -> FETCHED -> OUTPUT. Columns of the input that mean
nothing to the pipeline are carried beside them, untouched.
"""

import pyarrow as pa

IMAGE_REFERENCE = pa.struct(
    [
        ("bytes", pa.large_binary()),  # the encoded file, where the input holds it
        ("uri", pa.string()),  # else where it is, as the user wrote it
        ("base", pa.string()),  # the folder of a relative uri
    ]
)
IMAGE = pa.struct(
    [
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("pixels", pa.large_binary()),  # height * width * 3 bytes, RGB, row-major
    ]
)
GRID = pa.struct(
    [
        ("image", pa.int32()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("box", pa.list_(pa.float64())),  # left, top, right, bottom in 0..1
        ("thumbnail", pa.bool_()),
    ]
)
ERROR = pa.struct([("stage", pa.string()), ("type", pa.string()), ("message", pa.string())])
INSTANT = pa.timestamp("us", tz="UTC")

READ = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("image", pa.list_(IMAGE_REFERENCE)),
        ("max_new_tokens", pa.int64()),
        ("read_error", pa.string()),  # why the input has no readable record here; null if it has
        ("conversation_json", pa.string()),  # beyond the question; see pipeline/conversation.py
    ]
)
"""What the reader makes of any input format, ahead of the carried columns."""

OUTPUT = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),  # null on a failed row
        ("route", pa.string()),  # small | large | failed
        ("exit_score", pa.float64()),
        ("criterion", pa.string()),  # what that is: one of the scores below, or made of them
        ("confidence", pa.float64()),  # 0 to 1 and higher where surer, as the next four:
        ("consistency", pa.float64()),  # sgl/early_exit.py; null where its pass was skipped
        ("entropy", pa.float64()),
        ("margin", pa.float64()),
        ("quantile", pa.float64()),
        ("threshold", pa.float64()),
        ("small_answer", pa.string()),
        ("visual_tokens", pa.int32()),  # of the model that gave the answer
        ("kept_tokens", pa.int32()),  # those left above the prune layer; null where not pruned
        ("pruner", pa.string()),  # who chose them; likewise
        ("prune_layer", pa.float64()),
        ("keep_ratio", pa.float64()),
        ("average_retention", pa.float64()),
        ("small_prompt_tokens", pa.int32()),
        ("small_completion_tokens", pa.int32()),
        ("large_prompt_tokens", pa.int32()),
        ("large_completion_tokens", pa.int32()),
        ("small_gpu_s", pa.float64()),  # device-seconds: of GPUs, or of CPU replicas
        ("large_gpu_s", pa.float64()),
        ("cost_usd", pa.float64()),  # null without prices
        ("flops", pa.float64()),  # of both models
        ("error", ERROR),
        ("run_id", pa.string()),
        ("small_flops", pa.float64()),
        ("large_flops", pa.float64()),
        ("small_started_at", INSTANT),  # of the block's turn in the small model
        ("small_finished_at", INSTANT),
        ("large_started_at", INSTANT),  # of the row's batch in the large model
        ("large_finished_at", INSTANT),
        ("small_batch_rows", pa.int32()),  # of its forward pass: sum(1 / it) counts the passes
        ("large_batch_rows", pa.int32()),
        ("small_padded_tokens", pa.int32()),  # prompt tokens there, its own padding included
        ("large_padded_tokens", pa.int32()),
        # exited | escalated | fail_safe | over_budget; null unless a cascade scored it
        ("decision", pa.string()),
        ("consistency_gpu_s", pa.float64()),  # of small_gpu_s; null without a consistency pass
        # false where the answer was cut at its limit of tokens; null on a failed row
        ("answer_ended", pa.bool_()),
    ]
)
"""One row per input row, always, ahead of the carried columns."""

IMAGES = pa.field("images", pa.list_(IMAGE))
"""Decoded pictures, in flight; null once no later stage needs them."""

GUIDANCE = pa.field(
    "guidance",
    pa.struct(
        [
            ("token_ids", pa.list_(pa.int32())),
            ("ended", pa.bool_()),
            ("importance", pa.list_(pa.float32())),
            ("grids", pa.list_(GRID)),
            ("visual_tokens", pa.int32()),
            ("kept_tokens", pa.int32()),
            ("flops", pa.float64()),
            ("device_s", pa.float64()),
        ]
    ),
)
"""What the large model needs of the small one and no output column holds; null unless escalated."""

IMPORTANCE = pa.field("importance", pa.list_(pa.float16()))
"""The importance map as an output column, on request: (V,), of which the largest is 1."""

PROBE = pa.field(
    "probe",
    pa.list_(
        pa.struct(
            [
                ("pruner", pa.string()),
                ("prune_layer", pa.float64()),
                ("keep_ratio", pa.float64()),
                ("answer", pa.string()),
                ("average_retention", pa.float64()),
                ("completion_tokens", pa.int32()),
                ("gpu_s", pa.float64()),
                ("flops", pa.float64()),
                ("cost_usd", pa.float64()),
                ("error", ERROR),
            ]
        )
    ),
)
"""What the large model answers besides, on request; null in rows that are not probed. No other
column counts what it cost."""

ON_REQUEST = (IMPORTANCE, PROBE)
IN_FLIGHT = ("images", "guidance", "max_new_tokens", "conversation_json")
"""Columns that end with the last stage."""
RESERVED = frozenset(
    [*READ.names, *OUTPUT.names, IMAGES.name, GUIDANCE.name, IMPORTANCE.name, PROBE.name],
)
"""Names that a carried column cannot have."""


def type_of(column: str) -> pa.DataType:
    """The type of one of the pipeline's own columns after the fetch stage."""
    for field in (IMAGES, GUIDANCE, *ON_REQUEST):
        if field.name == column:
            return field.type
    schema = OUTPUT if column in OUTPUT.names else READ
    return schema.field(column).type
