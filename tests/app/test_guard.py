"""What a network may and may not do, by plain HTTP."""

import io
import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from tests.visitors import TIMEOUT, visitor
from vilex.app.guard import VISITOR
from vilex.encoder import EMBEDDED

API = "/gradio_api"


def png(size=(8, 8), mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, size).save(content, "PNG")
    return content.getvalue()


def upload(client, content=None, name="cat.png"):
    return client.post(f"{API}/upload", files={"files": (name, png() if content is None else content)})


def as_written(client, path):
    """GET of an address that nothing has tidied up on the way."""
    connection = HTTPConnection(client.base_url.host, client.base_url.port)
    connection.request("GET", path, headers={"Cookie": f"{VISITOR}={client.cookies[VISITOR]}"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def call(client, name, data, session="s"):
    """A job's result lines, as any program reads them."""
    joined = client.post(f"{API}/call/{name}", json={"data": data, "session_hash": session})
    if joined.status_code != 200:
        return joined.status_code, joined.text
    told = client.get(f"{API}/call/{name}/{joined.json()['event_id']}").text
    return 200, told


@pytest.fixture
def canary():
    """A server that writes down what is asked of it."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())

        do_HEAD = do_POST = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/cat.png", asked
    server.shutdown()


def test_only_what_a_page_needs_has_an_address(browser_like):
    one, _ = browser_like
    assert one.get("/").status_code == one.get("/config").status_code == one.get("/theme.css").status_code == 200
    for path in ("/docs", "/monitoring", f"{API}/runs", f"{API}/dev/reload", f"{API}/proxy=http://127.0.0.1/",
                 f"{API}/deep_link?session_hash=a", f"{API}/vibe-code", f"{API}/stream/a/b/1/playlist.m3u8",
                 f"{API}/custom_component/a/client/b/c", "/monitoring/summary", f"{API}/token"):  # fmt: skip
        assert one.get(path).status_code == 404, path
    for path in (f"{API}/component_server", f"{API}/vibe-edit", f"{API}/process_recording", f"{API}/stream/a"):
        assert one.post(path, json={}).status_code == 404, path
    assert one.put("/").status_code == one.delete(f"{API}/upload").status_code == 404


def test_files_that_are_not_the_visitor_s_are_refused(browser_like, studio):
    one, other = browser_like
    path = upload(one).json()[0]
    assert one.get(f"{API}/file={path}").content == png()
    weights = next(EMBEDDED["nano"].rglob("*.safetensors"))
    for name in (
        "/etc/passwd", quote("/etc/passwd", ""), "..%2f..%2fetc%2fpasswd", "../../etc/passwd",
        "%2e%2e%2fpyproject.toml",
        ".env", ".git/config", str(weights), str(EMBEDDED["nano"] / "config.json"), str(studio.files.root),
        f"{path}/../cat.png", f"{path}%00", f"{path}%2f..%2fcat.png", "pyproject.toml", "file:///etc/passwd", "",
    ):  # fmt: skip
        assert as_written(one, f"{API}/file={name}") == (404, b"no such file"), name
        assert one.get(f"/file={name}").status_code == one.get(f"/file/{name}").status_code == 404
    assert other.get(f"{API}/file={path}").status_code == 404


def test_two_visitors_never_have_each_other_s_pictures(browser_like, address):
    one, other = browser_like
    mine, theirs = upload(one).json()[0], upload(other).json()[0]
    assert mine != theirs, "the same bytes twice: neither learns that the other has them"
    status, told = call(one, "recreate", [{"path": mine}, 0, 1, 3, 1, 1, 0], "one")
    assert status == 200 and "event: complete" in told
    made = [item["image"]["path"] for item in json.loads(told.rpartition("data: ")[2])[0]]
    for path in (mine, *made):
        assert one.get(f"{API}/file={path}").status_code == 200
        for stranger in (other, visitor(address)):
            assert stranger.get(f"{API}/file={path}").status_code == 404
        assert call(other, "recreate", [{"path": path}, 0, 1, 3, 1, 1, 0], "other")[0] == 400


def test_nothing_is_fetched_for_a_visitor(browser_like, canary):
    url, asked = canary
    one, _ = browser_like
    own = upload(one).json()[0]
    meta = {"_type": "gradio.FileData"}
    for name in (url, quote(url, ""), url.replace("http:", "HTTP:"), url.replace("//", "%2f%2f")):
        assert one.get(f"{API}/file={name}").status_code == one.get(f"{API}/proxy={name}").status_code == 404
    for file in ({"path": url}, {"path": url, "meta": meta}, {"url": url}, {"path": None, "url": url, "meta": meta},
                 {"path": own + "x", "url": url}, {"meta": meta}):  # fmt: skip
        status, told = call(one, "recreate", [file, 0, 1, 3, 1, 1, 0])
        assert status == 400 and "expected a file that was uploaded here" in told, file
        joined = one.post(f"{API}/queue/join", json={"data": [file], "fn_index": 3, "session_hash": "s"})
        assert joined.status_code == 400
        assert one.post(f"{API}/run/check", json={"data": ["<one>", file]}).status_code == 400
    assert "complete" in call(one, "recreate", [{"path": own, "url": url}, 0, 1, 3, 1, 1, 0])[1]
    told = call(one, "recreate", [url, 0, 1, 3, 1, 1, 0])[1]
    assert "event: error" in told
    assert asked == []
    httpx.get(url, timeout=TIMEOUT)
    assert asked == ["/cat.png"], "the canary sings"


def test_uploads_over_the_limit_are_one_line(browser_like, address, studio):
    one, _ = browser_like
    before = len(list(studio.files.root.iterdir()))
    big = bytes(2**20 + 2**17)
    for client in (one, visitor(address)):
        assert (upload(client, big).status_code, upload(client, big).text) == (413, "over 1 MB; make it smaller first")

    def slowly():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(40):
            yield bytes(2**16)

    chunked = one.post(f"{API}/upload", content=slowly(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert chunked.status_code == 413
    assert len(list(studio.files.root.iterdir())) == before, "nothing of it is kept"


def test_what_is_no_picture_is_one_line_at_once(browser_like):
    one, _ = browser_like
    bomb = png((20_000, 20_000), "1")
    cut = png((300, 300))[:200]
    for name, content, line in (
        ("letter.txt", b"hello", "letter.txt: not a readable image; convert it to PNG or JPEG"),
        (
            "a.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "a.svg: not a readable image; convert it to PNG or JPEG",
        ),
        ("empty.png", b"", "empty.png: the file is empty; give an image"),
        ("bomb.png", bomb, "bomb.png: over 67108864 pixels; resize it first"),
        ("large.png", png((9000, 9000), "1"), "large.png: 9000x9000 is over 67108864 pixels; resize it first"),
        ("a.safetensors", b"x" * 100, "a.safetensors: "),
        ("dot.png", png((1, 1)), "dot.png: 1x1 pixels is too small"),
    ):
        answer = upload(one, content, name)
        assert answer.status_code == 422 and answer.text.startswith(line) and "\n" not in answer.text, answer.text
    assert "damaged image" in upload(one, cut).text
    assert one.post(f"{API}/upload", data={"files": "text"}).status_code == 400
    assert one.post(f"{API}/upload", content=b"x").status_code == 400


def test_a_program_s_bad_picture_is_one_line_when_it_is_used(address):
    program = visitor(address)
    for content, line in ((b"hello", "not a readable image"), (png((20_000, 20_000), "1"), "over 67108864 pixels")):
        path = upload(program, content, "a.png").json()[0]
        _, told = call(program, "recreate", [{"path": path, "orig_name": "a.png"}, 0, 1, 3, 1, 1, 0])
        assert "event: error" in told and line in told and "Traceback" not in told and path not in told


def test_requests_are_json_of_some_size(browser_like):
    one, _ = browser_like
    for body in (b"{", b"[" * 100_000, b"\xff", b'"x"' + b" " * 3_000_000):
        assert one.post(f"{API}/queue/join", content=body).status_code in (400, 422)


def test_a_page_stays_with_its_server(browser_like, address):
    one, _ = browser_like
    answer = one.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "no-referrer"
    for tag in ("<meta", "<script", "<link", "<img", "<iframe"):
        for part in answer.text.split(tag)[1:]:
            inside = part.partition(">")[0]
            assert "http://" not in inside.replace(address, "") and "https://" not in inside, inside
    assert '"analytics_enabled":false' in answer.text.replace(" ", "")
    assert "url(http" not in one.get("/theme.css").text and "@import" not in one.get("/theme.css").text
    assert "fonts.g" not in answer.text


def test_a_browser_s_cookie_is_its_own(address):
    cookies = [httpx.get(address, timeout=TIMEOUT).headers["set-cookie"] for _ in range(2)]
    assert cookies[0] != cookies[1]
    assert all("HttpOnly" in cookie and "SameSite=Strict" in cookie for cookie in cookies)


def test_a_page_s_errors_are_text_and_a_program_s_are_as_they_are(browser_like, address):
    one, _ = browser_like
    name = "<img src=x onerror=alert(1)>.png"
    bad = visitor(address)
    path = upload(bad, b"hello", "a.png").json()[0]
    data = [{"path": path, "orig_name": name}, 0, 1, 3, 1, 1, 0]
    told = call(one, "recreate", data)[1]
    assert "&lt;img" in told and "<img" not in told
    assert "<img" in call(bad, "recreate", data)[1]
