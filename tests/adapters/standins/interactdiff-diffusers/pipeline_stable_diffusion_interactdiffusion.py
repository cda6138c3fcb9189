"""A stand-in for InteractDiffusion's pipeline: its arguments, and the call that its U-Net gets.

The contract: a pipeline of its own (no LoRA, no IP-Adapter, no image encoder); GLIGEN's slot with the keys of
its grounding network (30 slots of 768 numbers, the unconditional rows' masks 0); phrases are encoded with
their attention mask; fusers with a switch that is off after int(beta steps) steps and stays so.
"""

import inspect
from typing import ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from transformers import CLIPFeatureExtractor, CLIPTextModel, CLIPTokenizer  # the first is transformers 4's

SLOTS, WIDTH = 30, 768


class StableDiffusionInteractDiffusionPipeline(DiffusionPipeline):
    """A prompt and who does what with whom, where."""

    _optional_components: ClassVar = ["safety_checker", "feature_extractor"]

    def __init__(
        self,
        vae,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet,
        scheduler,
        safety_checker,
        feature_extractor: CLIPFeatureExtractor,
        requires_safety_checker: bool = True,
    ):
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
        )
        self.vae_scale_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.register_to_config(requires_safety_checker=requires_safety_checker)

    def enable_fuser(self, enabled=True):
        for module in self.unet.modules():
            if type(module) is GatedSelfAttentionDense:
                module.enabled = enabled

    @torch.no_grad()
    def __call__(
        self,
        prompt=None,
        height=None,
        width=None,
        num_inference_steps=50,
        guidance_scale=7.5,
        interactdiffusion_scheduled_sampling_beta=1.0,
        interactdiffusion_subject_phrases=None,
        interactdiffusion_subject_boxes=None,
        interactdiffusion_object_phrases=None,
        interactdiffusion_object_boxes=None,
        interactdiffusion_action_phrases=None,
        negative_prompt=None,
        eta=0.0,
        generator=None,
        latents=None,
        output_type="pil",
    ):
        device, dtype = self._execution_device, self.text_encoder.dtype
        side = self.unet.config.sample_size * self.vae_scale_factor
        height, width = height or side, width or side
        text = torch.cat([self.encoded(negative_prompt or ""), self.encoded(prompt)])
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        if latents is None:
            shape = (1, self.unet.config.in_channels, *(n // self.vae_scale_factor for n in (height, width)))
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        latents = latents.to(device) * self.scheduler.init_noise_sigma

        number = len(interactdiffusion_subject_boxes)
        phrases = [
            *interactdiffusion_subject_phrases,
            *interactdiffusion_object_phrases,
            *interactdiffusion_action_phrases,
        ]
        tokens = self.tokenizer(phrases, padding=True, return_tensors="pt").to(device)
        subjects, objects, actions = self.text_encoder(**tokens).pooler_output.split(number)
        grounding = {
            "subject_boxes": self.slots(torch.tensor(interactdiffusion_subject_boxes), 4),
            "object_boxes": self.slots(torch.tensor(interactdiffusion_object_boxes), 4),
            "subject_positive_embeddings": self.slots(subjects, WIDTH),
            "object_positive_embeddings": self.slots(objects, WIDTH),
            "action_positive_embeddings": self.slots(actions, WIDTH),
            "masks": self.slots(torch.ones(number)),
        }
        grounding["masks"][0] = 0

        takes = inspect.signature(self.scheduler.step).parameters
        extra = {name: value for name, value in (("eta", eta), ("generator", generator)) if name in takes}
        self.enable_fuser(True)
        last = int(interactdiffusion_scheduled_sampling_beta * len(self.scheduler.timesteps))
        for i, t in enumerate(self.scheduler.timesteps):
            if i == last:
                self.enable_fuser(False)
            x = self.scheduler.scale_model_input(torch.cat([latents] * 2), t)
            told = {"gligen": grounding}
            predicted = self.unet(x, t, encoder_hidden_states=text, cross_attention_kwargs=told).sample
            uncond, cond = predicted.chunk(2)
            predicted = uncond + guidance_scale * (cond - uncond)
            latents = self.scheduler.step(predicted, t, latents, **extra).prev_sample
        images = latents
        if output_type != "latent":
            images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        images = self.image_processor.postprocess(images, output_type=output_type)
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=None)

    def encoded(self, prompt):
        tokens = self.tokenizer([prompt], padding="max_length", max_length=77, return_tensors="pt").input_ids
        return self.text_encoder(tokens.to(self._execution_device))[0]

    def slots(self, rows, *width):
        filled = torch.zeros(2, SLOTS, *width, dtype=self.text_encoder.dtype, device=self._execution_device)
        filled[:, : len(rows)] = rows
        return filled
