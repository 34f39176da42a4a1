import errno
import os

import pytest

from infra.failures import is_of_storage, may_pass


def aws(said: str) -> OSError:
    return OSError(f"When reading information for key 'a' in bucket 'b': AWS Error {said}")


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.EIO, errno.ESTALE)),
        *(OSError(number, os.strerror(number)) for number in (errno.EMFILE, errno.ENOSPC)),
        *(OSError(number, os.strerror(number)) for number in (errno.ETIMEDOUT, errno.ENOTCONN)),
        aws("NETWORK_CONNECTION during HeadObject operation: curlCode: 7"),
        aws("UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
        aws("UNKNOWN (HTTP status 500) during GetObject operation"),
        aws("UNKNOWN (HTTP status 400) during HeadObject operation: No response body."),
        aws("SLOW_DOWN during GetObject operation: Please reduce your request rate."),
        aws("ACCESS_DENIED during GetObject operation: ExpiredToken"),
        OSError("google::cloud::Status(UNAVAILABLE: Retry policy exhausted)"),
    ],
)
def test_a_storage_that_fails_may_recover(error: OSError) -> None:
    assert is_of_storage(error)
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "none"),
        PermissionError(errno.EACCES, "no"),
        IsADirectoryError(errno.EISDIR, "a folder"),
        OSError(errno.ENAMETOOLONG, "long"),
        OSError(errno.ELOOP, "a loop"),
        aws("ACCESS_DENIED during HeadObject operation: No response body."),
        aws("NO_SUCH_BUCKET during HeadObject operation"),
        aws("UNKNOWN (HTTP status 404) during HeadObject operation"),
        OSError("google::cloud::Status(PERMISSION_DENIED: no)"),
        OSError("Corrupt snappy compressed data."),
        ValueError("a null byte"),
    ],
)
def test_an_object_that_is_bad_stays_bad(error: Exception) -> None:
    assert not may_pass(error)
