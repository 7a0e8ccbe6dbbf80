import pytest
import torch

from tests.runs import losses, same, weights
from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.encoder.dediffusion import COLD, WARM, WordPooler, gumbel
from vilex.errors import InputError
from vilex.lexicon import VisualLexicon
from vilex.t2i import load_t2i
from vilex.train.loop import train
from vilex.train.models import allowed_ids

WORDS = {"model": {"method": "de-diffusion"}, "objective": {"tail_drop": "off", "caption_share": 0.0}}


@pytest.fixture
def pooler():
    torch.manual_seed(0)
    shape = {"width": 32, "num_tokens": 6, "blocks": 1, "heads": 4, "mlp_ratio": 2, "vocabulary_size": 40}
    pooler = WordPooler(ViLexConfig(**shape), 16)
    table = torch.randn(40, 32) * 0.02 + 0.01
    pooler.match_vocabulary(table)
    pooler.set_vocabulary(table, range(1, 39))
    return pooler


def test_chooses_words_of_the_vocabulary_and_only_allowed_ones(pooler):
    patches = torch.randn(8, 4, 16)
    tokens = pooler(patches, 6)
    ids = pooler.score(patches, 6).argmax(-1)
    assert torch.equal(tokens, pooler.table[ids]) and ids.unique().numel() > 1
    pooler.set_vocabulary(pooler.table.clone(), sorted({*range(40)} - {*ids.unique().tolist()}))
    assert not set(pooler.score(patches, 6).argmax(-1).unique().tolist()) & set(ids.unique().tolist())


def test_choice_follows_the_scores(pooler):
    scores = pooler.score(torch.randn(1, 4, 16), 1)[0, 0]
    noise = gumbel((20_000, 40), torch.Generator().manual_seed(0))
    counted = torch.bincount((scores + noise).argmax(-1), minlength=40) / 20_000
    assert torch.allclose(counted, scores.softmax(-1), atol=0.015)


def test_cools_from_relaxed_to_words(pooler):
    patches, noise = torch.randn(4, 4, 16), gumbel((4, 6, 40), torch.Generator().manual_seed(1))
    pooler.anneal(0.0)
    assert pooler.temperature == WARM
    far = [torch.cdist(pooler(patches, 6, noise), pooler.table).min(-1).values.mean()]
    pooler.anneal(1.0)
    assert pooler.temperature == pytest.approx(COLD)
    far.append(torch.cdist(pooler(patches, 6, noise), pooler.table).min(-1).values.mean())
    assert far[1] < far[0]


def test_trains_resumes_and_draws_as_text(configure, pictures):
    whole, parts = configure("whole", **WORDS, run={"steps": 4}), configure("parts", **WORDS, run={"save_every": 2})
    folder = train(whole, quiet=True)
    half = configure("parts", **WORDS, run={"steps": 4, "save_every": 2})
    assert parts.run.out == half.run.out
    train(half, quiet=True)
    assert same(weights(whole), weights(half)) and losses(whole) == losses(half)
    lexicon = VisualLexicon.from_pretrained(folder)
    assert lexicon.encoder.config.method == "de-diffusion"
    ids = lexicon.encoder.pooler.score(lexicon.encoder(lexicon.encoder.preprocess(pictures[:1])).patches, 8).argmax(-1)
    tokens = lexicon.encode(pictures[:1])
    assert torch.equal(tokens, lexicon.t2i.embed(ids))
    assert not set(ids.flatten().tolist()) & set(lexicon.t2i.tokenizer.all_special_ids)


def test_takes_over_a_vilex_encoder(configure, model_folder, tmp_path):
    given = ViLexEncoder.from_pretrained(model_folder)
    settings = {**WORDS, "model": {**WORDS["model"], "encoder": str(model_folder), "num_tokens": 75}}
    folder = train(configure("words", **settings, run={"steps": 1}, optim={"pooler_lr": 0.0, "tower_lr": 1e-9}), True)
    encoder = ViLexEncoder.from_pretrained(folder)
    assert torch.equal(encoder.pooler.queries, given.pooler.queries)
    assert ViLexConfig.from_pretrained(folder).vocabulary_size == len(encoder.pooler.table)


def test_a_list_of_words_is_all_it_chooses(configure, pictures, tmp_path):
    """Saved with the encoder; a phrase allows each of its words."""
    (tmp_path / "words.txt").write_text("\ufeffcat\n\nred cat in snow\n")
    settings = {**WORDS, "model": {**WORDS["model"], "words": str(tmp_path / "words.txt")}}
    lexicon = VisualLexicon.from_pretrained(train(configure("words", **settings, run={"steps": 1}), quiet=True))
    (tmp_path / "words.txt").unlink()
    ids = {one for word in ("cat", "red", "in", "snow") for one in lexicon.t2i.frame.ids(word)}
    assert {*lexicon.encoder.pooler.allowed.nonzero().flatten().tolist()} == ids
    rows = lexicon.t2i.vocabulary[sorted(ids)]
    tokens = lexicon.encode(pictures[:2]).flatten(0, 1)
    assert torch.cdist(tokens, rows).min(-1).values.max() == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected at least two words"),
        (b"cat\n cat \n", "expected at least two words"),
        (b"caf\xe9\n", "no UTF-8 text; name a text file"),
        (b"red\n<|endoftext|>\n", r"line 2: '<\|endoftext\|>' is no word of the text encoder"),
        (b"red\nca\0t\n", "line 2: expected Unicode text without NUL"),
        (None, "No such file or directory; name a text file"),
    ],
)
def test_a_list_of_words_that_is_none_is_refused(sd_folder, tmp_path, content, said):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        allowed_ids(str(path), load_t2i(sd_folder[1]))


def test_a_list_of_words_is_of_de_diffusion_alone(configure, tmp_path):
    with pytest.raises(InputError, match=r'model.words: are of model.method = "de-diffusion", not of vilex'):
        configure("other", model={"words": "words.txt"}).check()
