"""The nano tables: the judge reads real scenes, scores and win rates are what they say, claims are arithmetic."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from recipes.nano.loop import Trainer
from recipes.nano.presets import JudgePreset, Preset
from recipes.nano.scenes import PLACES, SIZE, random_scene
from recipes.nano.sprites import CONCEPTS, STYLES, Sprite
from recipes.nano.tables.claims import claims_of, followed, readings_of
from recipes.nano.tables.judge import GROUNDS, Judge, Reading, facts_of
from recipes.nano.tables.probes import logistic, principal
from recipes.nano.tables.subjects import ASKED, agree
from recipes.nano.tables.verdicts import is_vilex, overlap, score, wins


def sprite(concept, style, colour):
    image = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(image).rectangle((0, 0, 63, 63), fill=colour)
    return Sprite(concept, style, image)


def test_facts_are_the_scenes_own():
    rng, concepts = np.random.default_rng(0), CONCEPTS[:2]
    scenes = [random_scene([sprite(concepts[1], "noto", "red")] * 2, rng, alone=1.0) for _ in range(8)]
    concept, style, ground, box = facts_of(scenes, concepts)
    assert concept.tolist() == [1] * 8 and {list(STYLES)[i] for i in style.tolist()} == {"noto"}
    for scene, which, (left, top, right, bottom) in zip(
        scenes, ground.tolist(), (box * SIZE).round().int().tolist(), strict=True
    ):
        assert GROUNDS[which] == (scene.ground.words[0] if scene.ground.kind == "place" else "plain")
        inside = scene.render()[top:bottom, left:right]
        assert np.allclose(inside, (255, 0, 0), atol=2)  # the box holds the whole drawing and nothing else


def test_the_judge_learns_to_read(tmp_path):
    concepts, rng = CONCEPTS[:2], np.random.default_rng(0)
    drawings = [sprite(concepts[0], "noto", "red"), sprite(concepts[1], "openmoji", "blue")]
    scenes = [random_scene(drawings, rng, alone=1.0) for _ in range(48)]
    pixels = torch.from_numpy(np.stack([scene.render() for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    concept, style, _, box = facts_of(scenes, concepts)
    torch.manual_seed(0)
    judge = Judge(concepts, width=8)
    settings = JudgePreset(images=60 * 48, batch=48, lr=3e-3)
    trainer = Trainer("judge", judge, settings, Preset(precision="fp32", threads=1), tmp_path, warmup=5)
    for _ in trainer:
        said = judge(pixels)
        loss = torch.nn.functional.cross_entropy(said[0], concept) + torch.nn.functional.cross_entropy(said[1], style)
        trainer.update(loss + 5 * (said[3] - box).abs().mean())
    reading = judge.eval().read([Image.fromarray(scene.render()) for scene in scenes])
    assert (reading.concept.argmax(1) == concept).all() and (reading.style.argmax(1) == style).all()
    assert overlap(reading.box, box).mean() > 0.6
    assert torch.allclose(reading.ground.sum(1), torch.ones(48), atol=1e-5)


def test_overlap():
    box = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    assert overlap(box, box).item() == 1
    assert overlap(box, torch.tensor([[0.25, 0.0, 0.75, 0.5]])).item() == pytest.approx(1 / 3)
    assert overlap(box, torch.tensor([[0.5, 0.5, 1.0, 1.0]])).item() == 0
    assert overlap(box, torch.tensor([[0.5, 0.5, 0.4, 0.4]])).item() == 0  # a box turned inside out


def test_scores_and_wins():
    concept = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)
    reading = Reading(concept, torch.eye(2), torch.eye(2), box)
    found = score([reading], reading, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert np.allclose(found["semantics"], [[0.9, 0.4]]) and found["concept right"].tolist() == [[1, 0]]
    assert np.allclose(found["style"], 1) and np.allclose(found["layout"], 1)
    assert wins(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 2.0, 1.0]])).tolist() == [[0, 0.5, 1]]
    assert [row for row in ("name", "1 token", "75 tokens", "brief vilex, 4", "brief ip-adapter") if is_vilex(row)] == [
        "1 token", "75 tokens", "brief vilex, 4",
    ]  # fmt: skip


def test_every_prompt_asks_what_the_judge_can_read():
    judge = Judge(CONCEPTS[:2], width=8).eval()
    assert {words for head, words in ASKED.values() if head == "ground"} == set(PLACES)
    assert {words for head, words in ASKED.values() if head == "style"} <= set(STYLES)
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "navy")]
    reading = judge.read(pictures)
    agreed = agree(judge, pictures, ["a skull at night", "a skull in flat style"])
    expected = [reading.ground[0, GROUNDS.index("night")], reading.style[1, list(STYLES).index("fluent-flat")]]
    assert torch.equal(agreed, torch.stack(expected))


def test_probes_find_what_is_linear_and_nothing_in_noise():
    torch.manual_seed(0)
    labels = torch.arange(400) % 4
    signal = torch.nn.functional.one_hot(labels, 4).float() @ torch.randn(4, 500) + 0.5 * torch.randn(400, 500)
    for features, most, least in ((signal, 1.0, 0.95), (torch.randn(400, 500), 0.45, 0.0)):
        train, test = principal(features[:300], features[300:])
        assert torch.allclose(train.std(0), torch.ones(train.shape[1]), atol=1e-3)
        right = (logistic(train, labels[:300], 4)(test).argmax(1) == labels[300:]).float().mean().item()
        assert least <= right <= most


def test_claims_hold_or_do_not():
    distances = {"name": 1.0, "1 token": 0.8, "4 tokens": 0.6, "16 tokens": 0.7, "75 tokens": 0.3}
    distances |= {"brief de-diffusion": 0.5, "brief vilex, 1": 0.48, "brief vilex, 75": 0.2}
    wins = {name: {"mean": mean} for name, mean in (("semantics", 0.7), ("layout", 0.4), ("style", 0.95))}
    rows = {row: {"lite0 kernel distance": {"mean": value}} for row, value in distances.items()}
    results = {
        "reconstruction": {"held-out": {"rows": rows}},
        "verdicts": {"wins": {"brief vilex, 75 against brief de-diffusion": wins}},
    }
    found = [(round(claim.value, 3), claim.holds) for claim in claims_of(results)]
    assert found == [
        (0.3, True), (1.167, False), (0.96, False), (0.4, True), (0.5, True), (0.7, False), (0.4, False), (0.95, True),
    ]  # fmt: skip


def test_readings_hold_or_do_not():
    rows = {row: {"concept right": {"mean": 0.84}, "style right": {"mean": 0.8}} for row in ("1 token", "16 tokens")}
    rows |= {row: {"concept right": {"mean": 0.7}, "style right": {"mean": 0.6}} for row in ("sentence", "4 tokens")}
    rows["75 tokens"] = {"concept right": {"mean": 0.95}, "style right": {"mean": 0.89}}
    results = {
        "names": {"concepts": 212, "right": {"mean": 0.81}},
        "judge": {"concept": 0.96},
        "verdicts": {"rows": rows},
        "subjects": {"rows": subject_rows((0.6, 0.2), (0.5, 0.74), (0.4, 0.9))},
    }
    held = [claim.holds for claim in readings_of(results)]
    assert held == [False, True, False, False, True, True, True, False, False, True, True, False, False]


def subject_rows(*swept):
    """Rows of (subject, prompt) at TFG 2, 4, 8; DreamBooth keeps half of the subject."""
    pairs = {"dreambooth": (0.5, 0.3), "16 tokens, TFG 8": (0.9, 0.9), "4 tokens alone": (0.9, 0.8)}
    pairs |= {f"4 tokens, TFG {2**k}": pair for k, pair in enumerate(swept, 1)}
    return {row: {"lite0 subject": {"mean": a}, "judge prompt": {"mean": b}} for row, (a, b) in pairs.items()}


def test_prompts_are_followed_only_where_the_subject_is_kept():
    assert followed(subject_rows((0.6, 0.2), (0.5, 0.74), (0.4, 0.9))) == 0.74
    assert followed(subject_rows((0.6, 0.2), (0.49, 0.74), (0.4, 0.9))) == 0.2
    assert followed(subject_rows((0.4, 0.9))) == 0
