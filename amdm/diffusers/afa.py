"""AFA: several U-Nets as one, every feature map of theirs exchanged for a learnt weighted sum.

Wang et al., "Ensembling Diffusion Models via Adaptive Feature Aggregation", ICLR 2025, arXiv:2405.17082. What
is said here of the layers is what the code of the authors does (github.com/Tenvence/afa, commit e42173c,
Apache-2.0; `models/model.py`, `modules/aggregator.py`, `modules/unet_2d_condition_aggregator.py`):

* An aggregator follows `conv_in`, every layer and downsampler of the down path, the mid block, and every
  layer of the up path (an upsampler belongs to its block's last layer) but the last one, whose features
  stay apart up to each expert's `conv_out`: the last aggregator mixes predictions. These are 25 for Stable
  Diffusion 1.5.
* The weighted sum is the next layer's input and the skip connection of all experts. Each expert has its own
  time embedding and text states; the aggregators see their means.
* An aggregator is a 1x1 convolution of all experts' features to a hidden width (128), a residual block with
  the time embedding, a transformer with the text states, and a 1x1 convolution to one number per expert,
  without a bias and zero at first; a softmax over the experts at every pixel makes weights. So untrained
  aggregators take the mean.
* They alone are trained, beside frozen experts, by the squared error of eps: AdamW, a rate of 1e-4, a
  weight decay of 0.01, batches of 8, 10,000 images ten times, a tenth of the texts dropped.

ControlNets are ours; the authors' U-Nets take residuals and ignore them. An expert's residuals are added to
its own skips, and to its own mid feature before that is aggregated: without aggregation the U-Net is
diffusers'.

Needs the extra `diffusers`.
"""

import contextlib
import inspect
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models import Transformer2DModel
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor, nn

from amdm.diffusers.contexts import bare, locked
from amdm.diffusers.network import NetworkDenoiser
from amdm.diffusers.recipes import Call

__all__ = ["Aggregator", "Aggregators", "aggregated"]

DOWN, UP = ("DownBlock2D", "CrossAttnDownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
MID = ("UNetMidBlock2DCrossAttn",)
# Settings that change what happens outside the blocks.
UNKNOWN = ("class_embed_type", "num_class_embeds", "center_input_sample", "time_embedding_act_fn")


class Aggregator(nn.Module):
    """The weighted sum of the experts' features, with weights for every pixel.

    Args:
        channels: those of one expert's feature map.
        experts: their number.
        width: the hidden width.
        heads: of the transformer's attention.
        layers: of the transformer.
        time_channels: those of the time embedding.
        text_channels: those of a text state.
    """

    def __init__(
        self,
        channels: int,
        experts: int,
        width: int,
        heads: int,
        layers: int,
        time_channels: int,
        text_channels: int,
    ) -> None:
        super().__init__()
        groups = min(32, width // 4)  # 32 at the authors' width, with four channels each
        self.mix = nn.Conv2d(experts * channels, width, 1)
        self.resnet = ResnetBlock2D(in_channels=width, temb_channels=time_channels, groups=groups)
        self.transformer = Transformer2DModel(
            heads,
            width // heads,
            in_channels=width,
            num_layers=layers,
            cross_attention_dim=text_channels,
            norm_num_groups=groups,
        )
        self.score = nn.Conv2d(width, experts, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(
        self,
        features: Sequence[Float[Tensor, "batch channels height width"]],
        time: Float[Tensor, "batch time"],
        text: Float[Tensor, "batch tokens states"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the weighted sum of the experts' features, given the means of their times and texts."""
        weights = self.weights(features, time, text)
        return (weights[:, :, None] * torch.stack(list(features), 1)).sum(1)

    def weights(
        self,
        features: Sequence[Float[Tensor, "batch channels height width"]],
        time: Float[Tensor, "batch time"],
        text: Float[Tensor, "batch tokens states"],
    ) -> Float[Tensor, "batch experts height width"]:
        """Return the experts' weights, of sum 1 at every pixel."""
        hidden = self.resnet(self.mix(torch.cat(list(features), 1)), time)
        hidden = self.transformer(hidden, encoder_hidden_states=text, return_dict=False)[0]
        scores: Tensor = self.score(hidden)
        return scores.float().softmax(1).to(features[0].dtype)


class Aggregators(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The aggregators of U-Nets of one architecture, in the order of the features.

    `save_pretrained` and `from_pretrained` are those of diffusers' models.

    Args:
        channels: those of every feature map, in order; `Aggregators.of_unets` reads them from U-Nets.
        experts, width, heads, layers, time_channels, text_channels: as for `Aggregator`.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: Sequence[int],
        time_channels: int,
        text_channels: int,
        experts: int = 2,
        width: int = 128,
        heads: int = 8,
        layers: int = 1,
    ) -> None:
        super().__init__()
        self.each = nn.ModuleList(
            Aggregator(count, experts, width, heads, layers, time_channels, text_channels)
            for count in channels
        )

    @classmethod
    def of_unets(cls, unets: Sequence[Any], **options: int) -> "Aggregators":
        """Return untrained aggregators for these U-Nets; `options` are width, heads and layers.

        Raises:
            TypeError: a block of another kind than Stable Diffusion's.
            ValueError: fewer than two U-Nets, or their features differ.
        """
        channels = check_alike(unets)
        config = bare(unets[0]).config
        time, text = bare(unets[0]).time_embedding.linear_2.out_features, config.cross_attention_dim
        made: Aggregators = cls(list(channels), time, text, experts=len(unets), **options)
        return made

    def forward(self, experts: Sequence["Expert"]) -> Float[Tensor, "batch channels height width"]:
        """Return the experts' joint prediction."""
        time = torch.stack([expert.time for expert in experts]).mean(0)
        text = _mean_text([expert.text for expert in experts])
        runs = [expert.features() for expert in experts]
        features = [next(run) for run in runs]
        for aggregator in self.each[:-1]:
            merged = aggregator(features, time, text)
            features = [run.send(merged) for run in runs]
        prediction: Tensor = self.each[-1](features, time, text)
        return prediction


def _mean_text(texts: Sequence[Any]) -> Float[Tensor, "batch tokens states"]:
    states = [text[0] if isinstance(text, tuple) else text for text in texts]
    shapes = [tuple(each.shape) for each in states]
    if len(set(shapes)) > 1:
        raise ValueError(f"the models' texts have the shapes {shapes}, expected one: their mean is taken")
    return torch.stack(states).mean(0)


@dataclass(frozen=True, eq=False)
class Expert:
    """A U-Net and what it is told in one call.

    Attributes:
        x: its input.
        time: its time embedding, with what its architecture adds to it.
        text: its text states; with an IP-Adapter, those and its images.
        attention: diffusers' cross_attention_kwargs.
        skips: a ControlNet's residuals of the skips, or none.
        mid: its residual of the mid feature, or None.
    """

    unet: Any = field(repr=False)
    x: Float[Tensor, "batch channels height width"]
    time: Float[Tensor, "batch time"]
    text: Any
    attention: Any = None
    skips: Sequence[Tensor] = ()
    mid: Tensor | None = None

    def features(self) -> Generator[Tensor, Tensor, None]:
        """Yield the feature maps in order, the prediction last; what is sent for one takes its place."""
        unet = self.unet
        h = yield unet.conv_in(self.x)
        skips = [h]
        for block in unet.down_blocks:
            for layer in range(len(block.resnets)):
                h = yield self._layer(block, layer, h)
                skips.append(h)
            for downsampler in block.downsamplers or ():
                h = yield downsampler(h)
                skips.append(h)
        if self.skips:
            skips = [skip + residual for skip, residual in zip(skips, self.skips, strict=True)]
        h = unet.mid_block(
            h, self.time, encoder_hidden_states=self.text, cross_attention_kwargs=self.attention
        )
        h = yield h if self.mid is None else h + self.mid
        for block in unet.up_blocks:
            for layer in range(len(block.resnets)):
                h = self._layer(block, layer, torch.cat([h, skips.pop()], 1))
                if layer + 1 == len(block.resnets):
                    for upsampler in block.upsamplers or ():
                        h = upsampler(h, skips[-1].shape[2:])
                if skips:
                    h = yield h
        if unet.conv_norm_out:
            h = unet.conv_act(unet.conv_norm_out(h))
        yield unet.conv_out(h)

    def _layer(self, block: Any, layer: int, h: Tensor) -> Tensor:
        h = block.resnets[layer](h, self.time)
        if hasattr(block, "attentions"):
            told = {"encoder_hidden_states": self.text, "cross_attention_kwargs": self.attention}
            h = block.attentions[layer](h, **told, return_dict=False)[0]
        return h


def expert(
    unet: Any,
    x: Tensor,
    timestep: Tensor,
    encoder_hidden_states: Tensor,
    *,
    timestep_cond: Tensor | None = None,
    added_cond_kwargs: Any = None,
    cross_attention_kwargs: Any = None,
    down_block_additional_residuals: Sequence[Tensor] | None = None,
    mid_block_additional_residual: Tensor | None = None,
    return_dict: bool = False,
) -> Expert:
    """Return a U-Net with the arguments of its call, or raise ValueError for one with FreeU."""
    unet = bare(unet)
    if any(getattr(block, "s1", None) for block in unet.up_blocks):
        raise ValueError("a U-Net has FreeU on, expected it off: its blocks are taken apart")
    time = unet.time_embedding(unet.get_time_embed(sample=x, timestep=timestep), timestep_cond)
    told = {"encoder_hidden_states": encoder_hidden_states, "added_cond_kwargs": added_cond_kwargs}
    added = unet.get_aug_embed(emb=time, **told)
    attention = dict(cross_attention_kwargs or {})
    if "gligen" in attention:
        attention["gligen"] = {"objs": unet.position_net(**attention["gligen"])}
    return Expert(
        unet,
        x,
        time if added is None else time + added,
        unet.process_encoder_hidden_states(**told),
        attention or None,
        down_block_additional_residuals or (),
        mid_block_additional_residual,
    )


def aggregated(models: Sequence[NetworkDenoiser], aggregators: Aggregators) -> NetworkDenoiser:
    """Return the denoiser of several models whose features are aggregated; it counts as all of them.

    Its guidance and its levels are those of `models[0]`. The U-Nets are shared with the models, and are as
    they were after each call.

    Args:
        models: those of the aggregators' experts, in their order: the same prediction, the same training
            levels, guidance in all or in none, and texts of one length. Each has its own conditions, input
            channels and ControlNet.
        aggregators: trained for these models; untrained ones take means.

    Raises:
        TypeError: a block of another kind than Stable Diffusion's.
        ValueError: the models' number or kind differs from each other or from the aggregators'; two models
            share a U-Net that is switched for one of them.
    """
    models = tuple(models)
    channels = check_alike([model.network for model in models])
    trained = (aggregators.config.experts, tuple(aggregators.config.channels))
    if trained != (len(models), channels):
        raise ValueError(
            f"models has {len(models)} U-Nets with features of {channels} channels, expected those of "
            f"`aggregators`: {trained[0]} with {trained[1]}"
        )
    first = models[0]
    for i, model in enumerate(models[1:], 1):
        _check_kind(i, model, first)
        for j, other in enumerate(models[:i]):
            if bare(model.network) is bare(other.network) and (model.contexts or other.contexts):
                raise ValueError(
                    f"models[{i}] has models[{j}]'s U-Net, which is switched for each, expected another: "
                    "they run at the same time"
                )
    separable = all(model.separable for model in models)
    network = _Together(models, aggregators)
    return replace(first, network=network, recipes=[_whole], contexts=[], separable=separable)


def _check_kind(i: int, model: NetworkDenoiser, first: NetworkDenoiser) -> None:
    kinds = [
        (
            each.prediction,
            "guided" if callable(each.guidance) or each.guidance > 1 else "unguided",
            each.batch,
        )
        for each in (model, first)
    ]
    if model.uncond is not None or first.uncond is not None:
        raise ValueError(f"models[{i}] or models[0] is guided in two calls, expected one for both rows")
    if kinds[0] != kinds[1]:
        raise ValueError(f"models[{i}] is {kinds[0]}, expected models[0]'s kind and batch, {kinds[1]}")
    ours, theirs = model.training_sigmas, first.training_sigmas
    if ours is None or theirs is None or ours.shape != theirs.shape or not bool(ours.isclose(theirs).all()):
        raise ValueError(f"models[{i}] has other training levels than models[0], expected the same")


def check_alike(unets: Sequence[Any]) -> tuple[int, ...]:
    """Return the channels of the feature maps that these U-Nets have in common, in order, or raise."""
    if len(unets) < 2:
        raise ValueError(f"{len(unets)} U-Nets, expected two or more")
    channels = [channels_of(bare(unet)) for unet in unets]
    for i, each in enumerate(channels):
        if each != channels[0]:
            raise ValueError(f"U-Net {i} has features of {each} channels, expected U-Net 0's {channels[0]}")
    return channels[0]


def channels_of(unet: Any) -> tuple[int, ...]:
    """Return the channels of a U-Net's feature maps, in order, or raise for blocks of unknown kinds."""
    if not hasattr(unet, "down_blocks"):
        raise TypeError(f"a network is a {type(unet).__name__}, expected UNet2DConditionModel")
    found = [(block, DOWN) for block in unet.down_blocks] + [(unet.mid_block, MID)]
    found += [(block, UP) for block in unet.up_blocks]
    for name in UNKNOWN:
        if unet.config.get(name):
            raise ValueError(f"a U-Net has {name} {unet.config[name]!r}, expected none")
    for block, kinds in found:
        if type(block).__name__ not in kinds:
            raise TypeError(f"a U-Net has a {type(block).__name__}, expected {' or '.join(kinds)}")
    down = [
        resnet.out_channels
        for block in unet.down_blocks
        for resnet in [*block.resnets, *(block.downsamplers or ())]
    ]
    up = [resnet.out_channels for block in unet.up_blocks for resnet in block.resnets][:-1]
    mid = unet.mid_block.resnets[-1].out_channels
    return (unet.conv_in.out_channels, *down, mid, *up, unet.conv_out.out_channels)


def _whole(call: Call) -> Call:
    """Return the call with itself as its only argument: each model's recipes begin with it."""
    return call._replace(kwargs={"call": call}, halved=False)


@dataclass(frozen=True, eq=False)
class _Together:
    """The models' U-Nets as one network."""

    models: Sequence[NetworkDenoiser]
    aggregators: Aggregators

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.models[0].network.dtype  # type: ignore[attr-defined]
        return dtype

    def __call__(self, x: Tensor, *, timestep: Tensor, call: Call) -> tuple[Tensor]:
        with contextlib.ExitStack() as stack:
            for model in sorted(self.models, key=lambda model: id(bare(model.network))):  # no deadlock
                stack.enter_context(locked(model.network))
            for context in (context for model in self.models for context in model.contexts):
                stack.enter_context(context())
            return (self.aggregators([_told(i, model, call) for i, model in enumerate(self.models)]),)


def _told(i: int, model: NetworkDenoiser, call: Call) -> Expert:
    call = reduce(lambda call, recipe: recipe(call), model.recipes, call).with_its_rows()
    unknown = set(call.kwargs) - set(inspect.signature(expert).parameters)
    if unknown:
        raise TypeError(
            f"models[{i}] passes {', '.join(sorted(unknown))} to its U-Net, which AFA does not know"
        )
    return expert(model.network, call.x, call.t, **call.kwargs)
