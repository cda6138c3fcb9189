"""Loaders of tiny random models, in the places of ComfyUI's loaders, for the test of the server."""

from comfyui.tests import real


def node(made, inputs, *outputs):
    """A node whose function is `made`; it takes strings, numbers and models."""
    kinds = {"model": ("MODEL",), "strength_model": ("FLOAT", {"default": 1.0})}
    required = {name: kinds.get(name, ("STRING", {"default": ""})) for name in inputs}
    return type(
        "Tiny",
        (),
        {
            "INPUT_TYPES": classmethod(lambda cls: {"required": required}),
            "RETURN_TYPES": outputs,
            "FUNCTION": "make",
            "CATEGORY": "tests",
            "make": lambda self, **given: made(**given),
        },
    )


NODE_CLASS_MAPPINGS = {
    "TinyCheckpointLoaderSimple": node(
        lambda ckpt_name: (real.sd15(0), real.Text(), real.Autoencoder()),
        ["ckpt_name"],
        "MODEL",
        "CLIP",
        "VAE",
    ),
    "TinyLoraLoaderModelOnly": node(
        lambda model, lora_name, strength_model: (real.named_lora(model, lora_name),),
        ["model", "lora_name", "strength_model"],
        "MODEL",
    ),
    "TinyControlNetLoader": node(
        lambda control_net_name: (real.control_net(4),), ["control_net_name"], "CONTROL_NET"
    ),
    "TinyCLIPVisionLoader": node(lambda clip_name: (real.Vision(),), ["clip_name"], "CLIP_VISION"),
    "TinyStyleModelLoader": node(
        lambda style_model_name: (real.Style(),), ["style_model_name"], "STYLE_MODEL"
    ),
}
