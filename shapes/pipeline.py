"""The shipped models as a diffusers pipeline: the loop that its users call, and that others take apart."""

from typing import Any

import torch
from torch import Tensor, nn

from shapes import denoisers, networks
from shapes.conditions import Maps, Tokens
from shapes.imports import import_beside_torchvision
from shapes.latents import SHAPE, Latent, decode
from shapes.networks import Network
from shapes.recipes import RECIPES
from shapes.world import Scenes

diffusers = import_beside_torchvision("diffusers")


class ToldNetwork(nn.Module):
    """A shipped network that is called as diffusers' U-Nets are, with the maps of boxes beside the tokens."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.unet, self.control = networks.load(name)

    @property
    def config(self) -> Any:
        """The U-Net's."""
        return self.unet.config

    @property
    def dtype(self) -> torch.dtype:
        """The U-Net's."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    def forward(
        self, sample: Latent, timestep: Tensor, encoder_hidden_states: Tokens, maps: Maps | None = None
    ) -> tuple[Tensor]:
        """The prediction, in a tuple."""
        steps = timestep.to(sample.dtype).expand(len(sample))
        network = Network(self.unet, self.control)
        return (networks.predict(network, sample, steps, encoder_hidden_states, maps),)


class ShapesPipeline(diffusers.DiffusionPipeline):  # type: ignore[misc]
    """Scenes to images by one of the models on Stable Diffusion's schedule: `ShapesPipeline.of("layout")`."""

    def __init__(self, unet: ToldNetwork, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @classmethod
    def of(cls, name: str) -> "ShapesPipeline":
        """A shipped model's. Raises ValueError for one that is not on Stable Diffusion's schedule."""
        if name not in RECIPES or RECIPES[name].predicts == "edm":
            known = ", ".join(name for name, recipe in RECIPES.items() if recipe.predicts != "edm")
            raise ValueError(f"name must be one of {known}, got {name!r}")
        return cls(ToldNetwork(name), networks.scheduler(RECIPES[name].predicts))

    @torch.no_grad()
    def __call__(
        self,
        scenes: Scenes,
        *,
        num_inference_steps: int = 50,
        guidance_scale: float = denoisers.GUIDANCE,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        latents: Latent | None = None,
        output_type: str = "pt",
    ) -> Any:
        """Images in [-1, 1] of the scenes, or latents where `output_type` is "latent"."""
        sides, guided = denoisers.extra_args(self.unet.name, scenes), guidance_scale > 1
        cond, uncond = sides["cond"], sides["uncond"]
        told = {key: torch.cat([uncond[key], cond[key]]) for key in cond} if guided else cond
        self.scheduler.set_timesteps(num_inference_steps)
        if latents is None:
            latents = torch.randn((len(scenes.seeds), *SHAPE), generator=generator)
        for t in self.progress_bar(self.scheduler.timesteps):
            predicted = self.unet(torch.cat([latents, latents]) if guided else latents, t, **told)[0]
            if guided:
                without, given = predicted.chunk(2)
                predicted = without + guidance_scale * (given - without)
            latents = self.scheduler.step(predicted, t, latents, eta=eta, generator=generator).prev_sample
        images = latents if output_type == "latent" else decode(latents)
        return diffusers.ImagePipelineOutput(images=images)
