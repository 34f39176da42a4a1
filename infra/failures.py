"""What an error of a filesystem means: bytes that are wrong, one object, or the storage itself."""

import errno
import re

_STORAGES = ("AWS Error", "google::cloud", "Azure")
"""What pyarrow's messages say where it was the storage that failed, and not the file."""
_OF_ONE_OBJECT = frozenset(
    {
        *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
        *(errno.ELOOP, errno.EINVAL, errno.EILSEQ, errno.ENXIO, errno.ENODEV, errno.EFBIG),
        *(errno.EOVERFLOW, errno.EOPNOTSUPP),
    }
)
_ANSWERS_OF_ONE_OBJECT = re.compile(
    r"ACCESS_DENIED|NO_SUCH_|RESOURCE_NOT_FOUND|INVALID_OBJECT|PERMISSION_DENIED|NOT_FOUND"
    r"|HTTP status 40[3459]|KeyTooLong"
)
_CREDENTIALS = re.compile(r"Expired|InvalidAccessKey|InvalidToken|SignatureDoesNotMatch|TimeTooSk")
"""Refusals of whoever asks, whatever is asked for. To a HEAD request S3 says 400 of an expired
token, with no word about it, and 403 of a key that may not be read."""


def is_of_storage(error: Exception) -> bool:
    """Whether bytes did not arrive; else they did, and are not what they should be."""
    known = getattr(error, "errno", None) is not None
    return known or any(mark in str(error) for mark in _STORAGES)


def may_pass(error: Exception) -> bool:
    """Whether the storage failed, and not one object in it: the same may succeed another time."""
    if not isinstance(error, OSError) or not is_of_storage(error):
        return False
    if error.errno is not None:
        return error.errno not in _OF_ONE_OBJECT
    said = str(error)
    return bool(_CREDENTIALS.search(said)) or not _ANSWERS_OF_ONE_OBJECT.search(said)
