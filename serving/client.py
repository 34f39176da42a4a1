"""Who asks: what the guard tells the endpoint of a request, in `scope["state"]["client"]`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """The owner of a key or, where there are no keys, an address.

    Attributes:
        name: fit for logs.
        charge: takes the tokens that an answer has cost, prompt and completion of both models, off
            what the client may use per minute.
        hold: counts bytes that the request takes from now to its end. It raises OverloadedError
            where all requests together would take more than they may, and may be called in any
            thread.
    """

    name: str
    charge: Callable[[int], None]
    hold: Callable[[int], None]
