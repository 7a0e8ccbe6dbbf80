import pytest
import torch

from tests.runs import losses, same, weights
from vilex.encoder import ViLexConfig, ViLexEncoder
from vilex.encoder.dediffusion import COLD, WARM, WordPooler, gumbel
from vilex.lexicon import VisualLexicon
from vilex.train.loop import train

WORDS = {"model": {"method": "de-diffusion"}, "objective": {"tail_drop": "off", "caption_share": 0.0}}


@pytest.fixture
def pooler():
    torch.manual_seed(0)
    pooler = WordPooler(16, 32, num_tokens=6, blocks=1, heads=4, mlp_ratio=2, inner=0, vocabulary_size=40)
    table = torch.randn(40, 32) * 0.02 + 0.01
    pooler.match_vocabulary(table)
    pooler.speak(table, silent=[0, 39])
    return pooler


def test_says_words_of_the_vocabulary_and_never_silent_ones(pooler):
    patches = torch.randn(8, 4, 16)
    tokens = pooler(patches, 6)
    ids = pooler.score(patches, 6).argmax(-1)
    assert torch.equal(tokens, pooler.table[ids]) and ids.unique().numel() > 1
    pooler.speak(pooler.table.clone(), silent=ids.unique().tolist())
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
