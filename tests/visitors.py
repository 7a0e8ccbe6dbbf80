"""Programs that visit a server of ours."""

from typing import Any

import httpx

TIMEOUT = 300  # seconds, for machines with much else to do


def visitor(address: str, **settings: Any) -> httpx.Client:
    """A client that lets a connection rest for a second at most.

    The servers close a resting one after five seconds, which is also as long as httpx keeps it: a request that is sent
    at that very moment is lost.
    """
    return httpx.Client(base_url=address, timeout=TIMEOUT, limits=httpx.Limits(keepalive_expiry=1.0), **settings)
