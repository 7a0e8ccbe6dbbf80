"""One job at a time, its progress, and its end."""

import re
import time
from threading import Event, Thread

import pytest

from vilex.app.desk import Desk, Stopped


def test_progress_counts_the_steps_of_all_parts():
    said = []
    with Desk().job("page", lambda done, **more: said.append((done, more["desc"])), 2) as job:
        for title in ("a", "b"):
            with job.part(title) as on_step:
                on_step(1, 2)
                on_step(2, 2)
    assert said == [((1, 4), "a"), ((2, 4), "a"), ((3, 4), "b"), ((4, 4), "b")]


def test_a_stop_ends_the_page_s_own_job_at_its_next_step():
    desk, reached, caught = Desk(), Event(), []

    def work():
        try:
            with desk.job("mine", lambda *_, **__: None, 1) as job, job.part("x") as on_step:
                for step in range(100_000):
                    on_step(step, 100_000)
                    reached.set()
                    time.sleep(0.001)
        except Stopped as stopped:
            caught.append(str(stopped))

    thread = Thread(target=work)
    thread.start()
    assert reached.wait(10)
    assert not desk.stop("another", 0)
    assert desk.stop("mine")
    thread.join(10)
    assert len(caught) == 1 and re.fullmatch(r"Stopped at step \d{1,4} of 100000", caught[0])
    assert not desk.stop("mine"), "it has ended"
    assert desk.device.acquire(blocking=False), "the device is free"


def test_one_part_at_a_time_holds_the_device():
    desk, inside, seen = Desk(), [], []

    def work(page):
        with desk.job(page, lambda *_, **__: None, 20) as job:
            for _ in range(20):
                with job.part(page):
                    inside.append(page)
                    seen.append(len(inside))
                    inside.remove(page)

    threads = [Thread(target=work, args=(f"page{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 160 and set(seen) == {1}


def test_the_device_is_free_after_a_failure():
    desk = Desk()
    with pytest.raises(ValueError), desk.job("page", lambda *_, **__: None, 1) as job, job.part("x"):
        raise ValueError
    assert desk.device.acquire(blocking=False) and not desk.stop("page")
