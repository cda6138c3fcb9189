"""The nodes: AMDM Guider and AMDM Angles."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import ComfyExtension, io, ui

import amdm

from .guider import AMDMGuider, Window
from .report import as_text, picture

FOLDS = {"spherical": amdm.slerp_fold, "linear": amdm.lerp_fold, "karcher": amdm.karcher_mean}
CATEGORY = "sampling/custom_sampling/guiders"
WEIGHT = "How much partner {} counts beside the lead, which counts 1. Two that count 1 have half each."
PARTNER = (
    "A guider whose model shares the lead's latent space: its LoRA, ControlNet or prompt enriches the lead."
)


def weight_inputs() -> list[Any]:
    """Return a weight for each of three partners."""
    made: Any = io.Float.Input
    return [
        made(f"weight_{k}", default=1.0, min=0.0, max=10.0, step=0.05, tooltip=WEIGHT.format(k))
        for k in (1, 2, 3)
    ]


def further_partners() -> list[Any]:
    """Return partners 2 and 3, and any number more where the host's inputs can grow."""
    inputs = [io.Guider.Input(f"partner_{k}", optional=True, tooltip=PARTNER) for k in (2, 3)]
    if hasattr(io, "Autogrow"):
        more: dict[str, Any] = {
            "more_partners": (io.Guider.Input("partner"), "partner", "Further partners."),
            "more_weights": (
                io.Float.Input("weight", default=1.0),
                "weight",
                "Their weights, in order; 1 if left.",
            ),
        }
        for name, (each, prefix, tip) in more.items():
            template = io.Autogrow.TemplatePrefix(each, prefix=prefix, min=0, max=32)
            inputs.append(io.Autogrow.Input(name, template=template, optional=True, tooltip=tip))
    return inputs


def in_order(grown: dict[str, Any] | None) -> list[Any]:
    """Return what is connected to inputs that grow, by their number.

    >>> in_order({"partner10": "c", "partner2": "b", "partner0": None})
    ['b', 'c']
    """
    numbered = sorted((int(re.sub(r"\D", "", name) or 0), name) for name in grown or {})
    return [grown[name] for _, name in numbered if grown and grown[name] is not None]


class AMDMGuiderNode(io.ComfyNode):
    """Several guiders as one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's inputs and outputs."""
        return io.Schema(
            node_id="AMDMGuider",
            display_name="AMDM Guider",
            category=CATEGORY,
            description="Enriches one model with what others control, without training: all of them lead the "
            "first steps, each with a latent of its own, and the lead finishes alone (arXiv 2410.01262).",
            inputs=[
                io.Guider.Input("lead", tooltip="The guider that is enriched. It finishes the image alone."),
                io.Guider.Input("partner_1", tooltip=PARTNER),
                *weight_inputs(),
                io.Combo.Input(
                    "window",
                    options=["share of steps", "sigma"],
                    default="share of steps",
                    tooltip="How start and end are given: as shares of the steps (0 to 1), or as sigmas.",
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=100000.0,
                    step=0.01,
                    round=False,
                    tooltip="Where the joining starts: 0 is the first step. As a sigma, the larger of both.",
                ),
                io.Float.Input(
                    "end",
                    default=0.4,
                    min=0.0,
                    max=100000.0,
                    step=0.01,
                    round=False,
                    tooltip="Where it ends: from there the lead is alone. 0.4 is the first 40% of the steps. "
                    "For projective guidance take 1, all of them.",
                ),
                io.Combo.Input(
                    "method",
                    options=["AMDM", "projective guidance"],
                    default="AMDM",
                    tooltip="AMDM joins the latents after each step. Projective guidance adds what each "
                    "control says to one prediction and keeps more of the controls; it needs a background. "
                    "A good start for it: end 1, guidance 2, window_eta 1, and about 70% of the steps.",
                ),
                io.Combo.Input(
                    "noise",
                    options=["as the method", "independent", "shared"],
                    default="as the method",
                    tooltip="Noise of their own for the partners, or the lead's for all. As the method: "
                    "independent for AMDM, shared for projective guidance.",
                ),
                io.Combo.Input(
                    "fold",
                    options=list(FOLDS),
                    default="spherical",
                    tooltip="How latents are joined. Linear keeps more of the controls and less of a style.",
                ),
                io.Float.Input(
                    "correction",
                    default=-1.0,
                    min=-1.0,
                    max=100.0,
                    step=0.01,
                    tooltip="AMDM: how far each joined latent is pulled toward its model's own prediction. "
                    "-1 chooses it by the size of the latent (0.3 at 512 x 512); 0 is none.",
                ),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Projective guidance: the scale (cfg) in the window. 0 takes the lead's own; "
                    "2 is a good start.",
                ),
                io.Float.Input(
                    "window_eta",
                    default=-1.0,
                    min=-1.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Projective guidance: the share of fresh noise in the window. -1 is as the "
                    "sampler has it; 1 is a good start with euler or dpmpp_2m_sde.",
                ),
                *further_partners(),
                io.Guider.Input(
                    "background",
                    optional=True,
                    tooltip="Projective guidance: a guider that is told the prompt alone, without LoRA or "
                    "ControlNet. It is what all the others have in common.",
                ),
            ],
            outputs=[io.Guider.Output("guider", "guider")],
        )

    @classmethod
    def execute(
        cls,
        lead: Any,
        partner_1: Any,
        weight_1: float,
        weight_2: float,
        weight_3: float,
        window: str,
        start: float,
        end: float,
        method: str,
        noise: str,
        fold: str,
        correction: float,
        guidance: float,
        window_eta: float,
        partner_2: Any = None,
        partner_3: Any = None,
        background: Any = None,
        more_partners: dict[str, Any] | None = None,
        more_weights: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        """Return the guider."""
        own = [(partner_1, weight_1), (partner_2, weight_2), (partner_3, weight_3)]
        more = in_order(more_partners)
        weights = [*in_order(more_weights), *[1.0] * len(more)]
        partners = [
            (each, weight) for each, weight in [*own, *zip(more, weights, strict=False)] if each is not None
        ]
        options: dict[str, Any] = {"fold": FOLDS[fold]}
        projective = method == "projective guidance"
        if projective and background is None:
            raise ValueError(
                "Projective guidance needs a background: connect a guider that has the prompt alone, "
                "without LoRA or ControlNet, or choose the method AMDM"
            )
        if projective:
            options |= {"guidance": guidance or None, "window_eta": None if window_eta < 0 else window_eta}
        else:
            options["correction"] = "auto" if correction < 0 else correction
        if noise == "as the method":
            noise = "shared" if projective else "independent"
        return io.NodeOutput(
            AMDMGuider(
                lead,
                [each for each, _ in partners],
                [weight for _, weight in partners],
                window=Window(start, end, sigmas=window == "sigma"),
                background=background if projective else None,
                noise=noise,
                **options,
            )
        )


class AMDMAngles(io.ComfyNode):
    """How far apart the latents were that a guider joined."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's inputs and outputs."""
        return io.Schema(
            node_id="AMDMAngles",
            display_name="AMDM Angles",
            category=CATEGORY,
            description="Shows how the latents met in the last run of an AMDM Guider: the angle between them "
            "and the difference of their lengths, step by step.",
            is_output_node=True,
            inputs=[
                io.Guider.Input("guider", tooltip="The AMDM Guider that was sampled with."),
                io.Latent.Input("latent", tooltip="What the sampler returned, so that this runs after it."),
            ],
            outputs=[io.Image.Output("picture", "picture"), io.String.Output("text", "text")],
        )

    @classmethod
    def execute(cls, guider: Any, latent: Any) -> io.NodeOutput:
        """Return the picture and the text, and show both."""
        if not isinstance(guider, AMDMGuider):
            raise ValueError(f"The guider is a {type(guider).__name__}, expected that of an AMDM Guider node")
        text, image = as_text(guider.report), picture(guider.report)
        shown = ui.PreviewImage(image, cls=cls).as_dict()
        return io.NodeOutput(image, text, ui={**shown, "text": (text,)})


class AMDMExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        return [AMDMGuiderNode, AMDMAngles]
