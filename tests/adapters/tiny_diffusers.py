"""Diffusers' pipelines with the real configurations, shrunk, and random weights: nothing is fetched.

Each maker returns a pipeline and the arguments of its call, `(pipe, kwargs)`; the latents are among them.
"""

import string

import torch

from amdm.shapes.imports import import_beside_torchvision

import_beside_torchvision("diffusers")  # before transformers looks for torchvision

from diffusers import (  # noqa: E402
    AutoencoderKL,
    ClassifierFreeGuidance,
    ControlNetModel,
    ControlNetXSAdapter,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    MultiControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionControlNetXSPipeline,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from diffusers.models.attention import GatedSelfAttentionDense  # noqa: E402
from diffusers.modular_pipelines.stable_diffusion_xl.modular_blocks_stable_diffusion_xl import (  # noqa: E402
    StableDiffusionXLCoreDenoiseStep,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

CROSS, POOLED, TOKENS = 16, 32, 5
PROMPT = {"prompt": "a cat on a mat", "negative_prompt": "fog"}
# Stable Diffusion's scheduler_config.json.
SD_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# unet/config.json of stable-diffusion-v1-4 and stable-diffusion-xl-base-1.0: narrow layers, one block of each
# kind, one level below the top.
SD_UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": CROSS,
    "attention_head_dim": 2,
}
SDXL_UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": CROSS,
    "attention_head_dim": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": POOLED + 6 * 8,
}
# The paper's systems count on all of Stable Diffusion 1's blocks and on the width of its text.
SD1_UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 16, 16, 16),
    "norm_num_groups": 4,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
# InteractDiffusion-XL's phrases are as wide as both encoders' text.
WIDE_SDXL_UNET = {
    **SDXL_UNET,
    "cross_attention_dim": 2 * CROSS,
    "projection_class_embeddings_input_dim": CROSS + 6 * 8,
}
UNETS = {"text": SD_UNET, "sdxl": SDXL_UNET}


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ddim(**config):
    return DDIMScheduler(**{**SD_SCHEDULE, **config})


def seeded(make, *args, seed=0, **kwargs):
    """Random weights, the same whatever was made before; zero ones (adapters begin so) made random too."""
    torch.manual_seed(seed)
    made = make(*args, **kwargs).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if not bool(parameter.any()) and ("weight" in name or "alpha" in name):
            parameter.copy_(0.2 * torch.randn_like(parameter) + 0.3 * ("alpha" in name))
    return made


def vae(scaling_factor=0.18215, channels=4, **config):
    return seeded(
        AutoencoderKL,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=channels,
        scaling_factor=scaling_factor,
        **config,
    )


def text_parts(width=CROSS, encoder=CLIPTextModel):
    letters = [*string.ascii_lowercase, *(f"{c}</w>" for c in string.ascii_lowercase)]
    vocabulary = {token: i for i, token in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=len(vocabulary) - 2,
        eos_token_id=len(vocabulary) - 1,
    )
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    return {"text_encoder": seeded(encoder, config), "tokenizer": tokenizer}


def without_checker():
    return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(batch=1, shape=(4, 8, 8), **kwargs):
    return {"latents": randn(7, batch, *shape), "guidance_scale": 7.5, "output_type": "latent", **kwargs}


def sd(scheduler, unet=None, **kwargs):
    unet = unet or seeded(UNet2DConditionModel, **SD_UNET)
    pipe = StableDiffusionPipeline(vae(), **text_parts(), unet=unet, scheduler=scheduler, **without_checker())
    return quiet(pipe), call(**{**PROMPT, **kwargs})


def xl_embeds(batch=1):
    return {
        "prompt_embeds": randn(1, batch, TOKENS, CROSS),
        "negative_prompt_embeds": randn(2, batch, TOKENS, CROSS),
        "pooled_prompt_embeds": randn(3, batch, POOLED),
        "negative_pooled_prompt_embeds": randn(4, batch, POOLED),
    }


def xl_parts(scheduler, unet=None):
    return {
        "vae": vae(0.13025),
        "text_encoder": None,
        "text_encoder_2": None,
        "tokenizer": None,
        "tokenizer_2": None,
        "unet": unet or seeded(UNet2DConditionModel, **SDXL_UNET),
        "scheduler": scheduler,
    }


def sdxl(scheduler, **kwargs):
    pipe = StableDiffusionXLPipeline(**xl_parts(scheduler), add_watermarker=False)
    return quiet(pipe), call(
        **xl_embeds(), negative_original_size=(32, 32), negative_target_size=(64, 64), **kwargs
    )


def sdxl_modular(scheduler, **kwargs):
    """Modular SDXL's blocks from the prompt's embeddings to the last latents."""
    pipe = StableDiffusionXLCoreDenoiseStep().init_pipeline()
    stock, arguments = sdxl(scheduler, **kwargs)
    guider = ClassifierFreeGuidance(guidance_scale=arguments.pop("guidance_scale"))
    pipe.update_components(unet=stock.unet, vae=stock.vae, scheduler=scheduler, guider=guider)
    del arguments["output_type"]
    return quiet(pipe), {**arguments, "output": "latents"}


def ip_weights(unet, seed=0, images=4, clip=12):
    """The layout of ip-adapter_sd15.safetensors: a projection of the image, keys and values per layer."""
    layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    weights, width = {}, unet.config.cross_attention_dim
    for i, name in enumerate(layers):
        shape = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
        for j, part in enumerate(("to_k_ip", "to_v_ip")):
            scale = 0.5 * (CROSS / width) ** 0.5
            weights[f"{2 * i + 1}.{part}.weight"] = scale * randn(100 * seed + 2 * i + j, *shape)
    projection = {
        "proj.weight": randn(90, images * width, clip) / clip**0.5,
        "proj.bias": randn(91, images * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    return {"image_proj": projection, "ip_adapter": weights}


def with_ip_adapter(pipe, scale=0.8, batch=1):
    """Load one, and the arguments that a call then needs."""
    pipe.load_ip_adapter(ip_weights(pipe.unet), subfolder="", weight_name="", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(scale)
    return {"ip_adapter_image_embeds": [randn(5, 2, 1, 12)]}


def sd_ip_adapter(scheduler, **kwargs):
    pipe, arguments = sd(scheduler, **kwargs)
    return pipe, {**arguments, **with_ip_adapter(pipe)}


def sdxl_ip_adapter(scheduler, **kwargs):
    pipe, arguments = sdxl(scheduler, **kwargs)
    return pipe, {**arguments, **with_ip_adapter(pipe)}


def sd_lora(scheduler, **kwargs):
    from peft import LoraConfig

    pipe, arguments = sd(scheduler, **kwargs)
    for seed, name in enumerate(["one", "other"]):
        torch.manual_seed(seed)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        pipe.unet.add_adapter(
            LoraConfig(r=2, target_modules=targets, init_lora_weights=False), adapter_name=name
        )
    pipe.unet.set_adapters(["one", "other"], [0.7, 0.4])
    return pipe, arguments


def image_of(size, seed=8):
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def controlnet_of(unet, seed=1):
    return seeded(
        ControlNetModel.from_unet, unet, conditioning_embedding_out_channels=(4, 4, 4, 8), seed=seed
    )


def sd_controlnet(scheduler, several=False, **kwargs):
    unet = seeded(UNet2DConditionModel, **SD_UNET)
    nets = [controlnet_of(unet, seed) for seed in (1, 2)]
    pipe = StableDiffusionControlNetPipeline(
        vae(),
        **text_parts(),
        unet=unet,
        controlnet=MultiControlNetModel(nets) if several else nets[0],
        scheduler=scheduler,
        **without_checker(),
    )
    image = [image_of(64), image_of(64, 9)] if several else image_of(64)
    # Without a size the pipeline would take the latents' as the image's.
    return quiet(pipe), call(**PROMPT, image=image, height=64, width=64, **kwargs)


def sd_controlnet_xs(scheduler, **kwargs):
    unet = seeded(UNet2DConditionModel, **{**SD_UNET, "layers_per_block": 2})  # it knows no others
    adapter = seeded(ControlNetXSAdapter.from_unet, unet, size_ratio=0.5)
    pipe = StableDiffusionControlNetXSPipeline(
        vae(), **text_parts(), unet=unet, controlnet=adapter, scheduler=scheduler, **without_checker()
    )
    return quiet(pipe), call(**PROMPT, image=image_of(64), height=64, width=64, **kwargs)


def sdxl_controlnet(scheduler, **kwargs):
    parts = xl_parts(scheduler)
    pipe = StableDiffusionXLControlNetPipeline(
        **parts, controlnet=controlnet_of(parts["unet"]), add_watermarker=False
    )
    return quiet(pipe), call(**xl_embeds(), image=image_of(64), **kwargs)


def sd_t2i_adapter(scheduler, **kwargs):
    unet = seeded(UNet2DConditionModel, **SD_UNET)
    adapter = seeded(T2IAdapter, 3, [8, 16], 1, 8, "full_adapter")
    pipe = StableDiffusionAdapterPipeline(
        vae(), **text_parts(), unet=unet, adapter=adapter, scheduler=scheduler, **without_checker()
    )
    return quiet(pipe), call(**PROMPT, image=image_of(64), height=64, width=64, **kwargs)


def sdxl_t2i_adapter(scheduler, **kwargs):
    adapter = seeded(T2IAdapter, 3, [8, 16, 16, 16], 1, 16, "full_adapter_xl")
    pipe = StableDiffusionXLAdapterPipeline(**xl_parts(scheduler), adapter=adapter)
    return quiet(pipe), call(**xl_embeds(), image=image_of(64), height=64, width=64, **kwargs)


def sd_gligen(scheduler, beta=0.3, **kwargs):
    unet = seeded(UNet2DConditionModel, **SD_UNET, attention_type="gated")
    assert any(isinstance(module, GatedSelfAttentionDense) for module in unet.modules())
    pipe = StableDiffusionGLIGENPipeline(
        vae(), **text_parts(), unet=unet, scheduler=scheduler, **without_checker()
    )
    boxes = {
        "gligen_phrases": ["a cat", "a mat"],
        "gligen_boxes": [[0.1, 0.2, 0.6, 0.7], [0.0, 0.5, 1.0, 1.0]],
        "gligen_scheduled_sampling_beta": beta,
    }
    return quiet(pipe), call(**PROMPT, **boxes, height=64, width=64, **kwargs)


def sd3(shift=3.0, **kwargs):
    transformer = seeded(
        SD3Transformer2DModel,
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=CROSS,
        caption_projection_dim=16,
        pooled_projection_dim=POOLED,
        out_channels=4,
    )
    nothing = dict.fromkeys(
        ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"]
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    pipe = StableDiffusion3Pipeline(
        transformer=transformer, vae=vae(1.5305, shift_factor=0.0609), scheduler=scheduler, **nothing
    )
    return quiet(pipe), call(**xl_embeds(), height=64, width=64, **kwargs)


def flux(guidance_embeds=True, **kwargs):
    transformer = seeded(
        FluxTransformer2DModel,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=CROSS,
        pooled_projection_dim=POOLED,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(2, 2, 4),
    )
    pipe = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae(0.3611, shift_factor=0.1159),
        *[None] * 4,
        transformer,
    )
    embeds = {name: value for name, value in xl_embeds().items() if "negative" not in name}
    arguments = call(shape=(16, 16), **embeds, height=64, width=64)
    return quiet(pipe), {**arguments, "guidance_scale": 3.5, **kwargs}


RECIPES = {
    "text": sd,
    "sdxl": sdxl,
    "ip_adapter": sd_ip_adapter,
    "sdxl_ip_adapter": sdxl_ip_adapter,
    "lora": sd_lora,
    "controlnet": sd_controlnet,
    "sdxl_controlnet": sdxl_controlnet,
    "t2i_adapter": sd_t2i_adapter,
    "sdxl_t2i_adapter": sdxl_t2i_adapter,
    "gligen": sd_gligen,
}
