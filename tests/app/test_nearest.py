"""Words that image tokens are near."""

import torch

from vilex.app.nearest import nearest_words


def test_a_word_s_own_embedding_is_nearest_to_that_word(nano):
    encoder = nano.t2i.encoders[0]
    ids = [encoder.frame.ids(word)[0] for word in ("snow", "cat")]
    near = nearest_words(nano, 3 * encoder.lookup[ids].detach(), 3)
    assert [words[0].text for words in near] == ["snow", "cat"]
    assert all(abs(words[0].cosine - 1) < 1e-5 for words in near)
    assert all(words[0].cosine >= words[1].cosine >= words[2].cosine for words in near)


def test_cosines_are_those_of_the_whole_table(nano):
    tokens = torch.randn(5, nano.t2i.width, generator=torch.Generator().manual_seed(0))
    encoder = nano.t2i.encoders[0]
    cosines = torch.nn.functional.cosine_similarity(tokens[:, None], encoder.lookup.detach()[None], dim=-1)
    cosines[:, encoder.frame.tokenizer.all_special_ids] = -1
    for row, words in zip(cosines, nearest_words(nano, tokens, 4), strict=True):
        assert torch.allclose(row.topk(4).values, torch.tensor([word.cosine for word in words]), atol=1e-5)


def test_pieces_that_go_on_are_marked(nano):
    encoder = nano.t2i.encoders[0]
    index = encoder.frame.tokenizer.convert_tokens_to_ids("a")
    assert nearest_words(nano, encoder.lookup[index][None].detach(), 1)[0][0].text == "a-"
