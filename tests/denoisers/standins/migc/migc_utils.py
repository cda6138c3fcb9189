"""Loading, with the names that the real one imports from an older diffusers."""

from diffusers.utils import DIFFUSERS_CACHE, HF_HUB_OFFLINE  # noqa: F401


def load_migc(unet, attention_store, weights, attn_processor):
    """Replace every processor; the cross-attentions' get their weights, in the network's type."""
    processors = {}
    for name in unet.attn_processors:
        cross = name.endswith("attn2.processor")
        processors[name] = attn_processor({"not_use_migc": not cross, "C": 8}, attention_store, "mid")
        if cross:
            processors[name].strength.weight.data.fill_(weights["state_dict"]["migc.strength"].item())
            processors[name].to(device=unet.device, dtype=unet.dtype)
    unet.set_attn_processor(processors)
    attention_store.num_att_layers = len(processors)
