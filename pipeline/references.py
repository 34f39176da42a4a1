"""What a record says of a picture -> the encoded file, or an ImageError without any secret.

A message never holds more of a reference than its file name: folders, hosts, credentials and query
strings are nobody's business who only reads the output.
"""

import base64
import binascii
import posixpath
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from pyarrow import fs

from infra.failures import may_pass
from infra.s3 import DEFAULT, StorageConfig
from infra.storage import locate, read_bytes
from pipeline.web import Web
from sgl.errors import (
    ImageError,
    ImageFetchError,
    ImageNotFoundError,
    ImageTooLargeError,
    StorageError,
)

_SHOWN_NAME = 80
_STORED = ("s3", "file")
"""Schemes of references beside http(s). An allow-list, because records are data from strangers and
some filesystems take servers and options from a URI, and send the job's credentials there."""


@dataclass(frozen=True)
class Fetcher:
    """Gets encoded pictures.

    Attributes:
        max_bytes: of one file.
        web: how http(s) is fetched; None refuses it.
        storage: how S3 is reached.
    """

    max_bytes: int
    web: Web | None = None
    storage: StorageConfig = DEFAULT

    def fetch(self, reference: dict[str, Any] | None) -> bytes:
        """The encoded file behind a reference.

        Args:
            reference: `bytes`, else `uri` and the folder `base` of a relative one.

        Raises:
            ImageError: there is none, or it cannot be read.
            StorageError: the storage fails, so that nothing can be said about the picture.
        """
        if reference is None or not has_image(reference):
            raise ImageError("the record has no image, or a name for it that is no valid UTF-8")
        data, uri = reference.get("bytes"), reference["uri"]
        if data is not None:
            if len(data) > self.max_bytes:
                raise self._too_large("the image")
            return bytes(data)
        if uri.startswith("data:"):
            return self._from_data_uri(uri)
        scheme, absolute, _ = uri.partition("://")
        if absolute and scheme.lower() in ("http", "https"):
            return self._from_web(uri)
        if absolute and scheme not in _STORED:
            raise ImageFetchError(
                f"{shown(uri)}: cannot be read; a picture is a path or of s3, file, data or, where "
                "the setting http allows it, https"
            )
        return self._from_storage(uri, reference.get("base") or "")

    def _from_storage(self, uri: str, base: str) -> bytes:
        name = shown(uri)
        try:
            located = uri if "://" in uri else posixpath.join(base, uri)
            filesystem, path = locate(located, self.storage)
            info = filesystem.get_file_info(path)
            if info.type == fs.FileType.NotFound:
                raise ImageNotFoundError(f"{name}: no such file")
            # A device or a pipe would be read without end.
            if info.type != fs.FileType.File:
                raise ImageFetchError(f"{name}: not a regular file")
            if info.size is not None and info.size > self.max_bytes:
                raise self._too_large(name)
            return read_bytes(located, self.storage)
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"{name}: no such file") from error
        except PermissionError as error:
            raise ImageFetchError(f"{name}: permission denied") from error
        except ImageError:
            raise
        except (OSError, ValueError, NotImplementedError) as error:
            if may_pass(error):
                raise StorageError(f"{name}: its storage does not answer as it should") from error
            raise ImageFetchError(f"{name}: cannot be read") from error

    def _from_web(self, url: str) -> bytes:
        if self.web is None:
            raise ImageFetchError(
                f"{shown(url)}: images are not fetched over http(s) unless the setting http "
                "allows it"
            )
        return self.web.get(url, shown(url), self.max_bytes)

    def _from_data_uri(self, uri: str) -> bytes:
        header, comma, payload = uri.partition(",")
        if not comma:
            raise ImageError("a data: URI without data")
        # Before it is unpacked: no byte takes more than four characters.
        if len(payload) > 4 * self.max_bytes:
            raise self._too_large("a data: URI")
        try:
            data = unquote_to_bytes(payload)
            if header.endswith(";base64"):
                data = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError("a data: URI whose base64 is broken") from error
        if len(data) > self.max_bytes:
            raise self._too_large("a data: URI")
        return data

    def _too_large(self, name: str) -> ImageTooLargeError:
        return ImageTooLargeError(f"{name}: more bytes than max_image_bytes ({self.max_bytes})")


def has_image(reference: dict[str, Any] | None) -> bool:
    """Whether a reference points to anything."""
    return reference is not None and (
        reference.get("bytes") is not None or bool(reference.get("uri"))
    )


def shown(uri: str) -> str:
    """The file name of a reference, fit to be printed."""
    path = uri
    if "://" in uri:
        path = uri.partition("://")[2].partition("/")[2]
        path = path.partition("?")[0].partition("#")[0].partition(";")[0]
    name = posixpath.basename(path.replace("\\", "/").rstrip("/")) or "the image"
    name = "".join(character if character.isprintable() else "?" for character in name)
    return name if len(name) <= _SHOWN_NAME else name[:_SHOWN_NAME] + "..."


def without_secrets(uri: str) -> str:
    """A path or URI that the user wrote in the settings, fit to be printed."""
    scheme, found, rest = uri.partition("://")
    if not found:
        return uri
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
