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
        experts: the frozen models whose features are aggregated (`amdm.diffusers.afa`); the aggregators are
            trained. None of start, maps, control and reference has a meaning beside them.
        images: the number of training scenes that it sees, each once.
        batch: the number of scenes of a step.
        warmup: the steps over which the rate rises.
        seed: the seed of the fresh weights and of all noise; the scenes are the same for every model.
    """

    predicts: Prediction
    images: int
    seed: int
    experts: tuple[str, ...] = ()
    start: str | None = "base"
    maps: Literal["layout", "colours"] | None = None
    control: bool = False
    reference: bool = False
    rate: float = 1e-3
    batch: int = 64
    warmup: int = 500


CONFIGS = {
    "base": TrainingConfig("epsilon", start=None, images=400_000, seed=1),
    "layout": TrainingConfig("epsilon", maps="layout", images=300_000, seed=2),
    "attribute": TrainingConfig("epsilon", maps="colours", control=True, images=300_000, seed=3),
    "style": TrainingConfig("v_prediction", reference=True, images=128_000, seed=4),
    "attribute_edm": TrainingConfig("edm", maps="colours", images=128_000, seed=5),
}

# Models as one, by aggregators that are trained beside them: `denoisers.load_aggregated`.
AGGREGATED = {
    "afa": TrainingConfig(
        "epsilon", experts=("layout", "attribute"), images=17_920, seed=6, batch=32, warmup=100
    )
}
TRAINED = CONFIGS | AGGREGATED
