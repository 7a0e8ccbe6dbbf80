"""Muon with AdamW, as one optimiser: each parameter by its rule, through schedules and saved states."""

import copy

import pytest
import torch
from torch import nn

from vilex.encoder import ViLexEncoder
from vilex.train.config import OptimConfig
from vilex.train.muon import Muon, MuonWithAdamW, orthogonal
from vilex.train.optim import make_optimizer

ADAMW = {"weight_decay": 0.1, "betas": (0.9, 0.99)}


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3))


def matrices_of(model):
    return {module.weight for module in model.modules() if isinstance(module, nn.Linear)}


def backward(model, step):
    model(torch.randn(5, 4, generator=torch.Generator().manual_seed(step))).square().sum().backward()


def optimizer_of(model, lr=0.02):
    return MuonWithAdamW([{"params": list(model.parameters()), "lr": lr}], matrices_of(model), 0.1)


SHAPES = [(8, 48), (48, 8), (12, 12), (1, 5)]


def plain_iteration(matrix, dtype):
    """Newton-Schulz as it is written down, in a format."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = (matrix / matrix.norm()).to(dtype)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.to(matrix.dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_products_of_gram_matrices_are_newton_schulz_s(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, found = plain_iteration(matrix, torch.float64), orthogonal(matrix)
    assert found.shape == shape and torch.allclose(found, x, atol=1e-9)
    assert torch.allclose(orthogonal(matrix.float()), x.float(), atol=1e-3)
    assert (found - orthogonal(100 * matrix)).abs().max() < 1e-9


def test_a_matrix_of_zeros_stays():
    assert not orthogonal(torch.zeros(3, 5)).any()


def of_rank(rank, rows, columns):
    generator = torch.Generator().manual_seed(2)
    low = torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    return low + 1e-3 * torch.randn(rows, columns, generator=generator)


@pytest.mark.parametrize("matrix", [of_rank(5, 48, 256), of_rank(5, 48, 48), of_rank(48, 48, 256)])
def test_in_bfloat16_it_is_as_near_as_the_plain_iteration(matrix):
    exact = orthogonal(matrix.double())
    ours, plain = orthogonal(matrix, dtype=torch.bfloat16), plain_iteration(matrix, torch.bfloat16)
    near = [torch.cosine_similarity(one.double().flatten(), exact.flatten(), dim=0) for one in (ours, plain)]
    assert ours.dtype is torch.float32 and near[0] > near[1] - 0.01 and near[0] > 0.9
    assert torch.linalg.matrix_norm(ours, 2) < 1.3


def test_a_stack_is_its_matrices():
    stack = torch.randn(3, 2, 8, 5, generator=torch.Generator().manual_seed(3))
    found = orthogonal(stack)
    for i in range(3):
        for j in range(2):
            assert torch.allclose(found[i, j], orthogonal(stack[i, j]), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matrices_of_one_shape_move_as_each_alone(dtype):
    generator = torch.Generator().manual_seed(4)
    starts = [torch.randn(shape, generator=generator) for shape in ((6, 9), (9, 6), (6, 9), (4, 4))]
    together, alone = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    rules = [Muon(together, dtype=dtype), *(Muon([one], dtype=dtype) for one in alone)]
    for step in range(3):
        for i, (one, other) in enumerate(zip(together, alone, strict=True)):
            gradient = torch.randn(one.shape, generator=torch.Generator().manual_seed(10 * step + i))
            one.grad, other.grad = (None, None) if i == 2 and step == 1 else (gradient, gradient.clone())
        for rule in rules:
            rule.step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_torch_s_but_for_its_bfloat16(shape):
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    one = Muon([ours], lr=0.05, weight_decay=0.1)
    other = torch.optim.Muon([theirs], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        ours.grad = theirs.grad = torch.randn(shape, generator=torch.Generator().manual_seed(10 + step))
        one.step(), other.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    assert list(one.state[ours]) == list(other.state[theirs]) == ["momentum_buffer"]


@pytest.mark.parametrize("reloaded", [False, True])
def test_each_parameter_moves_by_its_own_rule(reloaded):
    ours, theirs = layers(), layers()
    optimizer = optimizer_of(ours)
    matrices = matrices_of(theirs)
    apart = [
        Muon([p for p in theirs.parameters() if p in matrices], lr=0.02, weight_decay=0.1),
        torch.optim.AdamW([p for p in theirs.parameters() if p not in matrices], lr=0.02, **ADAMW),
    ]
    for step in range(6):
        backward(ours, step), backward(theirs, step)
        if step == 3:
            for group in (g for one in (optimizer, *apart) for g in one.param_groups):
                group["lr"] = 0.005
        if step == 4 and reloaded:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = optimizer_of(ours, lr=1.0)
            optimizer.load_state_dict(saved)
        for one in (optimizer, *apart):
            one.step()
            one.zero_grad()
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(own, other, atol=1e-6), step


def test_linear_layers_are_muon_s_and_the_rest_adamw_s(model_folder):
    encoder = ViLexEncoder.from_pretrained(model_folder)
    optimizer = make_optimizer(encoder, OptimConfig(name="muon", tower_lr=1e-4, pooler_lr=3e-4))
    assert [(group["muon"], group["lr"]) for group in optimizer.param_groups] == [
        (True, 1e-4), (False, 1e-4), (True, 3e-4), (False, 3e-4),
    ]  # fmt: skip
    names = {p: name for name, p in encoder.named_parameters()}
    moved = [{names[p] for p in group["params"]} for group in optimizer.param_groups]
    assert all(name.startswith("tower.") for name in moved[0] | moved[1])
    assert not any(name.startswith("tower.") for name in moved[2] | moved[3])
    rest = [name for name in moved[1] | moved[3] if name.endswith("weight")]
    assert all("embedding" in name or "norm" in name for name in rest), rest
    assert set().union(*moved) == set(names.values())


def test_a_closure_is_asked_for_the_loss():
    model = layers()
    optimizer = optimizer_of(model)
    before = model[0].weight.clone()

    def loss():
        value = model(torch.ones(1, 4)).sum()
        value.backward()
        return value.item()

    assert optimizer.step(loss) == pytest.approx(layers()(torch.ones(1, 4)).sum().item())
    assert not torch.equal(model[0].weight, before)
