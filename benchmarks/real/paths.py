"""The user's files, named in one TOML file, `paths.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from amdm.sample import tables as read
from amdm.sample.configuration import DTYPES
from amdm.sample.tables import Problems, table, unknown
from benchmarks.real.prompts import NEGATIVE

FILES = {
    "models": {
        "interactdiffusion": "the folder interactdiffusion/diffusers-v1-2, or v1.0 in that format",
        "interactdiffusion_xl": "the folder jiuntian/interactdiffusion-xl-1024",
        "migc_checkout": "a checkout of github.com/limuloo/MIGC",
        "migc_weights": "the file MIGC_SD14.ckpt",
        "sd14": "the folder stable-diffusion-v1-4 in diffusers' format",
        "sd15": "the folder stable-diffusion-v1-5 in diffusers' format",
        "sdxl": "the folder stable-diffusion-xl-base-1.0 in diffusers' format",
        "ip_adapter": "the file ip-adapter_sd15.safetensors",
        "image_encoder": "the folder models/image_encoder of h94/IP-Adapter",
        "ip_adapter_xl": "the file ip-adapter_sdxl.safetensors",
        "image_encoder_xl": "the folder sdxl_models/image_encoder of h94/IP-Adapter",
    },
    "data": {
        "mig_bench": "the file mig_bench.json",
        "hico": "the folder annotations of HICO-DET, as FGAHOI has it",
        "hico_prompts": "InteractDiffusion's hico_det_test.pkl; without it the captions are ours",
        "hico_images": "the folder of HICO-DET's test images",
        "coco_captions": "the file captions_val2017.json",
        "coco_instances": "the file instances_val2017.json",
        "coco_images": "the folder val2017",
    },
    "measures": {
        "grounding_dino": "the folder IDEA-Research/grounding-dino-tiny",
        "sam": "the folder facebook/sam-vit-huge",
        "clip": "the folder openai/clip-vit-large-patch14",
        "inception": "torch-fidelity's weights-inception-2015-12-05-6726825d.pth",
        "detections": "the folder of FGAHOI's detections",
    },
}
"""The keys of each section and what they name. Of `measures`, what is not given is not measured."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """The content of the file: what is where, and how to draw."""

    out: Annotated[Path, read.path] = Path("out/real")
    """The folder for images and results."""
    seed: Annotated[int, read.seed] = 0
    dtype: Annotated[str, read.choice(*DTYPES)] = ""
    """The networks'; by default float16 on GPUs, float32 on CPUs. MIGC is in float32 always."""
    trust_remote_code: Annotated[bool, read.yes] = False
    """True if the code in InteractDiffusion's folders may run, which it needs."""
    negative_prompt: Annotated[str, read.text] = NEGATIVE
    """Every image's; by default the one of the paper's published script."""
    given: Mapping[str, Path] = field(default_factory=dict)
    """By section and key: "models.sd14"."""

    def __getitem__(self, name: str) -> Path:
        """Return the path of a section and key, which was given."""
        return self.given[name]

    def need(self, names: list[str], problems: Problems) -> bool:
        """Return True if all these were given; note a line for each that was not."""
        missing = [name for name in dict.fromkeys(names) if name not in self.given]
        for name in missing:
            section, key = name.split(".")
            problems.lines.append(f"{name} is missing, expected {FILES[section][key]}")
        return not missing


def read_paths(file: Path, problems: Problems) -> Paths:
    """Return the paths in a TOML file, relative to its folder.

    What is wrong is noted in `problems`, a line each. Whether a file is there is looked at when it is read.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # not there; no TOML, or no text
        problems.add("--paths", file, f"a TOML file: {str(error).splitlines()[0]}")
        return Paths()
    folder = file.resolve().parent
    given: dict[str, Path] = {}
    for section, keys in FILES.items():
        found: Any = values.pop(section, {})
        if not isinstance(found, Mapping):
            problems.add(section, found, "a table")
            continue
        unknown(found, list(keys), section, problems)
        for key in found.keys() & keys.keys():
            name = f"{section}.{key}"
            path = problems.check(name, found[key], lambda value: read.path(value, folder))
            given |= {name: path} if path is not None else {}
    return table(Paths, {"out": "out/real", **values}, "", folder, problems, given=given)
