"""The time and memory of real-size U-Nets on a GPU, of N models and of their aggregation: `make speed-gpu`.

One evaluation is what a sampler asks of a model at a step: one image with guidance, two rows of the U-Net.
Networks are Stable Diffusion 1.5's and SDXL's with random weights in half precision. It takes at most four
minutes and needs no internet. Writes gpu.csv, gpu.json and gpu.png.
"""

import argparse
import csv
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from amdm import __version__
from amdm.samplers import Aggregation, join
from amdm.shapes.imports import import_beside_torchvision
from amdm.shapes.tables import write_csv
from benchmarks.provenance import commit
from benchmarks.speed.unets import CONFIGS, Kind, weights_of

HERE = Path(__file__).parent
SIGMA = 2.0
MIB = 2**20
BUDGET, LEAST = 2.0, 10.0
"""Seconds for a row's calls, and what must be left of the limit to begin a row."""


@dataclass(frozen=True)
class Job:
    """A call to time, with the networks that it uses."""

    run: Callable[[], object]
    networks: Sequence[nn.Module] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table; what was not measured is None, and `note` says why."""

    network: str
    latent: str
    case: str
    models: int
    seconds: float | None = None
    """The median of the calls."""
    in_evaluations: float | None = None
    """The same, divided by that of one evaluation of this network."""
    calls: int = 0
    weights_mib: float | None = None
    peak_mib: float | None = None
    """The most memory that torch held on the GPU, weights and all."""
    note: str = ""


def evaluation(kind: Kind, network: Any) -> Job:
    """Return one evaluation of a network."""
    model, x, sigma = kind.model(network), kind.latents(1)[0], levels(kind)
    return Job(lambda: model(x, sigma), [network])


def networks_in_turn(kind: Kind, num: int) -> Job:
    networks = [kind.network() for _ in range(num)]
    return Job(in_turn([kind.model(network) for network in networks], kind), networks)


def loras_in_turn(kind: Kind, num: int) -> Job:
    network = kind.network(names(num))
    return Job(in_turn(kind.models_of_loras(network, names(num)), kind), [network])


def loras_in_one_batch(kind: Kind, num: int) -> Job:
    network = kind.network(names(num))
    model = kind.model_of_all_loras(network, names(num))
    x, sigma = torch.cat(kind.latents(num)), levels(kind, num)
    return Job(lambda: model(x, sigma), [network])


def fold_and_correction(kind: Kind, num: int) -> Job:
    xs, means = kind.latents(num), kind.latents(num)
    return Job(lambda: join(xs, means, SIGMA))


def on_two_gpus(kind: Kind) -> Job:
    if torch.cuda.device_count() < 2:
        raise RuntimeError(f"left out: torch finds {torch.cuda.device_count()} GPUs, expected two")
    return step_on([replace(kind, device=torch.device("cuda", k)) for k in range(2)])


def step_on(kinds: Sequence[Kind]) -> Job:
    """Return a step of a model on each device: the host launches them all and waits for none."""
    networks = [kind.network() for kind in kinds]
    models = [kind.model(network) for kind, network in zip(kinds, networks, strict=True)]
    xs, sigmas = [kind.latents(1)[0] for kind in kinds], [levels(kind) for kind in kinds]
    means = kinds[0].latents(len(kinds))

    def step() -> Aggregation:
        denoised = [model(x, sigma) for model, x, sigma in zip(models, xs, sigmas, strict=True)]
        return join([each.to(means[0].device) for each in denoised], means, SIGMA)

    return Job(step, networks)


def in_turn(models: Sequence[Any], kind: Kind) -> Callable[[], object]:
    """Return the call of the models one after the other, each on its latent."""
    xs, sigma = kind.latents(len(models)), levels(kind)
    return lambda: [model(x, sigma) for model, x in zip(models, xs, strict=True)]


def levels(kind: Kind, num: int = 1) -> torch.Tensor:
    return torch.full((num,), SIGMA, device=kind.device)


def names(num: int) -> list[str]:
    """Return the LoRAs' names."""
    return [f"lora_{k}" for k in range(num)]


CHANNELS_LAST = {"memory_format": torch.channels_last}
ONE, COMPILED = "one evaluation", "one evaluation, channels last, compiled"
TWO_GPUS = "networks on two GPUs, fold and correction"
OF_ONE: Mapping[str, Callable[[Kind], Job]] = {
    ONE: lambda kind: evaluation(kind, kind.network()),
    "one evaluation, channels last": lambda kind: evaluation(kind, kind.network().to(**CHANNELS_LAST)),
    COMPILED: lambda kind: evaluation(kind, torch.compile(kind.network().to(**CHANNELS_LAST))),
}
OF_SEVERAL: Mapping[str, Callable[[Kind, int], Job]] = {
    "networks, one after the other": networks_in_turn,
    "LoRAs on one network, one after the other": loras_in_turn,
    "LoRAs on one network, in one batch": loras_in_one_batch,
    "fold and correction": fold_and_correction,
}


def cases(kind: Kind, nums: Sequence[int]) -> Iterator[tuple[Row, Callable[[], Job]]]:
    """Yield the table's rows of one network without numbers, and what makes each one's job."""
    size = kind.config["sample_size"]
    row = Row(network=kind.name, latent=f"{size}x{size}x4", case="", models=1)
    for case, job in OF_ONE.items():
        yield replace(row, case=case), partial(job, kind)
    for num, (case, job_of) in product(nums, OF_SEVERAL.items()):
        yield replace(row, case=case, models=num), partial(job_of, kind, num)
    yield replace(row, case=TWO_GPUS, models=2), partial(on_two_gpus, kind)


@dataclass(frozen=True)
class Clock:
    """The time that is left, in seconds."""

    end: float

    @property
    def left(self) -> float:
        """Return the seconds until the end."""
        return self.end - time.monotonic()


def seconds_of(run: Callable[[], object], gpus: int, budget: float, most: int = 30) -> list[float]:
    """Return the seconds of calls, after two for warming up: at least one, and none begun after the budget.

    On one GPU they are measured by its events, on several and on a CPU by the host's clock.
    """
    timed = by_events if gpus == 1 else by_clock
    clock = Clock(time.monotonic() + budget)
    for _ in range(2):
        timed(run)
    times = [timed(run)]
    while len(times) < most and clock.left > 0:
        times.append(timed(run))
    return times


def by_events(run: Callable[[], object]) -> float:
    """Return the seconds of one call between two events of the GPU."""
    event: Any = partial(torch.cuda.Event, enable_timing=True)
    start, end = event(), event()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def by_clock(run: Callable[[], object]) -> float:
    """Return the seconds of one call by the host's clock, until all GPUs are done."""
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    for k in range(torch.cuda.device_count()):
        torch.cuda.synchronize(k)


def free() -> None:
    """Give back what earlier rows' networks took."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        for k in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(k)


@torch.no_grad()
def measured(row: Row, make: Callable[[], Job], gpus: int, budget: float) -> Row:
    """Return the row with its numbers, or with a note that says why there are none."""
    free()
    gpus = 2 if row.case == TWO_GPUS else gpus
    try:
        job = make()
        free()
        times = seconds_of(job.run, gpus, budget)
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        return replace(row, note=(str(error) or type(error).__name__).splitlines()[0])
    peaks = [torch.cuda.max_memory_allocated(k) for k in range(gpus)]
    return replace(
        row,
        seconds=statistics.median(times),
        calls=len(times),
        weights_mib=round(weights_of(job.networks) / MIB, 3),
        peak_mib=round(max(peaks) / MIB, 3) if peaks else None,
    )


def measured_apart(row: Row, arguments: Sequence[str], seconds: float) -> Row:
    """Return the row as a process of its own measures it, which is ended when its time is over."""
    free()
    command = [sys.executable, "-m", "benchmarks.speed.gpu", "--compiled", row.network, *arguments]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE.parents[1]), *sys.path]))
    }
    try:
        told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return replace(row, note=f"left out: not compiled within {seconds:.0f} s")
    if told.returncode != 0:
        return replace(row, note=f"failed: {(told.stderr.strip() or 'no message').splitlines()[-1]}")
    return Row(**json.loads(told.stdout.splitlines()[-1]))


def measure(
    kinds: Sequence[Kind], nums: Sequence[int], limit: float, arguments: Sequence[str]
) -> Iterator[Row]:
    """Yield the rows as they are measured; those that the time does not allow have a note.

    Compiling comes last, since it can take all of the time.
    """
    clock, on_gpu = Clock(time.monotonic() + limit), kinds[0].device.type == "cuda"
    both = [each for kind in kinds for each in cases(kind, nums)]
    for row, make in sorted(both, key=lambda each: each[0].case == COMPILED):
        if clock.left < LEAST:
            yield replace(row, note=f"left out: the limit of {limit:.0f} s")
        elif row.case != COMPILED:
            yield measured(row, make, int(on_gpu), 0 if kinds[0].tiny else BUDGET)
        elif on_gpu:
            yield measured_apart(row, arguments, clock.left)
        else:
            yield replace(row, note="left out: no GPU")


def in_evaluations(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with their time in evaluations of their network."""
    ones = seconds_per_evaluation(rows)
    return [
        replace(row, in_evaluations=round(row.seconds / ones[row.network], 4))
        if row.seconds and row.network in ones
        else row
        for row in rows
    ]


def seconds_per_evaluation(rows: Sequence[Row]) -> dict[str, float]:
    """Return the seconds of one evaluation by network: what an image costs is a number of these."""
    return {row.network: row.seconds for row in rows if row.case == ONE and row.seconds}


def made_on(kind: Kind) -> dict[str, str]:
    """Return the card, the versions and the commit behind the numbers."""
    card = torch.cuda.get_device_name(kind.device) if kind.device.type == "cuda" else "CPU"
    beside = HERE / "COMMIT"  # in a bundle there is no repository
    packages = {name: import_beside_torchvision(name).__version__ for name in ("torch", "diffusers", "peft")}
    return {
        "card": card + (", tiny networks" if kind.tiny else ""),
        "gpus": str(torch.cuda.device_count()),
        "dtype": str(kind.dtype).removeprefix("torch."),
        "cuda": str(torch.version.cuda),
        **packages,
        "amdm": __version__,
        "commit": beside.read_text().strip() if beside.exists() else commit(),
    }


def write(out: Path, rows: Sequence[Row], made: Mapping[str, str]) -> None:
    """Write gpu.csv, with a column for each of `made`, and gpu.json."""
    out.mkdir(parents=True, exist_ok=True)
    lines = [{**asdict(row), **made} for row in in_evaluations(rows)]
    write_csv(out / "gpu.csv", [list(lines[0]), *(list(line.values()) for line in lines)])
    found = {"made": made, "seconds_per_evaluation": seconds_per_evaluation(rows), "rows": lines}
    (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")


def draw(out: Path) -> None:
    """Draw gpu.png from gpu.csv, if matplotlib is there: the time and the memory of each row."""
    try:
        from amdm import plots
    except ImportError as error:
        print(f"no picture ({error}): copy gpu.csv elsewhere, and run this with --redraw")
        return
    with (out / "gpu.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    networks = list(dict.fromkeys(line["network"] for line in lines))
    figure = plots.empty(12.0, 1 + 0.2 * len(lines))
    for axes, network in zip(figure.subplots(len(networks), 2, squeeze=False), networks, strict=True):
        of_it = [line for line in lines if line["network"] == network]
        axes[0].set_title(f"{network}, {of_it[0]['latent']}, {of_it[0]['dtype']}, {of_it[0]['card']}")
        labels = [f"{line['models']} {line['case']}".removeprefix("1 ") for line in of_it]
        for ax, column, unit in zip(
            axes, ("seconds", "peak_mib"), ("seconds", "MiB on the GPU"), strict=True
        ):
            bars = ax.barh(labels, [float(line[column] or 0) for line in of_it])
            ax.bar_label(bars, [f"{float(line[column]):.4g}" if line[column] else "-" for line in of_it])
            ax.margins(x=0.15)
            ax.set(xlabel=unit, xlim=(0, None))
            ax.invert_yaxis()
        axes[1].set_yticklabels([])
    figure.savefig(out / "gpu.png", dpi=120)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="networks of few channels: seconds on a CPU")
    parser.add_argument("--models", type=int, nargs="+", default=[2, 4], help="the numbers of models")
    parser.add_argument("--limit", type=float, default=220, help="seconds for everything")
    parser.add_argument("--out", type=Path, help="a folder for the results")
    parser.add_argument("--redraw", action="store_true", help="draw gpu.png from gpu.csv, measure nothing")
    parser.add_argument("--compiled", choices=CONFIGS, help=argparse.SUPPRESS)  # the process of that row
    args = parser.parse_args(arguments)
    args.out = args.out or (Path("out/speed_gpu") if args.tiny else HERE / "results")
    if not (args.tiny or args.redraw or torch.cuda.is_available()):
        parser.error("torch finds no GPU; --tiny measures networks of few channels on the CPU")
    return args


def main(arguments: Sequence[str]) -> None:
    """Measure and write the table, row by row, or draw its picture."""
    args = parsed(arguments)
    warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several LoRAs are meant
    if args.redraw:
        draw(args.out)
        return
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    kinds = [Kind(name, device, dtype, args.tiny) for name in CONFIGS]
    if args.compiled:
        kind = next(kind for kind in kinds if kind.name == args.compiled)
        row, make = next(each for each in cases(kind, []) if each[0].case == COMPILED)
        print(json.dumps(asdict(measured(row, make, int(device.type == "cuda"), BUDGET))))
        return
    made, rows = made_on(kinds[0]), []
    gc.freeze()  # what is imported stays: `free` need not look at it
    for row in measure(kinds, args.models, args.limit, ["--tiny"] if args.tiny else []):
        rows.append(row)
        write(args.out, rows, made)
        value = row.note if row.seconds is None else f"{row.seconds:.6f} s"
        print(f"{row.network:6} {row.models} {row.case:45} {value}", flush=True)
    draw(args.out)
    print(f"wrote {args.out}/gpu.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
