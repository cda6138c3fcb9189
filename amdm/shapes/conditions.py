"""The conditions of the models: caption tokens, a reference image's tokens, maps of boxes.

Tokens are fixed vectors, so the networks need no text or image encoder: a word is a unit vector in the first
dimensions, the reference's features lie in the others, and all zeros say nothing.
"""

from functools import cache

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot, pad

from amdm.shapes import latents, world
from amdm.shapes.configs import TrainingConfig
from amdm.shapes.world import Scenes

WORD_DIMS = len(world.VOCABULARY) - 1  # the empty word is no word
PATCH = 4  # latent pixels: a reference's token is about a square of 8 x 8 pixels
FLOOR = 0.01  # of a magnitude, before its logarithm
TOKEN_DIMS = WORD_DIMS + 2 * 12

# A map of every shape's boxes; for every interaction's kind subjects, objects, ways between.
LAYOUT_MAPS = len(world.SHAPES) + 3 * (len(world.KINDS) - 1)
COLOUR_MAPS = len(world.COLOURS)

Tokens = Float[Tensor, "batch tokens 42"]
Maps = Float[Tensor, "batch maps 32 32"]


def encode(
    config: TrainingConfig,
    scenes: Scenes,
    *,
    styles: Bool[Tensor, " batch"] | bool = True,
    reference: world.Image | None = None,
) -> dict[str, Tensor]:
    """Return a model's conditions for scenes, by the argument names of `networks.Network`.

    `styles` is True for captions that name the style; with a reference none does. The reference is an image
    of each scene's style, by default another scene's.
    """
    tokens = caption_tokens(scenes, styles=False if config.reference else styles)
    if config.reference:
        images = world.render(reference_scenes(scenes)) if reference is None else reference
        tokens = torch.cat([tokens, reference_tokens(images)], dim=1)
    maps = {"layout": layout_maps, "colours": colour_maps}
    return {"encoder_hidden_states": tokens} | ({"maps": maps[config.maps](scenes)} if config.maps else {})


def caption_tokens(scenes: Scenes, *, styles: Bool[Tensor, " batch"] | bool = True) -> Tokens:
    """Return a token per word of the captions, in arbitrary order; the style's word only if wanted."""
    ids = world.captions(scenes)
    first_style = len(world.VOCABULARY) - len(world.STYLES)
    said = (ids < first_style) | torch.as_tensor(styles, device=ids.device).view(-1, 1)
    tokens = one_hot(ids, len(world.VOCABULARY))[..., 1:] * said[..., None]
    return pad(tokens, (0, TOKEN_DIMS - WORD_DIMS)).float()


def reference_tokens(images: world.Image) -> Tokens:
    """Return 16 tokens about reference images: each patch's mean and mean log magnitude of each channel.

    They are standardised over renders: a style is in the fine channels, which are a twentieth of the coarse
    ones.
    """
    centre, spread = _patch_moments()
    return pad((_patches(images) - centre.to(images)) / spread.to(images), (WORD_DIMS, 0))


def _patches(images: world.Image) -> Float[Tensor, "batch 16 24"]:
    encoded = latents.encode(images)
    both = torch.cat([encoded, (encoded.abs() + FLOOR).log()], dim=1)
    return reduce(both, "b c (h p) (w q) -> b (h w) c", "mean", p=PATCH, q=PATCH)


@cache
def _patch_moments() -> tuple[Float[Tensor, "24"], Float[Tensor, "24"]]:
    """Return the mean and standard deviation of a patch's features over a thousand training scenes."""
    patches = _patches(world.render(world.sample_scenes(world.TRAIN[:1000]))).flatten(0, 1)
    return patches.mean(dim=0), patches.std(dim=0)


def reference_scenes(scenes: Scenes) -> Scenes:
    """Return other scenes of the same styles: those of the neighbouring seeds, in the same split."""
    other = world.sample_scenes([seed ^ 1 for seed in scenes.seeds.tolist()])
    return other.to(scenes.boxes.device)._replace(styles=scenes.styles)


def layout_maps(scenes: Scenes) -> Maps:
    """Return maps of each shape's boxes, and of each kind's subjects, objects and paths; no colours."""
    boxes = box_coverage(scenes)
    shapes = torch.einsum("bkhw,bks->bshw", boxes, one_hot(scenes.shapes, len(world.SHAPES)).to(boxes))
    kinds, *ends = scenes.links.unbind(-1)
    rows = torch.arange(len(boxes), device=boxes.device)[:, None]
    subject, target = (scenes.boxes[rows, end] for end in ends)
    way = world.path_coverage(*world.pixel_centres(boxes.device), subject, target)
    parts = torch.stack([*(boxes[rows, end] for end in ends), way], dim=2)
    kind = one_hot(kinds, len(world.KINDS))[..., 1:].to(boxes)
    links = rearrange(torch.einsum("blphw,blk->bpkhw", parts, kind), "b p k h w -> b (p k) h w")
    return torch.cat([shapes, links], dim=1)


def colour_maps(scenes: Scenes) -> Maps:
    """Return maps of every colour's boxes; no shapes and no interactions."""
    boxes = box_coverage(scenes)
    return torch.einsum("bkhw,bkc->bchw", boxes, one_hot(scenes.colours, COLOUR_MAPS).to(boxes))


def box_coverage(scenes: Scenes) -> Float[Tensor, "batch 4 32 32"]:
    """Return the part of every pixel that each object's box covers; 0 for objects that are not there."""
    x, y = world.pixel_centres(scenes.boxes.device)
    x0, y0, x1, y1 = scenes.boxes[..., None, None].unbind(-3)
    columns = (torch.minimum(x + 0.5, x1) - torch.maximum(x - 0.5, x0)).clamp(min=0)
    rows = (torch.minimum(y + 0.5, y1) - torch.maximum(y - 0.5, y0)).clamp(min=0)
    return columns * rows * scenes.present[..., None, None]
