"""InteractDiffusion and MIGC through their own pipelines: stand-ins with the real ones' call contract.

With AMDM_UPSTREAM=FOLDER the same tests run on the real code: FOLDER has the checkouts MIGC (limuloo/MIGC),
interactdiff-diffusers (the layout of interactdiffusion/diffusers-v1-2 on the hub), igligen-xl
(jiuntian/igligen-xl, with InteractDiffusion-XL's code), IP-Adapter (tencent-ailab/IP-Adapter) and AMDM
(Hammour-steak/AMDM, in `test_published_code.py`).
"""

import importlib
import inspect
import os
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import MultiControlNetModel, StableDiffusionPipeline, UNet2DConditionModel
from tolerances import assert_equal
from torch.utils._pytree import tree_map
from transformers import CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm import check_same_ecosystem, sample_amdm, sample_ddim
from amdm.diffusers import from_pipeline
from amdm.geometry import radial_correct, slerp_fold
from amdm.sample import systems

# The real repositories' code warns of its own: an assertion of a tuple is a SyntaxWarning.
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::SyntaxWarning"
)
# Checkouts of the real repositories, by name; else stand-ins with their layout.
STANDINS = Path(__file__).parent / "standins"
UPSTREAM = Path(os.environ.get("AMDM_UPSTREAM", STANDINS))
HUB = "interactdiff-diffusers"  # InteractDiffusion as it lies on the hub
# MIGC differs from itself from call to call: the order of a sum is random. The real one by 6e-5.
MIGC_TOL = 2e-4 if "AMDM_UPSTREAM" in os.environ else 2e-5
STEPS = 10
upstream = pytest.mark.skipif("AMDM_UPSTREAM" not in os.environ, reason="needs AMDM_UPSTREAM: the real code")
INTERACTION = {
    "prompt": "a cat on a mat",
    "negative_prompt": "fog",
    "interactdiffusion_subject_phrases": ["a cat", "a dog"],
    "interactdiffusion_object_phrases": ["a mat", "a cat"],
    "interactdiffusion_action_phrases": ["on", "near"],
    "interactdiffusion_subject_boxes": [[0.1, 0.2, 0.6, 0.7], [0.5, 0.1, 0.9, 0.6]],
    "interactdiffusion_object_boxes": [[0.0, 0.5, 1.0, 1.0], [0.1, 0.2, 0.6, 0.7]],
    "interactdiffusion_scheduled_sampling_beta": 0.6,
}
INSTANCES = {
    "prompt": [["a cat on a mat", "a black cat", "a red mat"]],
    "bboxes": [[[0.1, 0.2, 0.6, 0.7], [0.0, 0.5, 1.0, 1.0]]],
    "negative_prompt": "fog",
    "MIGCsteps": 4,
}


def module(folder, name):
    """A module of a stand-in, or of a checkout of the real code: nothing of either is installed."""
    systems.libraries()  # names that code of its age imports, and one that IP-Adapter's does
    importlib.import_module("diffusers.pipelines.controlnet").MultiControlNetModel = MultiControlNetModel
    sys.path.insert(0, str(UPSTREAM / folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(UPSTREAM / folder))


def parts(unet, scheduler):
    return {
        "vae": tiny.vae(),
        **tiny.text_parts(768),
        "unet": unet,
        "scheduler": scheduler,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def interact(latent=21):
    unet = module(f"{HUB}/unet", "interactdiffusion_unet_2d_condition").InteractDiffusionUNet2DConditionModel
    kind = module(HUB, "pipeline_stable_diffusion_interactdiffusion").StableDiffusionInteractDiffusionPipeline
    made = tiny.seeded(unet, **tiny.SD1_UNET, attention_type="gated")
    pipe = tiny.quiet(kind(**parts(made, tiny.ddim())))
    latents = tiny.randn(latent, 1, 4, 8, 8)
    return pipe, {**INTERACTION, "latents": latents, "num_inference_steps": STEPS, "output_type": "latent"}


def xl_parts():
    second = tiny.text_parts(encoder=CLIPTextModelWithProjection)
    text = {**tiny.text_parts(), **{f"{name}_2": part for name, part in second.items()}}
    return {"vae": tiny.vae(0.13025), **text, "scheduler": tiny.ddim()}


def interact_xl(latent=23):
    code = module("igligen-xl", "interactdiffusion_xl.pipeline_interactdiffusion_sdxl")
    config = {**tiny.WIDE_SDXL_UNET, "attention_type": "gated"}
    unet = tiny.seeded(code.InteractDiffusionUNet2DConditionModel, **config)
    pipe = code.StableDiffusionXLInteractDiffusionPipeline(**xl_parts(), unet=unet, add_watermarker=False)
    latents = tiny.randn(latent, 1, 4, 8, 8)
    kwargs = {**INTERACTION, "latents": latents, "num_inference_steps": STEPS, "output_type": "latent"}
    return tiny.quiet(pipe), kwargs


def migc_state():
    """MIGC_SD14.ckpt's layout: the networks beside four of the cross-attentions, by their names in LDM."""
    processor, width = (
        module("MIGC", "migc.migc_pipeline").MIGCProcessor,
        tiny.SD1_UNET["block_out_channels"][0],
    )
    state = {}
    for i, place in enumerate(
        ["middle_block.1", "output_blocks.3.1", "output_blocks.4.1", "output_blocks.5.1"]
    ):
        made = tiny.seeded(processor, {"not_use_migc": False, "C": width}, None, "up", seed=i)
        prefix = f"model.diffusion_model.{place}.transformer_blocks.0.attn2"
        state |= {f"{prefix}.{name}": tensor for name, tensor in made.state_dict().items()}
    return {"state_dict": state}


def migc(latent=22):
    code, utils = module("MIGC", "migc.migc_pipeline"), module("MIGC", "migc.migc_utils")
    unet = tiny.seeded(UNet2DConditionModel, **tiny.SD1_UNET)
    pipe = code.StableDiffusionMIGCPipeline(**parts(unet, tiny.ddim()))
    pipe.attention_store = code.AttentionStore()
    with tempfile.NamedTemporaryFile() as file:
        torch.save(migc_state(), file.name)
        utils.load_migc(pipe.unet, pipe.attention_store, file.name, attn_processor=code.MIGCProcessor)
    latents = tiny.randn(latent, 1, 4, 8, 8)
    kwargs = {**INSTANCES, "latents": latents, "num_inference_steps": STEPS, "output_type": "latent"}
    return tiny.quiet(pipe), kwargs


def tencent(folder, code, latent=24):
    """The pipeline of IP-Adapter's own class, which puts the image's tokens behind the text's; in float32."""
    pipe = tiny.quiet(
        StableDiffusionPipeline(**parts(tiny.seeded(UNet2DConditionModel, **tiny.SD1_UNET), tiny.ddim()))
    )
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=8, projection_dim=12,
    )  # fmt: skip
    tiny.seeded(CLIPVisionModelWithProjection, vision).save_pretrained(folder / "image_encoder")
    torch.save(tiny.ip_weights(pipe.unet), folder / "ip-adapter_sd15.bin")
    adapter = code.IPAdapter(pipe, str(folder / "image_encoder"), str(folder / "ip-adapter_sd15.bin"), "cpu")
    pipe.to(torch.float32)  # it makes the adapter's part in half precision
    images = torch.cat([torch.zeros(1, 12), tiny.randn(25, 1, 12)])
    tokens = adapter.image_proj_model.float()(images).detach()
    adapter.get_image_embeds = lambda pil_image, clip_image_embeds=None: (tokens[1:], tokens[:1])
    cond, uncond = pipe.encode_prompt(INTERACTION["prompt"], "cpu", 1, True, INTERACTION["negative_prompt"])
    kwargs = {
        "prompt_embeds": torch.cat([cond, tokens[1:]], dim=1),
        "negative_prompt_embeds": torch.cat([uncond, tokens[:1]], dim=1),
        "latents": tiny.randn(latent, 1, 4, 8, 8),
        "num_inference_steps": STEPS,
        "output_type": "latent",
    }
    return adapter, kwargs


def alone(pipe, kwargs, eta=0.0):
    prepared = from_pipeline(pipe, **kwargs)
    source = torch.Generator().manual_seed(3)
    noise = lambda sigma, sigma_next: torch.randn(prepared.x.shape, generator=source)
    x = sample_ddim(prepared.model, prepared.x, prepared.sigmas, disable=True, eta=eta, noise_sampler=noise)
    return prepared.decode(x).images


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("make", "tol"), [(interact, 5e-6), (interact_xl, 5e-6), (migc, MIGC_TOL)])
def test_alone_it_is_the_pipeline(make, tol, eta):
    pipe, kwargs = make()
    expected = pipe(**kwargs, eta=eta, generator=torch.Generator().manual_seed(3)).images
    assert_equal(alone(pipe, kwargs, eta), expected, tol)


@pytest.mark.slow
@upstream
def test_ip_adapters_own_class_is_its_pipeline(tmp_path):
    adapter, kwargs = tencent(tmp_path, module("IP-Adapter", "ip_adapter.ip_adapter"))
    adapter.set_scale(0.8)
    pipe = adapter.pipe
    expected = pipe(**kwargs).images
    assert_equal(alone(pipe, kwargs), expected, 5e-6)
    adapter.set_scale(0.0)
    assert (pipe(**kwargs).images - expected).abs().max() > 1e-2


OWN = ("migc", "interactdiffusion", "pipeline_")  # how modules of the repositories begin


def contract(root, make):
    """What a pipeline takes, and what it tells its U-Net in every step: names, shapes, numbers."""
    with patch.dict(sys.modules), patch.dict(globals(), UPSTREAM=root):
        for name in [name for name in sys.modules if name.startswith(OWN)]:
            del sys.modules[name]
        pipe, kwargs = make()
        assert Path(inspect.getfile(type(pipe))).is_relative_to(root)
    heard = []
    hook = lambda network, args, told: heard.append(
        {key: value for key, value in told.items() if key != "return_dict" and value is not None}
    )
    pipe.unet.register_forward_pre_hook(hook, with_kwargs=True)
    pipe(**{**kwargs, "num_inference_steps": 2})
    takes = {name: p.default for name, p in inspect.signature(pipe.__call__).parameters.items()}
    shown = lambda leaf: (leaf.shape, leaf.dtype) if torch.is_tensor(leaf) else leaf
    return takes, tree_map(shown, heard)


@pytest.mark.slow
@upstream
@pytest.mark.parametrize("make", [interact, interact_xl, migc])
def test_the_standins_have_the_real_contract(make):
    real, standin = contract(UPSTREAM, make), contract(STANDINS, make)
    assert standin[0].items() <= real[0].items()
    assert standin[1] == real[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "change", "tol"),
    [
        (interact, {"interactdiffusion_scheduled_sampling_beta": 1.0}, 5e-6),
        (interact, {"interactdiffusion_scheduled_sampling_beta": 0.0}, 5e-6),
        (migc, {"MIGCsteps": 0}, MIGC_TOL),
        (migc, {"MIGCsteps": -1}, MIGC_TOL),
    ],
)
def test_the_steps_of_both_count(make, change, tol):
    pipe, kwargs = make()
    before, changed = pipe(**kwargs).images, {**kwargs, **change}
    expected = pipe(**changed).images
    assert (expected - before).abs().max() > 10 * tol * before.abs().max()
    assert_equal(alone(pipe, changed), expected, tol)


def test_migc_draws_from_the_global_generator_and_its_denoiser_does_not():
    pipe, kwargs = migc()
    kwargs["num_inference_steps"] = 1
    state = torch.get_rng_state()
    pipe(**kwargs)
    assert not torch.equal(torch.get_rng_state(), state)
    prepared = from_pipeline(pipe, **kwargs)
    state = torch.get_rng_state()
    first = prepared.model(prepared.x, prepared.sigmas[:1].float())
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(prepared.model(prepared.x, prepared.sigmas[:1].float()), first)


def test_migc_takes_one_image():
    pipe, kwargs = migc()
    prepared = from_pipeline(pipe, **{**kwargs, "num_inference_steps": 1})
    with pytest.raises(ValueError, match="x has batch 2, expected that of the conditions: 1"):
        prepared.model(prepared.x.expand(2, -1, -1, -1), torch.ones(2))


@pytest.mark.slow
def test_migc_refuses_half_precision_as_the_real_one():
    """Its masks are float32, its networks what the U-Net is: why the examples load it in float32."""
    pipe, kwargs = migc()
    pipe.to(torch.bfloat16)
    with pytest.raises(RuntimeError, match="have the same dtype"):
        pipe(**{**kwargs, "latents": kwargs["latents"].bfloat16(), "num_inference_steps": 1})


@pytest.mark.slow
def test_together_they_are_a_loop_written_out():
    """Algorithm 1 over both pipelines' own calls, seen from outside; DDIM by diffusers."""
    made = [interact(), migc()]
    prepared = [from_pipeline(pipe, **kwargs) for pipe, kwargs in made]
    models = [one.model for one in prepared]
    check_same_ecosystem(models, prepared[0].sigmas)
    x = sample_amdm(models, [p.x for p in prepared], prepared[0].sigmas, correction=0.3, disable=True)
    actual = prepared[0].decode(x).images

    calls = [[], []]
    for (pipe, kwargs), seen in zip(made, calls, strict=True):
        hook = pipe.unet.register_forward_pre_hook(
            lambda module, args, kw, seen=seen: seen.append((kw, fusers(module))), with_kwargs=True
        )
        pipe(**kwargs)
        hook.remove()
    scheduler = tiny.ddim()
    scheduler.set_timesteps(STEPS)
    z = [kwargs["latents"] for _, kwargs in made]
    for i, t in enumerate(scheduler.timesteps):
        for k in range(2 if i < 4 else 1):
            told, on = calls[k][i]
            unet = made[k][0].unet
            for m in unet.modules():
                if hasattr(m, "enabled"):
                    m.enabled = on
            with torch.no_grad():
                uncond, cond = unet(torch.cat([z[k]] * 2), t, **told).sample.chunk(2)
            z[k] = scheduler.step(uncond + 7.5 * (cond - uncond), t, z[k]).prev_sample
        if i < 4:
            merged = slerp_fold(z, [0.5])
            z = [radial_correct(merged, own, 0.3) for own in z]
    assert_equal(actual, z[0], MIGC_TOL)
    assert (actual - made[0][0](**made[0][1]).images).abs().max() > 0.1


def fusers(network):
    enabled = {module.enabled for module in network.modules() if hasattr(module, "enabled")}
    return enabled.pop() if enabled else None
