import os
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import numpy as np
import pytest

from tests.data.samples import numbered, open_one, png, write_shards, write_tar
from vilex.data.example import CaptionedImage
from vilex.data.streamed import Lane, Place
from vilex.errors import InputError


class TestShards:
    @pytest.mark.parametrize(("caption", "suffix"), [("txt", "tar"), ("json", "tar"), ("txt", "tar.gz")])
    def test_samples(self, tmp_path, caption, suffix):
        write_shards(tmp_path, [3, 2], caption, suffix)
        source = open_one(path=str(tmp_path / f"*.{suffix}"))
        examples = [raw() for shard in range(2) for raw in source.read(shard)]
        assert [example.captions for example in examples] == [(f"number {i}",) for i in range(5)]
        assert np.asarray(examples[4].image)[0, 0].tolist() == [4, 0, 77]

    def test_from_a_pipe_and_over_http(self, tmp_path):
        write_shards(tmp_path, [2, 2])
        piped = open_one(path=f"pipe:cat {tmp_path}/{{000..001}}.tar", allow_pipe=True)
        assert len(piped.shards) == 2 and len(list(piped.read(1))) == 2
        handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        handler.log_message = lambda *_: None
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}"
            fetched = open_one(path=f"{address}/{{000..001}}.tar")
            assert [raw().captions for raw in fetched.read(1)] == [("number 2",), ("number 3",)]
            missing = Lane(open_one(path=f"{address}/none.tar"), 0, 1, seed=0, chunk=4)
            assert "none.tar: broken shard" in str(next(iter(missing)))
            server.shutdown()

    def test_a_broken_shard_and_a_broken_image_are_named_and_the_rest_goes_on(self, tmp_path):
        write_shards(tmp_path, [4, 4, 4])
        whole = (tmp_path / "001.tar").read_bytes()
        (tmp_path / "001.tar").write_bytes(whole[: len(whole) // 2 + 200])
        content = (tmp_path / "002.tar").read_bytes()
        (tmp_path / "002.tar").write_bytes(content.replace(b"IHDR", b"XXXX", 1))
        found = list(islice(iter(Lane(open_one(path=str(tmp_path)), 0, 1, seed=0, chunk=10)), 11))
        good = [e.captions[0] for e in found if isinstance(e, CaptionedImage)]
        bad = sorted(str(e) for e in found if isinstance(e, InputError))
        assert len(good) == len(set(good)) == 9 and len(bad) == 2
        assert "001.tar: broken shard" in bad[0] and "002.tar 00008: not a readable image" in bad[1]

    def test_empty_shards_do_not_hang(self, tmp_path):
        write_shards(tmp_path, [0, 0])
        lane = iter(Lane(open_one(path=str(tmp_path)), 0, 1, seed=0, chunk=10))
        assert "no samples in any" in str(next(lane)) and "no samples in any" in str(next(lane))


def read(path):
    """Samples by name: what picture, which captions; errors as they are."""
    source, found = open_one(path=str(path)), {}
    for raw in source.read(0):
        example = raw if isinstance(raw, InputError) else raw()
        if isinstance(example, InputError):
            found[len(found)] = str(example)
        else:
            found[example.name] = int(np.asarray(example.image)[0, 0, 0]), example.captions
    return found


def test_numbers_behind_the_first_dot_make_samples(tmp_path):
    members = {"photo 2.0.jpg": 0, "photo 2.0.txt": b"zero", "photo 2.1.jpg": 100, "photo 2.1.txt": b"one"}
    content = {name: value if isinstance(value, bytes) else png(numbered(value)) for name, value in members.items()}
    write_tar(tmp_path / "a.tar", content)
    assert read(tmp_path / "a.tar") == {"photo 2.0": (0, ("zero",)), "photo 2.1": (100, ("one",))}
    write_tar(tmp_path / "a.tar", {name: one for name, one in content.items() if name.endswith("jpg")})
    assert read(tmp_path / "a.tar") == {"photo 2.0": (0, ()), "photo 2.1": (100, ())}


@pytest.mark.parametrize("names", [("a.mask.png", "a.jpg", "a.txt"), ("a.txt", "a.jpg", "a.mask.png")])
def test_what_belongs_to_a_picture_is_none(tmp_path, names):
    numbers = {"a.mask.png": png(numbered(200)), "a.jpg": png(numbered(7)), "a.txt": "ein Käfer".encode("latin-1")}
    write_tar(tmp_path / "a.tar", {name: numbers[name] for name in names})
    assert read(tmp_path / "a.tar") == {"a": (7, ("ein Käfer",))}


def test_captions_may_keep_the_suffix_of_their_picture(tmp_path):
    members = {"a.jpg": png(numbered(7)), "a.jpg.txt": b"a cat", "b 1.0.png": png(numbered(9)), "b 1.0.png.txt": b"it"}
    write_tar(tmp_path / "a.tar", members)
    assert read(tmp_path / "a.tar") == {"a": (7, ("a cat",)), "b 1.0": (9, ("it",))}


def test_a_word_between_and_no_other_picture_is_the_picture(tmp_path):
    write_tar(tmp_path / "a.tar", {"v1.2/a.rgb.png": png(numbered(7)), "v1.2/a.json": b'{"caption": "it"}'})
    assert read(tmp_path / "a.tar") == {"v1.2/a": (7, ("it",))}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.rgb.png", "a.depth.png"), "a: several images, a.rgb, a.depth; name the picture a.jpg"),
        (("a.png", "a.jpg"), "a: two images, a.png and a.jpg"),
        (("a.0.png", "a.1.png", "a.txt"), "a: captions for several images, a.0, a.1"),
        (("a.txt",), "a: no image, only a.txt"),
    ],
)
def test_a_sample_that_is_not_one_picture_is_named_and_the_next_is_read(tmp_path, names, message):
    write_tar(tmp_path / "a.tar", {**{name: png(numbered(1)) for name in names}, "b.png": png(numbered(9))})
    first, *rest = read(tmp_path / "a.tar").values()
    assert f"a.tar {message}" in first and rest == [(9, ())]


def test_links_and_names_that_stand_twice_break_a_shard_by_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.LNKTYPE, "a.png"
        tar.addfile(link)
    lane = iter(Lane(open_one(path=str(tmp_path / "a.tar")), 0, 1, seed=0, chunk=4))
    assert "a.tar: broken shard" in (said := str(next(lane))) and "b.png is a link" in said


def test_names_that_are_not_utf8(tmp_path):
    write_tar(tmp_path / "a.tar", {os.fsdecode(b"caf\xe9.png"): png(numbered(3))})
    assert read(tmp_path / "a.tar") == {r"caf\udce9": (3, ())}


def test_a_round_of_all_readers_gives_every_sample_once_whatever_the_shards(tmp_path):
    write_shards(tmp_path, [16, 3, 29])
    source = open_one(path=str(tmp_path))
    for number in range(3):
        given = []
        for reader in range(2):
            lane = Lane(source, reader, 2, seed=0, chunk=5, place=Place(number))
            for example in lane:
                if lane.place.epoch > number:
                    break
                given.append(example.name)
        assert sorted(given) == [f"{i:05d}" for i in range(48)]


def test_ctrl_c_while_a_command_is_read_is_no_broken_shard(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    source = open_one(path="pipe:exit 3", allow_pipe=True)
    assert "its command ended with status 3" in str(next(iter(Lane(source, 0, 1, seed=0, chunk=4))))
    monkeypatch.setattr("vilex.data.tar._members", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(iter(Lane(source, 0, 1, seed=0, chunk=4)))
