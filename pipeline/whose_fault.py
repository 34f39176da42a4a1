"""Whether a record that failed is itself to blame: what its sender can mend, and what not."""

import sgl.errors
from sgl.errors import CrashError, DeadlineError, NumericalError, RecordError

_NOT_OF_THE_REQUEST = (CrashError, DeadlineError, NumericalError)


def is_of_the_request(kind: str) -> bool:
    """Whether another request would be answered.

    Args:
        kind: name of the error's class; what is none of ours, such as an OutOfMemoryError, is ours
            to mend.
    """
    error = getattr(sgl.errors, kind, None)
    if not isinstance(error, type) or not issubclass(error, RecordError):
        return False
    return not issubclass(error, _NOT_OF_THE_REQUEST)
