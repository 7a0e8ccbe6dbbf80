import pytest


@pytest.fixture
def folder(tmp_path, pictures):
    (tmp_path / "below").mkdir()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "below" / f"{i}.png")
    (tmp_path / "below" / "3.txt").write_text("a cat\n\na red dog\n")
    (tmp_path / "below" / "4.json").write_text('{"caption": "a skull", "width": 32}')
    (tmp_path / "below" / "metadata.jsonl").write_text(
        '{"file_name": "5.png", "text": "a fox"}\n\n{"file_name": "3.png", "text": "overruled"}\n'
    )
    return tmp_path
