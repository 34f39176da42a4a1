"""A TCP proxy on loopback that cuts all connections and refuses new ones when it is told to."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PIECE = 1 << 16


class LossyProxy:
    """Forwards to one port of this machine.

    Attributes:
        port: that it listens at.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lossy = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self) -> None:
        """Cut what is open, and everything that comes."""
        self._lossy.set()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def find(self) -> None:
        """Forward again."""
        self._lossy.clear()

    def close(self) -> None:
        self.lose()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self._lossy.is_set() or not self._connect(near):
                    near.close()

    def _connect(self, near: socket.socket) -> bool:
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            return False
        with self._lock:
            self._open |= {near, far}
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=self._carry, args=(one, other), daemon=True).start()
        return True

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        with self._lock:
            self._open -= {source, target}


@contextmanager
def lossy_proxy(target: int) -> Iterator[LossyProxy]:
    """Up for the block."""
    proxy = LossyProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
