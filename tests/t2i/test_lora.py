"""LoRAs of the base model are what diffusers' pipelines make of them; what does not fit is one line."""

import diffusers
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from tests.families import FAMILIES
from vilex.errors import InputError
from vilex.prompt import parse
from vilex.t2i import load_t2i
from vilex.t2i.lora import add_loras, split_lora
from vilex.t2i.pipeline import as_pipeline

DRAWN_BY_DIFFUSERS = ["sd1", "sdxl", "sd3.5-without-t5", "flux", "flux2-klein", "z-image", "sana", "lumina2", "krea2"]


def make_lora(base, out, seed=0, text=False):
    """A LoRA of random weights over the denoiser's attention, and the text encoder's, as diffusers saves it."""
    t2i = load_t2i(base)
    torch.manual_seed(seed)
    layers = {}
    parts = {t2i.denoiser: ["to_q", "to_v"], **({"text_encoder": ["q_proj", "v_proj"]} if text else {})}
    for name, targets in parts.items():
        module = getattr(t2i, name)
        module.add_adapter(LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=targets))
        for key, value in module.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(value, std=0.1)
        state = get_peft_model_state_dict(module, adapter_name="default")
        layers[f"{name}_lora_layers"] = {key: value.detach() for key, value in state.items()}
    getattr(diffusers, t2i.index["_class_name"]).save_lora_weights(out, **layers)
    return out / "pytorch_lora_weights.safetensors"


def predicted(t2i):
    x_t = torch.randn(1, *t2i.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return t2i.predict(x_t, torch.tensor([7.0]), t2i.read([parse("a cat")], [{}]))


@pytest.mark.parametrize("family", DRAWN_BY_DIFFUSERS)
def test_merged_weights_predict_what_diffusers_predicts(tmp_path, family):
    base = FAMILIES[family].make(tmp_path / "base")
    files = [make_lora(base, tmp_path / "one", 0, text=family == "sd1"), make_lora(base, tmp_path / "two", 1)]
    merged, theirs = load_t2i(base), load_t2i(base)
    keys = [list(module.state_dict()) for module in merged.modules]
    add_loras(merged, [(files[0], 0.7), (files[1], -0.3)])
    assert keys == [list(module.state_dict()) for module in merged.modules]  # nothing is left beside the weights
    assert not any(p.requires_grad for module in merged.modules for p in module.parameters())
    named, parts = [name for name, value in theirs.index.items() if isinstance(value, list)], theirs.components()
    kind = getattr(diffusers, theirs.index["_class_name"])
    pipeline = as_pipeline(parts, kind, {name: None for name in named if name not in parts})
    for name, file in zip("ab", files, strict=True):
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
    pipeline.set_adapters(["a", "b"], [0.7, -0.3])
    assert torch.allclose(predicted(merged), predicted(theirs), atol=1e-5)
    assert not torch.allclose(predicted(merged), predicted(load_t2i(base)), atol=1e-3)


def test_beside_eight_bits_they_stay_unmerged(sd_folder, tmp_path):
    file = make_lora(sd_folder[1], tmp_path / "lora")
    exact, near = load_t2i(sd_folder[1]), load_t2i(sd_folder[1], quantize="int8")
    add_loras(exact, [(file, 1.0)])
    add_loras(near, [(file, 1.0)])
    assert (predicted(near) - predicted(exact)).norm() < 0.05 * predicted(exact).norm()
    assert not any(p.requires_grad for module in near.modules for p in module.parameters())


def test_file_and_weight(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_lora("style.safetensors") == ("style.safetensors", 1.0)
    assert split_lora("a:b/style.safetensors:-0.5") == ("a:b/style.safetensors", -0.5)
    (tmp_path / "a:b").touch()
    assert split_lora("a:b") == ("a:b", 1.0)
    for given in ("style.safetensors:much", "style.safetensors:nan", "style.safetensors:"):
        with pytest.raises(InputError, match=f"lora {given}: expected"):
            split_lora(given)


def test_what_does_not_fit_is_one_line(sd_folder, tmp_path):
    good = make_lora(sd_folder[1], tmp_path / "lora")
    flux = make_lora(FAMILIES["flux"].make(tmp_path / "flux"), tmp_path / "of-flux")
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    (tmp_path / "x.bin").write_bytes(b"bad")
    state = load_file(good)
    save_file({**state, "unet.nowhere.to_q.lora_A.weight": torch.ones(2, 32)}, tmp_path / "more.safetensors")
    save_file({"some": torch.ones(2)}, tmp_path / "other.safetensors")
    for path, message in (
        (tmp_path / "none.safetensors", "no such file"),
        (tmp_path / "x.bin", "pickled weights are never read"),
        (tmp_path / "bad.safetensors", "cannot be read for this base model"),
        (flux, "holds nothing for this base model"),
        (tmp_path / "other.safetensors", "for this base model"),
        (tmp_path / "more.safetensors", "does not fit this base model"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            add_loras(load_t2i(sd_folder[1]), [(path, 1.0)])
        assert str(caught.value).startswith(f"lora {path}: ")
    with pytest.raises(InputError, match="cannot be read for this base model"):
        add_loras(load_t2i(FAMILIES["sdxl"].make(tmp_path / "sdxl")), [(good, 1.0)])  # the same layers of other widths
    with pytest.raises(InputError, match="PixArtSigmaPipeline takes none"):
        add_loras(load_t2i(FAMILIES["pixart-sigma"].make(tmp_path / "pixart")), [(good, 1.0)])
