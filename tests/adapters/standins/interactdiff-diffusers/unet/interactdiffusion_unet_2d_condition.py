"""A stand-in for InteractDiffusion's U-Net: a gated one whose grounding network takes interactions."""

import torch
from diffusers import UNet2DConditionModel


class InteractionNet(torch.nn.Module):
    """Three tokens for each interaction from two boxes and three phrases; nothing but a bias where masked."""

    def __init__(self, features):
        super().__init__()
        self.boxes = torch.nn.Linear(8, 3 * features, bias=False)
        self.phrases = torch.nn.Linear(3 * features, 3 * features)
        torch.nn.init.normal_(self.phrases.weight, std=features**-0.5)

    def forward(
        self,
        subject_boxes,
        object_boxes,
        masks,
        subject_positive_embeddings,
        object_positive_embeddings,
        action_positive_embeddings,
    ):
        phrases = [subject_positive_embeddings, object_positive_embeddings, action_positive_embeddings]
        boxes = self.boxes(masks[..., None] * torch.cat([subject_boxes, object_boxes], dim=-1))
        tokens = boxes + self.phrases(masks[..., None] * torch.cat(phrases, dim=-1))
        return torch.cat(tokens.chunk(3, dim=-1), dim=1)


class InteractDiffusionUNet2DConditionModel(UNet2DConditionModel):
    """Every U-Net of this class has the grounding network, as the real one's."""

    def _set_pos_net_if_use_gligen(self, attention_type, cross_attention_dim):
        self.position_net = InteractionNet(cross_attention_dim[0])  # one for each block
