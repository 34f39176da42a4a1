"""Every class of error, from its docstring, and what to do about it, as a page."""

import inspect
from collections.abc import Iterable

from jobs.cli import EXIT_CODES
from jobs.documentation.tables import table
from pipeline.whose_fault import is_of_the_request
from sgl import errors
from sgl.errors import RecordError, SglError

REMEDIES = {
    "ConfigurationError": "Write what the message says after the semicolon; the setting that it "
    "names is explained in the reference. Nothing has run.",
    "OutputBusyError": "Wait for the other run, which `sgl status` names, or write to another "
    "output. The lease of a run that is dead is taken over by the next one.",
    "AuditError": "Keep the output as it is. Start the same command again: it does what is missing "
    "again. If the message stays, report it with the log; rows may be doubled.",
    "IncompleteError": "Start the same command again.",
    "BudgetError": "Write a larger `budget.usd` or `budget.gpu_hours` and start the same command "
    "again, or keep the rows that are there.",
    "AlarmError": "Look at `_ALARM.json` and at the report. Calibrate on a sample of these "
    "records, or go on with `--set probe.on_alarm=large`.",
    "ClusterLostError": "Follow the job again by the command that the message names, once the "
    "cluster is back. Where the cluster was started anew, submit again: finished rows stay.",
    "ModelLoadError": "Check the folder or hub id that the message names; download it again, in "
    "native transformers format with safetensors.",
    "UnsupportedModelError": "Take a checkpoint of a family that is supported, or the setting that "
    "the message names. Retrying does not help.",
    "DeviceError": "Nothing, once: the replica is started again and its rows are done again. If it "
    "comes again, look at the device (driver log, memory of other processes).",
    "ReplicaError": "Read the cause in the message: a checkpoint, a device, or memory. Mend it and "
    "start the same command again; finished rows stay.",
    "OverloadedError": "Ask again after the seconds of Retry-After. If it lasts, add replicas, or "
    "raise `pools.*.max_replicas`.",
    "UnavailableError": "Ask again after Retry-After. If it lasts, read the log of `sgl serve` for "
    "why no replica lives; `degrade: small` answers meanwhile.",
    "ExpiredError": "Ask for less, or allow more by `limits.deadline_s`; if it comes under load, "
    "add replicas.",
    "StorageError": "Check the network, the endpoint and the credentials, then start the same "
    "command again: nothing was taken for damage.",
    "RecordError": "Mend the record: `max_new_tokens` has to be 1 or more.",
    "MalformedRecordError": "Mend that place of the input; the message tells what is wrong.",
    "EmptyQuestionError": "Give it a question, or map the right column by `input.columns`, into a "
    "new output.",
    "ConversationError": "Write the turns in an order that the model's chat template knows.",
    "ControlTokenError": "Take the token that is named out of the text. It is refused so that a "
    "text cannot forge a turn.",
    "ImageError": "Replace the picture; what is accepted stands in Your own data.",
    "ImageNotFoundError": "Once the file is there, the same command with `--retry-errors`. Where "
    "`input.image_root` was wrong, a new output.",
    "ImageFetchError": "Check permissions, the scheme and `input.http.allow_hosts`; then the same "
    "command with `--retry-errors`.",
    "ImageTooLargeError": "Scale it down, or raise `input.max_image_pixels` or "
    "`input.max_image_bytes` and write a new output.",
    "PromptTooLongError": "Shorten the question, or ask for fewer new tokens or pictures.",
    "GridMismatchError": "Report it: the ranking was made for other pictures than the large model "
    "was given.",
    "NumericalError": "Set `models.*.dtype` to bfloat16 or float32, for a new output; float16 "
    "overflows.",
    "CrashError": "Look at the record by itself: its picture or its size ends the process. The "
    "same command with `--retry-errors` tries it again.",
    "DeadlineError": "Look at the record by itself, or raise `pools.*.deadline_s`, and "
    "`input.fetch_deadline_s` for pictures; then the same command with `--retry-errors`.",
}
"""By the name of a class."""

_NO_END = {
    "DeviceError": "a line in the log",
    "OverloadedError": "status 503",
    "UnavailableError": "status 503",
    "ExpiredError": "status 504",
}
"""What is seen of errors that end no command."""
_CRASHED = 1


def classes() -> tuple[type[SglError], ...]:
    """All of them but the root, in the order of their file."""
    found = (one for one in vars(errors).values() if inspect.isclass(one))
    return tuple(one for one in found if issubclass(one, SglError) and one is not SglError)


def rendered(about: str) -> str:
    """The page."""
    of_records = [one for one in classes() if issubclass(one, RecordError)]
    others = [one for one in classes() if not issubclass(one, RecordError)]
    ending = [one for one in others if one.__name__ not in _NO_END]
    passing = [one for one in others if one.__name__ in _NO_END]
    return "\n\n".join(
        (
            f"# Error messages\n\n{about}",
            "## What ends a command",
            _table(ending, "exit code"),
            "## What ends a request or a replica",
            _table(passing, "seen as"),
            "## What becomes of one record",
            "A job goes on: the record is a row with `route = failed`. At the endpoint it is one "
            "client's answer and nobody else's. When each of them comes: [Your own data]"
            "(../INPUTS.md#what-is-wrong-with-a-record-is-in-its-row). `OutOfMemoryError` stands "
            "there too: it is torch's own.",
            _table(of_records, "at the endpoint"),
            "",
        )
    )


def _table(kinds: Iterable[type[SglError]], seen: str) -> str:
    rows = ((f"`{k.__name__}`", _meaning(k), _seen(k), REMEDIES[k.__name__]) for k in kinds)
    return table(("class", "what it says", seen, "what to do"), rows)


def _meaning(kind: type[SglError]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]


def _seen(kind: type[SglError]) -> str:
    name = kind.__name__
    if issubclass(kind, RecordError):
        return "status 400" if is_of_the_request(name) else "status 500"
    own = (code for known, code in EXIT_CODES.items() if issubclass(kind, known))
    return _NO_END.get(name) or str(next(own, _CRASHED))
