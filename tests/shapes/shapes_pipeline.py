"""The shipped models as a diffusers pipeline: the loop that its users call, and that others take apart."""

from typing import Any

import torch

from amdm.shapes import denoisers, networks
from amdm.shapes.configs import CONFIGS
from amdm.shapes.imports import import_beside_torchvision
from amdm.shapes.latents import SHAPE, Latent, decode
from amdm.shapes.networks import Network
from amdm.shapes.world import Scenes

diffusers = import_beside_torchvision("diffusers")


class ShapesPipeline(diffusers.DiffusionPipeline):  # type: ignore[misc]
    """Scenes to images by one of the models on Stable Diffusion's schedule: `ShapesPipeline.of("layout")`."""

    name: str

    def __init__(self, unet: Network, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @classmethod
    def of(cls, name: str) -> "ShapesPipeline":
        """A shipped model's. Raises ValueError for one that is not on Stable Diffusion's schedule."""
        if name not in CONFIGS or CONFIGS[name].predicts == "edm":
            known = ", ".join(name for name, config in CONFIGS.items() if config.predicts != "edm")
            raise ValueError(f"name must be one of {known}, got {name!r}")
        pipe = cls(networks.load(name), networks.scheduler(CONFIGS[name].predicts))
        pipe.name = name
        return pipe

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
        sides, guided = denoisers.extra_args(self.name, scenes), guidance_scale > 1
        cond, uncond = sides["cond"], sides["uncond"]
        conditions = {key: torch.cat([uncond[key], cond[key]]) for key in cond} if guided else cond
        self.scheduler.set_timesteps(num_inference_steps)
        if latents is None:
            latents = torch.randn((len(scenes.seeds), *SHAPE), generator=generator)
        for t in self.progress_bar(self.scheduler.timesteps):
            predicted = self.unet(torch.cat([latents, latents]) if guided else latents, t, **conditions)[0]
            if guided:
                without, given = predicted.chunk(2)
                predicted = without + guidance_scale * (given - without)
            latents = self.scheduler.step(predicted, t, latents, eta=eta, generator=generator).prev_sample
        images = latents if output_type == "latent" else decode(latents)
        return diffusers.ImagePipelineOutput(images=images)
