import pytest
import torch

from vilex.errors import InputError
from vilex.guidance import Branch, Guidance, Mixture, subsets
from vilex.prompt import parse
from vilex.t2i.base import Condition

PROMPT = parse("a <cat> in snow")
CAT = frozenset({"cat"})
NOTHING, V, C, VC = Branch(negative=True), Branch(CAT), Branch(words=True), Branch(CAT, words=True)


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (Guidance(), {VC: 1}),
        (Guidance(cfg=3), {NOTHING: -2, VC: 3}),
        (Guidance(cfg=1, tfg=3), {V: -2, VC: 3}),
        (Guidance(cfg=1, tfg=1), {VC: 1}),
        (Guidance(cfg=1, tfg=0), {V: 1}),
        (Guidance(cfg=2, tfg=5), {NOTHING: -1, V: -3, VC: 5}),
    ],
)
def test_weights_are_the_papers(guidance, expected):
    branches = guidance.branches(PROMPT)
    assert branches == pytest.approx(expected) and sum(branches.values()) == pytest.approx(1)


def test_image_weight_mixes_in_the_words_alone():
    assert Guidance().branches(PROMPT, {"cat": 0.25}) == pytest.approx({C: 0.75, VC: 0.25})
    assert Guidance().branches(PROMPT, {"cat": 0}) == {C: 1}
    assert Guidance(cfg=3).branches(PROMPT, {"cat": 0}) == {NOTHING: -2, C: 3}


def test_subsets_of_several_images():
    assert subsets(("a", "b"), {}) == {frozenset("ab"): 1}
    assert subsets(("a", "b"), {"a": 0.5, "b": 0.2}) == pytest.approx(
        {frozenset(): 0.5, frozenset("a"): 0.3, frozenset("ab"): 0.2}
    )


def test_image_alone_needs_no_second_branch():
    assert Guidance(cfg=2, tfg=5).branches(parse("<cat>")) == pytest.approx({NOTHING: -1, V: 2})


def test_branch_prompts():
    assert VC.prompt(PROMPT) == PROMPT
    assert C.prompt(PROMPT).words == "a in snow" and C.prompt(PROMPT).names == ()
    assert V.prompt(PROMPT).words == "" and V.prompt(PROMPT).names == ("cat",)


def test_combine_is_the_weighted_sum():
    outputs = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    owner, weight = torch.tensor([0, 1, 0, 1, 1]), torch.tensor([-2.0, 0.5, 3.0, 0.3, 0.2])
    mixture = Mixture(Condition(torch.zeros(5, 1, 1)), owner, weight, pictures=2)
    expected = torch.stack(
        [sum(weight[i] * outputs[i] for i in range(5) if owner[i] == picture) for picture in range(2)]
    )
    assert torch.allclose(mixture.combine(outputs), expected, atol=1e-6)


def test_interval():
    guidance = Guidance(3, interval=(0.25, 0.75))
    assert [guidance.acts(i / 4) for i in range(4)] == [False, True, True, False]
    with pytest.raises(InputError, match="interval"):
        Guidance(3, interval=(0.8, 0.2))
