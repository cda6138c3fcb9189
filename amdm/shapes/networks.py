"""Networks in diffusers' classes: made, called, stored and loaded."""

import copy
import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from amdm.shapes import conditions
from amdm.shapes.conditions import Maps, Tokens
from amdm.shapes.configs import CONFIGS, TRAINED, TrainingConfig
from amdm.shapes.imports import import_beside_torchvision
from amdm.shapes.latents import Latent

_diffusers = partial(import_beside_torchvision, "diffusers")  # imported where it is first needed

WEIGHTS = Path(__file__).parent / "weights"
CHANNELS = 12
EDM_SIGMAS = (0.02, 20.0)  # what the log-normal levels of training reach, within two to three deviations
MAP_CHANNELS = {None: 0, "layout": conditions.LAYOUT_MAPS, "colours": conditions.COLOUR_MAPS}
UNET = {
    "sample_size": 16,
    "out_channels": CHANNELS,
    "block_out_channels": (32, 64, 96),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": conditions.TOKEN_DIMS,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
AFA = {"width": 32, "heads": 2}  # a quarter of the published width, with heads of the published size


def _afa() -> Any:
    _diffusers()
    return importlib.import_module("amdm.diffusers.afa")


class Network(nn.Module):
    """A U-Net and, if maps control a frozen one, its ControlNet; called as a U-Net of diffusers."""

    def __init__(self, unet: Any, controlnet: Any = None) -> None:
        super().__init__()
        self.unet, self.controlnet = unet, controlnet

    @property
    def config(self) -> Any:
        """Return the U-Net's configuration."""
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        """Return the U-Net's dtype."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def part(self) -> str:
        """Return the name of the part that is trained and stored."""
        return "unet" if self.controlnet is None else "controlnet"

    def trainable(self) -> Any:
        """Return the part that is trained and stored."""
        return getattr(self, self.part)

    def forward(
        self, sample: Latent, timestep: Tensor, encoder_hidden_states: Tokens, maps: Maps | None = None
    ) -> tuple[Latent]:
        """Return the prediction. Maps go to the ControlNet if there is one, else beside the latents."""
        x, t, tokens = (part.to(self.dtype) for part in (sample, timestep, encoder_hidden_states))
        t = t.expand(len(x))
        maps = maps if maps is None else maps.to(self.dtype)
        residuals = {}
        if self.controlnet is not None:
            down, mid = self.controlnet(x, t, tokens, controlnet_cond=maps, return_dict=False)
            residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        elif maps is not None:
            x = beside(x, maps)
        return (self.unet(x, t, tokens, return_dict=False, **residuals)[0],)


class Ensemble(nn.Module):
    """Networks as one, by aggregators of their features; `denoisers.aggregated` calls it."""

    part = "aggregators"
    experts: Any
    aggregators: Any

    def __init__(self, experts: Sequence[Network], aggregators: Any) -> None:
        super().__init__()
        self.experts, self.aggregators = nn.ModuleList(experts), aggregators

    def trainable(self) -> Any:
        """Return the part that is trained and stored."""
        return self.aggregators


def beside(x: Latent, maps: Maps) -> Float[Tensor, "batch channels 16 16"]:
    """Return latents with maps beside them, as more channels."""
    return torch.cat([x, reduce(maps, "b c (h p) (w q) -> b c h w", "mean", p=2, q=2)], dim=1)


def build(config: TrainingConfig) -> Network | Ensemble:
    """Return the network before training: fresh, or with the weights that it starts from."""
    # diffusers draws fresh weights from the global generator, which is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _build(config)


def _build(config: TrainingConfig) -> Network | Ensemble:
    if config.experts:
        experts = [load(name) for name in config.experts]
        return Ensemble(experts, _afa().Aggregators.of_unets([each.unet for each in experts], **AFA))
    if config.control:
        unet = load_unet(config.start)
        controlnet = _diffusers().ControlNetModel.from_unet(
            unet,
            conditioning_channels=MAP_CHANNELS[config.maps],
            # Two entries: one halving, from pixels to latents.
            conditioning_embedding_out_channels=(16, 32),
        )
        return Network(unet, controlnet)
    unet = _diffusers().UNet2DConditionModel(in_channels=CHANNELS + MAP_CHANNELS[config.maps], **UNET)
    if config.start is not None:
        weights = load_unet(config.start).state_dict()
        narrow, wide = weights["conv_in.weight"], torch.zeros_like(unet.conv_in.weight)
        wide[:, :CHANNELS] = narrow  # what the maps say counts for nothing at first
        unet.load_state_dict({**weights, "conv_in.weight": wide})
    return Network(unet)


def save(name: str, network: Network | Ensemble, weights: dict[str, Tensor]) -> None:
    """Store these weights of the part that was trained, in half precision, and the schedule they are for."""
    stored = copy.deepcopy(network.trainable())
    stored.load_state_dict(weights)
    stored.to(dtype=torch.float16, memory_format=torch.contiguous_format)
    stored.save_pretrained(WEIGHTS / name / network.part, variant="fp16")
    scheduler(TRAINED[name].predicts).save_pretrained(WEIGHTS / name / "scheduler")


def scheduler(predicts: str) -> Any:
    """Return the sampler that diffusers has for a network with this kind of prediction."""
    if predicts == "edm":
        low, high = EDM_SIGMAS
        return _diffusers().EDMEulerScheduler(sigma_min=low, sigma_max=high, sigma_data=1.0)
    return _diffusers().DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        prediction_type=predicts,
    )


def load(name: str) -> Network:
    """Return a shipped network in float32, without gradients. Nothing is downloaded."""
    config = CONFIGS[name]
    if not config.control:
        return Network(load_unet(name))
    return Network(load_unet(config.start), _load(_diffusers().ControlNetModel, name, "controlnet"))


def load_ensemble(name: str) -> Ensemble:
    """Return a shipped ensemble in float32, without gradients. Nothing is downloaded."""
    experts = [load(expert) for expert in TRAINED[name].experts]
    return Ensemble(experts, _load(_afa().Aggregators, name, Ensemble.part))


def load_unet(name: str | None) -> Any:
    """Return the shipped U-Net of a model, in float32, without gradients."""
    return _load(_diffusers().UNet2DConditionModel, str(name), "unet")


def _load(kind: Any, name: str, part: str) -> Any:
    folder = WEIGHTS / name / part
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is not there: a wheel has the weights of base, layout and attribute, "
            "the repository those of all models"
        )
    try:
        stored = kind.from_pretrained(folder, variant="fp16", local_files_only=True)
    except Exception as error:  # diffusers, safetensors and json raise what they like
        raise ValueError(f"{folder} holds no weights that can be read: {error}") from error
    return stored.requires_grad_(False)
