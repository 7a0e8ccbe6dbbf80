"""The server of the raters' pages: `vilex study serve`.

It gives out pages, the study's own pictures by their names, and nothing else: no name is ever made into a path that
was not in the design. It writes no log of who asks.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from vilex.errors import InputError
from vilex.extras import needs
from vilex.study.answer_store import Answers, Rater, StoreError
from vilex.study.design import PICTURES, Study
from vilex.study.rater_pages import POLICY, SCRIPT, STYLE, done_page, question_page, said_page, sure_page, welcome_page

with needs("study"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, RedirectResponse, Response
    from starlette.routing import Route

BODY = 2048  # bytes of a form
WAIT = 20.0  # seconds until a server that does not start is given up
HEADERS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip


@contextmanager
def rating_server(study: Study, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a study; yields its address.

    Args:
        port: 0 for any that is free.
    Raises:
        InputError: it cannot listen there, or the answers cannot be opened.
    """
    app = rating_app(study)
    listening = _listen(host, port)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", access_log=False, server_header=False, lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(WAIT)
        listening.close()


def rating_app(study: Study) -> Starlette:
    """The pages as an ASGI application, for servers of one's own.

    Raises:
        InputError: the answers cannot be opened, or a picture is missing.
    """
    answers = Answers(study)
    for name in sorted(study.design.pictures):
        if not (study.folder / PICTURES / name).is_file():
            raise InputError(f"{study.folder / PICTURES / name}: is missing; put it back, or make the study anew")
    desk = _Desk(study, answers)
    routes = [
        Route("/", desk.welcome),
        Route("/join", desk.join, methods=["POST"]),
        Route("/r/{token}", desk.question),
        Route("/r/{token}", desk.answer, methods=["POST"]),
        Route("/r/{token}/answers.json", desk.export),
        Route("/r/{token}/delete", desk.sure),
        Route("/r/{token}/delete", desk.delete, methods=["POST"]),
        Route("/p/{name}", desk.picture),
        Route("/style.css", lambda request: Response(STYLE, media_type="text/css")),
        Route("/favicon.ico", lambda request: Response(status_code=204)),
        Route("/keys.js", lambda request: Response(SCRIPT, media_type="text/javascript")),
    ]
    return Starlette(
        routes=routes, middleware=[Middleware(_Headed)], exception_handlers={404: desk.nowhere, InputError: desk.wrong}
    )


class _Headed:
    """Adds headers that keep a page to this server."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                named = {key.lower() for key, _ in message["headers"]}
                more = {**HEADERS, **({} if b"cache-control" in named else {"Cache-Control": "no-store"})}
                message["headers"] = [
                    *message["headers"], *((key.lower().encode(), value.encode()) for key, value in more.items())
                ]  # fmt: skip
            await send(message)

        await self.app(scope, receive, headed)


class _Desk:
    """What each address answers."""

    def __init__(self, study: Study, answers: Answers):
        self.study, self.answers = study, answers
        self.pictures = study.design.pictures

    def welcome(self, request: Request) -> Response:
        return HTMLResponse(welcome_page(self.study))

    async def join(self, request: Request) -> Response:
        form = await _form(request)
        if form.get("agree") != "yes":
            return RedirectResponse("/", 303)
        rater = await run_in_threadpool(self.answers.join)
        if rater is None:
            return HTMLResponse(said_page(self.study, self.study.wording.full))
        return RedirectResponse(f"/r/{rater.token}", 303)

    def question(self, request: Request) -> Response:
        return self._of(request, self._next)

    def _next(self, rater: Rater) -> Response:
        done, count, following = self.answers.next_question(rater)
        if following is None:
            return HTMLResponse(done_page(self.study, rater))
        return HTMLResponse(question_page(self.study, rater, done, count, *following))

    async def answer(self, request: Request) -> Response:
        """Keep the answer, and only then let the browser go on."""
        form = await _form(request)

        def keep(rater: Rater) -> Response:
            trial, seconds = _number(form.get("trial")), _number(form.get("seconds"))
            self.answers.add(
                rater, -1 if trial is None else int(trial), form.get("criterion", ""), form.get("choice", ""), seconds
            )
            return RedirectResponse(f"/r/{rater.token}", 303)

        return await run_in_threadpool(self._of, request, keep)

    def export(self, request: Request) -> Response:
        def exported(rater: Rater) -> Response:
            content = json.dumps(self.answers.export(rater), indent=1)
            return Response(
                content, media_type="application/json",
                headers={"Content-Disposition": 'attachment; filename="answers.json"'},
            )  # fmt: skip

        return self._of(request, exported)

    def sure(self, request: Request) -> Response:
        return self._of(request, lambda rater: HTMLResponse(sure_page(self.study, rater)))

    def delete(self, request: Request) -> Response:
        def gone(rater: Rater) -> Response:
            self.answers.delete(rater)
            return HTMLResponse(said_page(self.study, self.study.wording.withdrawn))

        return self._of(request, gone)

    def picture(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.pictures:
            return self.nowhere(request)
        content = (self.study.folder / PICTURES / name).read_bytes()
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=86400"})

    def nowhere(self, request: Request, error: Exception | None = None) -> Response:
        return HTMLResponse(said_page(self.study, self.study.wording.not_found), 404)

    def wrong(self, request: Request, error: Exception) -> Response:
        status = 503 if isinstance(error, StoreError) else 400
        return HTMLResponse(said_page(self.study, self.study.wording.failed), status)

    def _of(self, request: Request, answer: Callable[[Rater], Response]) -> Response:
        """An answer to the rater whose link it is."""
        rater = self.answers.find(request.path_params["token"])
        return self.nowhere(request) if rater is None else answer(rater)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, each the last of its name.

    Raises:
        InputError: it is too long, or no form.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY:
            raise InputError(f"a form of over {BODY} bytes")
    try:
        return {key: values[-1] for key, values in parse_qs(body.decode(), keep_blank_values=True).items()}
    except ValueError:
        raise InputError("expected a form") from None


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if abs(found) < 1e9 else None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        raise InputError(f"--port {port}: cannot listen at {host}:{port} ({error}); give another --port") from None
    return listening
