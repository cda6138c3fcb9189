"""ComfyUI's own functions, on its own model sampling: each sampler of its name takes the same steps.

These need ComfyUI (0.3.64 was compared): `COMFYUI_PATH=... pytest tests/samplers/test_hosts.py`.
"""

import os
import sys
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from samplers.models import karras, mixture
from strategies import randn
from tolerances import assert_equal

from amdm import samplers
from amdm.denoisers import RectifiedFlow
from amdm.schedules import flow_sigmas, flow_times

pytestmark = pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="COMFYUI_PATH is not set")


@pytest.fixture(scope="module")
def comfy() -> Any:
    """ComfyUI's sampler functions and its two model samplings."""
    path, argv = [*sys.path], sys.argv
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    sys.argv = ["x", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.extra_samplers.uni_pc
    import comfy.k_diffusion.sampling
    import comfy.model_sampling

    sys.path[:], sys.argv = path, argv
    unipc = comfy.extra_samplers.uni_pc
    functions = {**vars(comfy.k_diffusion.sampling), "sample_uni_pc": unipc.sample_unipc}
    functions["sample_uni_pc_bh2"] = unipc.sample_unipc_bh2
    kinds = comfy.model_sampling
    ve = type("VE", (kinds.ModelSamplingDiscrete, kinds.EPS), {})()
    flow = type("Flow", (kinds.ModelSamplingDiscreteFlow, kinds.CONST), {})()
    return SimpleNamespace(functions=functions, ve=ve, flow=flow)


class Wrapped:
    """A denoiser with what ComfyUI's functions look up in their model."""

    def __init__(self, model, sampling):
        self.model = model
        patcher = SimpleNamespace(get_model_object=lambda name: sampling)
        inner = SimpleNamespace(model_sampling=sampling)
        self.inner_model = SimpleNamespace(inner_model=inner, model_patcher=patcher)

    def __call__(self, x, sigma, **extra_args):
        return self.model(x, sigma)


def supplied(shape):
    seeds = count()
    return lambda sigma, sigma_next: randn(next(seeds), *shape)


NOISY = ("euler_ancestral", "ddpm", "lcm", "dpmpp_2m_sde", "res_multistep_ancestral")
VE = [
    ("ddim", "euler", {}),
    ("ddim", "euler_ancestral", {"eta": 1.0}),
    ("ddim", "euler_ancestral", {"eta": 0.5}),
    ("ddim", "ddpm", {"eta": 1.0}),
    ("heun", "heun", {}),
    ("dpmpp_2m", "dpmpp_2m", {}),
    ("dpmpp_2m_sde", "dpmpp_2m_sde", {"eta": 1.0}),
    ("lcm", "lcm", {}),
    ("res_multistep", "res_multistep", {}),
    ("res_multistep", "res_multistep_ancestral", {"eta": 1.0}),
    ("res_multistep", "res_multistep_ancestral", {"eta": 0.5}),
    ("uni_pc", "uni_pc", {}),
    ("uni_pc", "uni_pc_bh2", {"variant": "bh2"}),
]
FLOW = [
    ("ddim", "euler", {}),
    ("euler_ancestral_flow", "euler_ancestral", {"eta": 1.0}),
    ("euler_ancestral_flow", "euler_ancestral", {"eta": 0.5}),
    ("heun_flow", "heun", {}),
    ("dpmpp_2m_flow", "dpmpp_2m", {}),
    ("dpmpp_2m_sde", "dpmpp_2m_sde", {"eta": 1.0}),
    ("lcm", "lcm", {}),
    ("res_multistep_flow", "res_multistep", {}),
    ("uni_pc_flow", "uni_pc", {}),
    ("uni_pc_flow", "uni_pc_bh2", {"variant": "bh2"}),
]


def theirs(comfy, name, model, x, sigmas, options):
    options = {key: value for key, value in options.items() if key != "variant"}
    if name == "ddpm":
        options = {}
    if name in NOISY:
        options["noise_sampler"] = supplied(x.shape)
    extra = {"extra_args": {}} if name.startswith("uni_pc") else {}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # uni_pc has its coefficients in it
    try:
        return comfy.functions[f"sample_{name}"](model, x, sigmas.clone(), disable=True, **extra, **options)
    finally:
        torch.set_default_dtype(before)


def ours(name, host, model, x, sigmas, options):
    noise = {"noise_sampler": supplied(x.shape)} if host in NOISY else {}
    return getattr(samplers, f"sample_{name}")(
        model, x, sigmas, disable=True, validate=False, **options, **noise
    )


@pytest.mark.parametrize("steps", [2, 3, 4, 12])
@pytest.mark.parametrize(("name", "host", "options"), VE)
def test_is_comfyuis_function(comfy, name, host, options, steps):
    sigmas, x = karras(steps), 20 * randn(1, 3, 2, 3, 1)
    sigmas[-1] = 1e-3 if host.startswith("uni_pc") else 0.0
    model = lambda x, sigma: mixture()(x.flatten(1), sigma).reshape(x.shape)
    expected = theirs(comfy, host, Wrapped(model, comfy.ve), x, sigmas, options)
    assert_equal(ours(name, host, model, x, sigmas, options), expected, 1e-12)


def written(info):
    if info["i"] % 2:
        info["x"].mul_(1.1)
        info["denoised"].clamp_(-1.5, 1.5)


WRITTEN = [each for each in VE if "uni_pc" not in each[1] and each[1] != "ddpm"]


@pytest.mark.parametrize(("name", "host", "options"), WRITTEN)
def test_what_a_callback_writes_acts_as_in_comfyui(comfy, name, host, options):
    sigmas, x, model = karras(9), 20 * randn(1, 3, 6), mixture()
    options = {**options, "callback": written}
    expected = theirs(comfy, host, Wrapped(model, comfy.ve), x, sigmas, options)
    assert_equal(ours(name, host, model, x, sigmas, options), expected, 1e-11)


@pytest.mark.parametrize("first", [1.0, 0.9])
@pytest.mark.parametrize("steps", [2, 3, 4, 12])
@pytest.mark.parametrize(("name", "host", "options"), FLOW)
def test_is_comfyuis_function_on_a_flow(comfy, name, host, options, steps, first):
    times, x = first * flow_times(steps, shift=3.0), randn(1, 3, 2, 3, 1)
    times[-1] = 1e-3 if host.startswith("uni_pc") else 0.0

    def flow(x_s, s):
        s = s.clamp(max=1 - 1e-6)
        return mixture()(x_s.flatten(1) / (1 - s[:, None]), s / (1 - s)).reshape(x_s.shape)

    model = RectifiedFlow(flow, time_scale=1.0, prediction="sample")
    expected = theirs(comfy, host, Wrapped(flow, comfy.flow), x, times, options)
    if host == "dpmpp_2m_sde" and first == 1.0:  # it begins elsewhere then
        times[0] = comfy.flow.percent_to_sigma(1e-4)
    sigmas = flow_sigmas(times)
    actual = ours(name, host, model, x * (1 + sigmas[0]), sigmas, options) / (1 + sigmas[-1])
    assert_equal(actual, expected, 3e-5 if first == 1.0 else 1e-11)
