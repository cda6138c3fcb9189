"""CLIP scores: how well a picture fits its caption (global), and what is in its boxes their phrases (local).

A score is 100 times the cosine of CLIP's features of a picture and of a text, and the mean of scores is at
least 0: torchmetrics' `CLIPScore` (Hessel et al. 2021, without their factor of 2.5), which the global one is.
The paper's tables 2, 3 and 10 have both, as `eval_mig.py` of LeyRio/MIG_Bench measures them by CLIP ViT-L/14.
For the local one each box is cut out, stretched to a square and compared with its phrase in the TEMPLATES:
"a photo of a a red sheep." is among them. There the pictures' red and blue are exchanged, since OpenCV reads
them in that order; `as_published` does the same, and moves the scores.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from PIL.Image import Image as Picture
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.measures import Estimate
from benchmarks.real import measuring
from benchmarks.real.measuring import Record, mean, resized
from benchmarks.real.prompts import Box, Prompt

SIZE = 512
"""The side in pixels of what is cut out of a box."""
Features = Float[Tensor, "number dims"]

PHOTOS = (
    *("", "bad ", "black and white ", "blurry ", "bright ", "close-up ", "cropped ", "dark ", "good "),
    *("jpeg corrupted ", "low resolution ", "pixelated "),
)
WORKS = ("doodle", "drawing", "painting", "rendering", "rendition", "sculpture", "sketch", "tattoo")
KINDS = (*(f"a {kind}photo" for kind in PHOTOS), *(f"a {kind}" for kind in WORKS), "art", "graffiti", "itap")
LOOKS = ("clean", "cool", "dirty", "hard to see", "large", "nice", "small", "weird")
STUFFS = ("cartoon", "embroidered", "origami", "plastic", "plushie", "toy")
ARTICLES = ("a", "the")
TEMPLATES = (
    *(f"{kind} of {article} {{}}." for kind, article in product(KINDS, ARTICLES)),
    *(f"a photo of {article} {look} {{}}." for look, article in product(LOOKS, ARTICLES)),
    *(f"{article} {stuff} {{}}." for stuff, article in product(STUFFS, ARTICLES)),
    *(f"{article} {{}} in a video game." for article in ARTICLES),
    *(f"a photo of {which} {{}}." for which in ("many", "my", "one")),
    "itap of my {}.",
)
"""The 80 sentences by which CLIP's authors classify ImageNet (Radford et al. 2021)."""


class Clip(measuring.Judge):
    """CLIP by transformers."""

    kind = "CLIPModel"

    @torch.no_grad()
    def of_pictures(self, pictures: Sequence[Picture]) -> Features:
        """Return the features of pictures, of length 1, on the host."""
        pixels = self.processor.image_processor(list(pictures), return_tensors="pt")["pixel_values"]
        seen = self.model.vision_model(pixels.to(self.model.device, self.model.dtype)).pooler_output
        return normalize(self.model.visual_projection(seen).float()).cpu()

    @torch.no_grad()
    def of_texts(self, texts: Sequence[str]) -> Features:
        """Return the features of texts, of length 1, on the host. Longer texts than CLIP reads are cut."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.processor.tokenizer(
            list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(self.model.device)
        read = self.model.text_model(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return normalize(self.model.text_projection(read.pooler_output).float()).cpu()


def measure(
    prompts: Sequence[Prompt],
    files: Sequence[Path],
    clip: Clip,
    *,
    as_published: bool = False,
    batch: int = 16,
    quiet: bool = False,
) -> list[Record]:
    """Return a record for each image: its name, its `global` score and the `local` one of each instance.

    Args:
        prompts: those of the images. Captions are for the global score, instances for the local one.
        files: an image for each of them.
        clip: the model.
        as_published: whether pictures are stretched to 512 x 512 pixels and their red and blue exchanged, as
            in `eval_mig.py`.
        batch: the number of images that are in memory, and of pictures that the model sees at once.
        quiet: hides the progress bar.

    Raises:
        Expected: a file is no picture.
    """
    measuring.check_same_number(prompts=prompts, files=files)
    phrases = dict.fromkeys(one.phrase for prompt in prompts for one in prompt.instances)
    spoken = {phrase: of_phrase(phrase, clip) for phrase in phrases}
    records: list[Record] = []
    for some in measuring.batches(list(zip(prompts, files, strict=True)), batch, "CLIP score", quiet):
        pictures = [measuring.opened(file) for _, file in some]
        if as_published:
            pictures = [exchanged(resized(picture, SIZE)) for picture in pictures]
        captions = clip.of_texts([prompt.caption for prompt, _ in some])
        wholes = scores(clip.of_pictures(pictures), captions)
        for (prompt, _), picture, whole in zip(some, pictures, wholes, strict=True):
            local = []
            for instances in measuring.parts(prompt.instances, batch):
                seen = clip.of_pictures([cut(picture, one.box) for one in instances])
                local += scores(seen, torch.stack([spoken[one.phrase] for one in instances]))
            records.append({"name": prompt.name, "global": whole, "local": local})
    return records


def scores(seen: Features, said: Features) -> list[float]:
    """Return the score of each picture beside its text."""
    return [float(score) for score in 100 * (seen * said).sum(1)]


def of_phrase(phrase: str, clip: Clip) -> Float[Tensor, " dims"]:
    """Return the mean of a phrase's features in TEMPLATES: the mean of scores is the score of the mean."""
    return clip.of_texts([template.format(phrase) for template in TEMPLATES]).mean(0)


def cut(picture: Picture, box: Box) -> Picture:
    """Return what is in a box, stretched to a square."""
    x0, y0, x1, y1 = (
        int(edge * side) for edge, side in zip(box, (picture.width, picture.height) * 2, strict=True)
    )
    return resized(picture.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))), SIZE)


def exchanged(picture: Picture) -> Picture:
    """Return a picture with red for blue."""
    return Image.fromarray(np.ascontiguousarray(np.asarray(picture)[..., ::-1]))


def summary(records: Sequence[Record]) -> dict[str, Estimate]:
    """Return the mean "CLIP global" over images and "CLIP local" over instances, where there are any."""
    local = [record["local"] for record in records]
    estimates = {"CLIP global": mean([record["global"] for record in records], least=0)}
    if any(local):
        estimates["CLIP local"] = mean([sum(some) for some in local], [len(some) for some in local], least=0)
    return estimates
