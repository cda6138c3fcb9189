"""What MIGC's pipeline and processors do to a U-Net's call, with a few weights in place of its networks.

The contract: two latents and 2 + n rows of text; every attention processor is replaced and told the step's
number and the boxes; after MIGCsteps the instances' rows are dropped; each call draws from torch's global
generator; masks are float32 whatever the weights are, so that half precision ends in an error; nothing guards
against two images, which end in an error in the middle of the network.
"""

import inspect

import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput


class AttentionStore:
    """Counts calls, as far as anyone asks."""

    num_att_layers = -1
    calls = 0


class MIGC(torch.nn.Module):
    """The networks beside one cross-attention."""

    def __init__(self, width):
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.strength = torch.nn.Linear(1, width)


class MIGCProcessor(torch.nn.Module):
    """Attention for the latents' two rows, and between them a blend of the instances' rows by their boxes."""

    def __init__(self, config, attnstore, place_in_unet):
        super().__init__()
        self.store, self.plain = attnstore, AttnProcessor()
        self.not_use_migc = config["not_use_migc"]
        if not self.not_use_migc:
            self.migc = MIGC(config["C"])

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        prompt_nums=(),
        bboxes=(),
        ith=None,
        embeds_pooler=None,
        timestep=None,
        height=512,
        width=512,
        MIGCsteps=20,  # noqa: N803 (its name)
        NaiveFuserSteps=-1,  # noqa: N803
        ca_scale=None,
        ea_scale=None,
        sac_scale=None,
        use_sa_preserve=False,
        sa_preserve=False,
    ):
        self.store.calls += 1
        number, late = len(bboxes[0]), ith > MIGCsteps  # nothing works without both
        if encoder_hidden_states is None:
            return self.plain(attn, hidden_states)
        if late or number == 0 or self.not_use_migc:
            return self.plain(attn, hidden_states, encoder_hidden_states[:2])
        rows = torch.cat([hidden_states[[0]], hidden_states[[1]].repeat(number + 1, 1, 1)])
        seen = self.plain(attn, rows, encoder_hidden_states)
        blend = seen[1]
        for k in torch.randperm(number).tolist():  # the order of a sum: noise in its last bits
            inside = self.inside(bboxes[0][k], rows.shape[1], height // 8, width // 8).to(seen.device)
            told = self.migc.norm(seen[k + 2] - seen[1]) * (1 + embeds_pooler[k + 1].mean())
            blend = blend + self.migc.strength(inside) * told / number
        return torch.stack([seen[0], blend])

    @staticmethod
    def inside(box, number, height, width):
        mask = torch.zeros(1, 1, height, width)
        x0, y0, x1, y1 = box
        mask[..., int(y0 * height) : int(y1 * height), int(x0 * width) : int(x1 * width)] = 1
        side = int(number**0.5)
        return torch.nn.functional.interpolate(mask, (side, side), mode="bilinear").reshape(-1, 1)


class StableDiffusionMIGCPipeline(StableDiffusionPipeline):
    """Prompts are lists: the caption and then a phrase for every box."""

    @torch.no_grad()
    def __call__(
        self,
        prompt=None,
        bboxes=None,
        height=None,
        width=None,
        num_inference_steps=50,
        guidance_scale=7.5,
        negative_prompt=None,
        eta=0.0,
        generator=None,
        latents=None,
        output_type="pil",
        MIGCsteps=20,  # noqa: N803 (its name)
        NaiveFuserSteps=-1,  # noqa: N803
    ):
        height = height or self.unet.config.sample_size * self.vae_scale_factor
        width = width or self.unet.config.sample_size * self.vae_scale_factor
        text, pooled = self.encoded([p for group in prompt for p in group])
        negative_prompt = "worst quality, low quality" if negative_prompt is None else negative_prompt
        text = torch.cat([self.encoded([negative_prompt])[0], text])
        self.scheduler.set_timesteps(num_inference_steps)
        channels, dtype = self.unet.config.in_channels, text.dtype
        latents = self.prepare_latents(
            len(prompt), channels, height, width, dtype, torch.device("cpu"), generator, latents
        )
        takes = inspect.signature(self.scheduler.step).parameters
        extra = {name: value for name, value in (("eta", eta), ("generator", generator)) if name in takes}
        for i, t in enumerate(self.scheduler.timesteps):
            told = {
                "prompt_nums": [len(group) for group in prompt],
                "bboxes": bboxes,
                "ith": i,
                "embeds_pooler": pooled[:, None, :],
                "timestep": t,
                "height": height,
                "width": width,
                "MIGCsteps": MIGCsteps,
                "NaiveFuserSteps": NaiveFuserSteps,
                "ca_scale": None,
                "ea_scale": None,
                "sac_scale": None,
                "sa_preserve": False,
                "use_sa_preserve": False,
            }
            x = torch.cat([latents] * 2)
            predicted = self.unet(x, t, encoder_hidden_states=text, cross_attention_kwargs=told).sample
            uncond, cond = predicted.chunk(2)
            predicted = uncond + guidance_scale * (cond - uncond)
            latents = self.scheduler.step(predicted, t, latents, **extra).prev_sample
        images = latents
        if output_type != "latent":
            images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
            images = self.image_processor.postprocess(images, output_type=output_type)
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=None)

    def encoded(self, prompts):
        tokens = self.tokenizer(prompts, padding="max_length", max_length=77, return_tensors="pt").input_ids
        encoded = self.text_encoder(tokens)
        return encoded[0], encoded.pooler_output
