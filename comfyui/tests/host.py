"""What the tests ask of the host, real or stand-in."""

from types import SimpleNamespace

import comfy.samplers
import torch

from comfyui.tests.conftest import REAL

if REAL:
    from comfyui.tests.real import conditioning, direct, lora, sd3, sd15
else:
    from comfyui.tests.standin import conditioning, direct, lora, sd3, sd15

__all__ = ["conditioning", "direct", "lora", "sd3", "sd15"]

CHANNELS = {"SD15": 4, "SD3": 16}


def cfg_guider(model, positive=1, negative=2, cfg=4.0):
    """A guider of CFGGuider; its prompts are seeds, or conditionings."""
    made = [each if isinstance(each, list) else conditioning(each) for each in (positive, negative)]
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*made)
    guider.set_cfg(cfg)
    return guider


def basic_guider(model, positive=1):
    """A guider with one prompt and no guidance."""
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": conditioning(positive) if isinstance(positive, int) else positive})
    return guider


def schedule(model, name="normal", steps=6):
    """The host's sigmas."""
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), name, steps)


def latent(model, batch=1, seed=None, size=8):
    """An empty latent, or a random one."""
    shape = (batch, CHANNELS[type(model.get_model_object("latent_format")).__name__], size, size)
    if seed is None:
        return torch.zeros(shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise_like(image, seed=5):
    """The host's noise of a seed."""
    import comfy.sample

    return comfy.sample.prepare_noise(image, seed)


def run(guider, sampler, sigmas, image, seed=5, mask=None, callback=None, **options):
    """Sample as SamplerCustomAdvanced does."""
    if isinstance(sampler, str):
        sampler = comfy.samplers.sampler_object(sampler)
    with torch.inference_mode():
        return guider.sample(
            noise_like(image, seed),
            image,
            sampler,
            sigmas,
            denoise_mask=mask,
            callback=callback,
            seed=seed,
            disable_pbar=True,
            **options,
        )


def off(a, b):
    """The largest difference relative to the largest number."""
    return ((a - b).abs().max() / b.abs().max()).item()


KINDS = {
    "eps": SimpleNamespace(make=sd15, flow=False, schedules=("normal", "karras")),
    "v": SimpleNamespace(
        make=lambda seed: sd15(seed, "V_PREDICTION"), flow=False, schedules=("normal", "karras")
    ),
    "flow": SimpleNamespace(make=sd3, flow=True, schedules=("normal", "simple")),
}


class Oracle:
    """A guider as a denoiser in VE coordinates, one whole `sample` of the host's for each call.

    Nothing of the nodes is in it: the guider is prepared anew, alone, and its prediction is read.
    """

    def __init__(self, guider, sigmas, image, mask=None, noise=None):
        self.guider, self.sigmas, self.image, self.mask = guider, sigmas, image, mask
        self.noise = torch.zeros_like(image) if noise is None else noise
        self.flow = type(guider.model_patcher.get_model_object("model_sampling")).__mro__
        self.flow = any(each.__name__ == "CONST" for each in self.flow)

    def __call__(self, x, level):
        self.asked = x, level
        form = self.guider.model_patcher.model
        with torch.inference_mode():
            out = self.guider.sample(self.noise, self.image, self, self.sigmas, self.mask, None, True, 5)
            return form.process_latent_in(out).clone()

    def sample(self, guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar):
        x, level = self.asked
        if self.flow:
            column = level.reshape(-1, *[1] * (x.ndim - 1))
            x, level = x / (1 + column), level / (1 + level)
            level = sigmas[(sigmas - level[0]).abs().argmin()].expand(len(x))
        model = comfy.samplers.KSamplerX0Inpaint(guider, sigmas)
        model.latent_image, model.noise = latent_image, noise
        return model(x, level, denoise_mask=denoise_mask, **extra_args)
