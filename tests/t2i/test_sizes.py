"""Pictures of other sizes than a frozen model's own."""

import pytest
import torch

from tests.families import FAMILIES
from vilex.errors import InputError
from vilex.prompt import parse
from vilex.t2i import load_t2i


def test_a_sized_model_is_the_same_with_other_latents(tmp_path):
    t2i = load_t2i(FAMILIES["flux"].make(tmp_path / "flux"))
    view = t2i.sized(24, 16)
    assert view.latent_shape == (4, 8, 12) and view.picture_size == (24, 16) and view.image_positions == 4 * 6
    assert t2i.latent_shape == (4, 8, 8) and t2i.picture_size == (16, 16)
    assert view.network is t2i.network and view.turn is t2i.turn and view.size_step == 4
    level = torch.tensor([0.5])
    assert view.shifted(level) > t2i.shifted(level)  # larger pictures get more noise


def test_xl_is_told_the_pictures_size(tmp_path):
    t2i = load_t2i(FAMILIES["sdxl"].make(tmp_path / "sdxl")).sized(32, 16)
    told = []
    t2i.unet.register_forward_pre_hook(
        lambda module, args, kwargs: told.append(kwargs["added_cond_kwargs"]["time_ids"]), with_kwargs=True
    )
    t2i.predict(torch.zeros(1, *t2i.latent_shape), torch.tensor([500]), t2i.read([parse("cat")], [{}]))
    assert told[0].tolist() == [[16, 32, 0, 0, 16, 32]]


@pytest.mark.parametrize(
    ("name", "size", "line"),
    [
        ("flux", (18, 16), "size 18x16: FluxPipeline draws multiples of 4 pixels"),
        ("flux", (16, 0), "size 16x0: FluxPipeline draws multiples of 4 pixels"),
        ("sd3", (36, 16), "size 36x16: StableDiffusion3Pipeline draws at most 32 pixels a side"),
        ("z-image", (16, 132), "size 16x132: ZImagePipeline draws at most 128 pixels a side"),
        ("if", (32, 16), "size 32x16: IFPipeline draws 16x16 alone; leave the size out"),
        ("pixels", (24, 24), "size 24x24: PixelDiffusionPipeline draws 16x16 alone; leave the size out"),
    ],
)
def test_sizes_that_cannot_be_are_named(tmp_path, name, size, line):
    t2i = load_t2i(FAMILIES[name].make(tmp_path / name))
    with pytest.raises(InputError, match=line):
        t2i.sized(*size)
    assert t2i.sized(*t2i.picture_size).latent_shape == t2i.latent_shape
