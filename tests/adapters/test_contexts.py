"""Switches of a shared network: as they were bound during a call, as its owner left them after it."""

import numpy as np
import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    LayerSkipConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    apply_layer_skip,
)
from peft import LoraConfig
from tolerances import assert_equal

from amdm import sample_amdm, sample_ddim
from amdm.diffusers import as_switched, from_pipeline
from amdm.diffusers.scheduler import AggregatingScheduler, Partners

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
STEPS = 4


def add_lora(pipe, name, seed=0):
    torch.manual_seed(seed)
    config = LoraConfig(r=2, target_modules=["to_q", "to_v", "to_out.0"], init_lora_weights=False)
    pipe.unet.add_adapter(config, adapter_name=name)


def drawn(prepared):
    return prepared.decode(sample_ddim(prepared.model, prepared.x, prepared.sigmas, disable=True)).images


def layers(pipe):
    return [module for module in pipe.unet.modules() if isinstance(getattr(module, "scaling", None), dict)]


def state(pipe):
    return [
        (
            list(layer.active_adapters),
            layer.disable_adapters,
            dict(layer.scaling),
            [parameter.requires_grad for parameter in layer.parameters()],
        )
        for layer in layers(pipe)
    ]


@pytest.mark.slow
def test_a_lora_that_is_loaded_later_is_off_in_what_was_bound_before():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    without, expected = from_pipeline(pipe, **kwargs), pipe(**kwargs).images
    add_lora(pipe, "one")
    one, with_one = from_pipeline(pipe, **kwargs), pipe(**kwargs).images
    add_lora(pipe, "other", seed=1)
    pipe.unet.set_adapters(["one", "other"], [0.5, 1.0])
    assert (with_one - expected).abs().max() > 0.1 < (pipe(**kwargs).images - with_one).abs().max()
    assert_equal(drawn(without), expected, 5e-6)
    assert_equal(drawn(one), with_one, 5e-6)


@pytest.mark.parametrize(
    "leave",
    [
        lambda unet: unet.set_adapters(["other"], [0.3]),
        lambda unet: unet.set_adapters(["other", "one"], [0.3, 0.9]),
        lambda unet: unet.disable_lora(),
    ],
)
def test_a_call_leaves_loras_as_it_found_them(leave):
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
    pipe.unet.set_adapters(["one"], [0.7])
    expected, prepared = pipe(**kwargs).images, from_pipeline(pipe, **kwargs)
    leave(pipe.unet)
    pipe.unet.requires_grad_(False)
    before, theirs = state(pipe), pipe(**kwargs).images
    assert_equal(drawn(prepared), expected, 5e-6)
    assert state(pipe) == before and len(before) > 4
    assert torch.equal(pipe(**kwargs).images, theirs)


def test_a_fused_lora_is_not_unfused_by_a_call():
    """The weights would change, and not come back; what needs no switching works on."""
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
    pipe.unet.set_adapters(["other"])
    other = from_pipeline(pipe, **kwargs)
    pipe.unet.set_adapters(["one"])
    pipe.unet.fuse_lora(adapter_names=["one"])
    weights = [layer.base_layer.weight.clone() for layer in layers(pipe)]
    fused = from_pipeline(pipe, **kwargs)
    with pytest.raises(RuntimeError, match="LoRA 'one' is fused into its weights"):
        other.model(other.x, other.sigmas[:1])
    assert_equal(drawn(fused), pipe(**kwargs).images, 5e-6)
    assert all(
        torch.equal(layer.base_layer.weight, w) for layer, w in zip(layers(pipe), weights, strict=True)
    )
    pipe.unet.unfuse_lora()
    drawn(other)


def test_an_error_in_the_network_leaves_them_too():
    pipe, _ = tiny.sd_lora(tiny.ddim())
    pipe.unet.set_adapters(["one"], [0.7])
    held = as_switched(pipe.unet)
    pipe.unet.set_adapters(["other"], [0.3])
    before = state(pipe)
    with pytest.raises(ZeroDivisionError), held():
        assert state(pipe) != before
        raise ZeroDivisionError
    assert state(pipe) == before


def test_scales_and_fusers_are_left_as_they_were():
    pipe, kwargs = tiny.sd_ip_adapter(tiny.ddim(), num_inference_steps=STEPS)
    prepared = from_pipeline(pipe, **kwargs)
    pipe.set_ip_adapter_scale(0.1)
    prepared.model(prepared.x, prepared.sigmas[:1])
    assert {tuple(p.scale) for p in pipe.unet.attn_processors.values() if hasattr(p, "scale")} == {(0.1,)}

    pipe, kwargs = tiny.sd_gligen(tiny.ddim(), num_inference_steps=STEPS)
    prepared = from_pipeline(pipe, **kwargs)
    for on in (True, False):
        pipe.enable_fuser(on)
        for sigma in prepared.sigmas[:-1]:
            prepared.model(prepared.x, sigma[None])
            assert {module.enabled for module in pipe.unet.modules() if hasattr(module, "enabled")} == {on}


def test_what_was_bound_and_is_gone_is_an_error():
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
    pipe.unet.set_adapters(["one"])
    prepared = from_pipeline(pipe, **kwargs)
    pipe.unet.delete_adapters("other")
    drawn(prepared)
    pipe.unet.delete_adapters("one")
    with pytest.raises(RuntimeError, match="the network has no LoRA 'one' any more"):
        prepared.model(prepared.x, prepared.sigmas[:1])

    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    without = from_pipeline(pipe, **kwargs)
    image = tiny.with_ip_adapter(pipe)
    with_image = from_pipeline(pipe, **kwargs, **image)
    with pytest.raises(RuntimeError, match=r"4 IP-Adapter processors, expected the 0 that it was bound with"):
        without.model(without.x, without.sigmas[:1])
    pipe.unload_ip_adapter()
    with pytest.raises(RuntimeError, match=r"0 IP-Adapter processors, expected the 4"):
        with_image.model(with_image.x, with_image.sigmas[:1])


@pytest.mark.slow
def test_lead_and_partner_share_a_network_in_the_pipelines_own_loop():
    """Each by its LoRA: in the scheduler as in `sample_amdm`, where both are bound."""
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=10)
    prepared = {}
    for name in ("other", "one"):  # the pipeline's own is left on
        pipe.unet.set_adapters([name])
        prepared[name] = from_pipeline(pipe, **kwargs)
    models, x, sigmas = (
        [prepared[name].model for name in ("one", "other")],
        prepared["one"].x,
        prepared["one"].sigmas,
    )
    expected = prepared["one"].decode(sample_amdm(models, [x, x], sigmas, disable=True)).images
    alone, partners = pipe(**kwargs).images, Partners(models[1:], latents=kwargs["latents"])
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    assert (expected - alone).abs().max() > 0.1
    assert_equal(pipe(**kwargs).images, expected, 5e-6)


@pytest.mark.parametrize("exchange", ["loaded again", "written over"])
def test_another_lora_under_the_name_of_a_bound_one_is_an_error(exchange):
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
    pipe.unet.set_adapters(["one"], [0.7])
    prepared = from_pipeline(pipe, **kwargs)
    add_lora(pipe, "third", seed=5)  # what is not active may come, change and go
    pipe.unet.delete_adapters("other")
    pipe.unet.set_adapters(["third"])
    drawn(prepared)
    if exchange == "loaded again":
        pipe.unet.delete_adapters("one")
        add_lora(pipe, "one", seed=9)
    else:
        with torch.no_grad():
            layers(pipe)[-1].lora_B["one"].weight.mul_(2)
    with pytest.raises(RuntimeError, match="LoRA 'one' has other weights than when bound"):
        prepared.model(prepared.x, prepared.sigmas[:1])
    pipe.unet.set_adapters(["one"])
    drawn(from_pipeline(pipe, **kwargs))


def test_a_lora_that_is_fused_at_another_scale_is_an_error():
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
    pipe.unet.set_adapters(["one"], [0.7])
    prepared = from_pipeline(pipe, **kwargs)
    pipe.unet.fuse_lora(lora_scale=0.5, adapter_names=["one"])
    with pytest.raises(RuntimeError, match="LoRA 'one' is fused into its weights"):
        prepared.model(prepared.x, prepared.sigmas[:1])


def test_loras_may_be_moved_and_cast():
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
    prepared = from_pipeline(pipe, **kwargs)
    pipe.unet.to(torch.bfloat16).to(torch.float32)
    assert prepared.model(prepared.x, prepared.sigmas[:1]).isfinite().all()


CACHES = {
    "first block": FirstBlockCacheConfig(threshold=0.05),
    "pyramid": PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    ),
    "faster": FasterCacheConfig(current_timestep_callback=lambda: 500),
    "taylor": TaylorSeerCacheConfig(),
}


@pytest.mark.parametrize("cache", CACHES)
def test_a_network_that_answers_from_earlier_calls_is_refused(cache):
    pipe, kwargs = tiny.flux(num_inference_steps=2)
    before = from_pipeline(pipe, **kwargs)
    pipe.transformer.enable_cache(CACHES[cache])
    with pytest.raises(ValueError, match=r"the network has \w*Hook, which reuses earlier calls' results"):
        from_pipeline(pipe, **kwargs)
    with pytest.raises(RuntimeError, match=r"the network has \w*Hook, which it had not when bound"):
        before.model(before.x, before.sigmas[:1])
    pipe.transformer.disable_cache()
    drawn(before)


def test_hooks_that_keep_nothing_are_no_cache():
    pipe, kwargs = tiny.flux(num_inference_steps=2)
    pipe.transformer.enable_layerwise_casting(torch.bfloat16, torch.float32)
    ours, theirs = drawn(from_pipeline(pipe, **kwargs)), pipe(**kwargs).images
    assert np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)).max() <= 1e-4


def test_freeu_is_as_when_bound():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    off = from_pipeline(pipe, **kwargs)
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    on, theirs = from_pipeline(pipe, **kwargs), pipe(**kwargs).images
    pipe.disable_freeu()
    assert_equal(drawn(off), pipe(**kwargs).images, 5e-6)
    assert_equal(drawn(on), theirs, 5e-6)
    assert all(block.s1 is None for block in pipe.unet.up_blocks if hasattr(block, "s1"))
    pipe.enable_freeu(s1=0.5, s2=0.5, b1=1.1, b2=1.1)
    drawn(on)
    assert {(block.s1, block.b2) for block in pipe.unet.up_blocks} == {(0.5, 1.1)}


def test_a_hook_that_skips_layers_is_told():
    pipe, kwargs = tiny.flux(num_inference_steps=2)
    skip = LayerSkipConfig(indices=[0], fqn="transformer_blocks", skip_attention=False)
    whole = from_pipeline(pipe, **kwargs)
    apply_layer_skip(pipe.transformer, skip)
    with pytest.raises(RuntimeError, match=r"the network has \w*SkipHook, which it had not when bound"):
        whole.model(whole.x, whole.sigmas[:1])
    part, theirs = from_pipeline(pipe, **kwargs), pipe(**kwargs).images
    assert np.abs(np.asarray(drawn(part), dtype=float) - np.asarray(theirs, dtype=float)).max() <= 1e-4
    for module in pipe.transformer.modules():
        if hasattr(module, "_diffusers_hook"):
            for name in list(module._diffusers_hook.hooks):
                module._diffusers_hook.remove_hook(name, recurse=False)
    drawn(whole)
    with pytest.raises(RuntimeError, match=r"the network has no \w*SkipHook any more"):
        part.model(part.x, part.sigmas[:1])


def test_loras_may_be_loaded_in_inference_mode():
    """Torch counts no writes into such parameters; that they are the same tensors is still known."""
    with torch.inference_mode():
        pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
        prepared = from_pipeline(pipe, **kwargs)
        assert_equal(drawn(prepared), pipe(**kwargs).images, 5e-6)
        for part in layers(pipe)[-1].lora_B.values():
            part.weight = torch.nn.Parameter(2 * part.weight, requires_grad=False)
        with pytest.raises(RuntimeError, match="has other weights than when bound"):
            prepared.model(prepared.x, prepared.sigmas[:1])
