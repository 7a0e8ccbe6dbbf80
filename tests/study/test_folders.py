"""Which picture belongs to which source, as people and commands name them; and what is made of them."""

import hashlib
import json

import pytest
from PIL import Image

from vilex.errors import InputError
from vilex.eval.picture_store import folder_name
from vilex.study.design import Study, make_study
from vilex.study.folders import read_method, read_sources
from vilex.study.wording import Wording, load_wording, to_toml


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "sources").mkdir()
    for number, name in enumerate(("a", "b", "c")):
        Image.new("RGB", (8, 8), (number * 80, 0, 0)).save(tmp_path / "sources" / f"{name}.png")
    return read_sources(tmp_path / "sources")


def picture(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / name)


def test_by_name_of_any_suffix(tmp_path, sources):
    for name in ("a.jpg", "c.png", "other.png", ".b.png"):
        picture(tmp_path / "m", name)
    method = read_method(f"mine={tmp_path}/m", sources)
    assert method.name == "mine" and {key: path.name for key, path in method.pictures.items()} == {
        "a": "a.jpg", "c": "c.png",
    }  # fmt: skip


def test_by_the_manifest_of_reconstruct_one_number_of_tokens_at_a_time(tmp_path, sources):
    out, files = tmp_path / "out", []
    digest = hashlib.sha256((tmp_path / "sources" / "b.png").read_bytes()).hexdigest()
    for tokens in (4, 16):
        for seed in (1, 0):
            files.append({"file": f"x-{tokens}-{seed}.png", "source": "/elsewhere/renamed.png", "tokens": tokens,
                          "source_sha256": digest, "seed": seed})  # fmt: skip
            files.append({"file": f"a-{tokens}-{seed}.png", "source": "/elsewhere/a.png", "tokens": tokens,
                          "source_sha256": None, "seed": seed})  # fmt: skip
    files.append({"file": "a-grid.png", "source": "/elsewhere/a.png", "tokens": [4, 16]})
    for entry in files:
        picture(out, entry["file"])
    (out / "manifest.json").write_text(json.dumps({"files": files}))
    method = read_method(f"{out}#16", sources)
    assert method.name == "out 16"
    assert {key: path.name for key, path in method.pictures.items()} == {"a": "a-16-0.png", "b": "x-16-0.png"}
    with pytest.raises(InputError, match=r"holds pictures of 4, 16 tokens; name one, as in .*#16$"):
        read_method(str(out), sources)
    with pytest.raises(InputError, match=r"#9: holds pictures of 4, 16 tokens, not of 9$"):
        read_method(f"{out}#9", sources)


def test_by_the_manifest_of_generate(tmp_path, sources):
    picture(tmp_path / "g", "000.png")
    manifest = {"images": {"cat": "/elsewhere/c.png"}, "image_sha256": {}, "files": [{"file": "000.png", "seed": 0}]}
    (tmp_path / "g" / "manifest.json").write_text(json.dumps(manifest))
    assert list(read_method(str(tmp_path / "g"), sources).pictures) == ["c"]


def test_by_the_order_of_an_evaluation_where_words_are_part_of_a_name(tmp_path):
    store = tmp_path / "reconstruction"
    for key in ("k1", "k2"):
        picture(store / "pictures" / "source" / "0", f"{key}.png")
        picture(store / "pictures" / folder_name("16 tokens") / "1", f"{key}.png")
        picture(store / "pictures" / "caption" / "0", f"{key}-words.png")
    order = {"source": ["k1", "k2"], "16 tokens": ["k1", "k2"], "caption": ["k1-words", "k2-words"]}
    (store / "order.json").write_text(json.dumps(order))
    sources = read_sources(store / "pictures" / "source" / "0")
    for row in ("16-tokens", "caption", "caption/0"):
        method = read_method(str(store / "pictures" / row), sources)
        assert list(method.pictures) == ["k1", "k2"], row


def test_what_cannot_be_paired_is_one_line(tmp_path, sources):
    picture(tmp_path / "m", "z.png")
    with pytest.raises(InputError, match=r"m: holds no picture of the 3 sources; name each picture as its source is"):
        read_method(str(tmp_path / "m"), sources)
    with pytest.raises(InputError, match=r"nowhere: no folder; give \[NAME=\]FOLDER"):
        read_method(f"{tmp_path}/nowhere", sources)
    with pytest.raises(InputError, match=r"expected a number of tokens after '#'"):
        read_method(f"{tmp_path}/m#many", sources)
    picture(tmp_path / "sources", "a.jpg")
    with pytest.raises(InputError, match=r"two pictures are named 'a'"):
        read_sources(tmp_path / "sources")


def test_a_study_is_of_the_sources_that_all_methods_have(make, folders, tmp_path):
    study = make()
    assert study.design.sources == tuple(f"picture-{number}" for number in range(6))
    assert Study.open(study.folder) == study
    sources = read_sources(folders / "sources")
    method = read_method(str(folders / "secret-good"), sources)
    with pytest.raises(InputError, match=r"^two methods are named 'secret-good'; give each a name, as in NAME=FOLDER"):
        make_study(tmp_path / "x", [method, method], sources, study.design.plan)
    with pytest.raises(InputError, match=r"holds a study already; give another folder with -o, or --overwrite"):
        make()
    with pytest.raises(InputError, match=r"^--against nobody: no method has that name"):
        make(name="other", against="nobody")


def test_the_rest_of_a_text_is_english_and_all_of_it_comes_back(tmp_path):
    path = tmp_path / "de.toml"
    path.write_text('language = "de"\nstart = "Los"\n[question]\nstyle = "Welches Bild gleicht im *Stil* mehr?"\n')
    wording = load_wording(path)
    assert (wording.start, wording.tie, wording.question.layout) == ("Los", Wording().tie, Wording().question.layout)
    odd = Wording(title='"\\ \x01\x7f\n\tü', question=wording.question)
    path.write_text(to_toml(odd), encoding="utf-8")
    assert load_wording(path) == odd


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('strat = "x"', r"unknown key 'strat'; did you mean 'start'\?"),
        ('progress = "{done}"', r"progress: expected \{done\} and \{all\}"),
        ('progress = "{done} of {all"', r"progress: .*; write '\{done\} of \{all\}'"),
        ('direction = "up"', r"direction: expected 'ltr' or 'rtl', got 'up'"),
        ("start = 3", r"start: expected a text, got 3"),
    ],
)
def test_a_wrong_text_is_one_line(tmp_path, text, line):
    path = tmp_path / "text.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=line):
        load_wording(path)


def test_a_manifest_that_is_none_is_one_line(tmp_path, sources):
    picture(tmp_path / "m", "a.png")
    path = tmp_path / "m" / "manifest.json"
    for text, line in (("[]", "expected a JSON object"), ("{", "not valid JSON"), ("\ud800", "not valid JSON")):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(InputError, match=rf"manifest\.json: {line}; take it away, or make the pictures anew$"):
            read_method(str(tmp_path / "m"), sources)
