"""The app as programs use it: gradio_client, on the embedded model."""

import json
import re
import time

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.drawings import same
from vilex.cli.reconstruction import reconstruct_at
from vilex.guidance import Guidance
from vilex.hub.folder import file_hash
from vilex.pictures.load import load_image
from vilex.tokens import load_tokens, save_tokens


@pytest.fixture
def program(address, tmp_path):
    return Client(address, verbose=False, download_files=tmp_path / "downloads")


def pictures(gallery):
    opened = [Image.open(item["image"]) for item in gallery]
    return [one.convert("RGB") for one in opened], [json.loads(one.text["vilex"]) for one in opened]


def captions(gallery):
    return [item["caption"] for item in gallery]


def test_every_endpoint_has_a_name_and_says_what_it_does(program):
    named = program.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {
        "/recreate", "/compose", "/sweep", "/check", "/mix", "/average", "/save_tokens", "/leave_one_out",
        "/nearest_words", "/stop", "/example_cat", "/example_dog", "/example_heart",
    }  # fmt: skip
    for name, endpoint in named.items():
        assert endpoint["description"], name
        assert not any(re.search(r"param_\d|parameter_\d", one["parameter_name"]) for one in endpoint["parameters"])
    assert program.view_api(return_format="dict")["unnamed_endpoints"] == {}


def test_recreate_is_the_command_line_s_and_carries_its_settings(program, nano, dog):
    gallery, said = program.predict(handle_file(dog), 2, 2, 3.0, 3, 2, 5, api_name="/recreate")
    assert said == "10 pictures."
    row = ["1 token", "2 tokens", "4 tokens", "16 tokens", "75 tokens"]
    assert captions(gallery) == [f"{one}, seed {seed}" if one else "source" for seed in (5, 6) for one in ["", *row]]
    drawn, settings = pictures(gallery)
    expected = reconstruct_at(nano, load_image(dog), [16], 2, guidance=Guidance(3.0), seed=5, steps=3)[16]
    for k, at in enumerate((4, 10)):
        assert same(drawn[at], expected[k].resize((128, 128), Image.Resampling.LANCZOS))
        assert settings[at] == {
            "command": "reconstruct", "source": "dog.png", "source_sha256": file_hash(dog), "tokens": 16, "cfg": 3.0,
            "steps": 3, "scheduler": "dpm++", "scale": 2, "seed": 5 + k, "model": "nano", "base": "t2i",
        }  # fmt: skip


def test_compose_is_the_library_s(program, nano, dog, butterfly):
    gallery, said = program.predict(
        "<one:4> and <two> in the snow", "red", 2.0, 4.0, 3, 1, 7, 2, picture_1=handle_file(dog), weight_1=0.5,
        picture_3=handle_file(butterfly), name_3="two", tokens_3=2, api_name="/compose",
    )  # fmt: skip
    assert said == "2 pictures." and captions(gallery) == ["TFG 4, seed 7", "TFG 4, seed 8"]
    drawn, settings = pictures(gallery)
    expected = nano.generate(
        "<one:4> and <two:2> in the snow", {"one": dog, "two": butterfly}, weights={"one": 0.5}, negative="red",
        guidance=Guidance(2.0, 4.0), num_images=2, seed=7, steps=3,
    )  # fmt: skip
    assert all(same(*pair) for pair in zip(drawn, expected, strict=True))
    assert settings[1]["prompt"] == "<one:4> and <two:2> in the snow" and settings[1]["seed"] == 8
    assert settings[1]["images"] == {"one": "dog.png", "two": "butterfly.png"}
    assert settings[1]["image_sha256"] == {"one": file_hash(dog), "two": file_hash(butterfly)}
    assert (settings[1]["weights"], settings[1]["tfg"]) == ({"one": 0.5, "two": 1.0}, 4.0)


def test_a_start_and_a_painted_mask(program, dog, butterfly):
    from tests.app.test_mask import painted

    start = load_image(butterfly)
    gallery, _ = program.predict(
        "<one:16>", "", 2.0, 2.0, 6, 1, 0, 1, start=handle_file(butterfly), mask=painted(start.size), strength=1.0,
        picture_1=handle_file(dog), api_name="/compose",
    )  # fmt: skip
    (drawn,), (settings,) = pictures(gallery)
    changed = np.abs(np.asarray(drawn).astype(int) - np.asarray(start.resize(drawn.size))).mean((0, 2))
    assert changed[:28].mean() > 3 * changed[36:].mean()
    assert (settings["start"], settings["mask"], settings["strength"]) == ("butterfly.png", "painted", 1.0)


def test_the_sweep_is_one_picture_a_weight(program, dog):
    gallery, said = program.predict("<one:4> in the snow", steps=2, picture_1=handle_file(dog), api_name="/sweep")
    assert captions(gallery) == [f"TFG {weight}, seed 0" for weight in (0, 1, 2, 4, 8)] and said == "5 pictures."
    drawn, settings = pictures(gallery)
    assert [one["tfg"] for one in settings] == [0, 1, 2, 4, 8]
    assert len({one.tobytes() for one in drawn}) == 5


def test_what_a_sentence_lacks_is_said_without_drawing(program, dog):
    said = program.predict("<one> on <two:80>", picture_1=handle_file(dog), api_name="/check")
    assert said == "<two> has no picture; give one that name, or take it out."
    assert program.predict("<one>", picture_1=handle_file(dog), api_name="/check") == "Nothing is lacking."
    with pytest.raises(AppError, match="<two> has no picture"):
        program.predict("<one> on <two>", picture_1=handle_file(dog), api_name="/compose")


def test_a_mix_begins_and_ends_with_the_pictures(program, nano, dog, butterfly):
    gallery, _ = program.predict(
        handle_file(dog), handle_file(butterfly), 3, 75, 3.0, 3, 1, 2, api_name="/mix"
    )  # fmt: skip
    assert captions(gallery) == ["0% of the second", "50% of the second", "100% of the second"]
    drawn, settings = pictures(gallery)
    for picture, path in ((drawn[0], dog), (drawn[2], butterfly)):
        assert same(picture, nano.reconstruct([path], guidance=Guidance(3.0), seed=2, steps=3)[0], 3)
    assert settings[1]["slerp"] == 0.5 and settings[1]["images"] == {"dog": "dog.png", "butterfly": "butterfly.png"}


def test_tokens_are_saved_and_read_again(program, nano, dog, butterfly):
    path = program.predict(handle_file(dog), handle_file(butterfly), 16, api_name="/save_tokens")
    kept = load_tokens(path)
    assert np.allclose(kept.tokens["dog"], nano.encode([dog], 16)[0], atol=1e-5)
    assert kept.provenance["dog"]["sha256"] == file_hash(dog)
    how = {"tokens": 16, "steps": 2, "scale": 1}
    of_files, _ = program.predict(None, None, more=[handle_file(path)], **how, api_name="/average")
    of_pictures, _ = program.predict(handle_file(dog), handle_file(butterfly), **how, api_name="/average")
    assert same(pictures(of_files)[0][0], pictures(of_pictures)[0][0])
    alone, _ = program.predict(handle_file(dog), handle_file(butterfly), weights="1, 0", **how, api_name="/average")
    assert same(pictures(alone)[0][0], nano.reconstruct([dog], 16, steps=2)[0])


@pytest.mark.parametrize(
    ("name", "tokens", "line"),
    [
        ("wide", {"a": (4, 7)}, r"wide.safetensors#a: expected tokens \[n, 192\] of one image, got \[4, 7\]"),
        ("flat", {"a": (4,)}, r"expected tokens"),
        ("none", {"a": (0, 192)}, "expected tokens"),
        ("many", {f"a{i:02}": (1, 192) for i in range(30)}, "30 pictures; at most 12"),
    ],
)
def test_token_files_that_do_not_fit_are_one_line(program, tmp_path, name, tokens, line):
    import torch

    path = tmp_path / f"{name}.safetensors"
    save_tokens(path, {one: torch.zeros(shape) for one, shape in tokens.items()}, {})
    with pytest.raises(AppError, match=line):
        program.predict(None, None, more=[handle_file(path)], steps=1, api_name="/average")


def test_tokens_of_another_encoder_are_one_line(program, nano, tmp_path, monkeypatch):
    import torch

    from vilex.app import mix

    path, said = tmp_path / "theirs.safetensors", []
    monkeypatch.setattr(mix.gr, "Warning", lambda line, title: said.append((title, line)))
    save_tokens(path, {"a": torch.ones(4, 192)}, {"a": {"encoder_sha256": "0123456789abcdef"}})
    line = r"^theirs.safetensors#a: tokens of another encoder \(0123456789ab, not [0-9a-f]{12}\); encode the image with"
    for endpoint, more in (("/average", {"steps": 1}), ("/save_tokens", {})):
        with pytest.raises(AppError, match=line):
            program.predict(None, None, more=[handle_file(path)], **more, api_name=endpoint)
    save_tokens(path, {"a": torch.ones(4, 192)}, {"a": {"encoder_sha256": nano.encoder_sha256}})
    kept = load_tokens(program.predict(None, None, more=[handle_file(path)], api_name="/save_tokens"))
    assert kept.provenance["a"]["encoder_sha256"] == nano.encoder_sha256 and said == []
    save_tokens(path, {"a": torch.ones(4, 192)}, {})
    program.predict(None, None, more=[handle_file(path), handle_file(path)], api_name="/save_tokens")
    line = "theirs.safetensors#a: says not which encoder made it, and is used as this one's"
    assert said == [("Tokens of unknown origin", line)] * 2


def test_tokens_that_are_left_out(program, nano, dog):
    gallery, _ = program.predict(handle_file(dog), 4, 0, 3.0, 3, 1, 0, api_name="/leave_one_out")
    drawn, settings = pictures(gallery)
    assert len(drawn) == 5 and [one.get("left_out") for one in settings] == [None, 1, 2, 3, 4]
    code = nano.encode([dog], 4)[0]
    expected = nano.generate("<it>", {"it": code[[0, 1, 3]]}, steps=3)[0]
    assert same(drawn[3], expected)
    one, _ = program.predict(handle_file(dog), 4, 3, 3.0, 3, 1, 0, api_name="/leave_one_out")
    assert len(one) == 2 and same(pictures(one)[0][1], expected)
    share = np.abs(np.asarray(drawn[0]).astype(float) - np.asarray(drawn[3])).mean() / 255
    assert captions(gallery)[3] == f"without 3: {share:.1%} differs"
    for tokens, left_out, line in ((4, 5, "token 5 is not among the first 4"), (1, 0, "nothing would be left")):
        with pytest.raises(AppError, match=line):
            program.predict(handle_file(dog), tokens, left_out, api_name="/leave_one_out")


def test_nearest_words_are_a_row_a_token(program, dog):
    rows = program.predict(handle_file(dog), 5, api_name="/nearest_words")["data"]
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5]
    assert all(re.fullmatch(r"\S+ \(\d\.\d\d\), \S+ \(\d\.\d\d\), \S+ \(\d\.\d\d\)", row[1]) for row in rows)


def test_examples_are_made_on_first_use_and_then_kept(program):
    began = time.perf_counter()
    first = program.predict(api_name="/example_cat")
    middle = time.perf_counter()
    again = program.predict(api_name="/example_cat")
    assert Image.open(first).tobytes() == Image.open(again).tobytes()
    assert time.perf_counter() - middle < middle - began
    assert json.loads(Image.open(first).text["vilex"])["prompt"] == "a cat on grass"


def test_pictures_of_another_size_are_the_library_s(program, nano, dog):
    gallery, said = program.predict(
        "<one:4> in the snow", steps=3, scale=1, width=130, height=62, picture_1=handle_file(dog), api_name="/compose"
    )
    assert said == (
        "1 picture. Width: 130 is out of 32 to 128, 128 is taken. Height: 62 is no multiple of 8, 64 is taken."
    )
    (drawn,), (settings,) = pictures(gallery)
    (expected,) = nano.generate(
        "<one:4> in the snow", {"one": dog}, guidance=Guidance(2.0, 4.0), steps=3, width=128, height=64
    )
    assert drawn.size == (128, 64) and same(drawn, expected) and settings["size"] == [128, 64]


def test_numbers_are_held_on_the_server_and_said(program, dog):
    gallery, said = program.predict(handle_file(dog), 999, 1, -5, 1, 99, 2**40, api_name="/recreate")
    assert said == (
        "4 pictures. One more number of tokens: 999 is out of 0 to 75, 75 is taken. "
        "CFG: -5 is out of 0 to 20, 0 is taken. Scale: 99 is out of 1 to 16, 16 is taken. "
        "Seed: 1.09951e+12 is out of 0 to 4.29497e+09, 4.29497e+09 is taken."
    )
    drawn, settings = pictures(gallery)
    assert drawn[0].size == (1024, 1024) and settings[1]["seed"] == 2**32 - 1
    with pytest.raises(AppError, match="Steps: expected a number from 1 to 100, got 'all'"):
        program.predict(handle_file(dog), 0, 1, 3, "all", 1, 0, api_name="/recreate")


def test_progress_is_by_step_and_a_stop_stops(program, dog):
    job = program.submit(handle_file(dog), 0, 4, 3.0, 100, 1, 0, api_name="/recreate")
    seen = set()
    while not any(step > 3 for step, _ in seen):
        for unit in job.status().progress_data or []:
            seen.add((unit.index, unit.length))
            assert unit.unit == "steps"
        time.sleep(0.02)
    assert {total for _, total in seen} == {400}
    assert program.predict(api_name="/stop") == "Stopped. What was finished is kept."
    gallery, said = job.result(timeout=60)
    assert gallery == [] and re.fullmatch(r"Stopped at step \d+ of 400. No picture before that.", said)
    assert program.predict(api_name="/stop") == "Nothing is being drawn."


def test_another_page_s_stop_stops_nothing(program, address, dog, tmp_path):
    job = program.submit(handle_file(dog), 0, 1, 3.0, 30, 1, 0, api_name="/recreate")
    other = Client(address, verbose=False, download_files=tmp_path / "downloads")
    assert other.predict(api_name="/stop") == "Nothing is being drawn."
    assert job.result(timeout=60)[1] == "4 pictures."


def test_a_full_queue_says_so_and_one_job_runs_at_a_time(studio, address, dog, monkeypatch, tmp_path):
    inside, most = [], []
    draw = studio.lexicon.generate

    def watched(*arguments, **more):
        inside.append(1)
        most.append(len(inside))
        try:
            return draw(*arguments, **more)
        finally:
            inside.pop()

    monkeypatch.setattr(studio.lexicon, "generate", watched)
    visitors = [Client(address, verbose=False, download_files=tmp_path / "downloads") for _ in range(7)]
    with studio.desk.device:  # a long job
        jobs = []
        for visitor in visitors:
            jobs.append(visitor.submit(handle_file(dog), 0, 1, 3, 4, 1, 0, api_name="/recreate"))
            time.sleep(0.3)
    lines = [outcome(job) for job in jobs]
    assert lines[:4] == ["4 pictures."] * 4 and most == [1] * 4
    assert all("Queue is full" in line for line in lines[4:]), lines


def outcome(job):
    try:
        return job.result(timeout=60)[1]
    except Exception as error:
        return str(error)
