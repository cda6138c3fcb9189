"""Tiny random checkpoints in the layout of the real ones, as a user has them on disk."""

import json
import shutil

import torch
from adapters import test_paper_systems as paper
from adapters import tiny_diffusers as tiny
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection


def write_models(folder):
    """Stable Diffusion, InteractDiffusion, MIGC and IP-Adapter; return the paths of `[models]`."""
    unet = tiny.seeded(UNet2DConditionModel, **tiny.SD1_UNET)
    base = tiny.quiet(StableDiffusionPipeline(**paper.parts(unet, tiny.ddim())))
    base.save_pretrained(folder / "sd")
    write_interactdiffusion(folder / "interactdiffusion")
    torch.save(paper.migc_state(), folder / "MIGC_SD14.ckpt")
    groups = tiny.ip_weights(base.unet)
    flat = {f"{group}.{key}": t.contiguous() for group, part in groups.items() for key, t in part.items()}
    save_file(flat, folder / "ip-adapter.safetensors")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=8, projection_dim=12,
    )  # fmt: skip
    tiny.seeded(CLIPVisionModelWithProjection, vision).save_pretrained(folder / "image_encoder")
    return {
        "interactdiffusion": str(folder / "interactdiffusion"),
        "migc_checkout": str(paper.UPSTREAM / "MIGC"),
        "migc_weights": str(folder / "MIGC_SD14.ckpt"),
        "sd14": str(folder / "sd"),
        "sd15": str(folder / "sd"),
        "ip_adapter": str(folder / "ip-adapter.safetensors"),
        "image_encoder": str(folder / "image_encoder"),
    }


def write_interactdiffusion(folder):
    """A pipeline with its code, as on the hub."""
    source, code = paper.UPSTREAM / paper.HUB, "pipeline_stable_diffusion_interactdiffusion"
    pipe, unet = paper.interact()[0], "interactdiffusion_unet_2d_condition"
    pipe.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    named = {"_class_name": [code, type(pipe).__name__], "unet": [unet, type(pipe.unet).__name__]}
    (folder / "model_index.json").write_text(json.dumps({**index, **named}))
    shutil.copy(source / f"{code}.py", folder)
    shutil.copy(source / "unet" / f"{unet}.py", folder / "unet")
