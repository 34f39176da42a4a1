import asyncio
import signal

import pytest

from jobs.interruptible import interruptible


@pytest.mark.usefixtures("on_a_terminal")
def test_an_interrupt_does_not_wait_for_the_event_loop() -> None:
    """asyncio's own handler would let the block go on."""
    reached: list[str] = []

    async def blocks() -> None:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(blocks())
    assert reached == []


def test_the_handler_is_given_back_and_one_that_ignores_stays() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        handlers = (signal.SIG_IGN, lambda *_: None)
        for handler, within in zip(
            handlers, (signal.SIG_IGN, signal.default_int_handler), strict=True
        ):
            signal.signal(signal.SIGINT, handler)
            with interruptible():
                assert signal.getsignal(signal.SIGINT) is within
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
