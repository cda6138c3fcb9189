"""What models are told: tokens and maps of scenes made by hand."""

import numpy as np
import torch
from scenes import hand_made

from amdm.shapes import conditions, world
from amdm.shapes.conditions import (
    box_coverage,
    caption_tokens,
    colour_maps,
    layout_maps,
    reference_scenes,
    reference_tokens,
)
from amdm.shapes.configs import CONFIGS
from amdm.shapes.world import VOCABULARY, sample_scenes

PAIR = hand_made(
    [("disc", "green"), ("cross", "blue"), ("disc", "green")], [("pointing", 0, 1)], style="striped"
)


def test_a_token_per_word_and_nothing_else():
    tokens = caption_tokens(PAIR)[0]
    said = {VOCABULARY[1 + i] for i in tokens.argmax(-1)[tokens.sum(-1) > 0].tolist()}
    assert said == {"disc", "cross", "green", "blue", "pointing", "striped"}
    assert tokens.sum() == 6 and set(tokens.unique().tolist()) == {0.0, 1.0}


def test_styles_are_named_where_wanted_only():
    scenes = sample_scenes(range(6))
    wanted = torch.tensor([True, False, True, True, False, False])
    some, none, every = (caption_tokens(scenes, styles=styles) for styles in (wanted, False, True))
    assert torch.equal(some[wanted], every[wanted]) and torch.equal(some[~wanted], none[~wanted])
    assert torch.equal((every - none).sum((1, 2)), torch.ones(6))


def test_a_references_tokens_are_standardised_means_of_patches_and_their_log_magnitudes():
    tokens = reference_tokens(world.render(sample_scenes(world.TRAIN[:1000])))
    assert tokens.shape == (1000, 16, conditions.TOKEN_DIMS)
    assert not tokens[..., : conditions.WORD_DIMS].any()
    encoded = conditions.latents.encode(world.render(sample_scenes(world.TRAIN[:1000])))
    patch = encoded[:, :, 4:8, 12:16].flatten(2)  # the second row of patches, the last column
    expected = torch.cat([patch.mean(2), (patch.abs() + 0.01).log().mean(2)], dim=1)
    features = tokens[..., conditions.WORD_DIMS :]
    for x, y in zip(expected.T, features[:, 7].T, strict=True):
        slope, offset = np.polyfit(x, y, 1)
        torch.testing.assert_close(y, slope * x + offset, atol=1e-3, rtol=0, check_dtype=False)
    assert features.mean((0, 1)).abs().max() < 1e-3 and (features.std((0, 1)) - 1).abs().max() < 1e-3


def test_a_reference_is_another_scene_of_the_same_style():
    scenes = sample_scenes(range(50))
    others = reference_scenes(scenes)
    assert torch.equal(others.styles, scenes.styles)
    assert not (others.seeds == scenes.seeds).any()
    assert not (others.boxes == scenes.boxes).all((1, 2)).any()


def test_boxes_cover_their_area_and_absent_objects_nothing():
    boxes = box_coverage(PAIR)[0]
    torch.testing.assert_close(boxes.sum((1, 2)), torch.tensor([121.0, 121.0, 121.0, 0.0]))
    assert boxes[0, 2, 2] == 0.25 and boxes[0, 5, 5] == 1 and boxes[0, 1, 5] == 0
    assert boxes[1, 5, 25] == 1 and boxes[2, 25, 5] == 1  # x to the right, y downwards


def test_layout_maps_hold_shapes_and_interactions():
    maps, boxes = layout_maps(PAIR)[0], box_coverage(PAIR)[0]
    disc, cross = world.SHAPES.index("disc"), world.SHAPES.index("cross")
    assert torch.equal(maps[disc], boxes[0] + boxes[2]) and torch.equal(maps[cross], boxes[1])
    kinds = len(world.KINDS) - 1
    parts = [len(world.SHAPES) + part * kinds + world.KINDS.index("pointing") - 1 for part in range(3)]
    subject, target, way = maps[parts]
    assert torch.equal(subject, boxes[0]) and torch.equal(target, boxes[1])
    # The way runs from the left box to the right one, and is no part of a mark's form.
    assert way[8, 16] > 0.5 and not way[20:].any()
    others = [i for i in range(len(maps)) if i not in (disc, cross, *parts)]
    assert not maps[others].any()


def test_colour_maps_hold_colours():
    maps, boxes = colour_maps(PAIR)[0], box_coverage(PAIR)[0]
    assert torch.equal(maps[1], boxes[0] + boxes[2]) and torch.equal(maps[2], boxes[1])
    assert not maps[[0, 3, 4, 5]].any()


def test_only_a_model_with_a_reference_gets_one_and_its_captions_never_name_the_style():
    scenes = sample_scenes(range(4))
    assert torch.equal(
        conditions.encode(CONFIGS["style"], scenes)["encoder_hidden_states"][:, :11],
        caption_tokens(scenes, styles=False),
    )
    own = world.render(scenes)
    given = conditions.encode(CONFIGS["style"], scenes, reference=own)["encoder_hidden_states"][:, 11:]
    torch.testing.assert_close(given, reference_tokens(own))
    assert conditions.encode(CONFIGS["base"], scenes)["encoder_hidden_states"].shape[1] == 11
