"""The raters' pages over HTTP: nothing lost, nothing revealed, nothing else given out."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.study.conftest import METHODS, answer_all, sensible
from tests.visitors import visitor
from vilex.errors import InputError
from vilex.study.answer_store import Answers
from vilex.study.dealing import Deal
from vilex.study.rating import rating_server
from vilex.study.wording import Wording

ROOT = Path(__file__).parents[2]


@pytest.fixture
def address(study):
    with rating_server(study) as address:
        yield address


def client_of(address):
    return visitor(address, follow_redirects=True)


def join(client):
    page = client.post("/join", data={"agree": "yes"})
    assert page.status_code == 200
    return page


def question(page):
    """(trial, criterion) that a page asks, or None."""
    found = re.search(r'name="trial" value="(\d+)">.*?name="criterion" value="(\w+)"', page.text)
    return found and (int(found[1]), found[2])


def reply(client, page, choice="left", **more):
    trial, criterion = question(page)
    fields = {"trial": trial, "criterion": criterion, "choice": choice, "seconds": "1.5", **more}
    return client.post(page.url, data=fields)


def test_a_rater_goes_from_consent_to_thanks_and_every_answer_is_kept(study, address):
    with client_of(address) as client:
        page = client.get("/")
        assert Wording().consent[:40] in page.text and question(page) is None
        assert question(client.post("/join", data={})) is None and not Answers(study).raters()  # no consent
        page = join(client)
        for trial in range(13):
            for criterion in ("semantic", "style", "layout"):
                assert question(page) == (trial, criterion)
                page = reply(client, page)
                (rater,) = Answers(study).raters()
                last = Answers(study).of(rater)[-1]
                assert (last.trial, last.criterion, last.choice, last.seconds) == (trial, criterion, "left", 1.5)
        assert Wording().done in page.text


def test_a_link_resumes_elsewhere_and_an_answer_given_twice_counts_once(study, address):
    with client_of(address) as client:
        page = join(client)
        asked = question(page)
        page = reply(client, page)
        again = client.post(page.url, data={"trial": asked[0], "criterion": asked[1], "choice": "right", "seconds": ""})
        assert question(again) == question(page)
    with client_of(address) as other:
        assert question(other.get(page.url)) == question(page)
    (rater,) = Answers(study).raters()
    assert [one.choice for one in Answers(study).of(rater)] == ["left"]


def test_thirty_raters_at_once(make):
    study = make(raters=30, deal=Deal(4, 1, 1, 0))
    start = threading.Barrier(30)

    def rate(number):
        with client_of(address) as client:
            start.wait()
            page = join(client)
            while question(page):
                page = reply(client, page, "left" if number % 2 else "right", seconds=f"{number}.25")
            return Wording().done in page.text

    with rating_server(study) as address, ThreadPoolExecutor(30) as pool:
        assert all(pool.map(rate, range(30)))
    answers = Answers(study)
    raters = answers.raters()
    assert sorted(rater.slot for rater in raters) == list(range(30))
    seen = set()
    for rater in raters:
        given = answers.of(rater)
        assert [(one.trial, one.criterion) for one in given] == [
            (trial, criterion) for trial in range(6) for criterion in ("semantic", "style", "layout")
        ]
        assert len({(one.choice, one.seconds) for one in given}) == 1  # all of one rater, none mixed up
        seen.add(given[0].seconds)
    assert len(seen) == 30


def test_a_server_that_is_killed_loses_nothing(study):
    code = (
        "import sys, threading; from pathlib import Path; from vilex.study.design import Study\n"
        "from vilex.study.rating import rating_server\n"
        "with rating_server(Study.open(Path(sys.argv[1]))) as address: print(address, flush=True); "
        "threading.Event().wait()"
    )

    def served():
        process = subprocess.Popen([sys.executable, "-c", code, str(study.folder)], stdout=subprocess.PIPE, text=True,
                                   cwd=ROOT, env={**os.environ, "PYTHONPATH": "src"})  # fmt: skip
        return process, process.stdout.readline().strip()

    process, address = served()
    with client_of(address) as client:
        page = join(client)
        for _ in range(7):
            page = reply(client, page)
        os.kill(process.pid, signal.SIGKILL)  # after the page went on, and at once
        process.wait()
    (rater,) = Answers(study).raters()
    assert len(Answers(study).of(rater)) == 7
    process, address = served()
    try:
        with client_of(address) as client:
            assert question(client.get(page.url.path)) == question(page)
    finally:
        process.kill()
        process.wait()


def test_the_log_is_written_ahead_and_waits_for_the_disk(study):
    with Answers(study)._open() as base:
        assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert base.execute("PRAGMA synchronous").fetchone() == (2,)


def test_nothing_a_rater_gets_names_a_method(study, address):
    with client_of(address) as client:
        page = join(client)
        everything = []
        for place in ("", "/answers.json", "/delete"):
            everything.append(client.get(f"{page.url.path}{place}"))
        everything += [client.get("/"), client.get("/keys.js"), client.get("/style.css"), client.get("/nowhere")]
        for name in study.design.pictures:
            picture = client.get(f"/p/{name}")
            assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"
            assert b"tEXt" not in picture.content and b"iTXt" not in picture.content
            everything.append(picture)
        for answer in everything:
            said = answer.content + repr(answer.headers).encode() + str(answer.url).encode()
            for word in (*METHODS, *study.design.sources, str(study.folder)):
                assert word.encode() not in said


def test_nothing_is_asked_of_other_servers_and_pages_stay_where_they_are(address):
    with client_of(address) as client:
        page = join(client)
        for answer in (client.get("/"), page):
            assert "http" not in answer.text and "//" not in answer.text.replace("<!doctype", "")
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["/p/../design.json", "/p/..%2fdesign.json", "/p/%2e%2e/design.json", "/p/%2e%2e%2fanswers.sqlite", "/design.json",
     "/p//etc/passwd", "/p/%2fetc%2fpasswd", "/answers.sqlite", "/p/..%5cdesign.json", "/p/.", "/p/%00", "/r/../../x"],
)  # fmt: skip
def test_no_other_file_is_given_out(address, path):
    with httpx.Client() as client:
        url = httpx.URL(address).copy_with(raw_path=path.encode())
        answer = client.get(url)
    assert answer.status_code == 404 and "secret" not in answer.text and "root:" not in answer.text


def test_what_no_page_sends_is_refused_and_kept_from_the_answers(study, address):
    with client_of(address) as client:
        page = join(client)
        good = {"trial": "0", "criterion": "semantic", "choice": "left"}
        for wrong in ({"trial": "99"}, {"trial": "-1"}, {"trial": "x"}, {"criterion": "beauty"}, {"choice": "tie"},
                      {"choice": "both"}, {"choice": ""}, {"seconds": "1" * 3000}):  # fmt: skip
            answer = client.post(page.url, data={**good, **wrong})
            assert answer.status_code == 400 and str(study.folder) not in answer.text
        for seconds in ("nan", "inf", "-1", "1e300", "x"):
            client.post(page.url, data={**good, "seconds": seconds})
        assert client.post("/r/nobody", data=good).status_code == 404
        assert client.post(f"{page.url}/answers.json").status_code == 405
    (given,) = Answers(study).all()
    assert given.seconds is None


def test_a_rater_can_take_answers_along_and_delete_them(study, address):
    with client_of(address) as client, client_of(address) as other:
        page, kept = join(client), join(other)
        page, kept = reply(client, page), reply(other, kept)
        (given,) = json.loads(client.get(f"{page.url.path}/answers.json").text)["answers"]
        assert (given["criterion"], given["choice"]) == ("semantic", "left")
        assert {given["source"], given["left"], given["right"]} <= study.design.pictures
        assert Wording().withdraw_sure in client.get(f"{page.url.path}/delete").text
        assert len(Answers(study).all()) == 2
        assert Wording().withdrawn in client.post(f"{page.url.path}/delete").text
        assert client.get(page.url).status_code == 404 and client.post(page.url, data={}).status_code == 404
        assert len(Answers(study).all()) == 1
        token = page.url.path.split("/")[-1].encode()
    content = b"".join(path.read_bytes() for path in study.folder.glob("answers.sqlite*"))
    assert token not in content and kept.url.path.split("/")[-1].encode() in content


def test_the_study_is_full_when_enough_have_finished(make):
    study = make(raters=2, deal=Deal(2, 0, 0, 0))
    answers = Answers(study)
    for _ in range(2):
        answer_all(answers, answers.join(), sensible)
    with rating_server(study) as address, client_of(address) as client:
        assert Wording().full in join(client).text
    assert len(answers.raters()) == 2


def test_who_answered_nothing_for_an_hour_gives_the_place_back(make):
    study = make(raters=2, deal=Deal(2, 0, 0, 0))
    answers = Answers(study)
    idle, active = answers.join(), answers.join()
    answers.add(active, 0, "semantic", "left")
    with sqlite3.connect(study.folder / "answers.sqlite") as base:
        base.execute("UPDATE rater SET joined = joined - 4000")
    new = answers.join()
    assert new.slot == idle.slot and new.number > active.number
    assert not answers.add(idle, 0, "semantic", "left") and answers.find(idle.token) is None


def test_another_language_is_one_file(make):
    wording = Wording(language="he", direction="rtl", start="<b>התחל</b>", progress="{all} / {done}")
    study = make(wording=wording, ties=True)
    with rating_server(study) as address, client_of(address) as client:
        page = client.get("/")
        assert '<html lang="he" dir="rtl">' in page.text and "&lt;b&gt;התחל&lt;/b&gt;" in page.text
        page = join(client)
        assert "39 / 0" in page.text and Wording().tie in page.text
        assert question(reply(client, page, "tie"))


def test_a_port_that_is_taken_is_one_line(study, address):
    port = urllib.parse.urlsplit(address).port
    with pytest.raises(InputError, match=rf"^--port {port}: cannot listen at 127"), rating_server(study, port=port):
        pass


def test_a_missing_picture_is_found_before_anybody_comes(study):
    gone = next((study.folder / "pictures").glob("*.png"))
    gone.unlink()
    with pytest.raises(InputError, match=r"\.png: is missing; put it back"), rating_server(study):
        pass
