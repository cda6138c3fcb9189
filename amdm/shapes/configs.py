"""Training settings of each model: its conditions, its prediction, the weights it starts from."""

from dataclasses import dataclass
from typing import Literal

Prediction = Literal["epsilon", "v_prediction", "edm"]


@dataclass(frozen=True)
class TrainingConfig:
    """One model. Two runs of one configuration on one machine give the same weights.

    Attributes:
        predicts: epsilon or v on Stable Diffusion's schedule; edm is EDM's preconditioning and noise.
        start: the model whose weights it starts from, None for fresh ones.
        maps: the maps of boxes that it sees.
        control: True if the maps enter through a ControlNet beside the frozen start; else they are channels
            beside the latents, and all weights are trained.
        reference: True if a reference image's tokens follow the caption's, which never names the style.
        images: the number of training scenes that it sees, each once.
        seed: the seed of the fresh weights and of all noise; the scenes are the same for every model.
    """

    predicts: Prediction
    images: int
    seed: int
    start: str | None = "base"
    maps: Literal["layout", "colours"] | None = None
    control: bool = False
    reference: bool = False
    rate: float = 1e-3


CONFIGS = {
    "base": TrainingConfig("epsilon", start=None, images=400_000, seed=1),
    "layout": TrainingConfig("epsilon", maps="layout", images=300_000, seed=2),
    "attribute": TrainingConfig("epsilon", maps="colours", control=True, images=300_000, seed=3),
    "style": TrainingConfig("v_prediction", reference=True, images=128_000, seed=4),
    "attribute_edm": TrainingConfig("edm", maps="colours", images=128_000, seed=5),
}
