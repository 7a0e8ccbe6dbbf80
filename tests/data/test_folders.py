import pytest

from tests.data.samples import numbered, open_one
from vilex.errors import InputError


class TestFolders:
    def test_captions_beside_and_in_metadata(self, folder):
        source = open_one(path=str(folder))
        assert len(source) == 8
        assert [source[i].captions for i in (0, 3, 4, 5)] == [(), ("a cat", "a red dog"), ("a skull",), ("a fox",)]

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("4.json", "{", "4.json: not valid JSON"),
            ("4.json", '{"caption": 3}', "4.json: 'caption': expected a text or a list of texts, got 3"),
        ],
    )
    def test_broken_captions_are_named(self, folder, name, content, message):
        (folder / "below" / name).write_text(content)
        with pytest.raises(InputError, match=message):
            open_one(path=str(folder))[4]

    def test_broken_metadata_is_named(self, folder):
        (folder / "below" / "metadata.jsonl").write_text('{"file": "5.png"}\n')
        with pytest.raises(InputError, match=r"metadata\.jsonl line 1: expected an object with 'file_name'"):
            open_one(path=str(folder))


def test_folders_that_links_lead_to_are_read_once(tmp_path):
    for name in ("here/a", "elsewhere/deep"):
        (tmp_path / name).mkdir(parents=True)
    for i, name in enumerate(("here/1.png", "here/a/2.png", "elsewhere/3.png", "elsewhere/deep/4.png")):
        numbered(i).save(tmp_path / name)
    (tmp_path / "here" / "._1.png").write_bytes(b"what macOS leaves")
    (tmp_path / "here" / "b").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "here" / "again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "here", target_is_directory=True)
    source = open_one(path=str(tmp_path / "here"))
    assert [source.name(i) for i in range(len(source))] == ["1.png", "a/2.png", "again/3.png", "again/deep/4.png"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("photo 2.0.txt", "a café".encode("latin-1")),
        ("photo 2.0.txt", "a café".encode("utf-8-sig")),
        ("photo 2.0.txt", "a café".encode("utf-16")),
        ("photo 2.0.TXT", "a café\r\n".encode()),
        ("photo 2.0.json", '{"caption": "a café"}'.encode("latin-1")),
        ("photo 2.0.json", '{"caption": "a café"}'.encode("utf-8-sig")),
        ("metadata.jsonl", '{"file_name": "./photo 2.0.png", "text": "a café"}\n'.encode("utf-8-sig")),
        ("metadata.jsonl", '{"file_name": "x/../photo 2.0.png", "text": "a café"}\n'.encode("latin-1")),
    ],
)
def test_captions_of_any_editor(tmp_path, name, content):
    numbered(0).save(tmp_path / "photo 2.0.png")
    numbered(1).save(tmp_path / "photo 2.1.png")
    (tmp_path / name).write_bytes(content)
    source = open_one(path=str(tmp_path))
    assert [source[i].captions for i in range(2)] == [("a café",), ()]


def test_an_image_of_several_lines_has_the_captions_of_all(tmp_path):
    for i in range(2):
        numbered(i).save(tmp_path / f"{i}.png")
    lines = [f'{{"file_name": "{i % 2}.png", "text": "caption {i}"}}\n' for i in range(5)]
    (tmp_path / "metadata.jsonl").write_text("".join(lines))
    source = open_one(path=str(tmp_path))
    assert source[0].captions == ("caption 0", "caption 2", "caption 4")
    assert source[1].captions == ("caption 1", "caption 3")


def test_captions_may_keep_the_suffix_of_their_image(tmp_path):
    numbered(0).save(tmp_path / "a.png")
    numbered(1).save(tmp_path / "b.png")
    (tmp_path / "a.png.txt").write_text("a cat")
    (tmp_path / "b.png.json").write_text('{"caption": "a dog"}')
    source = open_one(path=str(tmp_path))
    assert [(source[i].captions, source.has_captions(i)) for i in range(2)] == [(("a cat",), True), (("a dog",), True)]


def test_pictures_of_every_kind_that_is_read_are_found_and_others_warned_of(tmp_path):
    for name in ("a.ppm", "b.PGM", "c.jp2", "d.png", "e.tga"):
        numbered(0).save(tmp_path / name)
    with pytest.warns(UserWarning, match=r"1 pictures of kinds that are not read, .*e\.tga the first"):
        source = open_one(path=str(tmp_path))
    assert [source.name(i) for i in range(len(source)) if source[i].image.size == (16, 16)] == [
        "a.ppm", "b.PGM", "c.jp2", "d.png",
    ]  # fmt: skip


def test_captions_that_are_no_text_are_named(tmp_path):
    numbered(0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02")
    with pytest.raises(InputError, match=r"a\.txt: no text"):
        open_one(path=str(tmp_path))[0]


def test_a_caption_column_that_is_not_there_is_named_and_an_empty_one_reads_none(folder):
    (folder / "below" / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match=r"4\.json: no caption column 'promt', only caption, width"):
        open_one(path=str(folder), caption_column="promt")[4]
    (folder / "below" / "4.json").write_text("{")
    silent = open_one(path=str(folder), caption_column="")
    assert all(silent[i].captions == () for i in range(len(silent)))


def test_metadata_of_images_that_are_not_there_is_warned_of(folder):
    (folder / "below" / "metadata.jsonl").write_text('{"file_name": "5.pgn", "text": "a fox"}\n')
    with pytest.warns(UserWarning, match=r"metadata\.jsonl: 1 of its images are not there, 5\.pgn the first"):
        open_one(path=str(folder))
