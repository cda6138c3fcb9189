"""U-Nets of Stable Diffusion's sizes with random weights, as `amdm`'s models: nothing is downloaded."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from amdm.diffusers import NetworkDenoiser, as_switched, sdxl, text
from amdm.diffusers.contexts import Context
from amdm.schedules import sigmas_from_betas, stable_diffusion_betas
from amdm.shapes.imports import import_beside_torchvision

SD15: Mapping[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "norm_num_groups": 32,
}
"""The configuration of stable-diffusion-v1-5's U-Net; what is not here is diffusers' default."""

SDXL: Mapping[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
    "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    "norm_num_groups": 32,
}
"""That of stable-diffusion-xl-base-1.0's."""

CONFIGS = {"sd15": SD15, "sdxl": SDXL}
FEW = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 2}
NARROW: Mapping[str, Mapping[str, Any]] = {
    "sd15": {
        **FEW,
        "sample_size": 8,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    "sdxl": {
        **FEW,
        "sample_size": 16,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
    },
}
"""Changes that make them small enough for a test."""

TOKENS, POOLED = 77, 1280
GUIDANCE = 7.5


@dataclass(frozen=True)
class Kind:
    """A U-Net's architecture, where it lies and in which dtype.

    Args:
        name: a key of `CONFIGS`.
        device, dtype: those of its weights.
        tiny: take few channels.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    tiny: bool = False

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration for diffusers."""
        return {**CONFIGS[self.name], **(NARROW[self.name] if self.tiny else {})}

    def network(self, loras: Sequence[str] = ()) -> Any:
        """Return a new U-Net with random weights, with LoRAs of these names at its attention layers."""
        with _by_default(self.dtype), self.device:
            network = import_beside_torchvision("diffusers").UNet2DConditionModel(**self.config)
            for name in loras:
                network.add_adapter(_random_lora(2 if self.tiny else 16), name)
        return network.eval().requires_grad_(False)

    def latents(self, num: int) -> list[Tensor]:
        """Return latents of one image for N models, in float32."""
        channels, size = self.config["in_channels"], self.config["sample_size"]
        return [torch.randn(1, channels, size, size, device=self.device) for _ in range(num)]

    def model(self, network: nn.Module, *contexts: Context, batch: int = 1) -> NetworkDenoiser:
        """Return the network as a model of a batch of images with guidance, under one random prompt."""
        generator = torch.Generator(self.device).manual_seed(0)

        def rows(*shape: int) -> Tensor:
            drawn = torch.randn(2, *shape, device=self.device, dtype=self.dtype, generator=generator)
            return drawn.repeat_interleave(batch, 0)

        recipes = [text(rows(TOKENS, self.config["cross_attention_dim"]))]
        if "addition_embed_type" in self.config:
            recipes.append(sdxl(rows(POOLED), rows(6)))
        return NetworkDenoiser(
            network,
            "epsilon",
            _training_sigmas(),
            recipes=recipes,
            contexts=contexts,
            guidance=GUIDANCE,
            batch=batch,
        )

    def models_of_loras(self, network: Any, loras: Sequence[str]) -> list[NetworkDenoiser]:
        """Return a model for each LoRA, all on one network."""
        models = []
        for name in loras:
            network.set_adapter(name)
            models.append(self.model(network, as_switched(network)))
        return models

    def model_of_all_loras(self, network: Any, loras: Sequence[str]) -> NetworkDenoiser:
        """Return one model of a batch whose sample k has the k-th LoRA: all LoRAs in one call."""
        return self.model(network, by_row(network, [*loras, *loras]), batch=len(loras))


def by_row(network: nn.Module, loras: Sequence[str]) -> Context:
    """Return a context in which row k of the network's batch has the k-th LoRA: peft's mixed batches.

    peft's own model sets this up for its argument `adapter_names`, and diffusers' networks are not inside
    one. The layers are the same, so this gives them the names in the same way, before each is called.
    """
    peft = import_beside_torchvision("peft")
    layers = [layer for layer in network.modules() if isinstance(layer, peft.tuners.lora.LoraLayer)]

    def named(layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "adapter_names": list(loras)}

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        hooks = [layer.register_forward_pre_hook(named, with_kwargs=True) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    return context


def weights_of(networks: Sequence[nn.Module]) -> int:
    """Return the bytes of the networks' parameters; what they share is counted once."""
    parameters = {id(each): each for network in networks for each in network.parameters()}
    return sum(each.nbytes for each in parameters.values())


def _random_lora(rank: int) -> Any:
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    return import_beside_torchvision("peft").LoraConfig(
        r=rank, target_modules=targets, init_lora_weights=False
    )


@contextlib.contextmanager
def _by_default(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors of this dtype: SDXL in float32 first would need twice the memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@cache
def _training_sigmas() -> Tensor:
    return sigmas_from_betas(stable_diffusion_betas())
