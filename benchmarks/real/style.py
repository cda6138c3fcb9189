"""Measures of style by CLIP: how much pictures look like a reference, and how well they fit its caption.

CLIP-I is the cosine of CLIP's features of a picture and of its reference. CLIP-T is the CLIPScore of Hessel
et al. (2021) of a picture and its caption: 2.5 times the cosine, at least 0. IP-Adapter's paper (Ye et al.
2023, table 1) has both by CLIP ViT-L/14. There COCO's 5000 validation images of 2017 and their captions are
the references, and four pictures are drawn for each.

The column "CLIP" of the paper's tables 8 and 9 is CLIP-T: the paper defines it in the same words, and in
table 8 IP-Adapter has 0.588, its CLIP-T in its own paper, where its CLIP-I is 0.828.
"""

from collections.abc import Sequence
from pathlib import Path

from amdm.command_line.arguments import Expected
from benchmarks.measures import Estimate
from benchmarks.real import measuring
from benchmarks.real.clip_score import Clip
from benchmarks.real.measuring import Record, mean
from benchmarks.real.prompts import Prompt

FACTOR = 2.5


def measure(
    prompts: Sequence[Prompt], files: Sequence[Path], clip: Clip, *, batch: int = 16, quiet: bool = False
) -> list[Record]:
    """Return a record for each image: its name, and the cosines with its reference and with its caption.

    Args:
        prompts: those of the images. `style` is the reference, and the caption is that of the reference.
        files: an image for each of them.
        clip: the model.
        batch: the number of pictures that the model sees at once.
        quiet: hides the progress bar.

    Raises:
        Expected: a prompt has no reference, or a file is no picture.
    """
    measuring.check_same_number(prompts=prompts, files=files)
    without = [prompt.name for prompt in prompts if prompt.style is None]
    if without:
        raise Expected(f"each prompt to have a style, found none of {without[0]}")
    records = []
    for some in measuring.batches(list(zip(prompts, files, strict=True)), batch, "style", quiet):
        drawn = clip.of_pictures([measuring.opened(file) for _, file in some])
        wanted = clip.of_pictures([measuring.opened(prompt.style) for prompt, _ in some if prompt.style])
        said = clip.of_texts([prompt.caption for prompt, _ in some])
        looks, fits = (drawn * wanted).sum(1).tolist(), (drawn * said).sum(1).tolist()
        records += [
            {"name": prompt.name, "reference": look, "caption": fit}
            for (prompt, _), look, fit in zip(some, looks, fits, strict=True)
        ]
    return records


def summary(records: Sequence[Record]) -> dict[str, Estimate]:
    """Return the means "CLIP-I" and "CLIP-T" over images."""
    scores = [FACTOR * max(record["caption"], 0.0) for record in records]
    return {"CLIP-I": mean([record["reference"] for record in records]), "CLIP-T": mean(scores)}
