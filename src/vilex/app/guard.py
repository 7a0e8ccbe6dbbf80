"""What reaches gradio at all: known addresses, visitors who are logged in, files that are theirs.

A layer around the server (ASGI). What it does not let through, nothing behind it needs to refuse.
"""

import json
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import unquote

from vilex.app.files import Files
from vilex.app.uploads import receive_upload
from vilex.errors import InputError
from vilex.extras import needs

with needs("app"):
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

VISITOR = "vilex-visitor"  # the cookie by which a browser owns its files
BODY = 2 * 2**20  # bytes of a request that is no upload
API = "/gradio_api"
OPEN = re.compile(  # what a page needs before its visitor has logged in
    rf"/|/login/?|/logout|/(assets|static|svelte)/.*|(?:{API})?/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt"
    rf"|{API}/(login_check|app_id|startup-events)/?"
)
READ = re.compile(rf"/config/?|{API}/(info|openapi\.json|queue/data|queue/status|heartbeat/[^/]+|call/[^/]+/[^/]+)/?")
WRITE = re.compile(rf"{API}/(queue/join|call/[^/]+|run/[^/]+|cancel|reset)/?")
FILE = f"{API}/file="
UPLOAD, PROGRESS = f"{API}/upload", f"{API}/upload_progress"
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_PROGRAMS = re.compile(rb"window\.gradio_api_info = .*?;</script>", re.DOTALL)  # what programs can call
_OUTSIDE = re.compile(rb"<meta\b[^>]*https?://[^>]*>")  # gradio's own pictures and addresses, for link previews


class Guard:
    """Stands before a gradio server.

    Args:
        app: what is behind it. files: whose files may be read.
    """

    def __init__(self, app: Any, files: Files):
        self.app, self.files = app, files

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        visitor = visitor_of(Headers(scope=scope))
        send = _decorated(send, scope, visitor)
        answer = self._refusal(scope, visitor)
        if answer is None and scope["path"] == UPLOAD:
            answer = await receive_upload(Request(scope, receive), self.files, visitor)
        elif answer is None and scope["method"] == "POST" and scope["path"].rstrip("/") != "/login":
            try:
                receive = await self._checked(receive, visitor)
            except InputError as error:
                answer = PlainTextResponse(str(error), 400)
        await (answer or self.app)(scope, receive, send)

    def _refusal(self, scope: Message, visitor: str) -> Response | None:
        """The answer to what is let no further."""
        method, path = scope["method"], scope["path"]
        if OPEN.fullmatch(path) and method in ("GET", "HEAD", "POST" if path.startswith("/login") else "GET"):
            return None
        if not _logged_in(scope):
            return PlainTextResponse("log in first", 401)
        if method in ("GET", "HEAD") and path.startswith(FILE):
            written = scope["raw_path"].decode("latin-1").partition("file=")[2]
            return None if self.files.readable(unquote(written), visitor) else PlainTextResponse("no such file", 404)
        known = {"GET": READ, "HEAD": READ, "POST": WRITE}.get(method)
        if (method, path) == ("GET", PROGRESS):  # a page asks how far its upload is, and hears that it is done
            return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")
        if (known and known.fullmatch(path)) or (method, path) == ("POST", UPLOAD):
            return None
        return PlainTextResponse("no such address", 404)

    async def _checked(self, receive: Receive, visitor: str) -> Receive:
        """Read a request's JSON whole, and give it on with nothing in it that could fetch a file of others.

        Raises:
            InputError: it is too large, no JSON, or names a file that is not the visitor's.
        """
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > BODY:
                raise InputError(f"a request of over {BODY} bytes; upload pictures first")
            if message["type"] != "http.request" or not message.get("more_body"):
                break
        try:
            content = json.loads(body or b"{}")
            self._check(content, visitor)
        except (ValueError, RecursionError) as error:
            raise error if isinstance(error, InputError) else InputError("expected JSON") from None
        checked, sent = json.dumps(content).encode(), False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": checked, "more_body": False}

        return again

    def _check(self, value: Any, visitor: str) -> None:
        """Every file in a request is the visitor's own upload; addresses beside it are left out."""
        if isinstance(value, dict):
            if isinstance(value.get("path"), str) or "url" in value or "meta" in value:
                if not self.files.readable(value.get("path"), visitor):
                    raise InputError(f"expected a file that was uploaded here, got {str(value.get('path'))[:60]!r}")
                value["url"] = None
            for one in value.values():
                self._check(one, visitor)
        elif isinstance(value, list):
            for one in value:
                self._check(one, visitor)


def visitor_of(headers: Any) -> str:
    """The browser that asks, by its cookie; empty for a program without one."""
    found = SimpleCookie(headers.get("cookie", "")).get(VISITOR)
    return found.value if found else ""


def _logged_in(scope: Message) -> bool:
    """As gradio sees it: by the cookie that its login set."""
    app = scope["app"]
    if app.auth is None:
        return True
    cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
    tokens = (cookies.get(f"{kind}-{app.cookie_id}") for kind in ("access-token", "access-token-unsecure"))
    return any(token is not None and token.value in app.tokens for token in tokens)


def _decorated(send: Send, scope: Message, visitor: str) -> Send:
    """Answers with headers that keep a page to this server; a new visitor gets a cookie with the page.

    The page itself goes without what names outside addresses, and before the login without what programs can call.
    """
    held: Message = {}
    path = scope["path"]

    async def decorated(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
            if path.startswith(FILE):
                headers["Cache-Control"] = "private, max-age=3600"
            if path == "/":
                if not visitor:
                    cookie = f"{VISITOR}={secrets.token_urlsafe(24)}; Path=/; HttpOnly; SameSite=Strict"
                    headers.append("Set-Cookie", cookie)
                held["start"], held["body"] = message, b""
                return
        if path == "/" and message["type"] == "http.response.body":
            held["body"] += message.get("body", b"")
            if message.get("more_body"):
                return
            start, body = held["start"], _OUTSIDE.sub(b"", held["body"])
            if not _logged_in(scope):
                body = _PROGRAMS.sub(b"window.gradio_api_info = {};</script>", body)
            if "content-length" in (headers := MutableHeaders(scope=start)):
                headers["Content-Length"] = str(len(body) if body else headers["Content-Length"])
            await send(start)
            message = {"type": "http.response.body", "body": body}
        await send(message)

    return decorated
