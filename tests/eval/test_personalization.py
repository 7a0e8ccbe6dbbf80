"""What was learned of a subject is taken from its files in a second pass, in a family whose denoiser is no U-Net."""

import pytest
import torch

from tests import families
from tests.drawings import same
from vilex.baselines.tuning import TuningSettings
from vilex.encoder import ViLexEncoder
from vilex.errors import InputError
from vilex.eval import personalization
from vilex.eval.dreambooth_data import Photo, Subject
from vilex.eval.personalization import dreambooth_lora, read_seconds, textual_inversion
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i

QUICK = TuningSettings(steps=2, lr=3e-2, batch_size=1)


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return families.flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture
def lexicon(flux, tower_folder):
    t2i = load_t2i(flux)
    encoder = ViLexEncoder.from_tower(str(tower_folder), width=t2i.width, num_tokens=4, blocks=1, heads=1)
    return VisualLexicon(encoder, t2i)


@pytest.fixture
def subject(images):
    return Subject("rex", "dog", tuple(Photo.checked(images / f"{i}.png", str(i)) for i in range(2)))


@pytest.mark.parametrize(
    ("make", "tuner", "prompt"),
    [(dreambooth_lora, "tuned", "sks dog"), (textual_inversion, "invert", "<subject>")],
    ids=["dreambooth", "textual-inversion"],
)
def test_a_second_pass_learns_nothing_and_draws_the_same(lexicon, subject, make, tuner, prompt, tmp_path, monkeypatch):
    drawn, plain = [], lexicon.generate("sks dog", steps=2, scheduler="euler")[0]
    for _ in range(2):
        with make(QUICK).learn(lexicon, subject, tmp_path) as tokens:
            drawn.append(lexicon.generate(prompt, tokens, steps=2, scheduler="euler")[0])
        monkeypatch.setattr(personalization, tuner, lambda *given, **more: pytest.fail("learned again"))
    assert same(*drawn) and not same(drawn[0], plain, within=0) and read_seconds(tmp_path) > 0
    assert same(lexicon.generate("sks dog", steps=2, scheduler="euler")[0], plain)
    assert not list(tmp_path.glob(".*"))


def test_what_was_not_learned_to_the_end_is_learned_again(lexicon, subject, tmp_path, monkeypatch):
    word = textual_inversion(QUICK)
    monkeypatch.setattr(personalization, "write_seconds", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), word.learn(lexicon, subject, tmp_path):
        pass
    monkeypatch.undo()
    with word.learn(lexicon, subject, tmp_path) as tokens:
        assert tokens["subject"].shape == (1, lexicon.t2i.width) and torch.isfinite(tokens["subject"]).all()
    (tmp_path / "word.safetensors").write_bytes(b"broken")
    with (
        pytest.raises(InputError, match=r"word\.safetensors: no readable word"),
        word.learn(lexicon, subject, tmp_path),
    ):
        pass
