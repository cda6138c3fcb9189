"""A stand-in for InteractDiffusion-XL's pipeline: its arguments, and the call that its U-Net gets.

As InteractDiffusion's; phrases are what both encoders say of them together, as wide as the U-Net's text.
"""

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.pipelines.stable_diffusion_xl import StableDiffusionXLPipelineOutput
from interactdiffusion_xl.interactdiffusion_unet_2d_condition import InteractDiffusionUNet2DConditionModel

SLOTS = 30


class StableDiffusionXLInteractDiffusionPipeline(StableDiffusionXLPipeline):
    """A prompt and who does what with whom, where."""

    def __init__(
        self,
        vae,
        text_encoder,
        text_encoder_2,
        tokenizer,
        tokenizer_2,
        unet: InteractDiffusionUNet2DConditionModel,
        scheduler,
        image_encoder=None,
        feature_extractor=None,
        force_zeros_for_empty_prompt=True,
        add_watermarker=None,
    ):
        parts = (vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler)
        rest = (image_encoder, feature_extractor, force_zeros_for_empty_prompt, add_watermarker)
        super().__init__(*parts, *rest)

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
        guidance_scale=5.0,
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
        self._guidance_scale, self._interrupt = guidance_scale, False
        device, dtype = self._execution_device, self.text_encoder.dtype
        side = self.default_sample_size * self.vae_scale_factor
        height, width = height or side, width or side
        cond, uncond, pooled, negative = self.encode_prompt(
            prompt, None, device, negative_prompt=negative_prompt
        )
        text, pooled = torch.cat([uncond, cond]), torch.cat([negative, pooled])
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        channels = self.unet.config.in_channels
        latents = self.prepare_latents(1, channels, height, width, dtype, device, generator, latents)
        size, projection = (height, width), self.text_encoder_2.config.projection_dim
        ids = self._get_add_time_ids(size, (0, 0), size, dtype, text_encoder_projection_dim=projection)

        number = len(interactdiffusion_subject_boxes)
        phrases = [
            *interactdiffusion_subject_phrases,
            *interactdiffusion_object_phrases,
            *interactdiffusion_action_phrases,
        ]
        features = self.unet.config.cross_attention_dim
        subjects, objects, actions = self.encoded(phrases).split(number)
        grounding = {
            "subject_boxes": self.slots(torch.tensor(interactdiffusion_subject_boxes), 4),
            "object_boxes": self.slots(torch.tensor(interactdiffusion_object_boxes), 4),
            "subject_positive_embeddings": self.slots(subjects, features),
            "object_positive_embeddings": self.slots(objects, features),
            "action_positive_embeddings": self.slots(actions, features),
            "masks": self.slots(torch.ones(number)),
        }
        grounding["masks"][0] = 0

        extra = self.prepare_extra_step_kwargs(generator, eta)
        self.enable_fuser(True)
        last = int(interactdiffusion_scheduled_sampling_beta * len(self.scheduler.timesteps))
        for i, t in enumerate(self.scheduler.timesteps):
            if i == last:
                self.enable_fuser(False)
            predicted = self.unet(
                self.scheduler.scale_model_input(torch.cat([latents] * 2), t),
                t,
                encoder_hidden_states=text,
                cross_attention_kwargs={"gligen": grounding},
                added_cond_kwargs={"text_embeds": pooled, "time_ids": torch.cat([ids] * 2).to(device)},
            ).sample
            uncond, cond = predicted.chunk(2)
            predicted = uncond + guidance_scale * (cond - uncond)
            latents = self.scheduler.step(predicted, t, latents, **extra).prev_sample
        images = latents
        if output_type != "latent":
            images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
            images = self.image_processor.postprocess(images, output_type=output_type)
        return StableDiffusionXLPipelineOutput(images=images)

    def encoded(self, phrases):
        def tokens(tokenizer):
            made = tokenizer(phrases, padding="max_length", max_length=77, return_tensors="pt")
            return made.input_ids.to(self._execution_device)

        first = self.text_encoder(tokens(self.tokenizer)).pooler_output
        second = self.text_encoder_2(tokens(self.tokenizer_2)).text_embeds
        return torch.cat([first, second], dim=-1)

    def slots(self, rows, *width):
        filled = torch.zeros(2, SLOTS, *width, dtype=self.text_encoder.dtype, device=self._execution_device)
        filled[:, : len(rows)] = rows
        return filled
