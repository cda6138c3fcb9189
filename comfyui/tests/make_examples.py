"""Write the example workflows and their thumbnails: python -m comfyui.tests.make_examples."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from amdm.plots import COLOURS, empty

FOLDER = Path(__file__).parents[1] / "example_workflows"
PROMPT = "a red fox beside a blue lake, morning light, detailed"
NEGATIVE = "blurry, deformed, text"

# Sockets in and out of the nodes that the examples use: names with types.
SOCKETS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "CheckpointLoaderSimple": ({}, {"MODEL": "MODEL", "CLIP": "CLIP", "VAE": "VAE"}),
    "LoraLoaderModelOnly": ({"model": "MODEL"}, {"MODEL": "MODEL"}),
    "CLIPTextEncode": ({"clip": "CLIP"}, {"CONDITIONING": "CONDITIONING"}),
    "CFGGuider": (
        {"model": "MODEL", "positive": "CONDITIONING", "negative": "CONDITIONING"},
        {"GUIDER": "GUIDER"},
    ),
    "AMDMGuider": (
        dict.fromkeys(("lead", "partner_1", "partner_2", "partner_3", "background"), "GUIDER"),
        {"guider": "GUIDER"},
    ),
    "AMDMAngles": ({"guider": "GUIDER", "latent": "LATENT"}, {"picture": "IMAGE", "text": "STRING"}),
    "RandomNoise": ({}, {"NOISE": "NOISE"}),
    "KSamplerSelect": ({}, {"SAMPLER": "SAMPLER"}),
    "BasicScheduler": ({"model": "MODEL"}, {"SIGMAS": "SIGMAS"}),
    "EmptyLatentImage": ({}, {"LATENT": "LATENT"}),
    "SamplerCustomAdvanced": (
        {
            "noise": "NOISE",
            "guider": "GUIDER",
            "sampler": "SAMPLER",
            "sigmas": "SIGMAS",
            "latent_image": "LATENT",
        },
        {"output": "LATENT", "denoised_output": "LATENT"},
    ),
    "VAEDecode": ({"samples": "LATENT", "vae": "VAE"}, {"IMAGE": "IMAGE"}),
    "VAEEncode": ({"pixels": "IMAGE", "vae": "VAE"}, {"LATENT": "LATENT"}),
    "SetLatentNoiseMask": ({"samples": "LATENT", "mask": "MASK"}, {"LATENT": "LATENT"}),
    "SaveImage": ({"images": "IMAGE"}, {}),
    "LoadImage": ({}, {"IMAGE": "IMAGE", "MASK": "MASK"}),
    "ControlNetLoader": ({}, {"CONTROL_NET": "CONTROL_NET"}),
    "ControlNetApplyAdvanced": (
        {
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "control_net": "CONTROL_NET",
            "image": "IMAGE",
            "vae": "VAE",
        },
        {"positive": "CONDITIONING", "negative": "CONDITIONING"},
    ),
    "CLIPVisionLoader": ({}, {"CLIP_VISION": "CLIP_VISION"}),
    "CLIPVisionEncode": (
        {"clip_vision": "CLIP_VISION", "image": "IMAGE"},
        {"CLIP_VISION_OUTPUT": "CLIP_VISION_OUTPUT"},
    ),
    "StyleModelLoader": ({}, {"STYLE_MODEL": "STYLE_MODEL"}),
    "StyleModelApply": (
        {
            "conditioning": "CONDITIONING",
            "style_model": "STYLE_MODEL",
            "clip_vision_output": "CLIP_VISION_OUTPUT",
        },
        {"CONDITIONING": "CONDITIONING"},
    ),
    "MarkdownNote": ({}, {}),
}

Socket = tuple[int, int]


class Workflow:
    """A workflow in the form of ComfyUI's editor, node by node."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.links: list[list[Any]] = []

    def add(
        self,
        kind: str,
        at: tuple[int, int],
        *widgets: Any,
        title: str = "",
        size: tuple[int, int] = (300, 110),
        **inputs: Socket,
    ) -> list[Socket]:
        """Add a node and its links, and return its outputs."""
        given, made = SOCKETS[kind]
        own = len(self.nodes) + 1
        sockets = []
        for slot, (name, what) in enumerate(given.items()):
            link = None
            if name in inputs:
                source, source_slot = inputs[name]
                link = len(self.links) + 1
                self.links.append([link, source, source_slot, own, slot, what])
                self.nodes[source - 1]["outputs"][source_slot]["links"].append(link)
            sockets.append({"name": name, "type": what, "link": link})
        outputs = [{"name": name, "type": what, "links": []} for name, what in made.items()]
        node = {
            "id": own,
            "type": kind,
            "pos": list(at),
            "size": list(size),
            "flags": {},
            "order": own - 1,
            "mode": 0,
            "inputs": sockets,
            "outputs": outputs,
            "properties": {"Node name for S&R": kind},
            "widgets_values": list(widgets),
        }
        self.nodes.append(node | ({"title": title} if title else {}))
        return [(own, slot) for slot in range(len(outputs))]

    def amdm(self, at: tuple[int, int], lead: Socket, partner: Socket, **options: Any) -> Socket:
        """Add AMDM Guider with its default widgets, and with changed ones."""
        background = {"background": options.pop("background")} if "background" in options else {}
        widgets = {
            "weight_1": 1.0,
            "weight_2": 1.0,
            "weight_3": 1.0,
            "window": "share of steps",
            "start": 0.0,
            "end": 0.4,
            "method": "AMDM",
            "noise": "as the method",
            "fold": "spherical",
            "correction": -1.0,
            "guidance": 0.0,
            "window_eta": -1.0,
        } | options
        (made,) = self.add(
            "AMDMGuider", at, *widgets.values(), lead=lead, partner_1=partner, size=(320, 420), **background
        )
        return made

    def sampled(
        self, x: int, guider: Socket, model: Socket, vae: Socket, latent: Socket, sampler: str
    ) -> None:
        """Add what samples from a guider, and shows the image and the angles."""
        (noise,) = self.add("RandomNoise", (x, -160), 0, "fixed", size=(300, 90))
        (chosen,) = self.add("KSamplerSelect", (x, -20), sampler, size=(300, 60))
        (sigmas,) = self.add("BasicScheduler", (x, 90), "karras", 20, 1.0, model=model)
        out, _ = self.add(
            "SamplerCustomAdvanced",
            (x, 250),
            noise=noise,
            guider=guider,
            sampler=chosen,
            sigmas=sigmas,
            latent_image=latent,
        )
        (image,) = self.add("VAEDecode", (x + 340, -160), samples=out, vae=vae, size=(220, 60))
        self.add("SaveImage", (x + 340, -50), "amdm", images=image, size=(360, 400))
        self.add("AMDMAngles", (x + 340, 400), guider=guider, latent=out, size=(460, 260))

    def prompts(self, clip: Socket) -> tuple[Socket, Socket]:
        """Add the prompt of all models, and the negative one."""
        (positive,) = self.add(
            "CLIPTextEncode", (380, -160), PROMPT, clip=clip, size=(340, 130), title="the prompt of all"
        )
        (negative,) = self.add(
            "CLIPTextEncode", (380, 20), NEGATIVE, clip=clip, size=(340, 130), title="negative prompt"
        )
        return positive, negative

    def write(self, name: str) -> None:
        """Write the file."""
        made = {
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }
        (FOLDER / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n")


def two_loras() -> Workflow:
    """Two LoRAs of one checkpoint, each in a guider of its own."""
    flow = Workflow()
    model, clip, vae = flow.add("CheckpointLoaderSimple", (0, -160), "v1-5-pruned-emaonly-fp16.safetensors")
    positive, negative = flow.prompts(clip)
    guiders = []
    for k, y in ((1, 200), (2, 480)):
        (own,) = flow.add(
            "LoraLoaderModelOnly", (380, y), f"lora_{k}.safetensors", 1.0, model=model, size=(340, 90)
        )
        (guider,) = flow.add(
            "CFGGuider",
            (760, y),
            7.0,
            model=own,
            positive=positive,
            negative=negative,
            size=(260, 110),
            title=f"LoRA {k}",
        )
        guiders.append(guider)
    joined = flow.amdm((1060, 150), *guiders)
    (latent,) = flow.add("EmptyLatentImage", (760, 20), 512, 512, 1, size=(260, 110))
    flow.sampled(1420, joined, model, vae, latent, "dpmpp_2m")
    note = (
        "## Two LoRAs that do not blend\n\nEach LoRA has a model and a guider of its own, so neither changes "
        "the other's weights. LoRA 1 **leads**: it finishes the image. LoRA 2 joins in the first 40% of "
        "the steps (**end**).\n\n"
        "* Put the LoRA that must be right in detail first.\n"
        "* More of LoRA 2: raise **end** or **weight_1**.\n"
        "* Write both LoRAs' trigger words into the one prompt.\n\n"
        "One network is loaded, whatever the number of LoRAs."
    )
    flow.add("MarkdownNote", (0, 0), note, size=(340, 360))
    return flow


def control_and_style() -> Workflow:
    """A ControlNet's edges and a picture's style, by projective guidance."""
    flow = Workflow()
    model, clip, vae = flow.add("CheckpointLoaderSimple", (0, -160), "v1-5-pruned-emaonly-fp16.safetensors")
    positive, negative = flow.prompts(clip)
    edges, _ = flow.add("LoadImage", (0, 480), "edges.png", "image", size=(280, 320), title="edges (canny)")
    (control,) = flow.add(
        "ControlNetLoader", (380, 200), "control_v11p_sd15_canny_fp16.safetensors", size=(340, 60)
    )
    own, own_negative = flow.add(
        "ControlNetApplyAdvanced",
        (380, 310),
        1.0,
        0.0,
        1.0,
        positive=positive,
        negative=negative,
        control_net=control,
        image=edges,
        size=(340, 190),
    )
    style, _ = flow.add(
        "LoadImage", (0, 850), "style.png", "image", size=(280, 320), title="a picture of the style"
    )
    (vision,) = flow.add("CLIPVisionLoader", (380, 560), "clip-vit-large-patch14.safetensors", size=(340, 60))
    (seen,) = flow.add(
        "CLIPVisionEncode", (380, 670), "center", clip_vision=vision, image=style, size=(340, 80)
    )
    (adapter,) = flow.add("StyleModelLoader", (380, 800), "t2iadapter_style_sd14v1.pth", size=(340, 60))
    (styled,) = flow.add(
        "StyleModelApply",
        (380, 910),
        1.0,
        "multiply",
        conditioning=positive,
        style_model=adapter,
        clip_vision_output=seen,
        size=(340, 130),
    )
    told = {
        "ControlNet": (own, own_negative),
        "style": (styled, negative),
        "prompt alone": (positive, negative),
    }
    guiders = [
        flow.add(
            "CFGGuider", (760, y), 7.0, model=model, positive=a, negative=b, size=(260, 110), title=title
        )[0]
        for y, (title, (a, b)) in zip((200, 380, 560), told.items(), strict=True)
    ]
    joined = flow.amdm(
        (1060, 150),
        *guiders[:2],
        background=guiders[2],
        method="projective guidance",
        guidance=2.0,
        window_eta=1.0,
        end=1.0,
    )
    (latent,) = flow.add("EmptyLatentImage", (760, 20), 512, 512, 1, size=(260, 110))
    flow.sampled(1420, joined, model, vae, latent, "dpmpp_2m_sde")
    note = (
        "## Edges of one picture, style of another\n\nThe ControlNet acts on the **lead**, the style picture "
        "on the **partner**: neither dilutes the other. A third guider has the prompt alone, the "
        "**background**, so that the prompt counts once (**method**: projective guidance).\n\n"
        "* More of the style: raise **weight_1**.\n"
        "* Faster: an **end** below 1, from which the lead is alone.\n"
        "* An IP-Adapter takes the place of the style model: connect its model to the partner's guider."
    )
    flow.add("MarkdownNote", (0, 0), note, size=(340, 360))
    return flow


def inpainting() -> Workflow:
    """Two LoRAs draw into the masked part of a picture."""
    flow = Workflow()
    model, clip, vae = flow.add("CheckpointLoaderSimple", (0, -160), "v1-5-pruned-emaonly-fp16.safetensors")
    positive, negative = flow.prompts(clip)
    picture, mask = flow.add(
        "LoadImage", (0, 480), "picture.png", "image", size=(280, 320), title="paint its mask"
    )
    (encoded,) = flow.add("VAEEncode", (380, 760), pixels=picture, vae=vae, size=(260, 60))
    (latent,) = flow.add("SetLatentNoiseMask", (760, 760), samples=encoded, mask=mask, size=(260, 60))
    guiders = []
    for k, y in ((1, 200), (2, 480)):
        (own,) = flow.add(
            "LoraLoaderModelOnly", (380, y), f"lora_{k}.safetensors", 1.0, model=model, size=(340, 90)
        )
        (guider,) = flow.add(
            "CFGGuider",
            (760, y),
            7.0,
            model=own,
            positive=positive,
            negative=negative,
            size=(260, 110),
            title=f"LoRA {k}",
        )
        guiders.append(guider)
    joined = flow.amdm((1060, 150), *guiders, end=0.6)
    flow.sampled(1420, joined, model, vae, latent, "euler")
    note = (
        "## Inpainting with two LoRAs\n\nOpen the picture's mask editor and paint what is to be drawn anew. "
        "Both LoRAs draw there; the rest stays as it is. The latents are joined where something is drawn "
        "alone, so the known part does not count in their angles.\n\n"
        "* The prompt describes the whole picture.\n"
        "* Lower **denoise** in BasicScheduler to keep some of what is under the mask."
    )
    flow.add("MarkdownNote", (0, 0), note, size=(340, 360))
    return flow


def thumbnail(name: str, lead: str, partner: str, end: float, background: str = "") -> None:
    """Draw how the latents meet: two paths from noise that are joined, and the lead alone."""
    figure = empty(4.0, 4.0)
    axes = figure.subplots()
    steps = np.linspace(0, 1, 21)
    joined = steps <= end
    wave = 0.06 * np.sin(40 * steps) * (1 - steps)
    lines = {
        lead: (0.55 * np.exp(-9 * steps) + wave, "blue"),
        partner: (-0.55 * np.exp(-9 * steps) - wave, "orange"),
    }
    axes.axvspan(0, end, color=COLOURS["grey"], alpha=0.12, lw=0)
    for label, (path, colour) in lines.items():
        shown = steps if label == lead else steps[joined]
        axes.plot(shown, path[: len(shown)], "o-", ms=5, lw=2, color=COLOURS[colour])
        axes.text(0.09, 1.25 * path[0], label, color=COLOURS[colour], fontsize=17, va="center")
    if background:
        axes.text(0.09, -1.0, f"- {background}", color=COLOURS["grey"], fontsize=15, va="center")
    if end < 1:
        axes.text(end + 0.03, 0.16, "the lead alone", color=COLOURS["blue"], fontsize=13)
    axes.text(0.5, 0.98, name, fontsize=19, ha="center", va="top", transform=axes.transAxes)
    axes.set(xlim=(-0.04, 1.04), ylim=(-1.2, 1.2), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    path = FOLDER / f"{name.replace(' ', '_')}.jpg"
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 85})


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    two_loras().write("two_LoRAs")
    thumbnail("two LoRAs", "LoRA 1", "LoRA 2", 0.4)
    control_and_style().write("ControlNet_and_style")
    thumbnail("ControlNet and style", "ControlNet", "style picture", 1.0, "prompt alone")
    inpainting().write("inpainting")
    thumbnail("inpainting", "LoRA 1 in the mask", "LoRA 2 in the mask", 0.6)


if __name__ == "__main__":
    main()
