"""Tiny models with random weights, of ComfyUI's own classes. For tests alone: they are never shipped."""

import zlib

import comfy.model_base
import comfy.model_patcher
import comfy.model_sampling
import comfy.supported_models
import torch

from amdm.denoisers import RectifiedFlow
from comfyui.tests.standin import Direct

CPU = torch.device("cpu")


def sd15(seed, prediction="EPS"):
    """A UNet of SD 1.5's class with 32 channels."""
    unet = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": [1, 1],
        "transformer_depth_output": [1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "context_dim": 16,
        "use_spatial_transformer": True,
        "legacy": False,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "dtype": torch.float32,
    }
    config = comfy.supported_models.SD15(unet)
    config.unet_config["num_heads"] = 4
    kind = comfy.model_base.ModelType[prediction]
    return patcher(comfy.model_base.BaseModel(config, model_type=kind, device="cpu"), seed)


def sd3(seed):
    """A transformer of SD3's class: a flow."""
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 64}}
    config = comfy.supported_models.SD3(
        {
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "depth": 1,
            "num_blocks": 2,
            "input_size": None,
            "adm_in_channels": 24,
            "context_embedder_config": embedder,
            "pos_embed_max_size": 32,
            "pos_embed_scaling_factor": None,
            "num_patches": 1024,
            "qk_norm": None,
            "dtype": torch.float32,
        }
    )
    return patcher(comfy.model_base.SD3(config, device="cpu"), seed)


def patcher(model, seed):
    """A patcher of the model, its parameters drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            parameter.data = drawn * 0.5 / max(1, parameter[0].numel()) ** 0.5
        else:
            parameter.data = drawn * 0.05 + name.endswith("weight")
    for buffer in model.diffusion_model.buffers():
        if buffer.dtype.is_floating_point:
            buffer.data = torch.randn(buffer.shape, generator=generator) * 0.1
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=CPU, offload_device=CPU)


def conditioning(seed, **more):
    """A CONDITIONING of random numbers, for either model."""
    generator = torch.Generator().manual_seed(seed)
    told = torch.randn(1, 5, 16, generator=generator)
    return [[told, {"pooled_output": torch.randn(1, 24, generator=generator), **more}]]


def lora(base, seed, scale=0.3):
    """A clone whose cross attention is changed, as a LoRA changes it."""
    own, generator = base.clone(), torch.Generator().manual_seed(seed)
    changes = {
        key: ("diff", (torch.randn(value.shape, generator=generator) * scale * value.std(),))
        for key, value in base.model.state_dict().items()
        if ("attn2" in key or "attn.qkv" in key) and value.ndim == 2
    }
    assert own.add_patches(changes, 1.0)
    return own


def direct(model, positive, negative, cfg):
    """The guided denoiser in VE coordinates, from the network and formulas alone: no guider, no patcher."""
    network, one = model.model.diffusion_model, model.model.model_sampling
    told = [conditioning(each)[0] if isinstance(each, int) else each[0] for each in (positive, negative)]
    flow = isinstance(one, comfy.model_sampling.CONST)

    def predict(x, sigma, told):
        context = told[0].expand(len(x), -1, -1)
        if flow:
            y = told[1]["pooled_output"].expand(len(x), -1)
            velocity = lambda x, time: network(x, time, context=context, y=y, transformer_options={})
            return RectifiedFlow(velocity, 1000.0)(x, sigma)
        level = sigma.reshape(-1, 1, 1, 1)
        scaled = x / (1 + level**2) ** 0.5
        out = network(scaled, one.timestep(sigma).float(), context=context, transformer_options={})
        if model.model.model_type is comfy.model_base.ModelType.V_PREDICTION:
            return x / (1 + level**2) - out * level / (1 + level**2) ** 0.5
        return x - level * out

    return Direct(lambda x, sigma: [predict(x, sigma, each) for each in told], cfg)


def drawn(module, seed, scale=0.5):
    """The module with parameters drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        parameter.data = scale * torch.randn(parameter.shape, generator=generator) / fan_in**0.5
        parameter.requires_grad_(False)
    return module.eval()


def control_net(seed):
    """A ControlNet for the tiny SD 1.5."""
    import comfy.cldm.cldm
    import comfy.controlnet

    network = comfy.cldm.cldm.ControlNet(
        image_size=32,
        in_channels=4,
        model_channels=32,
        hint_channels=3,
        num_res_blocks=[1, 1],
        channel_mult=(1, 2),
        num_heads=4,
        use_spatial_transformer=True,
        transformer_depth=[1, 1],
        transformer_depth_middle=1,
        context_dim=16,
        legacy=False,
    )
    return comfy.controlnet.ControlNet(drawn(network, seed), load_device=CPU)


def with_control(conditioning, seed, strength=1.0, start=0.0, end=1.0):
    """A condition with a ControlNet, which sees a random picture."""
    from nodes import ControlNetApplyAdvanced

    picture = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(seed))
    return ControlNetApplyAdvanced().apply_controlnet(
        conditioning, conditioning, control_net(seed), picture, strength, start, end
    )[0]


def with_boxes(conditioning, model, seed):
    """A condition with GLIGEN for the tiny SD 1.5: an object in a box."""
    import comfy.gligen

    blocks = [m for name, m in model.model.named_modules() if name.endswith("transformer_blocks.0")]
    sizes = [block.attn1.to_q.in_features for block in blocks]
    layers = [comfy.gligen.GatedSelfAttentionDense(size, 16, 4, size // 4) for size in sizes]
    network = drawn(comfy.gligen.Gligen(layers, comfy.gligen.PositionNet(16, 16), 16), seed)
    for layer in layers:
        layer.alpha_attn.data.fill_(1.0)
        layer.alpha_dense.data.fill_(1.0)
    boxes = comfy.model_patcher.ModelPatcher(network, load_device=CPU, offload_device=CPU)
    told = torch.randn(1, 16, generator=torch.Generator().manual_seed(seed))
    return [
        [text, {**more, "gligen": ("position", boxes, [(told, 4, 4, 2, 1)])}] for text, more in conditioning
    ]


# What the nodes of a workflow ask of loaded models


class Text:
    """A text encoder: a text is the seed of its condition."""

    def tokenize(self, text):
        return zlib.crc32(text.encode())

    def encode_from_tokens_scheduled(self, tokens):
        return conditioning(tokens)


class Autoencoder:
    """An autoencoder that averages squares of 8 x 8 pixels."""

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small.mean(1, keepdim=True)], 1) * 4 - 2

    def decode(self, latent):
        pixels = torch.nn.functional.interpolate(latent[:, :3], scale_factor=8).movedim(1, -1)
        return (pixels / 4 + 0.5).clamp(0, 1)


class Vision:
    """A vision encoder: the mean colour."""

    def encode_image(self, image, crop=True):
        return image.mean((1, 2))


class Style:
    """A style model: tokens that depend on the mean colour."""

    def get_cond(self, seen):
        tokens = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(8))
        return tokens * (1 + seen.mean())


def named_lora(model, name):
    """The LoRA of a file's name."""
    return lora(model, zlib.crc32(name.encode()))
