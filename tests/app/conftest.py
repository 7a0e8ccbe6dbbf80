"""A server in this process, on the embedded model; addresses are of this machine alone."""

import os
from pathlib import Path

import pytest

from tests.visitors import visitor
from vilex.app.limits import Limits
from vilex.app.server import served
from vilex.app.studio import Studio
from vilex.lexicon import VisualLexicon

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture(scope="package")
def nano():
    return VisualLexicon.from_pretrained("nano")


@pytest.fixture(scope="package")
def studio(nano):
    return Studio(nano, {"model": "nano", "base": "t2i"}, Limits(waiting=3, upload=2**20))


@pytest.fixture(scope="package")
def address(studio):
    with served(studio, port=None) as address:
        yield address.rstrip("/")
    os.environ.pop("GRADIO_TEMP_DIR")


@pytest.fixture
def browser_like(address):
    """Two visitors with cookies of their own, as browsers have them."""

    clients = [visitor(address, headers={"origin": address}) for _ in range(2)]
    for client in clients:
        client.get("/")
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def dog():
    return EXAMPLES / "dog.png"


@pytest.fixture
def butterfly():
    return EXAMPLES / "butterfly.png"
