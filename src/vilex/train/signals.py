"""Being asked to stop: a scheduler's SIGTERM, a user's Ctrl-C."""

import signal


class StopSignal:
    """Turns SIGINT and SIGTERM into a wish, `asked`, that the loop grants after its step."""

    def __enter__(self) -> "StopSignal":
        self.asked = False
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, *_: object) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
