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


def make_kohya(t2i, path, text=("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")):
    """A LoRA as kohya's scripts write it, of ranks and scales that differ by layer; what it adds, by the layers' names.

    Args:
        text: ends of the text encoder's layers that have one.
    """
    layers = {f"lora_unet_{name}": one for name, one in t2i.unet.named_modules() if name.endswith(("to_v", "net.2"))}
    named = {name.removeprefix("text_model."): one for name, one in t2i.text_encoder.named_modules()}
    layers |= {f"lora_te_text_model_{name}": one for name, one in named.items() if name.endswith(text)}
    state, added, generator = {}, {}, torch.Generator().manual_seed(0)
    for i, (name, layer) in enumerate(layers.items()):
        rank, alpha, name = 1 + i % 3, torch.tensor(0.5 + i % 4), name.replace(".", "_")
        down, up = (
            torch.randn(s, generator=generator) / 10 for s in ((rank, layer.in_features), (len(layer.weight), rank))
        )
        state |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": alpha}
        added[layer] = alpha / rank * up @ down
    save_file(state, path)
    return added


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


@pytest.mark.parametrize("weight", [0.7, -1.5])
def test_kohyas_format_is_read_with_each_layers_own_scale(sd_folder, tmp_path, weight):
    merged, expected, plain = (load_t2i(sd_folder[1]) for _ in range(3))
    for layer, change in make_kohya(expected, tmp_path / "kohya.safetensors").items():
        layer.weight.add_(weight * change)
    add_loras(merged, [(tmp_path / "kohya.safetensors", weight)])
    assert torch.allclose(predicted(merged), predicted(expected), atol=1e-5)
    assert not torch.allclose(predicted(merged), predicted(plain), atol=1e-3)


def test_one_file_twice_is_its_weights_sum(sd_folder, tmp_path):
    file = make_lora(sd_folder[1], tmp_path / "lora", text=True)
    once, twice = load_t2i(sd_folder[1]), load_t2i(sd_folder[1])
    add_loras(once, [file])
    add_loras(twice, [(file, 0.25), (str(file), 0.75)])
    assert torch.allclose(predicted(once), predicted(twice), atol=1e-5)


def test_weights_that_would_be_passed_over_are_refused(sd_folder, tmp_path):
    """Of all these diffusers and transformers say in their logs alone that they take them in part."""
    state = load_file(make_lora(sd_folder[1], tmp_path / "lora", text=True))
    deep = {key.replace("layers.1", "layers.7"): value for key, value in state.items()}
    second = {key.replace("text_encoder.", "text_encoder_2."): value for key, value in state.items()}
    for name, tensors in (("deep", deep), ("second", second)):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    make_kohya(load_t2i(sd_folder[1]), tmp_path / "partial.safetensors", text=("q_proj", "fc1"))
    make_kohya(load_t2i(sd_folder[1]), tmp_path / "dora.safetensors")
    kohya = load_file(tmp_path / "dora.safetensors")
    scales = {key.replace("alpha", "dora_scale"): torch.ones(1, 32) for key in kohya if key.endswith("alpha")}
    save_file(kohya | scales, tmp_path / "dora.safetensors")
    for name, message in (
        ("deep", r"no place for all of it \(encoder\.layers\.7\.self_attn"),
        ("second", "holds weights for text_encoder_2, which this base model has no place for"),
        ("partial", "no place for all of it"),
        ("dora", "is a DoRA, whose scales diffusers leaves out"),
    ):
        with pytest.raises(InputError, match=message):
            add_loras(load_t2i(sd_folder[1]), [tmp_path / f"{name}.safetensors"])


def test_what_is_given_as_loras_is_checked_before_anything_loads(tmp_path):
    (tmp_path / "x.safetensors").touch()
    for given, message in (
        (5, "loras: expected a list of files or of"),
        ("x.safetensors", "loras: expected a list of files or of"),
        ([None], r"loras: expected a file or \(file, weight\), got None"),
        ([(tmp_path / "x.safetensors",)], "loras: expected a file or"),
        ([(tmp_path / "x.safetensors", True)], "expected a number from -1000 to 1000"),
        ([tmp_path], "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            load_t2i(tmp_path / "no-base", loras=given)


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
    save_file({key: value * torch.nan for key, value in state.items()}, tmp_path / "nan.safetensors")
    for path, message in (
        (tmp_path / "none.safetensors", "no such file"),
        (tmp_path / "x.bin", "pickled weights are never read"),
        (tmp_path / "bad.safetensors", "cannot be read for this base model"),
        (flux, "holds nothing for this base model"),
        (tmp_path / "other.safetensors", "for this base model"),
        (tmp_path / "more.safetensors", "does not fit this base model"),
        (tmp_path / "nan.safetensors", "holds weights that are NaN or infinite"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            add_loras(load_t2i(sd_folder[1]), [(path, 1.0)])
        assert str(caught.value).startswith(f"lora {path}: ")
    with pytest.raises(InputError, match="cannot be read for this base model"):
        add_loras(load_t2i(FAMILIES["sdxl"].make(tmp_path / "sdxl")), [(good, 1.0)])  # the same layers of other widths
    with pytest.raises(InputError, match="PixArtSigmaPipeline takes none"):
        add_loras(load_t2i(FAMILIES["pixart-sigma"].make(tmp_path / "pixart")), [(good, 1.0)])
