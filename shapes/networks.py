"""The networks in diffusers' classes: made, called, stored and loaded."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from shapes import conditions
from shapes.conditions import Maps, Tokens
from shapes.imports import import_beside_torchvision
from shapes.latents import Latent
from shapes.recipes import RECIPES, Recipe

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


class Network(NamedTuple):
    """A U-Net and, where the maps steer a frozen one, the ControlNet beside it."""

    unet: Any
    controlnet: Any = None

    def trainable(self) -> Any:
        """The part that the recipe trains, and that is stored."""
        return self.unet if self.controlnet is None else self.controlnet

    def to(self, device: torch.device | str) -> "Network":
        """The same network on another device."""
        return Network(*(part if part is None else part.to(device) for part in self))


def predict(
    network: Network,
    x: Latent,
    c_noise: Float[Tensor, " batch"],
    encoder_hidden_states: Tokens,
    maps: Maps | None = None,
) -> Latent:
    """What the network says: the maps go to the ControlNet, where there is one, else beside the latents."""
    residuals = {}
    if network.controlnet is not None:
        down, mid = network.controlnet(
            x, c_noise, encoder_hidden_states=encoder_hidden_states, controlnet_cond=maps, return_dict=False
        )
        residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
    elif maps is not None:
        x = torch.cat([x, reduce(maps, "b c (h p) (w q) -> b c h w", "mean", p=2, q=2)], dim=1)
    sample: Tensor = network.unet(x, c_noise, encoder_hidden_states, return_dict=False, **residuals)[0]
    return sample


def build(recipe: Recipe) -> Network:
    """The network before training: fresh, or with the weights that it starts from."""
    # diffusers draws fresh weights from the global generator, which is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return _build(recipe)


def _build(recipe: Recipe) -> Network:
    diffusers = import_beside_torchvision("diffusers")
    if recipe.control:
        unet = load_unet(recipe.start)
        controlnet = diffusers.ControlNetModel.from_unet(
            unet,
            conditioning_channels=MAP_CHANNELS[recipe.maps],
            # Two entries: one halving, from pixels to latents.
            conditioning_embedding_out_channels=(16, 32),
        )
        return Network(unet, controlnet)
    unet = diffusers.UNet2DConditionModel(in_channels=CHANNELS + MAP_CHANNELS[recipe.maps], **UNET)
    if recipe.start is not None:
        weights = load_unet(recipe.start).state_dict()
        narrow, wide = weights["conv_in.weight"], torch.zeros_like(unet.conv_in.weight)
        wide[:, :CHANNELS] = narrow  # what the maps say counts for nothing at first
        unet.load_state_dict({**weights, "conv_in.weight": wide})
    return Network(unet)


def save(name: str, network: Network, weights: dict[str, Tensor]) -> None:
    """Store these weights of the part that was trained, in half precision, and the schedule they are for."""
    part = "unet" if network.controlnet is None else "controlnet"
    stored = copy.deepcopy(network.trainable())
    stored.load_state_dict(weights)
    stored.to(dtype=torch.float16, memory_format=torch.contiguous_format)
    stored.save_pretrained(WEIGHTS / name / part, variant="fp16")
    scheduler(RECIPES[name].predicts).save_pretrained(WEIGHTS / name / "scheduler")


def scheduler(predicts: str) -> Any:
    """The sampler that diffusers has for a network with this kind of prediction."""
    diffusers = import_beside_torchvision("diffusers")
    if predicts == "edm":
        low, high = EDM_SIGMAS
        return diffusers.EDMEulerScheduler(sigma_min=low, sigma_max=high, sigma_data=1.0)
    return diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        prediction_type=predicts,
    )


def load(name: str) -> Network:
    """A shipped network in float32, without gradients; nothing is fetched from anywhere."""
    recipe = RECIPES[name]
    if not recipe.control:
        return Network(load_unet(name))
    diffusers = import_beside_torchvision("diffusers")
    return Network(load_unet(recipe.start), _load(diffusers.ControlNetModel, name, "controlnet"))


def load_unet(name: str | None) -> Any:
    """The shipped U-Net of a model, in float32, without gradients."""
    return _load(import_beside_torchvision("diffusers").UNet2DConditionModel, str(name), "unet")


def _load(kind: Any, name: str, part: str) -> Any:
    stored = kind.from_pretrained(WEIGHTS / name / part, variant="fp16", local_files_only=True)
    return stored.requires_grad_(False)
