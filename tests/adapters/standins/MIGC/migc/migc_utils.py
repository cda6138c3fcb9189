"""Loading as the real one does it: from a file, into the 32 processors of Stable Diffusion 1's U-Net."""

import torch

# 2 of each transformer: 6 on the way down, 9 on the way up, 1 in the middle.
TRANSFORMERS = [
    *(f"down_blocks.{i}.attentions.{j}" for i in range(3) for j in range(2)),
    *(f"up_blocks.{i}.attentions.{j}" for i in range(1, 4) for j in range(3)),
    "mid_block.attentions.0",
]


def load_migc(unet, attention_store, pretrained_MIGC_path, attn_processor, **kwargs):  # noqa: N803 (its name)
    """Replace every processor; the cross-attentions in the file get their weights, in the U-Net's type."""
    state = torch.load(pretrained_MIGC_path, map_location="cpu")["state_dict"]
    weights = {}
    for key, value in state.items():
        parts = key.split(".")
        assert "migc" in parts
        number = int(parts[3])
        if "input_blocks" in parts:
            place = f"down_blocks.{number // 3}.attentions.{number % 3 - 1}"
        elif "middle_block" in parts:
            place = "mid_block.attentions.0"
        else:
            place = f"up_blocks.{number // 3}.attentions.{number % 3}"
        weights.setdefault(place, {})[".".join(parts[parts.index("migc") :])] = value
    processors = {}
    for place in TRANSFORMERS:
        for kind in ("attn1", "attn2"):
            mine = weights.get(place) if kind == "attn2" else None
            config = {"not_use_migc": mine is None, "C": len(mine["migc.norm.bias"]) if mine else None}
            made = attn_processor(config, attention_store, place.split("_")[0])
            if mine is not None:
                made.load_state_dict(mine)
                made.to(device=unet.device, dtype=unet.dtype)
            processors[f"{place}.transformer_blocks.0.{kind}.processor"] = made
    unet.set_attn_processor(processors)
    attention_store.num_att_layers = len(processors)
