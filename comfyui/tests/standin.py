"""Stand-ins for the parts of ComfyUI that the nodes touch: they keep its contract and refuse what it refuses.

Written from the contract, not from ComfyUI's code. The models are one formula, so a run takes milliseconds.
"""

import copy
import sys
import uuid
from itertools import pairwise
from types import ModuleType, SimpleNamespace

import torch

CPU = torch.device("cpu")


def column(sigma, x):
    return sigma.reshape(-1, *[1] * (x.ndim - 1)) if sigma.ndim else sigma


# comfy.model_sampling


class EPS:
    """Noise levels are VE."""

    sigma_min, sigma_max = torch.tensor(0.03), torch.tensor(14.6)

    def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
        sigma = column(sigma, noise)
        return latent_image + noise * ((1 + sigma**2) ** 0.5 if max_denoise else sigma)

    def inverse_noise_scaling(self, sigma, latent):
        return latent


class CONST:
    """Noise levels are a flow's times."""

    sigma_min, sigma_max = torch.tensor(0.001), torch.tensor(1.0)

    def noise_scaling(self, sigma, noise, latent_image, max_denoise=False):
        sigma = column(sigma, noise)
        return sigma * noise + (1 - sigma) * latent_image

    def inverse_noise_scaling(self, sigma, latent):
        return latent / (1 - column(sigma, latent))


# A model and its patcher


class SD15:
    scale_factor = 0.18215
    channels = 4


class SD3:
    scale_factor, shift_factor = 1.5305, 0.0609
    channels = 16


class Network:
    """A denoiser with one weight, and the state that patchers share."""

    def __init__(self, seed, kind, form):
        generator = torch.Generator().manual_seed(seed)
        self.base = torch.randn(form.channels, form.channels, generator=generator) / (2 * form.channels**0.5)
        self.weight = self.base
        self.model_sampling, self.latent_format = kind(), form()
        self.current_patcher = self.current_weight_patches_uuid = None
        self.model_lowvram, self.model_loaded_weight_memory = False, 0

    def process_latent_in(self, latent):
        return latent * self.latent_format.scale_factor

    def process_latent_out(self, latent):
        return latent / self.latent_format.scale_factor

    def scale_latent_inpaint(self, sigma, noise, latent_image, **_):
        return self.model_sampling.noise_scaling(sigma, noise, latent_image)

    def denoised(self, x, sigma, told):
        """The prediction in the host's coordinates: it depends on all that it is given."""
        sigma = column(sigma, x)
        flow = isinstance(self.model_sampling, CONST)
        seen = x if flow else x / (1 + sigma**2) ** 0.5
        mixed = torch.einsum("ij,bjhw->bihw", self.weight, seen)
        return torch.tanh(
            mixed + told.mean() + 0.1 * told.flatten()[: x.shape[1]].reshape(1, -1, 1, 1)
        ) + 0.1 * sigma.clamp(max=1)


class Patcher:
    def __init__(self, model):
        self.model, self.load_device, self.offload_device = model, CPU, CPU
        self.patches, self.weight_wrapper_patches, self.additional = {}, {}, {}
        self.model_options = {"transformer_options": {}}
        self.patches_uuid, self.force_cast_weights, self.injections = uuid.uuid4(), False, {}
        self.backup = {}  # of all clones

    def clone(self):
        own = copy.copy(self)
        own.patches, own.additional = {k: v[:] for k, v in self.patches.items()}, dict(self.additional)
        own.model_options = copy.deepcopy(self.model_options)
        return own

    def add_patches(self, patches, strength=1.0):
        self.patches_uuid = uuid.uuid4()
        for key, value in patches.items():
            self.patches.setdefault(key, []).append((strength, value))
        return list(patches)

    def set_additional_models(self, key, models):
        assert all(each.model is not self.model for each in models), "the last load would win"
        self.additional[key] = models

    def get_model_object(self, name):
        return getattr(self.model, name)

    def model_patches_to(self, device):
        assert device == self.load_device

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if unpatch_weights:
            for key, kept in self.backup.items():
                setattr(self.model, key, kept.weight)
            self.backup.clear()
            self.model.current_weight_patches_uuid, self.model.model_loaded_weight_memory = None, 0

    def patch_model(self, device_to=None, lowvram_model_memory=0, load_weights=True):
        if load_weights:
            assert self.model.current_weight_patches_uuid is None, (
                "another patcher's weights are in the network"
            )
            for key in self.patches:
                self.patch_weight_to_device(key, device_to)
            self.model.current_weight_patches_uuid = self.patches_uuid
            self.model.model_loaded_weight_memory = self.model.base.nbytes

    def patch_weight_to_device(self, key, device_to=None):
        weight = getattr(self.model, key)
        assert key not in self.backup, "another patcher's weights are in the network"
        self.backup[key] = SimpleNamespace(weight=weight, inplace_update=False)
        setattr(self.model, key, weight + sum(strength * value for strength, value in self.patches[key]))

    def get_all_callbacks(self, kind):
        return []

    def detach(self, unpatch_all=True):
        self.unpatch_model(unpatch_weights=unpatch_all)

    def eject_model(self):
        pass

    def unpatch_hooks(self):
        pass


def load_models_gpu(models, **_):
    for each in models:
        if each.model.current_weight_patches_uuid != each.patches_uuid:
            each.unpatch_model()
            each.patch_model(each.load_device)


# comfy.samplers


class Sampler:
    def max_denoise(self, model_wrap, sigmas):
        most = float(model_wrap.inner_model.model_sampling.sigma_max)
        return float(sigmas[0]) >= most * (1 - 1e-5)


class KSamplerX0Inpaint:
    def __init__(self, model, sigmas):
        self.inner_model, self.sigmas = model, sigmas

    def __call__(self, x, sigma, denoise_mask, model_options={}, seed=None):  # noqa: B006
        if denoise_mask is None:
            return self.inner_model(x, sigma, model_options=model_options, seed=seed)
        known = self.inner_model.inner_model.scale_latent_inpaint(
            x=x, sigma=sigma, noise=self.noise, latent_image=self.latent_image
        )
        x = torch.lerp(known, x, denoise_mask)
        out = self.inner_model(x, sigma, model_options=model_options, seed=seed)
        return out * denoise_mask + self.latent_image * (1 - denoise_mask)


class KSAMPLER(Sampler):
    def __init__(self, sampler_function, extra_options=None, inpaint_options=None):
        self.sampler_function = sampler_function
        self.extra_options, self.inpaint_options = extra_options or {}, inpaint_options or {}

    def sample(
        self,
        model_wrap,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        disable_pbar=False,
    ):
        model = KSamplerX0Inpaint(model_wrap, sigmas)
        model.latent_image, model.noise = latent_image, noise
        if self.inpaint_options.get("random"):
            model.noise = torch.randn(noise.shape, generator=torch.manual_seed(extra_args["seed"] + 1))
        one, total = model_wrap.inner_model.model_sampling, len(sigmas) - 1
        x = one.noise_scaling(sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas))
        shown = None if callback is None else lambda d: callback(d["i"], d["denoised"], d["x"], total)
        extra_args = {**extra_args, "denoise_mask": denoise_mask}
        x = self.sampler_function(
            model, x, sigmas, extra_args=extra_args, callback=shown, **self.extra_options
        )
        return one.inverse_noise_scaling(sigmas[-1], x)


class CFGGuider:
    def __init__(self, model_patcher):
        self.model_patcher, self.model_options = model_patcher, model_patcher.model_options
        self.original_conds, self.cfg = {}, 1.0

    def set_conds(self, positive, negative):
        self.inner_set_conds({"positive": positive, "negative": negative})

    def inner_set_conds(self, conds):
        self.original_conds.update(conds)

    def set_cfg(self, cfg):
        self.cfg = cfg

    def __call__(self, x, timestep, model_options={}, seed=None):  # noqa: B006
        return self.predict_noise(x, timestep, model_options, seed)

    def predict_noise(self, x, timestep, model_options, seed):
        network, patcher = self.inner_model, self.model_patcher
        assert timestep.shape == (len(x),), (
            f"sigma has shape {tuple(timestep.shape)}, expected one per sample"
        )
        assert network.current_patcher is patcher, "another guider's patcher is in the network"
        assert network.current_weight_patches_uuid == patcher.patches_uuid, (
            "another patcher's weights are in it"
        )
        assert x.shape[1] == network.latent_format.channels
        assert model_options["transformer_options"]["sample_sigmas"] is not None
        told = {name: conds[0][0] for name, conds in self.conds.items()}
        with_cfg = self.cfg != 1 or model_options.get("disable_cfg1_optimization")
        cond = network.denoised(x, timestep, told["positive"])
        uncond = (
            network.denoised(x, timestep, told["negative"])
            if with_cfg and "negative" in told
            else torch.zeros_like(x)
        )
        given = {"cond_denoised": cond, "uncond_denoised": uncond, "cond_scale": self.cfg, "input": x}
        if "sampler_cfg_function" in model_options:
            return x - model_options["sampler_cfg_function"](given)
        return uncond + self.cfg * (cond - uncond)

    def sample(
        self,
        noise,
        latent_image,
        sampler,
        sigmas,
        denoise_mask=None,
        callback=None,
        disable_pbar=False,
        seed=None,
    ):
        patcher = self.model_patcher
        assert noise.shape == latent_image.shape and noise.shape[1] == patcher.model.latent_format.channels
        self.inner_model, self.conds = patcher.model, dict(self.original_conds)
        load_models_gpu([patcher, *(other for each in patcher.additional.values() for other in each)])
        self.inner_model.current_patcher = patcher
        if latent_image.any():
            latent_image = self.inner_model.process_latent_in(latent_image)
        if denoise_mask is not None:
            denoise_mask = denoise_mask.expand(noise.shape)
        options = copy.deepcopy(self.model_options)
        options.setdefault("transformer_options", {})["sample_sigmas"] = sigmas
        extra_args = {"model_options": options, "seed": seed}
        try:
            x = sampler.sample(
                self, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar
            )
            assert x.shape == noise.shape and x.dtype == torch.float32
            return self.inner_model.process_latent_out(x)
        finally:
            self.inner_model.current_patcher = None
            del self.inner_model, self.conds


def calculate_sigmas(model_sampling, name, steps):
    low, high = float(model_sampling.sigma_min), float(model_sampling.sigma_max)
    if isinstance(model_sampling, CONST):
        return torch.linspace(1, 0, steps + 1) ** (1 if name == "simple" else 1.3)
    power = 7 if name == "karras" else 1.5
    levels = torch.linspace(high ** (1 / power), low ** (1 / power), steps) ** power
    return torch.cat([levels, torch.zeros(1)])


# comfy.k_diffusion.sampling: textbook forms


def steps_of(sigmas):
    return enumerate(pairwise(sigmas))


def predicted(model, x, sigma, i, extra_args, callback):
    denoised = model(x, sigma * x.new_ones(len(x)), **extra_args)
    if callback is not None:
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
    return denoised


def sample_euler(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    s_churn=0.0,
    s_tmin=0.0,
    s_tmax=float("inf"),
    s_noise=1.0,
):
    for i, (sigma, after) in steps_of(sigmas):
        denoised = predicted(model, x, sigma, i, extra_args, callback)
        x = x + (after - sigma) * (x - denoised) / sigma
    return x


def sample_heun(
    model,
    x,
    sigmas,
    extra_args=None,
    callback=None,
    disable=None,
    s_churn=0.0,
    s_tmin=0.0,
    s_tmax=float("inf"),
    s_noise=1.0,
):
    for i, (sigma, after) in steps_of(sigmas):
        slope = (x - predicted(model, x, sigma, i, extra_args, callback)) / sigma
        end = x + (after - sigma) * slope
        if after > 0:
            slope = (slope + (end - predicted(model, end, after, i, extra_args, None)) / after) / 2
        x = x + (after - sigma) * slope
    return x


def sample_euler_ancestral(
    model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1.0, s_noise=1.0, noise_sampler=None
):
    noise_sampler = noise_sampler or default_noise_sampler(x, extra_args["seed"])
    flow = isinstance(sampling_of(model), CONST)
    for i, (sigma, after) in steps_of(sigmas):
        denoised = predicted(model, x, sigma, i, extra_args, callback)
        if flow:  # to a lower time by Euler's step, then the flow's own noise back to the time after
            down = after * (1 + eta * (after / sigma - 1))
            share = (1 - after) / (1 - down)
            x = share * (denoised + down / sigma * (x - denoised))
            if after > 0:
                x = x + (after**2 - (down * share) ** 2).sqrt() * s_noise * noise_sampler(sigma, after)
            continue
        up = torch.minimum(after, eta * after * (sigma**2 - after**2).sqrt() / sigma)
        down = (after**2 - up**2).sqrt()
        x = denoised + down / sigma * (x - denoised)
        if after > 0:
            x = x + up * s_noise * noise_sampler(sigma, after)
    return x


def sample_dpmpp_2m(model, x, sigmas, extra_args=None, callback=None, disable=None):
    before = None
    for i, (sigma, after) in steps_of(sigmas):
        denoised = predicted(model, x, sigma, i, extra_args, callback)
        towards = denoised
        if before is not None and after > 0:
            towards = (
                denoised + (denoised - before) * (sigma / after).log() / (sigmas[i - 1] / sigma).log() / 2
            )
        x, before = towards + after / sigma * (x - towards), denoised
    return x


def sample_dpmpp_2m_sde(*args, eta=1.0, s_noise=1.0, noise_sampler=None, solver_type="midpoint", **more):
    raise NotImplementedError("the stand-in has no Brownian tree")


def sample_ddpm(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None):
    return sample_euler_ancestral(model, x, sigmas, extra_args, callback, noise_sampler=noise_sampler)


def sample_lcm(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None):
    noise_sampler = noise_sampler or default_noise_sampler(x, extra_args["seed"])
    for i, (sigma, after) in steps_of(sigmas):
        x = predicted(model, x, sigma, i, extra_args, callback)
        if after > 0:
            x = sampling_of(model).noise_scaling(after, noise_sampler(sigma, after), x)
    return x


def sample_res_multistep(
    model, x, sigmas, extra_args=None, callback=None, disable=None, s_noise=1.0, noise_sampler=None
):
    return res_multistep(model, x, sigmas, extra_args, callback, 0.0, s_noise, noise_sampler)


def sample_res_multistep_ancestral(
    model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1.0, s_noise=1.0, noise_sampler=None
):
    return res_multistep(model, x, sigmas, extra_args, callback, eta, s_noise, noise_sampler)


def res_multistep(model, x, sigmas, extra_args, callback, eta, s_noise, noise_sampler):
    """The line through the last two predictions, integrated in log sigma over the step without its noise."""
    noise_sampler = noise_sampler or default_noise_sampler(x, extra_args["seed"])
    before = behind = None
    for i, (sigma, after) in steps_of(sigmas.double()):
        denoised = predicted(model, x, sigma.float(), i, extra_args, callback)
        up = torch.minimum(after, eta * after * (sigma**2 - after**2).sqrt() / sigma)
        down = (after**2 - up**2).sqrt()
        x = denoised + down / sigma * (x - denoised)
        if before is not None and down > 0:
            h = (sigma / down).log()
            x = x + (h - 1 + (-h).exp()) / behind * (denoised - before)
        if after > 0:
            x = x + up * s_noise * noise_sampler(sigma, after)
        before, behind = denoised, (sigma / down).log()
    return x


def sample_unipc(*args, variant="bh1", **more):
    raise NotImplementedError("the stand-in has no UniPC")


def sample_unipc_bh2(*args, **more):
    raise NotImplementedError("the stand-in has no UniPC")


def sample_lms(*args, **more):
    raise NotImplementedError


def sampling_of(model):
    return model.inner_model.inner_model.model_sampling


def default_noise_sampler(x, seed=None):
    generator = torch.Generator()
    if seed is not None:
        generator.manual_seed(seed)
    return lambda sigma, after: torch.randn(x.shape, generator=generator)


def prepare_noise(latent_image, seed, noise_inds=None):
    return torch.randn(latent_image.shape, generator=torch.Generator().manual_seed(seed))


def sampler_object(name):
    others = {"ddim": "euler", "uni_pc": "unipc", "uni_pc_bh2": "unipc_bh2"}
    function = globals()[f"sample_{others.get(name, name)}"]
    return KSAMPLER(function, inpaint_options={"random": name == "ddim"})


# comfy_api.latest


class Input:
    def __init__(self, id, display_name=None, optional=False, tooltip=None, **more):
        self.id, self.display_name, self.optional, self.tooltip = id, display_name, optional, tooltip
        self.more = more
        assert set(more) <= self.allowed, (
            f"{id} has {set(more) - self.allowed}, which this input does not take"
        )


def kind(name, *allowed):
    made = type("Input", (Input,), {"allowed": {"lazy", "extra_dict", *allowed}, "kind": name})
    return SimpleNamespace(
        Input=made, Output=lambda id=None, display_name=None, tooltip=None: (name, display_name)
    )


NUMBER = ("default", "min", "max", "step", "round", "display_mode", "socketless", "force_input")


class Schema(SimpleNamespace):
    def __init__(
        self, node_id, display_name, category, inputs, outputs, description="", is_output_node=False
    ):
        ids = [each.id for each in inputs]
        assert len(set(ids)) == len(ids), "input ids must be unique"
        super().__init__(**{k: v for k, v in locals().items() if k not in ("self", "__class__")})


class NodeOutput(SimpleNamespace):
    def __init__(self, *args, ui=None):
        super().__init__(args=args, ui=ui)


class Autogrow:
    """Inputs that grow, as hosts newer than 0.3.64 have them."""

    class TemplatePrefix:
        def __init__(self, input, prefix, min=1, max=10):
            assert 0 <= min <= max <= 100
            self.input, self.names = input, [f"{prefix}{k}" for k in range(max)]

    Input = type("Input", (Input,), {"allowed": {"lazy", "extra_dict", "template"}, "kind": "AUTOGROW"})


def preview(image, cls=None):
    assert image.ndim == 4 and image.shape[-1] == 3 and image.dtype == torch.float32
    return SimpleNamespace(as_dict=lambda: {"images": [{}], "animated": (False,)})


io = SimpleNamespace(
    ComfyNode=object,
    Schema=Schema,
    NodeOutput=NodeOutput,
    Guider=kind("GUIDER"),
    Latent=kind("LATENT"),
    Image=kind("IMAGE"),
    Float=kind("FLOAT", *NUMBER),
    Combo=kind("COMBO", "options", "default"),
    String=kind("STRING", "default", "multiline"),
)


def install():
    """Put the stand-ins in the places of ComfyUI's modules."""

    def module(name, **content):
        made = sys.modules[name] = ModuleType(name)
        vars(made).update(content)
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, made)

    functions = {name: value for name, value in globals().items() if name.startswith("sample_")}
    module("comfy")
    module("comfy.model_sampling", EPS=EPS, CONST=CONST)
    module("comfy.model_management", load_models_gpu=load_models_gpu)
    module("comfy.patcher_extension", CallbacksMP=SimpleNamespace(ON_LOAD="on_load_after"))
    module("comfy.utils", set_attr_param=setattr)
    module("comfy.sample", prepare_noise=prepare_noise)
    module("comfy.k_diffusion")
    module("comfy.k_diffusion.sampling", default_noise_sampler=default_noise_sampler, **functions)
    module("comfy.extra_samplers")
    module("comfy.extra_samplers.uni_pc", sample_unipc=sample_unipc, sample_unipc_bh2=sample_unipc_bh2)
    module(
        "comfy.samplers",
        Sampler=Sampler,
        KSAMPLER=KSAMPLER,
        KSamplerX0Inpaint=KSamplerX0Inpaint,
        CFGGuider=CFGGuider,
        calculate_sigmas=calculate_sigmas,
        sampler_object=sampler_object,
    )
    module("comfy_api")
    module("comfy_api.latest", ComfyExtension=object, io=io, ui=SimpleNamespace(PreviewImage=preview))


# What the tests ask for, as in real.py


def sd15(seed, prediction="EPS"):
    return Patcher(Network(seed, EPS, SD15))


def sd3(seed):
    return Patcher(Network(seed, CONST, SD3))


def conditioning(seed, **more):
    return [[torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(seed)), more]]


def lora(base, seed, scale=0.3):
    own, generator = base.clone(), torch.Generator().manual_seed(seed)
    own.add_patches({"weight": scale * torch.randn(base.model.base.shape, generator=generator)})
    return own


def direct(model, positive, negative, cfg):
    """The guided denoiser in VE coordinates, without a guider or a patcher's help."""
    network = copy.copy(model.model)
    network.weight = network.base + sum(s * v for each in model.patches.values() for s, v in each)
    flow = isinstance(network.model_sampling, CONST)
    told = [
        conditioning(each)[0][0] if isinstance(each, int) else each[0][0] for each in (positive, negative)
    ]

    def apart(x, sigma):
        if flow:
            x, sigma = x / (1 + column(sigma, x)), sigma / (1 + sigma)
        return [network.denoised(x, sigma, each) for each in told]

    return Direct(apart, cfg)


class Direct:
    """A denoiser with guidance, of a function that returns its two predictions, the conditional first."""

    def __init__(self, apart, cfg):
        self.apart, self.cfg = apart, cfg

    def __call__(self, x, sigma):
        cond, uncond = self.apart(x, sigma)
        return uncond + self.cfg * (cond - uncond)

    def both(self, x, sigma):
        return tuple(reversed(self.apart(x, sigma)))

    def conditional(self, x, sigma):
        return self.apart(x, sigma)[0]

    def guidance_at(self, sigma):
        return self.cfg
