"""Train one of the models: `python -m amdm.shapes.training base`.

A run is a function of its configuration: an interrupted run continues from its last checkpoint and ends with
the same weights as one without interruption, bit for bit on one machine. Checkpoints are in the folder that
the environment variable AMDM_CACHE names (default: ~/.cache/amdm); finished weights and loss curves are in
amdm/shapes/weights.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from amdm.command_line.arguments import check_device, checked, parser_of
from amdm.shapes import conditions, denoisers, latents, networks, world
from amdm.shapes.configs import CONFIGS, TRAINED, Prediction, TrainingConfig
from amdm.shapes.folders import cache_folder, opened
from amdm.shapes.networks import Ensemble, Network
from amdm.shapes.tables import write_csv

DECAY = 0.3  # the last part of all steps, over which it falls to 0
BETAS = (0.9, 0.99)
CLIP = 1.0  # the largest norm of a gradient
EMA = 0.999
CONDITION_DROPOUT = 0.1  # of all conditions, for guidance
STYLE_DROPOUT = 0.5  # of the style's word, so that captions without it are no surprise
SNR_CAP = 5.0
EDM_LOG_SIGMA = (0.0, 1.4)  # mean and deviation; EDM's -1.2 and 1.2 are for images that deviate by 0.5
CHECKPOINT_SECONDS = 600


@dataclass
class Run:
    """The state of a training run."""

    config: TrainingConfig
    network: Network | Ensemble
    optimizer: torch.optim.AdamW
    average: dict[str, Tensor]
    generator: torch.Generator
    losses: Float[Tensor, " steps"]
    step: int = 0

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Return the trained parameters, by name."""
        return trained(self.network)


def trained(network: Network | Ensemble) -> dict[str, Tensor]:
    """Return the parameters that the configuration trains, by name."""
    return dict(network.trainable().named_parameters())


def begin(config: TrainingConfig, device: torch.device) -> Run:
    """Return a run before its first step."""
    network = networks.build(config).to(device)
    # A fifth faster on a CPU.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = trained(network)
    return Run(
        config=config,
        network=network,
        optimizer=torch.optim.AdamW(parameters.values(), lr=config.rate, betas=BETAS),
        average={name: value.detach().clone() for name, value in parameters.items()},
        generator=torch.Generator(device).manual_seed(config.seed),
        losses=torch.zeros(config.images // config.batch, device=device),
    )


def advance(run: Run) -> None:
    """Take one step of the optimiser, on the next scenes of the training split."""
    size = run.config.batch
    first = world.TRAIN.start + run.step * size
    scenes = world.sample_scenes(range(first, first + size)).to(run.losses.device)
    factor = rate_factor(run.step, len(run.losses), run.config.warmup)
    run.optimizer.param_groups[0]["lr"] = run.config.rate * factor
    loss = loss_of(run.config, run.network, scenes, run.generator)
    torch.autograd.backward(loss)
    parameters = list(run.parameters.values())
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.losses[run.step] = loss.detach()
    run.step += 1
    keep = min(EMA, run.step / (run.step + 10))  # the first weights are soon forgotten
    with torch.no_grad():
        torch._foreach_lerp_(list(run.average.values()), parameters, 1 - keep)


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate at a step, as a fraction of the configuration's."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (DECAY * steps))


def loss_of(
    config: TrainingConfig, network: Network | Ensemble, scenes: world.Scenes, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Return the weighted squared error of the denoised latents (Karras et al. 2022, eq. 2).

    AFA's is the squared error of eps, as published.
    """
    images = world.render(scenes)
    z = latents.encode(images)
    sigma = draw_sigma(config.predicts, len(z), generator)
    noise = torch.randn(z.shape, generator=generator, device=z.device)
    x = z + sigma[:, None, None, None] * noise
    with torch.autocast(z.device.type, torch.bfloat16, enabled=z.device.type == "cuda"):
        if isinstance(network, Ensemble):
            told = _drawn_conditions([CONFIGS[name] for name in config.experts], scenes, generator)
            denoised = denoisers.aggregated(network, told)(x, sigma)
        else:
            model = denoisers.denoiser(network, config.predicts)
            denoised = model(x, sigma, **draw_conditions(config, scenes, generator))
    error = (denoised - z).square().mean((1, 2, 3))
    weight = sigma.square().reciprocal() if config.experts else loss_weight(config.predicts, sigma)
    return (weight * error).mean()


def draw_sigma(predicts: Prediction, batch: int, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """Return the levels to train at: uniform over Stable Diffusion's steps, or log-normal for EDM."""
    device = generator.device
    if predicts == "edm":
        mean, deviation = EDM_LOG_SIGMA
        return (mean + deviation * torch.randn(batch, generator=generator, device=device)).exp()
    steps = torch.randint(1000, (batch,), generator=generator, device=device)
    return denoisers.training_sigmas().float().to(device)[steps]


def loss_weight(predicts: Prediction, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return the weight of a denoised latent's squared error: min-SNR (Hang et al. 2023, 3.4), or EDM's."""
    snr = sigma.square().reciprocal()
    return 1 + snr if predicts == "edm" else snr.clamp(max=SNR_CAP)


def draw_conditions(
    config: TrainingConfig, scenes: world.Scenes, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the conditions of the scenes: zeros for some, without the style's word for others."""
    return _drawn_conditions([config], scenes, generator)[0]


def _drawn_conditions(
    configs: Sequence[TrainingConfig], scenes: world.Scenes, generator: torch.Generator
) -> list[dict[str, Tensor]]:
    """Return each model's conditions; all models are told nothing, or no style, of the same scenes."""
    dropped, unsaid = torch.rand(2, len(scenes.seeds), generator=generator, device=generator.device)
    keep = dropped >= CONDITION_DROPOUT
    encoded = [conditions.encode(config, scenes, styles=unsaid >= STYLE_DROPOUT) for config in configs]
    return [
        {key: value * keep.view(-1, *[1] * (value.ndim - 1)) for key, value in each.items()}
        for each in encoded
    ]


def checkpoint(run: Run, path: Path) -> None:
    """Write the state of a run. An earlier file stays whole until the new one is complete."""
    tensors = {f"average.{name}": value for name, value in run.average.items()}
    for name, value in run.parameters.items():
        tensors[f"parameter.{name}"] = value.detach()
        for key, moment in run.optimizer.state[value].items():
            tensors[f"optimizer.{key}.{name}"] = moment
    config = {key: value for key, value in asdict(run.config).items() if key != "images"}
    tensors |= {"generator": run.generator.get_state(), "losses": run.losses[: run.step]}
    unfinished = path.with_suffix(".unfinished")
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}  # as safetensors wants them
    save_file(contiguous, unfinished, {"recipe": json.dumps(config)})
    os.replace(unfinished, path)


def resume(config: TrainingConfig, device: torch.device, path: Path) -> Run:
    """Return a run from its checkpoint. It may get more images than at first; the rest may not change."""
    run = begin(config, device)
    with opened(path, str(device), "remove it to start anew") as file:
        made_by = json.loads(file.metadata()["recipe"])
        made_by["experts"] = tuple(made_by.get("experts", ()))
        if config != TrainingConfig(**made_by, images=config.images):
            raise ValueError(f"{path} was made by {made_by}, not by {config}: remove it to start anew")
        with torch.no_grad():
            for name, value in run.parameters.items():
                value.copy_(file.get_tensor(f"parameter.{name}"))
                run.average[name].copy_(file.get_tensor(f"average.{name}"))
                keys = ("step", "exp_avg", "exp_avg_sq")
                state = {key: file.get_tensor(f"optimizer.{key}.{name}") for key in keys}
                state["step"] = state["step"].cpu()  # AdamW counts on the host
                run.optimizer.state[value] = state
        run.generator.set_state(file.get_tensor("generator").cpu())
        losses = file.get_tensor("losses")
    run.step = len(losses)
    run.losses[: run.step] = losses
    return run


def train(name: str, device: torch.device, *, quiet: bool = False) -> Run:
    """Train a model to the end of its configuration, from its last checkpoint if there is one."""
    path = cache_folder("training") / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    config = TRAINED[name]
    run = resume(config, device, path) if path.exists() else begin(config, device)
    saved = time.monotonic()
    bar = tqdm(total=len(run.losses), initial=run.step, unit="step", desc=name, disable=quiet)
    while run.step < len(run.losses):
        advance(run)
        bar.update()
        if run.step % 100 == 0:
            bar.set_postfix(loss=f"{run.losses[run.step - 100 : run.step].mean().item():.4f}")
        if time.monotonic() - saved > CHECKPOINT_SECONDS or run.step == len(run.losses):
            checkpoint(run, path)
            saved = time.monotonic()
    bar.close()
    return run


def main() -> None:
    """Train, then store the averaged weights and the loss curve."""
    parser = parser_of(__doc__)
    parser.add_argument("name", choices=TRAINED)
    parser.add_argument(
        "--device", type=checked(check_device, str), default="cuda" if torch.cuda.is_available() else "cpu"
    )
    args = parser.parse_args()
    run = train(args.name, torch.device(args.device), quiet=args.quiet)
    networks.save(args.name, run.network, run.average)
    steps = range(0, run.step, 100)
    rows = ((step * run.config.batch, f"{run.losses[step : step + 100].mean().item():.5f}") for step in steps)
    write_csv(networks.WEIGHTS / args.name / "loss.csv", [("images", "loss of the next 100 steps"), *rows])


if __name__ == "__main__":
    main()
