"""The shipped weights: whole, of their configuration, small, and good at what they are for."""

import pytest
import torch

from amdm import sample_ddim, start_noise
from amdm.shapes import denoisers, latents, networks, scores, world
from amdm.shapes.configs import AGGREGATED, TRAINED

SHIPPED = sorted(folder.parent.name for folder in networks.WEIGHTS.glob("*/scheduler"))


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_are_those_of_the_configuration(name):
    load = networks.load_ensemble if name in AGGREGATED else networks.load
    shipped, built = load(name).trainable(), networks.build(TRAINED[name]).trainable()
    shapes = ({key: value.shape for key, value in net.state_dict().items()} for net in (shipped, built))
    assert next(shapes) == next(shapes)
    assert all(value.isfinite().all() for value in shipped.state_dict().values())
    [file] = networks.WEIGHTS.glob(f"{name}/*/*.safetensors")
    assert file.stat().st_size == pytest.approx(
        2 * shipped.num_parameters(), rel=0.05
    )  # half precision, and a head


def test_all_weights_together_stay_below_30_mb():
    assert sum(file.stat().st_size for file in networks.WEIGHTS.rglob("*.*")) < 30e6


def test_weights_that_a_wheel_lacks_and_weights_that_are_damaged_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match=r"style/unet is not there: a wheel has the weights of base, layout"):
        networks.load("style")
    (tmp_path / "style" / "unet").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"style/unet holds no weights that can be read: "):
        networks.load("style")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attribute", "least"),
    [
        ("layout", "shapes", 0.9),
        ("layout", "interactions", 0.85),
        ("attribute", "colours", 0.9),
        ("style", "style", 0.9),
    ],
)
def test_models_draw_what_they_are_told(name, attribute, least):
    """With half the steps of the published figures; by chance it would be 0.2 to 0.55."""
    scenes = world.sample_scenes(world.VALIDATION[:24])
    sigmas = denoisers.sigmas(25)
    [x] = start_noise(scenes.seeds.tolist(), latents.SHAPE, sigmas[0], num_models=1)
    x = sample_ddim(denoisers.load(name), x, sigmas, denoisers.extra_args(name, scenes), disable=True)
    count = scores.compare(scores.find(latents.decode(x), scenes), scenes)[attribute]
    assert count.right.sum() / count.wanted.sum() >= least
    assert torch.isfinite(x).all()
