"""The rows of the paper's tables as configurations of `amdm sample`, made from the user's paths.

A setting of `rows.SETTINGS` on a benchmark is a TOML file, `OUT/BENCHMARK/SETTING.toml`, which `amdm sample`
draws too. Its prompts are in `OUT/BENCHMARK.jsonl` and its images go to `OUT/BENCHMARK/SETTING/`, whatever
the table. Each prompt has its own seed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from amdm.sample import Config, Job, jobs, read_config
from amdm.sample.tables import Problems
from benchmarks.real import coco, hico, mig_bench
from benchmarks.real.paths import Paths
from benchmarks.real.prompts import Prompt
from benchmarks.real.rows import (
    BACKGROUND,
    ID,
    ID_XL,
    IP,
    IP_XL,
    MIGC,
    SETTINGS,
    TABLES,
    Benchmark,
    Setting,
)

GUIDANCE = 7.5
IP_SCALE = 0.8
SEED = 1_000_000
"""Prompt i of a benchmark has the run's seed times this, plus i."""
PARTS: Mapping[str, Mapping[str, str]] = {
    ID: {"pipeline": "interactdiffusion"},
    ID_XL: {"pipeline": "interactdiffusion_xl"},
    MIGC: {"pipeline": "sd14", "migc_checkout": "migc_checkout", "migc_weights": "migc_weights"},
    IP: {"pipeline": "sd15", "ip_adapter": "ip_adapter", "image_encoder": "image_encoder"},
    IP_XL: {"pipeline": "sdxl", "ip_adapter": "ip_adapter_xl", "image_encoder": "image_encoder_xl"},
    BACKGROUND: {"pipeline": "sd14"},
}
"""The files of each system: keys of `amdm sample`'s models, and of `[models]` in paths.toml."""
DATA: Mapping[Benchmark, Sequence[str]] = {
    "mig": ["mig_bench"],
    "hico": ["hico"],
    "coco": ["coco_captions", "coco_instances", "coco_images"],
}


class Images(NamedTuple):
    """A row's images of one benchmark: what draws them, and what they show."""

    row: str
    benchmark: Benchmark
    setting: str
    config: Config
    jobs: Sequence[Job]
    prompts: Sequence[Prompt]

    @property
    def files(self) -> list[Path]:
        """Return the images, one for each prompt."""
        return [job.path for job in self.jobs]

    @property
    def name(self) -> str:
        """Return the row's name in folders: its setting, and the model that draws alone."""
        alone = len(self.jobs[0].models) == 1
        model = self.config.models[self.jobs[0].models[0]].name
        return f"{model} alone, {self.setting}" if alone else self.setting


def needed(table: int) -> list[str]:
    """Return the sections and keys of all paths that a table's images need."""
    found = TABLES[table]
    systems = [system for row in found.rows.values() for system in SETTINGS[row.setting].models]
    models = [f"models.{key}" for system in dict.fromkeys(systems) for key in PARTS[system].values()]
    return models + [f"data.{key}" for benchmark in found.benchmarks for key in DATA[benchmark]]


def prompts_of(benchmark: Benchmark, paths: Paths, problems: Problems) -> list[Prompt]:
    """Return a benchmark's images as they are to be drawn. What is wrong is noted in `problems`."""

    def checked(key: str, read: Callable[[Path], Any]) -> Any:
        return problems.check(f"data.{key}", paths[f"data.{key}"], read)

    if benchmark == "mig":
        return checked("mig_bench", mig_bench.read) or []
    if benchmark == "hico":
        published = "data.hico_prompts" in paths.given
        return (
            checked(*(("hico_prompts", hico.published_prompts) if published else ("hico", hico.prompts)))
            or []
        )
    captions = checked("coco_captions", coco.first_captions) or {}
    seen = checked("coco_instances", coco.largest_instances) or {}
    return checked("coco_images", lambda folder: coco.prompts(captions, seen, folder)) or []


def configuration(
    table: int, row: str, benchmark: Benchmark, prompts: Sequence[Prompt], paths: Paths
) -> Images:
    """Return a row's images of a benchmark, by a configuration that is written to the folder `paths.out`.

    Args:
        table: 1, 2, 3, 4, 6, 8 or 9.
        row: a name of the table's `rows`.
        benchmark: one of the table's.
        prompts: what the images show, of `prompts_of`.
        paths: the user's files.

    Raises:
        Unusable: the configuration has something wrong, with a line for each.
    """
    setting = TABLES[table].rows[row].setting
    return images_of(table, row, benchmark, prompts, configured(setting, benchmark, prompts, paths))


def images_of(
    table: int, row: str, benchmark: Benchmark, prompts: Sequence[Prompt], config: Config
) -> Images:
    """Return a row's images of a benchmark by the configuration of the row's setting."""
    setting, alone = TABLES[table].rows[row]
    numbers = tuple(k for k, name in enumerate(SETTINGS[setting].models) if alone in ("", name))
    mine = [job for job in jobs(config) if job.models == numbers]
    return Images(row, benchmark, setting, config, mine, prompts)


def configured(
    setting: str, benchmark: Benchmark, prompts: Sequence[Prompt], paths: Paths, *, files: bool = True
) -> Config:
    """Write a setting on a benchmark as a file for `amdm sample`, and return what is read from it.

    Without `files`, the models' files are not looked at.
    """
    where = paths.out / benchmark / f"{setting}.toml"
    where.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record(i, one, paths)) for i, one in enumerate(prompts)]
    written(where.parent.with_suffix(".jsonl"), "\n".join(lines) + "\n")
    written(where, toml(values(setting, paths) | {"prompts": f"../{benchmark}.jsonl", "out": setting}))
    return read_config(where, files)


def values(setting: str, paths: Paths) -> dict[str, Any]:
    """Return a setting as `amdm sample` reads it, without prompts and folder."""
    chosen: Setting = SETTINGS[setting]
    return {
        "alone": any(
            row.alone for one in TABLES.values() for row in one.rows.values() if row.setting == setting
        ),
        **({"dtype": paths.dtype} if paths.dtype else {}),
        "call": {"num_inference_steps": chosen.steps, "guidance_scale": GUIDANCE},
        "sampling": dict(chosen.sampling),
        "models": [model(system, paths) for system in chosen.models],
    }


def model(system: str, paths: Paths) -> dict[str, Any]:
    """Return a system as `amdm sample` reads it."""
    files = {key: str(paths[f"models.{name}"]) for key, name in PARTS[system].items()}
    more: dict[str, Any] = {}
    if system in (ID, ID_XL):
        more = {"trust_remote_code": paths.trust_remote_code}
    if system in (IP, IP_XL):
        more = {"ip_adapter_scale": IP_SCALE}
    kind = {} if system == BACKGROUND else {"system": system}
    return {"name": system.removesuffix("-XL"), **kind, **files, **more}


def record(i: int, prompt: Prompt, paths: Paths) -> dict[str, Any]:
    """Return a prompt as `amdm sample` reads it from a line."""
    styled = {} if prompt.style is None else {"ip_adapter_image": str(prompt.style)}
    return {
        "name": prompt.name,
        "prompt": prompt.caption,
        "negative_prompt": paths.negative_prompt,
        "seed": SEED * paths.seed + i,
        "instances": [asdict(one) for one in prompt.instances],
        "interactions": [asdict(one) for one in prompt.interactions],
        **({IP: styled} if styled else {}),
    }


def toml(values: Mapping[str, Any]) -> str:
    """Return tables of strings, numbers and lists as TOML; those in a list become one `[[name]]` each."""
    head, tables = [], []
    for name, value in values.items():
        if isinstance(value, Mapping):
            tables.append(f"\n[{name}]\n{toml(value)}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += [f"\n[[{name}]]\n{toml(each)}" for each in value]
        else:
            head.append(f"{name} = {json.dumps(value, ensure_ascii=False)}\n")
    return "".join([*head, *tables])


def written(path: Path, text: str) -> None:
    """Write a file unless it has this content already, so that no reader finds half of it."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        unfinished = path.with_suffix(f".{uuid4().hex}")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
