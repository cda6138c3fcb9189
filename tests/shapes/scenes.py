"""Scenes made by hand."""

import torch

from amdm.shapes.world import COLOURS, KINDS, SHAPES, STYLES, Scenes


def hand_made(objects, links=(), style="flat", side=11.0):
    """One scene: (shape, colour) names for the cells from left to right, top to bottom; links by name."""
    x0, y0 = torch.tensor([2.5, 18.5, 2.5, 18.5]), torch.tensor([2.5, 2.5, 18.5, 18.5])
    empty = [("disc", "red")] * (4 - len(objects))
    shapes, colours = zip(*objects, *empty, strict=True)
    rows = [(KINDS.index(kind), subject, target) for kind, subject, target in links]
    return Scenes(
        seeds=torch.tensor([0]),
        boxes=torch.stack([x0, y0, x0 + side, y0 + side], dim=-1)[None],
        present=(torch.arange(4) < len(objects))[None],
        shapes=torch.tensor([[SHAPES.index(shape) for shape in shapes]]),
        colours=torch.tensor([[COLOURS.index(colour) for colour in colours]]),
        links=torch.tensor([[*rows, (0, 0, 1), (0, 2, 3)][:2]]),
        styles=torch.tensor([STYLES.index(style)]),
    )
