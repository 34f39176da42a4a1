"""One record on a terminal: every figure of its row, by what a reader asks of it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from jobs.inspected import Inspected
from pipeline.probe import is_unpruned
from pipeline.schema import RESERVED
from pipeline.scoring import texts_in
from sgl.early_exit import needs_consistency
from sgl.types import Criterion

_SCORES = ("confidence", "consistency", "entropy", "margin", "quantile")
_ROLES = ("small", "large")
_ACCEPTED = "answers"
_LONGEST = 600
_REMEDIES = {
    "fetch": "mend the picture or its reference",
    "read": "mend the record in the input",
    "small": "see models.small and the message",
    "large": "see models.large and the message",
}


def record_table(found: Inspected) -> Table:
    """Names and values; texts of strangers stay texts."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines_of(found):
        table.add_row(Text(printable(name)), Text(printable(value)))
    return table


def lines_of(found: Inspected) -> Iterator[tuple[str, str]]:
    """What there is to tell, in reading order."""
    row = found.row
    yield "id", str(row["id"])
    yield "question", row.get("question") or "none"
    yield "route", row["route"]
    yield "why", found.decision
    yield from _error(row)
    yield from _said(found)
    yield from _scores(row)
    yield from _pruning(row)
    for role in _ROLES:
        yield from _spent(row, role)
    yield from _sums(found)
    if found.ranking is not None:
        yield "importance map", found.ranking.origin
    yield from (("", remark) for remark in found.remarks)
    yield "run", str(row.get("run_id"))
    for name, value in row.items():
        if name not in RESERVED and name != _ACCEPTED:
            yield name, _cut(value)


def printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def verdict(found: Inspected, column: str) -> str:
    """Whether an answer is right; empty where nothing says so."""
    score = found.scores.get(column)
    if score is None:
        return ""
    known = {0.0: "wrong", 1.0: "right"}
    return f" ({known.get(score, f'score {score:.2f}')} by {found.metric})"


def _error(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    error = row.get("error")
    if error:
        yield "error", f"{error['type']} in the {error['stage']} stage: {error['message']}"
        what = _REMEDIES.get(error["stage"], "see the message")
        yield (
            "",
            f"{what}, then the same sgl run command with --retry-errors does it again; "
            "docs/INPUTS.md explains every error",
        )


def _said(found: Inspected) -> Iterator[tuple[str, str]]:
    row = found.row
    if row.get("small_answer") is not None:
        yield "small model said", row["small_answer"] + verdict(found, "small_answer")
    if row["route"] == "large":
        yield "large model said", row["answer"] + verdict(found, "answer")
    for number, one in enumerate(row.get("probe") or []):
        yield "large model, probed", _probed(one) + verdict(found, f"probe {number}")
    if accepted := texts_in(row.get(_ACCEPTED)):
        yield "accepted answers", ", ".join(accepted)


def _probed(one: Mapping[str, Any]) -> str:
    way = "unpruned"
    if not is_unpruned(one):
        way = f"{one.get('pruner') or 'guided'} at {one['prune_layer']:g}:{one['keep_ratio']:g}"
    if error := one.get("error"):
        return f"{way}: {error['type']}: {error['message']}"
    return f"{way}: {one['answer']}"


def _scores(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row.get("exit_score") is None:
        return
    threshold = row.get("threshold")
    against = "" if threshold is None else f", threshold {threshold:.4g}"
    yield "exit score", f"{row['exit_score']:.4g}{against}"
    told = [f"{name} {row[name]:.4g}" for name in _SCORES if row.get(name) is not None]
    if told:
        yield "scores", ", ".join(told)
    criterion = row.get("criterion")
    if row.get("consistency") is None and criterion and not needs_consistency(Criterion(criterion)):
        yield "", f"no consistency: criterion {criterion} needs no second pass"


def _pruning(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if row.get("visual_tokens") is None:
        return
    total = row["visual_tokens"]
    if row.get("kept_tokens") is None:
        yield "visual tokens", f"{total}, none pruned"
        return
    yield "visual tokens", f"{row['kept_tokens']} of {total} kept"
    yield (
        "pruning",
        f"pruner {row.get('pruner') or 'guided'}, prune layer {row['prune_layer']:g}, keep ratio "
        f"{row['keep_ratio']:g}, average retention {row['average_retention']:.1%}",
    )


def _spent(row: Mapping[str, Any], role: str) -> Iterator[tuple[str, str]]:
    cells = {
        name: row.get(f"{role}_{name}")
        for name in (
            *("prompt_tokens", "completion_tokens", "batch_rows", "padded_tokens"),
            *("gpu_s", "flops", "started_at", "finished_at"),
        )
    }
    if cells["gpu_s"] is None:
        return
    told = {
        "prompt_tokens": "{} prompt tokens",
        "completion_tokens": "{} of the answer",
        "batch_rows": "in a batch of {}",
        "padded_tokens": "padded to {} tokens",
        "gpu_s": "{:.4g} device-seconds",
        "flops": "{:.3g} FLOPs",
    }
    parts = [text.format(cells[name]) for name, text in told.items() if cells[name] is not None]
    yield f"{role} model spent", ", ".join(parts)
    start, end = cells["started_at"], cells["finished_at"]
    if start and end:
        yield "", f"from {_moment(start)} to {_moment(end)}, {(end - start).total_seconds():.2f} s"


def _sums(found: Inspected) -> Iterator[tuple[str, str]]:
    row = found.row
    if row.get("flops") is not None:
        yield "FLOPs", f"{row['flops']:.3g}"
    if row.get("visual_tokens") is not None:
        usd = row.get("cost_usd")
        yield "cost", "no price was known" if usd is None else f"{usd:.3g} USD"
        yield from (("", f"{role}: {price}") for role, price in found.prices.items())
    times = [row[n] for n in _TIMES if row.get(n) is not None]
    if len(times) > 1:
        seconds = (max(times) - min(times)).total_seconds()
        yield "start to answer", f"{seconds:.2f} s, waiting included"


_TIMES = tuple(f"{role}_{end}_at" for role in _ROLES for end in ("started", "finished"))


def _moment(one: datetime) -> str:
    return f"{one:%Y-%m-%d %H:%M:%S}.{one.microsecond // 1000:03d} UTC"


def _cut(value: Any) -> str:
    text = f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
