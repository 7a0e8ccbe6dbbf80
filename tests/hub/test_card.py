import pytest

from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.hub.card import write_card


def test_the_card_says_what_the_configuration_says(tmp_path, model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    encoder.config.base_model, encoder.config.training = "someone/base@fp16", {"steps": 7, "images": 70}
    encoder.save_pretrained(tmp_path / "encoder")
    card = write_card(tmp_path / "encoder", "me/my-lexicon").read_text()
    assert card.startswith("---\n") and "base_model: someone/base\n" in card
    assert "# my-lexicon" in card and 'from_pretrained("me/my-lexicon")' in card and "# [1, 75, 32]" in card
    assert "| steps | 7 |" in card and next(iter(encoder.config.base_sha256.values())) in card
    (tmp_path / "encoder" / "README.md").write_text("mine")
    assert write_card(tmp_path / "encoder", "me/my-lexicon").read_text() == "mine"
    with pytest.raises(InputError, match="missing"):
        write_card(tmp_path, "me/my-lexicon")
