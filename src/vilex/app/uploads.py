"""Uploads: so many bytes and no more, pictures and token files and nothing else."""

import io
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from threading import Semaphore
from typing import Any

from PIL import Image

from vilex.app.files import Files
from vilex.errors import InputError
from vilex.extras import needs
from vilex.pictures.load import decode
from vilex.tokens import TokenFile, load_tokens

with needs("app"):
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response

TOKENS = ".safetensors"
FRAME = 65536  # bytes of an upload beside its files
AT_ONCE = 16  # files of an upload
_DECODING = Semaphore(2)  # large pictures take much memory while they are read


class _TooLarge(Exception):
    pass


async def receive_upload(request: Request, files: Files, visitor: str) -> Response:
    """Take files from a page or a program: their names here, or one line that says what is wrong.

    A page's pictures are looked at now, so that it says at once what is none; a program's when they are used, as its
    client shows no answer to an upload.
    """
    most = files.limits.upload
    refusal = PlainTextResponse(f"over {most / 2**20:g} MB; make it smaller first", 413)
    taken = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > most + FRAME:
            raise _TooLarge
        return message

    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most + FRAME:
        return refusal
    try:
        form = await Request(request.scope, counted).form(max_files=AT_ONCE, max_fields=AT_ONCE)
        given = [one for one in form.getlist("files") if not isinstance(one, str)]
        if not given:
            return PlainTextResponse("expected a file", 400)
        contents = [(one.filename or "file", await one.read()) for one in given]
        await form.close()
        if "origin" in request.headers:
            await run_in_threadpool(_check_all, contents)
        return JSONResponse([str(files.put(name, content, visitor)) for name, content in contents])
    except _TooLarge:
        return refusal
    except InputError as error:
        return PlainTextResponse(str(error), 422)
    except (MultiPartException, HTTPException) as error:
        return PlainTextResponse(f"no upload: {getattr(error, 'detail', None) or error}", 400)


def _check_all(contents: list[tuple[str, bytes]]) -> None:
    for name, content in contents:
        if name.endswith(TOKENS):
            read_tokens(content, name)
        else:
            read_picture(content, name, 64)


def read_picture(content: bytes, name: str, side: int | None = None) -> Image.Image:
    """The bytes of a picture file as RGB; see `vilex.pictures.load.decode`."""
    with _DECODING:
        return decode(io.BytesIO(content), name, side)


def read_tokens(content: bytes, name: str) -> TokenFile:
    """The bytes of a token file; see `vilex.tokens.load_tokens`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.safetensors"
        path.write_bytes(content)
        try:
            return load_tokens(path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None
        except Exception:
            raise InputError(f"{name}: holds no image tokens; save some on this page, or with `vilex encode`") from None
