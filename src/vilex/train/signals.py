"""Being asked to stop: a scheduler's SIGTERM, a user's Ctrl-C."""

import os
import signal
import threading
import time
from types import FrameType

ECHO = 5.0  # seconds in which a launcher may pass on the Ctrl-C that its processes had themselves


class StopSignal:
    """Turns SIGINT and SIGTERM into a wish, `asked`, that the loop grants after its step.

    A second Ctrl-C stops at once (KeyboardInterrupt); a second SIGTERM changes nothing, for schedulers and
    launchers both send one. In another thread than the main one signals cannot be had; then there is no wish.
    """

    def __enter__(self) -> "StopSignal":
        self.asked, self.interrupted = False, 0.0
        here = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if here else ()
        self.before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def _ask(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            launched = "TORCHELASTIC_RUN_ID" in os.environ
            if self.interrupted and not (launched and now - self.interrupted < ECHO):
                raise KeyboardInterrupt
            self.interrupted = self.interrupted or now
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
