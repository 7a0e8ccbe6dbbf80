"""Many visitors at once: nobody's picture is lost or another's, and memory does not grow."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import time

import psutil
import pytest
from PIL import Image

from tests.visitors import visitor

VISITORS, WARM, EACH = 20, 4, 6  # requests of each visitor before memory is looked at, and after
GROWTH = 40 * 2**20  # bytes


@pytest.fixture
def server(tmp_path):
    """In a process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "vilex", "app", "--port", "0", "--queue", "200", "--keep", "1"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("GRADIO_TEMP_DIR", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    address = re.search(r"http://[\d.:]+", process.stdout.readline())[0]
    yield psutil.Process(process.pid), address
    process.kill()
    process.wait()
    process.stdout.close()


def visit(address, number, lines, barrier):
    """A visitor with a picture of their own, who asks for it again and again, each time from another seed."""
    with visitor(address, headers={"origin": address}) as client:
        client.get("/")
        name = f"visitor{number}.png"
        for turn in range(WARM + EACH):
            if turn == WARM:
                barrier.wait()
            path = client.post("/gradio_api/upload", files={"files": (name, picture_of(number))}).json()[0]
            seed = 1000 * number + turn
            data = [
                "<one:1>",
                "",
                1.0,
                1.0,
                2,
                1,
                seed,
                1,
                None,
                "",
                1.0,
                64,
                64,
                {"path": path, "orig_name": name},
                "one",
                1,
                1.0,
            ]
            joined = client.post("/gradio_api/call/compose", json={"data": data + [None, "x", 1, 1.0] * 3})
            told = client.get(f"/gradio_api/call/compose/{joined.json()['event_id']}").text
            assert "event: complete" in told, told
            gallery, said = json.loads(told.rpartition("data: ")[2])
            assert said == "1 picture.", said
            answer = client.get("/gradio_api/file=" + gallery[0]["image"]["path"])
            inside = json.loads(Image.open(io.BytesIO(answer.content)).text["vilex"])
            lines.append((number, inside["images"]["one"], inside["seed"] == seed, answer.status_code))


def picture_of(number):
    content = io.BytesIO()
    Image.new("RGB", (16, 16), (number, 255 - number, 7 * number % 256)).save(content, "PNG")
    return content.getvalue()


@pytest.mark.slow
def test_twenty_visitors_lose_and_mix_nothing_and_memory_is_flat(server):
    process, address = server
    sizes, lines, failures = [], [], []
    barrier = threading.Barrier(VISITORS, action=lambda: sizes.append(process.memory_info().rss))

    def work(number):
        try:
            visit(address, number, lines, barrier)
        except BaseException as error:
            failures.append(repr(error))
            barrier.abort()

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(VISITORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    sizes.append(process.memory_info().rss)
    assert failures == [], failures[0]
    assert sorted(lines) == sorted(
        (n, f"visitor{n}.png", True, 200) for n in range(VISITORS) for _ in range(WARM + EACH)
    )
    assert sizes[1] - sizes[0] < GROWTH, [size / 2**20 for size in sizes]
    print(f"{len(lines)} requests in {seconds:.0f} s; {sizes[0] / 2**20:.0f} to {sizes[1] / 2**20:.0f} MB")
