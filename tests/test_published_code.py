"""The published code as a recipe: against its loop written out, and the authors' own where it is at hand."""

import pytest
import torch
from adapters import test_paper_systems as paper
from PIL import Image
from tolerances import assert_equal

from amdm import sample_amdm
from amdm.denoisers import GaussianMixture
from amdm.diffusers import from_pipeline
from amdm.diffusers.levels import training_sigmas
from examples.published_code import published

TRAINING = (1 / (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2).cumprod(0) - 1).sqrt()
ALPHA_BAR = 1 / (1 + TRAINING**2)
NUMBER = 10
TIMESTEPS = [100 * i + 1 for i in reversed(range(NUMBER))]  # diffusers' leading spacing with an offset of 1
SIGMAS = TRAINING[[*TIMESTEPS, 0]]  # set_alpha_to_one False


def mixtures(number):
    generator = torch.Generator().manual_seed(4)
    means = torch.randn(number, 3, 64, generator=generator, dtype=torch.float64)
    return [GaussianMixture(mean, torch.full((3,), 0.3, dtype=torch.float64)) for mean in means]


def noise(model, z, t):
    """What the network of an eps model predicts of a VP latent."""
    sigma = TRAINING[t]
    x = z * (1 + sigma**2).sqrt()
    return (x - model(x, sigma.expand(len(x)))) / sigma


def loop(models, starts, omegas, pulls, optim_start, optim_end):
    """The loops of interactmigc.py, interactip.py and interactmigcip.py in their own terms: VP, alphas, t."""
    alphas = ALPHA_BAR / torch.cat([ALPHA_BAR.new_ones(1), ALPHA_BAR[:-1]])
    z, z_prev, eps_prev = list(starts), [None] * len(models), [None] * len(models)
    for i, t in enumerate(TIMESTEPS):
        eps = [noise(model, own, t) for model, own in zip(models, z, strict=True)]
        before = t - 1000 // NUMBER
        a, b = ALPHA_BAR[t], ALPHA_BAR[before] if before >= 0 else ALPHA_BAR[0]
        z = [
            b.sqrt() * (own - (1 - a).sqrt() * e) / a.sqrt() + (1 - b).sqrt() * e
            for own, e in zip(z, eps, strict=True)
        ]
        u, v = omegas[0], (1 - omegas[0] ** 2) ** 0.5
        mixed = u * z[0] + v * z[1]
        if len(z) == 3:
            y = (1 - omegas[1] ** 2) ** 0.5
            mixed = u * omegas[1] * z[0] + v * omegas[1] * z[1] + v * y * z[2]
        if i > 0 and optim_start <= i <= optim_end:
            at = t + 1000 // NUMBER
            for k, p in enumerate(pulls):
                coefficient = (1 - alphas[at]) / ((1 - ALPHA_BAR[at]).sqrt() * alphas[at].sqrt())
                mu = z_prev[k] / alphas[at].sqrt() - coefficient * eps_prev[k]
                z[k] = mixed - p * (mixed - mu) / torch.norm(mixed - mu)
        z_prev, eps_prev = list(z), eps
    return z[0]


@pytest.mark.parametrize("steps", [(0, 9), (1, 3), (1, 7), (4, 4)])
@pytest.mark.parametrize(("omegas", "pulls"), [([0.5], [0.2, 0.3]), ([0.3, 0.6], [0.2, 0.3, 0.1])])
def test_it_is_the_published_loop(omegas, pulls, steps):
    models = mixtures(len(pulls))
    starts = torch.randn(len(pulls), 1, 64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = loop(models, starts, omegas, pulls, *steps)
    scale = (1 + SIGMAS**2).sqrt()
    options = published(omegas, pulls, TRAINING, steps)
    actual = sample_amdm(models, list(starts * scale[0]), SIGMAS, disable=True, **options) / scale[-1]
    assert_equal(actual, expected, 1e-11)
    own_means = {**options, "sampler": None}
    del own_means["sampler"]
    other = sample_amdm(models, list(starts * scale[0]), SIGMAS, disable=True, **own_means) / scale[-1]
    assert (other - expected).abs().max() > 1e-3, "the paper's mean is another"


PULLS = {"interact_p": 3.0, "migc_p": 2.0, "ip_p": 2.0}
SPAN = {"omega": 0.5, "optim_start": 1, "optim_end": 3}


def as_published(name, kind, call, calls, parts, **more):
    """The latent of the lead: the authors' loop, unmodified, over pipelines that are made here."""
    code = getattr(paper.module("AMDM", name), kind)
    made = code.__new__(code)  # it would load checkpoints
    made.__dict__.update(parts)
    told = {**SPAN, **more, "num_inference_steps": paper.STEPS, "output_type": "latent"}
    said = {name: value for name, value in calls[0].items() if name.startswith("interactdiffusion")}
    _, lead = getattr(made, call)(**said, interact_latents=calls[0]["latents"], **told)
    return lead.images


def ours(pipes, calls, pulls):
    prepared = [from_pipeline(pipe, **told) for pipe, told in zip(pipes, calls, strict=True)]
    options = published([SPAN["omega"]], pulls, training_sigmas(pipes[0].scheduler))
    models, starts = [one.model for one in prepared], [one.x for one in prepared]
    x = sample_amdm(models, starts, prepared[0].sigmas, disable=True, **options)
    return prepared[0].decode(x).images


@pytest.mark.slow
@paper.upstream
@pytest.mark.filterwarnings("ignore")
def test_it_is_the_authors_loop_with_migc():
    """To MIGC's own noise: two of its calls differ by 6e-5."""
    (pipe, told), (migc, boxed) = paper.interact(), paper.migc()
    expected = as_published(
        "interactmigc", "InteractMIGC", "interactmigc_inference", [told],
        {"interact_pipe": pipe, "migc_pipe": migc},
        caption=told["prompt"], prompt=boxed["prompt"], bboxes=boxed["bboxes"],
        negative_prompt=told["negative_prompt"], migc_latents=boxed["latents"], MIGCsteps=boxed["MIGCsteps"],
        interact_p=PULLS["interact_p"], migc_p=PULLS["migc_p"],
    )  # fmt: skip
    actual = ours([pipe, migc], [told, boxed], [PULLS["interact_p"], PULLS["migc_p"]])
    assert_equal(actual, expected, paper.MIGC_TOL)
    assert (actual - pipe(**told).images).abs().max() > 0.1


@pytest.mark.slow
@paper.upstream
@pytest.mark.filterwarnings("ignore")
def test_it_is_the_authors_loop_with_ip_adapter(tmp_path):
    pipe, told = paper.interact()
    adapter, styled = paper.tencent(tmp_path, paper.module("AMDM", "modules.IPAdapter.ip_adapter.ip_adapter"))
    adapter.pipe.scheduler = pipe.scheduler
    expected = as_published(
        "interactip", "InteractIP", "interactip_inference", [told],
        {"interact_pipe": pipe, "ip_pipe": adapter.pipe, "ip_adapter": adapter},
        prompt=told["prompt"], negative_prompt=told["negative_prompt"], ip_latents=styled["latents"],
        ref_pil_image=Image.new("RGB", (8, 8)), ip_scale=0.8,
        interact_p=PULLS["interact_p"], ip_p=PULLS["ip_p"],
    )  # fmt: skip
    adapter.set_scale(0.8)
    actual = ours([pipe, adapter.pipe], [told, styled], [PULLS["interact_p"], PULLS["ip_p"]])
    assert_equal(actual, expected, 5e-6)
    assert (actual - pipe(**told).images).abs().max() > 0.1
