"""The server of the page, and who may use it."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from vilex.app.guard import Guard
from vilex.app.page import CSS, build_page, theme
from vilex.app.studio import Studio
from vilex.errors import InputError
from vilex.extras import needs

with needs("app"):
    from starlette.middleware import Middleware

LOCAL = "127.0.0.1"
PAUSE = 1.0  # seconds after a wrong password


@contextmanager
def served(
    studio: Studio,
    host: str = LOCAL,
    port: int | None = 7860,
    login: tuple[str, str] | None = None,
    share: bool = False,
) -> Iterator[str]:
    """Serve a studio's page; yields its address.

    Args:
        host: the address it listens at; only this machine's own by default.
        port: None for any that is free.
        login: the one user and password; open to everybody who reaches it if None.
        share: also through a tunnel of Gradio's, under a public address.
    Raises:
        InputError: the port is taken, or the tunnel cannot be reached.
    """
    page = build_page(studio)
    studio.files.keep_sweeping()
    try:
        try:
            _, address, public = page.launch(
                server_name=host, server_port=port, share=share, auth=login and _check_of(*login), quiet=True,
                prevent_thread_lock=True, show_error=False, footer_links=["api"], run_history=False, ssr_mode=False,
                enable_monitoring=False, mcp_server=False, pwa=False, max_file_size=studio.limits.upload, css=CSS,
                theme=theme(), allowed_paths=[], blocked_paths=[], inbrowser=False, state_session_capacity=100,
                num_workers=0, app_kwargs={
                    "middleware": [Middleware(Guard, files=studio.files)], "docs_url": None, "redoc_url": None,
                    "openapi_url": None,
                },
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"--port {port}: cannot listen at {host}:{port} ({error}); give another --port") from None
        if share and not public:
            raise InputError("--share: Gradio's tunnel cannot be reached; go without --share, or try again later")
        page.share = False  # else the page would come with scripts of another server
        yield public or address
    finally:
        page.close(verbose=False)
        studio.files.close()


def _check_of(user: str, password: str) -> Callable[[str, str], Awaitable[bool]]:
    async def check(given_user: str, given: str) -> bool:
        """Compare in constant time; who guesses waits."""
        right = hmac.compare_digest(given_user.encode(), user.encode()) & hmac.compare_digest(
            given.encode(), password.encode()
        )
        if not right:
            await asyncio.sleep(PAUSE)
        return right

    return check
