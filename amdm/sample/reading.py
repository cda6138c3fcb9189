"""The reader of configurations: all that is wrong is said at once, a line each, before anything is loaded."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from amdm.command_line.arguments import Expected
from amdm.sample import methods, scenes
from amdm.sample import tables as read
from amdm.sample.checks import check_files
from amdm.sample.configuration import NOT_OF_A_CALL, STEPS, Config, Model, Prompt, arguments, call_of
from amdm.sample.methods import Sampling
from amdm.sample.tables import Problems, Unusable, keys_of, table, unknown


def read_config(file: Path | str, files: bool = True) -> Config:
    """Return the configuration in a TOML file; paths in it are relative to its folder.

    All of it is checked, and with `files` also what it points to, by headers and names, without loading a
    network and without running code of its folders.

    Raises:
        Unusable: with a line for everything that is wrong.
    """
    file = Path(file)
    if not file.is_file():
        raise Unusable([f"{file} is not there, expected a TOML file"])
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, or no text
        raise Unusable([f"{file} is not TOML: {error}"]) from error
    return config_of(values, file.resolve().parent, files)


def config_of(
    values: Mapping[str, Any], folder: Path | str = ".", files: bool = True, told: bool = True
) -> Config:
    """Return the configuration in a dictionary, as `read_config` does for a file in `folder`.

    With `told` False the calls may lack what their models need, as a manifest has it apart.

    >>> values = {"prompt": "a cat", "models": [{"pipeline": "sd"}, {"pipeline": "gligen"}]}
    >>> config = config_of(values, files=False)
    >>> config.title
    'sd(+gligen)'
    """
    folder, problems = Path(folder).resolve(), Problems()
    given = dict(values)
    top = ("models", "sampling", "prompt", "prompts")
    unknown(given, [*keys_of(Config), *top], "", problems)
    models = _models(given, folder, problems)
    prompts = _prompts(given, models, folder, problems)
    rest = {name: value for name, value in given.items() if name in keys_of(Config)}
    sampling = _sampling(given.get("sampling", {}), problems)
    config = table(Config, rest, "", folder, problems, models=models, prompts=prompts, sampling=sampling)
    config = _completed(config, folder)
    _check_calls(config, problems)
    if len(models) > 1 and not problems.of("sampling.method"):
        problems.lines += [f"sampling.{line}" for line in _wrong_options(config, problems)]
    if files:
        check_files(config, problems, told)
    problems.finish()
    return config


def _wrong_options(config: Config, problems: Problems) -> Iterator[str]:
    """Yield what is wrong with the method's options, for the number of steps if that is right."""
    scale = call_of(config, 0, config.prompts[0] if config.prompts else None).get("guidance_scale", 7.5)
    guided = not isinstance(scale, int | float) or scale > 1
    steps = STEPS if problems.of("call.num_inference_steps") else config.steps
    return methods.wrong_options(config.sampling, len(config.models), steps, guided)


def _completed(config: Config, folder: Path) -> Config:
    """Return the configuration with what follows from the machine, and the number of steps."""
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = config.dtype or ("float16" if device.startswith("cuda") else "float32")
    call = {"num_inference_steps": STEPS, **config.call}
    return replace(config, device=device, dtype=dtype, call=call, out=folder / config.out)


def _models(given: Mapping[str, Any], folder: Path, problems: Problems) -> tuple[Model, ...]:
    entries = given.get("models", [])
    if not isinstance(entries, list) or len(entries) < 2:
        number = len(entries) if isinstance(entries, list) else "no list"
        problems.lines.append(f"models has {number} entries, expected two [[models]] or more")
        entries = entries if isinstance(entries, list) else []
    models = []
    for i, entry in enumerate(entries):
        model = table(Model, entry, f"models[{i}]", folder, problems)
        called = model.name or model.system or model.pipeline.name or str(i)
        models.append(replace(model, name=called))
        problems.lines += [f"models[{i}].{line}" for line in scenes.lacking(model)]
    names = [model.name for model in models]
    for i, called in enumerate(names):
        if called in names[:i] or called in RECORD:
            others = f"another than {', '.join([*names[:i], *RECORD])}"
            problems.add(f"models[{i}].name", called, others)
    return tuple(models)


def _sampling(values: Any, problems: Problems) -> Sampling:
    if not isinstance(values, Mapping):
        problems.add("sampling", values, "a table")
        return Sampling()
    options, folder = dict(values), Path()
    method, readers = options.pop("method", "amdm"), {}
    if method not in methods.MANY:
        problems.add("sampling.method", method, f"one of {', '.join(methods.MANY)}")
        return Sampling()
    if method in methods.INNER:
        readers["sampler"] = read.choice(*methods.ONE)
    if method in methods.APART:
        readers["starts"] = read.choice("independent", "shared")
    if method == "projective_guidance":
        readers["background"] = read.choice("each", "shared")
    unknown(options, ["method", *readers, *methods.options_of(method)], "sampling", problems)
    made = {"starts": methods.APART.get(method, "shared")}
    for each, reader in readers.items():
        if each in options:
            where, value = f"sampling.{each}", options.pop(each)
            found = problems.check(where, value, partial(reader, folder=folder))
            made |= {} if found is None else {each: found}
    options = {each: value for each, value in options.items() if each in methods.options_of(method)}
    return Sampling(method=method, options=options, **made)


# Prompts

RECORD = ("name", "prompt", "negative_prompt", "seed", "call", "interactions", "instances")
"""The keys that a line of a file of prompts may have, beside the names of models."""


def _prompts(
    given: Mapping[str, Any], models: Sequence[Model], folder: Path, problems: Problems
) -> tuple[Prompt, ...]:
    """Read `prompt` (a string, or several) or `prompts` (a file of lines, or of JSON lines)."""
    if ("prompt" in given) == ("prompts" in given):
        problems.lines.append("prompt or prompts is needed, expected one of them")
        return ()
    if "prompt" in given:
        found = problems.check("prompt", given["prompt"], partial(read.texts, folder=folder)) or ()
        return tuple(Prompt(name=str(i), prompt=each) for i, each in enumerate(found))
    file = problems.check("prompts", given["prompts"], partial(read.path, folder=folder))
    if file is None:
        return ()
    records = problems.check("prompts", file, lines_of) or []
    prompts = [_prompt(i, record, models, file.parent, problems) for i, record in enumerate(records)]
    seen: set[str] = set()
    for i, prompt in enumerate(prompts):
        if prompt.name in seen:
            problems.add(f"prompts[{i}].name", prompt.name, "another name for each prompt")
        seen.add(prompt.name)
    return tuple(prompts)


def lines_of(file: Path) -> list[Any]:
    """Return the lines of a file of prompts: strings, or for .jsonl dictionaries."""
    if not file.is_file():
        raise Expected("a file")
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        found = [json.loads(line) for line in lines] if file.suffix == ".jsonl" else lines
    except ValueError as error:
        raise Expected(f"text, and in a file .jsonl a JSON dictionary in each line: {error}") from error
    if not found:
        raise Expected("one prompt or more in it")
    return found


def _prompt(i: int, record: Any, models: Sequence[Model], folder: Path, problems: Problems) -> Prompt:
    where = f"prompts[{i}]"
    record = {"prompt": record} if isinstance(record, str) else record
    if not isinstance(record, Mapping):
        problems.add(where, record, "a dictionary")
        return Prompt(name=str(i), prompt="")
    names = [model.name for model in models]
    unknown(record, [*RECORD, *names], where, problems)

    def take(part: str, reader: Any, default: Any) -> Any:
        if part not in record:
            return default
        found = problems.check(f"{where}.{part}", record[part], partial(reader, folder=folder))
        return default if found is None else found

    if "prompt" not in record:
        problems.lines.append(f"{where}.prompt is missing, expected a string")
    call = dict(take("call", arguments, {}))
    if "negative_prompt" in record:
        call["negative_prompt"] = take("negative_prompt", read.text, "")
    calls = {each: take(each, arguments, {}) for each in names if each in record}
    scene = {part: record[part] for part in ("interactions", "instances") if part in record}
    wrong = [f"{where}.{line}" for line in scenes.wrong(scene)]
    problems.lines += wrong
    own = take("seed", read.seed, None)
    return Prompt(
        name=take("name", read.name, str(i)),
        prompt=take("prompt", read.text, ""),
        seeds=() if own is None else (own,),
        call=call,
        calls=calls,
        scene={} if wrong else scene,
    )


# The arguments of the calls


def _check_calls(config: Config, problems: Problems) -> None:
    """Note what is wrong with the arguments of calls, as far as no pipeline's class is needed for it."""
    places = [("call", config.call, True)]
    places += [(f"models[{k}].call", model.call, False) for k, model in enumerate(config.models)]
    for i, prompt in enumerate(config.prompts):
        places.append((f"prompts[{i}].call", prompt.call, False))
        places += [(f"prompts[{i}].{name}", call, False) for name, call in prompt.calls.items()]
    for where, call, top in places:
        for name, why in NOT_OF_A_CALL.items():
            if name in call:
                problems.add(f"{where}.{name}", call[name], f"none: {why}")
        if "num_inference_steps" in call and not top:
            expected = "none: call.num_inference_steps is that of all models"
            problems.add(f"{where}.num_inference_steps", call["num_inference_steps"], expected)
        if "prompt" in call and where in (
            "call",
            *(f"prompts[{i}].call" for i in range(len(config.prompts))),
        ):
            problems.add(f"{where}.prompt", call["prompt"], "none: prompt stands beside it")
        for name, check in CHECKS.items():
            if name in call:
                problems.check(f"{where}.{name}", call[name], check)
        problems.lines += [f"{where}.{line}" for line in scenes.wrong_boxes(call)]


def _steps(value: Any) -> None:
    if type(value) is not int or value < 1:
        raise Expected("a whole number of 1 or more")


def _size(value: Any) -> None:
    if type(value) is not int or value < 8 or value % 8:
        raise Expected("a multiple of 8")


def _scale(value: Any) -> None:
    read.number(value, Path())


CHECKS = {"num_inference_steps": _steps, "height": _size, "width": _size, "guidance_scale": _scale}
