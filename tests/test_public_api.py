"""The public interface: every name imports, is documented and typed; samplers are called alike."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kinds import OF_ONE_MODEL
from PIL import Image

import amdm
from amdm.shapes.imports import import_beside_torchvision

import_beside_torchvision("diffusers")
ROOT = Path(__file__).parent.parent
MODULES = [
    "amdm",
    "amdm.types",
    "amdm.geometry",
    "amdm.samplers",
    "amdm.denoisers",
    "amdm.diffusers",
    "amdm.diffusers.afa",
    "amdm.diffusers.scheduler",
    "amdm.k_diffusion",
    "amdm.plots",
]
NAMES = [(module, name) for module in MODULES for name in importlib.import_module(module).__all__]
OF_SEVERAL = ["amdm", "fkc", "mcmc", "projective_guidance", "superdiff"]
GENERATORS = [*OF_ONE_MODEL, *OF_SEVERAL]
FUNCTIONS = [f"sample_{name}" for name in GENERATORS]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_name_imports_and_is_documented(module, name):
    public = getattr(importlib.import_module(module), name)
    if inspect.isclass(public) or inspect.isfunction(public) or inspect.ismodule(public):
        assert inspect.getdoc(public)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_public_function_is_fully_annotated(module, name):
    public = getattr(importlib.import_module(module), name)
    functions = [public] if inspect.isfunction(public) else []
    if inspect.isclass(public) and public.__module__.startswith("amdm"):
        members = inspect.getmembers(public, inspect.isfunction)
        functions = [f for n, f in members if not n.startswith("_") and f.__module__.startswith("amdm")]
    for function in functions:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty
        parameters = [p for p in signature.parameters.values() if p.name not in ("self", "_cls")]
        assert all(p.annotation is not inspect.Parameter.empty for p in parameters)


def test_top_level_names_come_from_their_packages():
    for name in amdm.__all__:
        public = getattr(amdm, name)
        if inspect.isfunction(public):
            package = public.__module__.rsplit(".", 1)[0]
            assert name in importlib.import_module(package).__all__


def names_of(function, kind):
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is kind]


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_share_their_leading_arguments(name):
    function = getattr(amdm.samplers, name)
    leading = names_of(function, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert leading == ["models" if name in OF_SEVERAL else "model", "x", "sigmas", "extra_args"]
    assert {"eta", "noise_sampler"} <= set(names_of(function, inspect.Parameter.KEYWORD_ONLY))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_share_k_diffusions_leading_arguments(name, k_diffusion):
    leading = names_of(getattr(amdm.samplers, name), inspect.Parameter.POSITIONAL_OR_KEYWORD)
    theirs = list(inspect.signature(k_diffusion.sampling.sample_euler).parameters)[:6]
    assert leading[1:] == theirs[1:]


@pytest.mark.parametrize("name", GENERATORS)
def test_functions_have_the_options_of_their_generator(name):
    options = {
        kind: {
            p.name: p.default
            for p in inspect.signature(getattr(amdm.samplers, kind)).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        }
        for kind in (name, f"sample_{name}")
    }
    assert options[f"sample_{name}"] == options[name]


def test_importing_amdm_imports_neither_k_diffusion_nor_what_it_drags_in():
    heavy = "k_diffusion torchvision clip skimage scipy diffusers transformers peft sklearn matplotlib PIL"
    code = f"import amdm, sys; print([m for m in {heavy.split()} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_the_readmes_stable_diffusion_runs(tmp_path, monkeypatch):
    """On tiny pipelines in the place of loaded ones: A and B are their own pictures, to a grey level."""
    monkeypatch.chdir(tmp_path)
    from adapters import tiny_diffusers as tiny
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    gligen, _ = tiny.sd_gligen(tiny.ddim())
    ip_adapter, _ = tiny.sd_ip_adapter(tiny.ddim())
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=12)
    ip_adapter.register_modules(
        image_encoder=tiny.seeded(CLIPVisionModelWithProjection, vision),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
    )
    picture = Image.new("RGB", (40, 40), (200, 30, 60))
    found = {"gligen": gligen, "ip_adapter": ip_adapter, "picture": picture}
    (block,) = blocks("README.md")
    exec(block, found)
    told = {"gligen_phrases": found["phrases"], "gligen_boxes": found["boxes"]}
    first, second = found["only_a"], found["only_b"]
    assert same(first, gligen(**found["call"], **told, generator=found["seed"]()).images[0])
    theirs = ip_adapter(**found["call"], ip_adapter_image=picture, generator=found["seed"]())
    assert same(second, theirs.images[0])
    assert Image.open(tmp_path / "a_b_ab.png").size == (3 * 64, 64)
    joined = found["a"].decode(found["x"]).images[0]
    assert not same(first, second) and not same(first, joined) and not same(second, joined)
    published = "sample_amdm(models, [a.x, b.x], a.sigmas)"
    assert published in (ROOT / "README.md").read_text()
    assert eval(published, found | {"sample_amdm": amdm.sample_amdm}).isfinite().all()


def same(one, other):
    """Whether two pictures are equal to a grey level."""
    apart = np.asarray(one).astype(int) - np.asarray(other).astype(int)
    return bool((abs(apart) <= 1).all())
