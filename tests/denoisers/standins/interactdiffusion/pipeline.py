"""A stand-in for InteractDiffusion's pipeline: its arguments, and the call that its U-Net gets.

The contract: GLIGEN's slot with other keys (subjects, objects and actions, 30 slots, the unconditional rows'
masks 0), fusers with a switch that is off after int(beta steps) steps and stays so. It is made of a gated
U-Net whose grounding network is replaced.
"""

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention import GatedSelfAttentionDense
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from transformers import CLIPFeatureExtractor  # noqa: F401 (gone from transformers 5: so the real one)

SLOTS = 30


class InteractionNet(torch.nn.Module):
    """One token for each interaction from two boxes and three phrases."""

    def __init__(self, features):
        super().__init__()
        self.boxes = torch.nn.Linear(8, features)
        self.phrases = torch.nn.Linear(3 * features, features)

    def forward(self, subject_boxes, object_boxes, masks, subjects, objects, actions):
        boxes = self.boxes(torch.cat([subject_boxes, object_boxes], dim=-1))
        return masks[..., None] * (boxes + self.phrases(torch.cat([subjects, objects, actions], dim=-1)))


class StableDiffusionInteractDiffusionPipeline(StableDiffusionPipeline):
    """A prompt and who does what with whom, where."""

    def __init__(
        self,
        vae,
        text_encoder,
        tokenizer,
        unet,
        scheduler,
        safety_checker,
        feature_extractor,
        image_encoder=None,
        requires_safety_checker=False,
    ):
        parts = (vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor)
        super().__init__(*parts, image_encoder, requires_safety_checker)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.unet.position_net = InteractionNet(self.unet.config.cross_attention_dim)
        self.unet.position_net.requires_grad_(False).to(self.unet.dtype)

    def enable_fuser(self, enabled=True):
        for module in self.unet.modules():
            if isinstance(module, GatedSelfAttentionDense):
                module.enabled = enabled

    @torch.no_grad()
    def __call__(
        self,
        prompt=None,
        height=None,
        width=None,
        num_inference_steps=50,
        guidance_scale=7.5,
        interactdiffusion_scheduled_sampling_beta=0.3,
        interactdiffusion_subject_phrases=None,
        interactdiffusion_object_phrases=None,
        interactdiffusion_action_phrases=None,
        interactdiffusion_subject_boxes=None,
        interactdiffusion_object_boxes=None,
        negative_prompt=None,
        eta=0.0,
        generator=None,
        latents=None,
        output_type="pil",
    ):
        height = height or self.unet.config.sample_size * self.vae_scale_factor
        width = width or self.unet.config.sample_size * self.vae_scale_factor
        text = torch.cat([self.encoded([negative_prompt or ""])[0], self.encoded([prompt])[0]])
        grounding = {
            "subject_boxes": self.slots(torch.tensor(interactdiffusion_subject_boxes)),
            "object_boxes": self.slots(torch.tensor(interactdiffusion_object_boxes)),
            "masks": self.slots(torch.ones(len(interactdiffusion_subject_boxes))),
            "subjects": self.slots(self.encoded(interactdiffusion_subject_phrases)[1]),
            "objects": self.slots(self.encoded(interactdiffusion_object_phrases)[1]),
            "actions": self.slots(self.encoded(interactdiffusion_action_phrases)[1]),
        }
        grounding["masks"][0] = 0
        self.scheduler.set_timesteps(num_inference_steps)
        channels, cpu = self.unet.config.in_channels, torch.device("cpu")
        latents = self.prepare_latents(1, channels, height, width, text.dtype, cpu, generator, latents)
        self.enable_fuser(True)
        last = int(interactdiffusion_scheduled_sampling_beta * len(self.scheduler.timesteps))
        for i, t in enumerate(self.scheduler.timesteps):
            if i == last:
                self.enable_fuser(False)
            x = torch.cat([latents] * 2)
            told = {"gligen": grounding}
            predicted = self.unet(x, t, encoder_hidden_states=text, cross_attention_kwargs=told).sample
            uncond, cond = predicted.chunk(2)
            predicted = uncond + guidance_scale * (cond - uncond)
            latents = self.scheduler.step(predicted, t, latents, eta=eta, generator=generator).prev_sample
        images = latents
        if output_type != "latent":
            images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
            images = self.image_processor.postprocess(images, output_type=output_type)
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=None)

    def encoded(self, prompts):
        tokens = self.tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
        encoded = self.text_encoder(tokens)
        return encoded[0], encoded.pooler_output

    def slots(self, rows):
        filled = torch.zeros(2, SLOTS, *rows.shape[1:], dtype=self.unet.dtype)
        filled[:, : len(rows)] = rows
        return filled
