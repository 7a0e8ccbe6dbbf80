"""`vilex app` as it is started: where it listens, who gets in, how long it keeps things, what it says."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from gradio_client import Client, handle_file

from tests.visitors import TIMEOUT, visitor
from vilex.app.limits import Limits
from vilex.app.server import served
from vilex.app.studio import Studio
from vilex.cli import main
from vilex.errors import InputError

API = "/gradio_api"
PASSWORD = "correct horse"


@contextmanager
def started(tmp_path, *options, **environment):
    """The command in a process of its own; yields it and its address."""
    command = [sys.executable, "-m", "vilex", "app", "--port", "0", *options]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", **environment}
    environment.pop("GRADIO_TEMP_DIR", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + process.stderr.read()
        yield process, found[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def listening(port):
    """The addresses of this machine that a TCP port is open at (Linux)."""
    with open("/proc/net/tcp") as v4, open("/proc/net/tcp6") as v6:
        rows = [line.split() for file in (v4, v6) for line in list(file)[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """With a login, and files that are kept for six seconds."""
    folder = tmp_path_factory.mktemp("guarded")
    with started(folder, "--auth", "anna", "--keep", "0.1", VILEX_APP_PASSWORD=PASSWORD) as (process, address):
        yield process, address, folder


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads Linux's table of ports")
def test_it_listens_to_this_machine_alone(guarded):
    port = int(guarded[1].rpartition(":")[2])
    assert listening(port) == {"0100007F"}


def test_nothing_but_the_login_is_open_to_others(guarded, tmp_path):
    _, address, _ = guarded
    with visitor(address) as nobody:
        page = nobody.get("/")
        assert page.status_code == 200 and '"auth_required":true' in page.text.replace(" ", "")
        assert "recreate" not in page.text
        for path in ("/config", f"{API}/info", f"{API}/openapi.json", f"{API}/queue/status", f"{API}/file=/etc/passwd",
                     f"{API}/queue/data?session_hash=a", f"{API}/heartbeat/a", f"{API}/call/recreate/a",
                     f"{API}/upload_progress?upload_id=a"):  # fmt: skip
            assert nobody.get(path).status_code == 401, path
        for path in ("queue/join", "call/recreate", "run/check", "cancel", "reset", "upload"):
            assert nobody.post(f"{API}/{path}", json={}).status_code == 401, path
        for cookie in ("access-token", "access-token-unsecure"):
            assert nobody.get("/config", cookies={cookie: "x", f"{cookie}-x": "x"}).status_code == 401
    with pytest.raises(Exception, match=r"auth|login|401"):
        Client(address, verbose=False, download_files=tmp_path)


def test_a_wrong_password_waits_and_a_right_one_works(guarded, dog, tmp_path):
    _, address, _ = guarded
    began = time.perf_counter()
    stranger = visitor(address)
    wrong = stranger.post("/login", data={"username": "anna", "password": "wrong horse"})
    assert wrong.status_code == 400 and time.perf_counter() - began >= 1
    assert stranger.post("/login", data={"username": "bert", "password": PASSWORD}).status_code == 400
    anna = Client(address, auth=("anna", PASSWORD), verbose=False, download_files=tmp_path)
    assert anna.predict(handle_file(dog), 0, 1, 3, 1, 1, 0, api_name="/recreate")[1] == "4 pictures."


def test_what_visitors_leave_is_deleted_after_its_time(guarded, dog, tmp_path):
    _, address, folder = guarded
    anna = Client(address, auth=("anna", PASSWORD), verbose=False, download_files=tmp_path)
    gallery, _ = anna.predict(handle_file(dog), 0, 1, 3, 1, 1, 0, api_name="/recreate")
    assert len(gallery) == 5

    def kept():
        return [name for root in folder.glob("vilex-app-*") for name in os.listdir(root)]

    assert len(kept()) >= 6, "the upload and the pictures"
    until = time.monotonic() + 15
    while kept() and time.monotonic() < until:
        time.sleep(0.2)
    assert kept() == []


def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path):
    with started(tmp_path) as (process, address):
        assert list(tmp_path.glob("vilex-app-*"))
        httpx.get(address, timeout=TIMEOUT)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()
    assert not list(tmp_path.glob("vilex-app-*"))


@pytest.fixture
def refused(capsys, monkeypatch):
    """The command in this process: its status, and what it says."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")

    def call(*options, password=""):
        monkeypatch.setenv("VILEX_APP_PASSWORD", password)
        monkeypatch.setattr(sys, "argv", ["vilex", "app", *options])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().err

    return call


def test_a_port_that_is_taken_is_one_line(refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = refused("--port", str(port))
    assert status == 2 and said.startswith(f"error: --port {port}: ") and said.count("\n") == 1


def test_a_login_needs_a_password_of_some_length(refused):
    status, said = refused("--auth", "anna", password="short")
    assert (status, said) == (2, "error: VILEX_APP_PASSWORD: expected a password of at least 8 letters\n")
    status, said = refused("--auth", "anna")
    assert status == 2 and said == "error: --auth: no terminal to ask for a password; give it as VILEX_APP_PASSWORD\n"


def test_a_shared_page_comes_from_this_server_alone(nano, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr("gradio.networking.setup_tunnel", lambda **_: "https://a-tunnel.invalid")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(Studio(nano, {}, Limits()), port=port, share=True) as address:
        assert address == "https://a-tunnel.invalid"
        page = httpx.get(f"http://127.0.0.1:{port}", timeout=TIMEOUT).text
        assert "amazonaws" not in page and 'src="./assets/' in page

    def unreachable(**_):
        raise RuntimeError("no way out")

    monkeypatch.setattr("gradio.networking.setup_tunnel", unreachable)
    with pytest.raises(InputError, match=r"^--share: Gradio's tunnel cannot be reached"):
        served(Studio(nano, {}, Limits()), port=port, share=True).__enter__()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--device", "cuda:77"], "--device: no device 'cuda:77' here"),
        (["--dtype", "int8"], "--dtype int8: expected"),
        (["--model", "no/such/folder"], "no/such/folder"),
        (["--auth", " "], "--auth: expected a user's name"),
    ],
)
def test_settings_are_looked_at_before_anything_listens(refused, options, line):
    status, said = refused(*options)
    assert status == 2 and line in said and said.count("\n") == 1
