"""Pictures of a request -> pixels, without ever holding up the event loop.

A client is a stranger: it may send a picture itself or, where the settings name hosts, have one
fetched from them. No reference of a client reaches a file or a storage. Formats are those that
browsers and OpenAI's own endpoint take: each more is a decoder more to be attacked.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
import numpy.typing as npt

from pipeline.images import opened, pixels_of
from pipeline.references import Fetcher, shown
from pipeline.web import Web
from serving.config import LimitsConfig, ServeConfig
from sgl.errors import ImageError, ImageFetchError, ImageTooLargeError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_FETCHES = 16
"""At the same time; they wait for other servers, so that they have threads of their own."""
_BYTES_PER_PIXEL = 3
_WEB = re.compile(r"https?://", re.IGNORECASE)

Pixels = npt.NDArray[np.uint8]


class Pictures:
    """Gets the pictures of requests.

    Args:
        config: limits and http count.
        web: how http(s) is fetched; default: as config.http says. Only tests, whose server is on
            loopback, give another one.
    """

    def __init__(self, config: ServeConfig, web: Web | None = None) -> None:
        self._limits = config.limits
        if web is None and config.http is not None:
            web = Web(config.http)
        self._has_web = web is not None
        self._fetcher = Fetcher(config.limits.max_image_bytes, web)
        self._fetching = ThreadPoolExecutor(_FETCHES, "fetch")
        self._decoding = ThreadPoolExecutor(config.limits.decode_threads, "decode")

    async def get(
        self, references: Sequence[str], hold: Callable[[int], None] | None = None
    ) -> list[Pixels]:
        """The pictures, in order.

        Args:
            references: `data:` URIs in base64 or, where the settings allow it, http(s) URLs; no
                more than a conversation may have.
            hold: of the client; told of what is fetched, and of the pixels before there are any.

        Returns:
            (height, width, 3) uint8 each.

        Raises:
            ImageError: of the first picture that fails, with its place if there are several.
            ApiError: of `hold`.
        """
        room = _Room(self._limits, hold or _nothing)
        tasks = [
            asyncio.ensure_future(self._one(reference, place, len(references), room))
            for place, reference in enumerate(references, 1)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            # One has failed, or nobody wants them any more.
            for task in tasks:
                task.cancel()

    def close(self) -> None:
        """Take no more; what is being decoded is finished and thrown away."""
        for pool in (self._fetching, self._decoding):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _one(self, reference: str, place: int, count: int, room: "_Room") -> Pixels:
        loop = asyncio.get_running_loop()
        try:
            self._check(reference)
            pool = self._fetching if _WEB.match(reference) else self._decoding
            data = await loop.run_in_executor(pool, self._fetched, reference, room)
            return await loop.run_in_executor(self._decoding, self._decoded, data, room)
        except ImageError as error:
            if count == 1:
                raise
            raise type(error)(f"image {place} of {count}: {error}") from error

    def _check(self, reference: str) -> None:
        """Let through what a client may ask for.

        Raises:
            ImageFetchError: everything else; it must not come as far as the fetcher, which reads
                files and storages too.
        """
        if reference.startswith("data:"):
            # Not taken apart: that would copy all of it.
            comma = max(reference.find(","), 0)
            # Escapes would be unpacked into far more memory than they come in.
            if not reference.endswith(";base64", 0, comma) or reference.find("%", comma) >= 0:
                raise ImageError("a data: URL that does not say: data:image/png;base64,...")
        elif not _WEB.match(reference):
            raise ImageFetchError(f"{shown(reference)}: an image is a data: or https URL")
        elif not self._has_web:
            raise ImageFetchError(
                f"{shown(reference)}: this endpoint fetches no images; send it as a data: URL"
            )

    def _fetched(self, reference: str, room: "_Room") -> bytes:
        data = self._fetcher.fetch({"bytes": None, "uri": reference})
        if _WEB.match(reference):
            room.hold(len(data))
        return data

    def _decoded(self, data: bytes, room: "_Room") -> Pixels:
        limits = self._limits
        image = opened(
            data,
            limits.max_image_pixels,
            formats=FORMATS,
            max_seconds=limits.decode_deadline_s,
        )
        room.take(image.width * image.height)
        return pixels_of(image)


class _Room:
    """How much the pictures of one request may still become."""

    def __init__(self, limits: LimitsConfig, hold: Callable[[int], None]) -> None:
        self._most = self._left = limits.max_total_pixels
        self._lock = Lock()
        self.hold = hold

    def take(self, pixels: int) -> None:
        """Make room for a picture before it is decoded.

        Raises:
            ImageTooLargeError: the request's pictures have too many pixels together.
            ApiError: of `hold`.
        """
        with self._lock:
            self._left -= pixels
            if self._left < 0:
                raise ImageTooLargeError(f"the images have together more than {self._most} pixels")
        self.hold(pixels * _BYTES_PER_PIXEL)


def _nothing(_: int) -> None:
    """For callers that count nothing."""
