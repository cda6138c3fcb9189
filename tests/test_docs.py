"""The documentation's code runs, its pages name every public name, and its pictures are there."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from amdm.shapes.imports import import_beside_torchvision

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [DOCS / "getting_started.md", DOCS / "shapes.md", *sorted(DOCS.glob("how_to/*.md"))]
PAGES += sorted(DOCS.glob("methods/*.md"))
MODULES = [
    "compatibility",
    "denoisers",
    "diffusers",
    "diffusers.afa",
    "diffusers.scheduler",
    "geometry",
    "k_diffusion",
    "noise",
    "plots",
]
MODULES += ["samplers", "schedules", "types", "environment", "sample"]


RESULTS = {"latent", "latents", "alone", "joined"}  # what the pages call their results


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Tiny pipelines, adapters and an image under the names that the pages load."""
    diffusers = import_beside_torchvision("diffusers")
    from adapters import tiny_diffusers as tiny
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    place = tmp_path_factory.mktemp("models")
    Image.new("RGB", (40, 40), (200, 30, 60)).save(place / "style.png")
    pipe, _ = tiny.sd(tiny.ddim())
    pipe.save_pretrained(place / "stable-diffusion-v1-5")
    tiny.sd_gligen(tiny.ddim())[0].save_pretrained(place / "gligen")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=12)
    encoder = tiny.seeded(CLIPVisionModelWithProjection, vision)
    encoder.save_pretrained(place / "ip-adapter" / "models" / "image_encoder")
    torch.save(tiny.ip_weights(pipe.unet), place / "ip-adapter" / "models" / "ip-adapter_sd15.bin")
    tiny.controlnet_of(pipe.unet).save_pretrained(place / "controlnet")
    for name in ("pixel", "sketch"):
        pipe, _ = tiny.sd(tiny.ddim())
        lora = LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
        pipe.unet.add_adapter(lora, adapter_name=name)
        weights = get_peft_model_state_dict(pipe.unet, adapter_name=name)
        diffusers.StableDiffusionPipeline.save_lora_weights(
            place / "loras", unet_lora_layers=weights, weight_name=f"{name}.safetensors"
        )
    return place


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch, request):
    code = blocks(page)
    if any("import k_diffusion" in block for block in code):
        monkeypatch.setitem(sys.modules, "k_diffusion", request.getfixturevalue("k_diffusion"))
    loads = any("from_pretrained" in block or "config_of" in block for block in code)
    monkeypatch.chdir(request.getfixturevalue("folder") if loads else tmp_path)
    namespace = {"__name__": "page"}
    for block in code:
        exec(compile(block, page.name, "exec"), namespace)
    results = [value for name, value in namespace.items() if name in RESULTS and torch.is_tensor(value)]
    assert all(value.isfinite().all() for value in results)


def test_every_module_has_a_page_of_all_its_names():
    pages = {page: page.read_text() for page in DOCS.glob("api/*.md")}
    for module in MODULES:
        assert sum(f".. automodule:: amdm.{module}\n" in text for text in pages.values()) == 1, module
    index = pages[DOCS / "api" / "index.md"]
    top = importlib.import_module("amdm")
    packages = {"denoisers", "geometry", "samplers", "schedules"}
    for name in set(top.__all__) - packages:
        assert re.search(rf"^   ~\w+\.{name}$", index, re.MULTILINE), name
