"""The configuration of `amdm sample` as dataclasses, and the plan of the pictures.

Nothing here loads a network or diffusers. A configuration is

- `models`: two or more `Model`s, the enriched one first;
- `prompts`: one or more `Prompt`s; with `seeds` they make the pictures;
- `sampling`: how the models are joined;
- `call`: the arguments of all pipelines' calls, by diffusers' names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from amdm.command_line.arguments import Expected
from amdm.diffusers.pipeline import REFUSED
from amdm.sample import scenes
from amdm.sample import tables as read
from amdm.sample.methods import Sampling
from amdm.sample.tables import Problems, table

STEPS = 50
"""The number of steps if the file says none."""
DTYPES = ("float16", "bfloat16", "float32")
IMAGES = ("image", "ip_adapter_image", "control_image", "gligen_images")
"""Arguments of calls whose strings are paths of images."""
# Arguments of calls that are not the user's here, and where to say it instead.
NOT_OF_A_CALL = {
    **REFUSED,
    "generator": "seeds say it",
    "latents": "seeds say it",
    "output_type": "pictures are written as PNG",
    "return_dict": "pictures are written as PNG",
    "num_images_per_prompt": "seeds say it",
    "prompt_2": "the prompt goes to all text encoders",
}


@read.Reader
def arguments(value: Any, folder: Path) -> dict[str, Any]:
    """Read the arguments of a call; the paths of images become absolute."""
    call = read.mapping(value, folder)
    return {name: _absolute(name, each, folder) if name in IMAGES else each for name, each in call.items()}


def _absolute(name: str, value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(name, each, folder) for each in value]
    if not isinstance(value, str) or not value:
        raise Expected(f"{name} in it to be the path of an image, or several")
    return str(read.path(value, folder))


@dataclass(frozen=True)
class Lora:
    """A LoRA's file and its weight."""

    file: Annotated[Path, read.path]
    weight: Annotated[float, read.number] = 1.0


@read.Reader
def loras(value: Any, folder: Path) -> tuple[Lora, ...]:
    """Read a path, a table {file, weight}, or a list of them."""
    problems, made = Problems(), []
    for each in read.listed(value):
        values = each if isinstance(each, Mapping) else {"file": each}
        made.append(table(Lora, values, "", folder, problems))
    if problems.lines:
        raise Expected(f"a path, {{file, weight}}, or a list of them; {problems.lines[0]}")
    return tuple(made)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A pipeline on disk, what is added to it, and the arguments of its call alone."""

    pipeline: Annotated[Path, read.path]
    """A folder in diffusers' format."""
    name: Annotated[str, read.name] = ""
    """The name in files and messages; by default the system's or the folder's."""
    system: Annotated[str | None, read.choice(*scenes.SYSTEMS)] = None
    """One of `scenes.SYSTEMS`, whose arguments are made of the prompt's scene; None for a plain pipeline."""
    class_name: Annotated[str | None, read.text] = None
    """The pipeline's class in diffusers; by default the one of model_index.json, with its add-ons."""
    trust_remote_code: Annotated[bool, read.yes] = False
    """True if code in the folder `pipeline` may run."""
    lora: Annotated[tuple[Lora, ...], loras] = ()
    controlnet: Annotated[tuple[Path, ...], read.paths] = ()
    t2i_adapter: Annotated[tuple[Path, ...], read.paths] = ()
    ip_adapter: Annotated[Path | None, read.path] = None
    image_encoder: Annotated[Path | None, read.path] = None
    ip_adapter_scale: Annotated[float, read.number] = 1.0
    migc_checkout: Annotated[Path | None, read.path] = None
    migc_weights: Annotated[Path | None, read.path] = None
    call: Annotated[Mapping[str, Any], arguments] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A prompt, and what is said with it alone."""

    name: str
    prompt: Annotated[str, read.text]
    seeds: tuple[int, ...] = ()
    """Its own; empty for those of the configuration."""
    call: Annotated[Mapping[str, Any], arguments] = field(default_factory=dict)
    """Arguments of all calls."""
    calls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Arguments of one model's call, by the model's name."""
    scene: Mapping[str, Any] = field(default_factory=dict)
    """`interactions` and `instances`, of which systems make their arguments."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All that a picture depends on, and where the pictures go."""

    models: tuple[Model, ...]
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    out: Annotated[Path, read.path] = Path("out")
    seeds: Annotated[tuple[int, ...], read.seeds] = (0,)
    alone: Annotated[bool, read.yes] = False
    """True if each model also draws alone, from its own start."""
    device: Annotated[str, read.text] = ""
    """A device of torch; by default cuda if there is one, else cpu."""
    dtype: Annotated[str, read.choice(*DTYPES)] = ""
    """The networks' dtype: by default float16 on a GPU, else float32. Latents are always in float32."""
    scheduler: Annotated[str, read.text] = ""
    """A class of diffusers, which gives the levels, or "own" for that of each folder; by default
    DDIMScheduler for U-Nets and "own" for transformers."""
    call: Annotated[Mapping[str, Any], arguments] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return int(self.call["num_inference_steps"])

    @property
    def title(self) -> str:
        """Return the models as the paper writes them: A(+B)."""
        lead, *partners = (model.name for model in self.models)
        return f"{lead}(+{', '.join(partners)})"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture to draw. `jobs` makes them; any part of the list can be drawn by itself."""

    name: str
    path: Path
    """The picture's; its manifest is beside it, with the ending .json."""
    prompt: str
    seed: int
    models: tuple[int, ...]
    """The numbers of the models: all, or the one that draws alone."""
    calls: tuple[Mapping[str, Any], ...]
    """The arguments of the call of each of these models; images are paths."""

    @property
    def manifest(self) -> Path:
        """Return the manifest's path."""
        return self.path.with_suffix(".json")


# The arguments of the calls


def call_of(config: Config, k: int, prompt: Prompt | None) -> dict[str, Any]:
    """Return the arguments of a model's call for a prompt: what is said of less stands over the rest."""
    model = config.models[k]
    if prompt is None:
        return {**config.call, **model.call}
    shared = {"prompt": prompt.prompt, **config.call, **prompt.call}
    own = scenes.arguments(model.system, prompt.prompt, prompt.scene, config.steps)
    return {**shared, **own, **model.call, **prompt.calls.get(model.name, {})}


# The plan


def jobs(config: Config) -> list[Job]:
    """Return the pictures of a configuration, prompt after prompt and seed after seed.

    This is pure: any process can plan all and draw its share with `draw(config, jobs(config)[rank::world])`.
    The joined picture of a prompt and a seed is `out/NAME_SEED.png`, a model's own `out/NAME_SEED_MODEL.png`.
    """
    return [job for prompt in config.prompts for job in _jobs(config, prompt)]


def _jobs(config: Config, prompt: Prompt) -> Iterator[Job]:
    calls = tuple(call_of(config, k, prompt) for k in range(len(config.models)))
    for seed in prompt.seeds or config.seeds:
        name, all_models = f"{prompt.name}_{seed}", tuple(range(len(config.models)))
        drawn = {f"{name}_{model.name}": (k,) for k, model in enumerate(config.models) if config.alone}
        for called, models in {name: all_models, **drawn}.items():
            yield Job(
                name=called,
                path=config.out / f"{called}.png",
                prompt=prompt.prompt,
                seed=seed,
                models=models,
                calls=tuple(calls[k] for k in models),
            )
