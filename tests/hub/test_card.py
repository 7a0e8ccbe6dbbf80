import pytest

from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.errors import InputError
from vilex.hub.card import card_for, write_card


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


def test_a_written_card_is_written_anew_for_another_repository(tmp_path, model_folder):
    encoder = ViLexEncoder(ViLexConfig(**{**ViLexConfig.from_pretrained(model_folder).to_dict(), "num_tokens": 8}))
    encoder.config.base_model = "someone/base"
    encoder.save_pretrained(tmp_path)
    assert "# first" in write_card(tmp_path, "me/first").read_text()
    card = write_card(tmp_path, "you/second").read_text()
    assert "# second" in card and "first" not in card and 'from_pretrained("you/second")' in card
    assert '"<cat:8> in the snow"' in card and "# [1, 8, 32]" in card and "1 to 8 tokens" in card


@pytest.mark.parametrize(
    "name", ["", "me", "me/", "/me", "a/b/c", "me/my lexicon", "me/../x", "-a/b", "me/x" + "y" * 99]
)
def test_names_of_repositories(model_folder, name):
    with pytest.raises(InputError, match="expected a repository's name, OWNER/NAME"):
        card_for(model_folder, name)
