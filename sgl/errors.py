"""All errors of the project: one root, each also the fitting built-in, all picklable."""


class SglError(Exception):
    """Root of every error that this project raises on purpose."""


class ConfigurationError(SglError, ValueError):
    """A setting is impossible; raised before a model loads, names the field and the remedy."""


class OutputBusyError(SglError, RuntimeError):
    """Another run writes the output, or has taken it over from this one."""


class AuditError(SglError, RuntimeError):
    """The output does not hold every record of the input exactly once."""


class IncompleteError(AuditError):
    """Records have no row, and nothing else is wrong with the output."""


class BudgetError(SglError, RuntimeError):
    """What the run may cost is spent."""


class AlarmError(SglError, RuntimeError):
    """The answers are not what was promised, and the run is to end where that is known."""


class ClusterLostError(SglError, ConnectionError):
    """The cluster that runs a job is out of reach, or no longer knows it; nothing was stopped."""


class ModelLoadError(SglError, OSError):
    """A checkpoint could not be read."""


class UnsupportedModelError(SglError, ValueError):
    """The checkpoint's architecture cannot be guided or pruned by this engine."""


class DeviceError(SglError, RuntimeError):
    """A replica's devices or processes failed. No record is to blame; the replica must end."""


class ReplicaError(SglError, RuntimeError):
    """A replica cannot start, or ends again and again; the job cannot go on as it is."""


class OverloadedError(SglError, RuntimeError):
    """As many requests wait as may.

    Attributes:
        retry_after_s: when there is likely to be room.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class UnavailableError(SglError, RuntimeError):
    """No replica of a pool can answer now."""


class ExpiredError(SglError, TimeoutError):
    """A request has not been answered within its time."""


class StorageError(SglError, OSError):
    """The storage fails, not one object in it; what was asked for may come another time."""


class RecordError(SglError, ValueError):
    """One record is bad. The job goes on; the record becomes a row with this error."""


class MalformedRecordError(RecordError):
    """The input holds something in this record's place that cannot be read as a record."""


class EmptyQuestionError(RecordError):
    """The question has no text."""


class ConversationError(RecordError):
    """The model's chat template cannot write the conversation, or not without changing it."""


class ControlTokenError(RecordError):
    """A text contains a token that structures prompts, with which it could forge a turn."""


class ImageError(RecordError):
    """An image is missing, unreadable or of a kind that is not accepted."""


class ImageNotFoundError(ImageError):
    """There is no such file."""


class ImageFetchError(ImageError):
    """The image's file exists, or may exist, and could not or must not be fetched."""


class ImageTooLargeError(ImageError):
    """The image has more pixels, or its file more bytes, than the settings allow."""


class PromptTooLongError(RecordError):
    """Prompt and answer would not fit into the model's context."""


class GridMismatchError(RecordError):
    """A ranking is of other images than the record's, so it does not carry over."""


class NumericalError(RecordError):
    """The model's numbers are not finite on this record, so no answer of it means anything."""


class CrashError(RecordError):
    """The record ends the process that works on it."""


class DeadlineError(RecordError):
    """The record does not finish within the deadline of a batch."""
