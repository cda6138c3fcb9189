"""What the page draws: every method's call, the program that is copied, records, verdicts, looks."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from amdm import sample_amdm, sample_projective_guidance, seeded_noise, sigma_window, start_noise
from amdm.page import drawing, looks
from amdm.page.drawing import PICTURES, draw, planned
from amdm.page.methods import HIGHEST, LOWEST, METHODS, PUBLISHED, RECOMMENDED, Settings, defaults_of
from amdm.page.scene import Link, first_boxes, scene_of
from amdm.samplers import dpmpp_2m, dpmpp_2m_sde
from amdm.schedules import karras_sigmas
from amdm.shapes import denoisers, latents, scores, world

SCENE = scene_of(first_boxes(), Link("pointing"))
AMDM = "AMDM (the paper's)"
QUICK = (RECOMMENDED, AMDM, "Conjunction", "FKC")  # one of every kind of call
POSSIBLE = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name, method in METHODS.items()
    if not method.says.startswith("Not possible")
]


def last(picture, settings, scene=SCENE):
    *_, drawing = draw(picture, scene, settings)
    return drawing


def run(program, tmp_path, monkeypatch):
    """Run a copied program as it is, and return its names; it saves its picture."""
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(program, "copied.py", "exec"), names)
    assert (tmp_path / "picture.png").exists()
    return names


@pytest.mark.parametrize("method", POSSIBLE)
def test_the_copied_program_draws_the_same_picture(method, tmp_path, monkeypatch):
    settings = replace(defaults_of(method), steps=2, lead="attribute", seed=3)
    drawn = last("A(+B)", settings)
    images = run(drawn.program, tmp_path, monkeypatch)["images"]
    assert images.shape == (1, 3, 32, 32) or METHODS[method].particles > 1
    assert torch.equal(images[: len(drawn.images)], drawn.images)


@pytest.mark.parametrize("picture", ["B", "B(+A)"])
def test_so_it_does_for_each_picture_and_several_seeds(picture, tmp_path, monkeypatch):
    settings = replace(defaults_of(AMDM), steps=2, images=2)
    drawn = last(picture, settings)
    images = run(drawn.program, tmp_path, monkeypatch)["images"]
    assert images.shape == (2, 3, 32, 32) and torch.equal(images, drawn.images)
    assert not torch.equal(images[0], images[1])


def test_so_it_does_for_particles_of_several_images(tmp_path, monkeypatch):
    drawn = last("A(+B)", replace(defaults_of("FKC"), steps=2, images=2))
    assert len(drawn.images) == 2
    assert torch.equal(run(drawn.program, tmp_path, monkeypatch)["images"], drawn.images)


def test_amdm_and_projective_guidance_are_the_librarys():
    """The calls written out by hand give the same pictures."""
    sigmas = karras_sigmas(4, LOWEST, HIGHEST)
    starts = start_noise([7], latents.SHAPE, sigmas[0], num_models=2)
    names = ("layout", "attribute", "base")
    models = {name: denoisers.load(name) for name in names}
    told = [denoisers.extra_args(name, SCENE) for name in names]
    two = [models[name] for name in names[:2]]
    by_hand = sample_amdm(
        two,
        starts,
        sigmas,
        told[:2],
        disable=True,
        correction=0.13,
        window=sigma_window(1.0, 13.2),
        sampler=dpmpp_2m,
    )
    settings = replace(defaults_of(AMDM), steps=4, window=(1.0, 13.2))
    assert torch.equal(last("A(+B)", settings).images, latents.decode(by_hand))
    by_hand = sample_projective_guidance(
        two,
        starts,
        sigmas,
        told,
        disable=True,
        background=models["base"],
        guidance=2.0,
        sampler=dpmpp_2m_sde,
        eta=1.0,
        noise_sampler=[seeded_noise([7], latents.SHAPE, stream=k) for k in range(2)],
    )
    settings = replace(defaults_of(RECOMMENDED), steps=4)
    assert torch.equal(last("A(+B)", settings).images, latents.decode(by_hand))


def test_an_image_depends_on_its_seed_alone_and_not_on_the_others():
    settings = replace(defaults_of(AMDM), steps=3, seed=4, images=2)
    both = last("A(+B)", settings).images
    alone = last("A(+B)", replace(settings, seed=5, images=1)).images
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=0)


def test_who_leads_is_a():
    settings = replace(defaults_of(AMDM), steps=2)
    other = replace(settings, lead="attribute")
    for one, two in (("A", "B"), ("A(+B)", "B(+A)")):
        assert torch.equal(last(one, settings).images, last(two, other).images)


def test_a_picture_is_shown_while_it_is_drawn():
    seen = []
    for so_far in draw("A", SCENE, replace(defaults_of(AMDM), steps=3)):
        seen.append((len(so_far.moments), so_far.found is not None))
        assert so_far.preview.shape == (1, 3, 32, 32) and so_far.steps == 3
    assert seen == [(1, False), (2, False), (3, False), (3, True)]


def test_separations_are_those_of_the_steps():
    settings = replace(defaults_of(AMDM), steps=5, window=(1.0, 13.2))
    plan = planned("A(+B)", SCENE, settings)
    steps = {step.index: step for step in plan.call.value}
    drawn = last("A(+B)", settings)
    assert drawn.latents.keys() == {i for i, step in steps.items() if step.aggregation} and drawn.latents
    for i, gap in drawn.latents.items():
        assert gap.angle == pytest.approx(steps[i].aggregation.angle.item())
        assert gap.norms == pytest.approx(steps[i].aggregation.norm_gap.item())
    a, b = last("A", settings), last("B", settings)
    gaps = drawing.apart(a, b)
    x, y = a.moments[2].x.flatten(), b.moments[2].x.flatten()
    assert gaps[2].angle == pytest.approx(torch.acos(x @ y / x.norm() / y.norm()).item(), abs=1e-3)
    scale = (1 + a.moments[2].sigma ** 2) ** 0.5
    assert gaps[2].norms == pytest.approx((x.norm() - y.norm()).abs().item() / scale, abs=1e-3)
    lines, controls = looks.lines_of({"A": a, "B": b, "A(+B)": drawn})
    assert list(lines) == ["A and B alone", "A(+B)"] and not controls


def test_the_scrubber_shows_what_each_model_makes_of_a_step():
    settings = replace(defaults_of(RECOMMENDED), steps=3)
    drawn = last("A(+B)", settings)
    found = drawing.looks(drawn, 1, settings)
    assert list(found) == [
        "the noisy latent", "what layout makes of it", "what attribute makes of it", "what the step follows"
    ]  # fmt: skip
    moment = drawn.moments[1]
    told = denoisers.extra_args("attribute", SCENE)
    own = denoisers.load("attribute")(moment.x, torch.tensor([moment.sigma]), **told)
    assert torch.equal(found["what attribute makes of it"], latents.decode(own))
    assert torch.equal(found["what the step follows"], latents.decode(moment.denoised))
    with pytest.raises(ValueError, match=r"^There are 3 steps to look at, and step 4 is none"):
        drawing.looks(drawn, 3, settings)


def test_verdicts_are_the_detectors():
    drawn = last("A", replace(defaults_of(AMDM), steps=2))
    drawn.images, drawn.found = world.render(SCENE), scores.truth(SCENE)
    assert drawing.judged(drawn) == ["all right"]
    wrong = drawn.found._replace(colours=drawn.found.colours + torch.tensor([[1, 1, 0, 0]]))
    drawn.found = wrong._replace(interactions=0 * wrong.interactions)
    assert drawing.judged(drawn) == ["wrong: 2 colours, the interaction"]
    assert drawing.counted(1, "shapes") == "1 shape"
    assert looks.verdict_of(drawn) == ("wrong: 2 colours, the interaction", "wrong")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "magic"}, "The method is 'magic': choose one of Projective guidance"),
        ({"lead": "style"}, "The lead is 'style': choose one of layout, attribute"),
        ({"sampler": "euler"}, "The sampler is 'euler': choose one of ddim"),
        ({"steps": 1}, "There are 1 steps: choose 2 to 1000"),
        ({"seed": -1}, "The seed is -1: choose a whole number from 0"),
        ({"images": 9}, "There are 9 images: choose 1 to 8"),
        ({"weight": -1.0, "method": AMDM}, "weights"),
        ({"weight": 1.5, "method": AMDM}, "weights"),
        ({"eta": -0.1}, "eta"),
        (
            {"method": "HMC on energies"},
            "HMC on energies cannot join these models: it needs the models' dens",
        ),
        ({"method": "Weight averaging"}, "Weight averaging cannot join these models: it averages fine-tunes"),
    ],
)
def test_what_is_wrong_is_one_sentence(options, says):
    settings = replace(Settings(RECOMMENDED), **options)
    with pytest.raises(ValueError, match=f"^{says}") as raised:
        next(draw("A(+B)", SCENE, settings))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("method", POSSIBLE)
def test_costs_are_the_passes_of_the_networks(method, monkeypatch):
    settings, passes = replace(defaults_of(method), steps=3), 0
    plan = planned("A(+B)", SCENE, settings)
    forward = torch.nn.Module.__call__

    def counted(module, *args, **kwargs):
        nonlocal passes
        if type(module).__name__.startswith("UNet2D"):
            passes += len(args[0])
        return forward(module, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "__call__", counted)
    for _ in plan.call.value:
        pass
    assert METHODS[method].passes(settings) == passes


def test_amdm_as_published_costs_what_is_said():
    levels = karras_sigmas(50, LOWEST, HIGHEST)
    settings = Settings(AMDM, steps=50, sampler="ddim", window=(levels[19].item() - 1e-3, 13.2))
    assert METHODS[AMDM].passes(settings) == PUBLISHED == 140


def test_cards_say_what_they_show():
    settings = replace(defaults_of(AMDM), steps=2, images=8)
    empty = looks.cards({}, settings)
    assert empty.count("<figure") == 4 and "<img" not in empty
    assert "layout: is told where each shape is" in empty and "A with what B controls" in empty
    html = looks.cards({"A": last("A", settings)}, settings)
    assert re.search(r'data-picture="A"><b>A</b><img class="frame" alt="A" src="data:image/png;base64,', html)
    assert re.search(r"\d of 8 images all right", html)


def test_images_are_tiled_three_in_a_row():
    images = torch.linspace(-1, 1, 6)[:, None, None, None].expand(6, 3, 32, 32)
    tiles = looks.tiled(torch.cat([images, images[:2]]))
    assert tiles.shape == (96, 96, 3)
    assert tiles[::32, ::32, 0].tolist() == [[0, 51, 102], [153, 204, 255], [0, 51, looks.GROUND[0]]]
    assert looks.tiled(images[:1]).shape == (32, 32, 3)


def test_the_plot_has_the_window_and_a_line_for_each_picture():
    settings = replace(defaults_of(AMDM), steps=4)
    drawn = {picture: last(picture, settings) for picture in PICTURES}
    figure = looks.separation_figure(drawn, settings)
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == ["A and B alone", "A(+B)", "B(+A)"]
        (band,) = axes.patches
        assert (band.get_x(), band.get_x() + band.get_width()) == (0.5, 2.5)
        assert list(axes.lines[1].get_xdata()) == [1, 2]
    assert figure.axes[0].get_title() == "Angle between the latents, radians"
    assert looks.separation(drawn, settings).startswith('<img class="plot"')


def test_marks_change_nothing_but_the_frames():
    image, found = world.render(SCENE), scores.truth(SCENE)
    pixels = looks.marked(image, found, SCENE)
    assert pixels.shape == (360, 360, 3)
    middle = np.asarray([round(11.25 * v) for v in (8.5, 7.5)])
    red = [round(255 * v) for v in world.PALETTE[0]]
    assert np.abs(pixels[middle[0], middle[1]].astype(int) - red).max() < 40
