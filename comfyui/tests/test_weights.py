"""Several LoRAs of one network: each model is called with its own weights, and there is one network."""

import gc

import pytest
import torch

from comfyui import weights
from comfyui.guider import AMDMGuider, Window
from comfyui.tests import host
from comfyui.tests.conftest import REAL

real = pytest.mark.skipif(not REAL, reason="needs COMFYUI_PATH")


def joined(one, other, end=0.5):
    """A lead and a partner with prompts of their own."""
    return AMDMGuider(host.cfg_guider(one), [host.cfg_guider(other, 3, 4, 3.0)], window=Window(0, end))


def sampled(guider, sampler="euler", model=None):
    model = model or guider.model_patcher
    return host.run(guider, sampler, host.schedule(model), host.latent(model))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("kind", host.KINDS)
def test_one_network_gives_what_two_give(kind, sampler):
    if kind == "flow" and sampler == "heun":
        pytest.skip("not stepped for flows")
    base, copy = (host.KINDS[kind].make(0) for _ in range(2))
    one, other, other_copy = host.lora(base, 1), host.lora(base, 2), host.lora(copy, 2)
    want = sampled(joined(one, other_copy), sampler)
    assert host.off(sampled(joined(one, other), sampler), want) < 1e-6
    assert host.off(sampled(host.cfg_guider(one), sampler, base), want) > 1e-3
    alone = sampled(host.cfg_guider(other_copy), sampler, base)
    assert host.off(sampled(host.cfg_guider(other), sampler, base), alone) < 1e-6  # all is restored


def test_the_last_lora_would_win_without_the_exchange(monkeypatch):
    base = host.sd15(0)
    one, other = host.lora(base, 1), host.lora(base, 2)
    want = sampled(joined(one, other))
    monkeypatch.setattr(weights, "_exchange_weights", lambda patcher: None)
    if REAL:
        assert host.off(sampled(joined(one, other)), want) > 1e-3
    else:  # the stand-in notices what the host does in silence
        with pytest.raises(AssertionError, match="another patcher's weights"):
            sampled(joined(one, other))


def test_weights_are_exchanged_only_where_another_lora_is_called(monkeypatch):
    done = {"_exchange_weights": 0, "_exchange_parameters": 0}

    def counted(name, exchange):
        def count(*given):
            done[name] += 1
            exchange(*given)

        monkeypatch.setattr(weights, name, count)

    for name in done:
        counted(name, getattr(weights, name))
    base = host.sd15(0)
    one, other = host.lora(base, 1), host.lora(base, 2)
    sampled(joined(one, other))  # 3 joined steps of 6: lead, partner, lead, partner, lead, partner, lead
    assert done == {"_exchange_weights": 2, "_exchange_parameters": 4}  # the host's pass once for each
    done.update(dict.fromkeys(done, 0))
    sampled(joined(one, one))
    sampled(joined(base, base))
    sampled(joined(one, host.lora(host.sd15(1), 2)))
    assert not any(done.values())  # clones with the same changes; networks of their own


@real
def test_only_patched_parameters_are_touched():
    base, seen = host.sd15(0), []
    one, other = host.lora(base, 1), host.lora(base, 2)
    kept = lambda: {name: id(p) for name, p in base.model.named_parameters() if name not in one.patches}
    host.run(
        joined(one, other),
        "euler",
        host.schedule(base),
        host.latent(base),
        callback=lambda *_: seen.append(kept()),
    )
    assert all(each == seen[0] for each in seen)


def storages(model):
    """The bytes of the distinct storages of a network's parameters."""
    held = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
    return sum(held.values())


@real
@pytest.mark.parametrize("count", [2, 4])
def test_n_loras_cost_the_memory_of_one_network(count):
    """While all are sampled from: the network's storages, and the host's backup of what a LoRA changes."""
    base = host.sd15(0)
    before, seen = storages(base.model), []
    one = host.lora(base, 1)
    patched = sum(base.model.state_dict()[key].nbytes for key in one.patches)
    partners = [host.cfg_guider(host.lora(base, 2 + k), 3, 4) for k in range(count - 1)]
    guider = AMDMGuider(host.cfg_guider(one), partners)

    def callback(*_):
        gc.collect()
        held = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in [
                *base.model.parameters(),
                *(kept.weight for kept in guider.model_patcher.backup.values()),
            ]
        }
        seen.append(sum(held.values()))

    host.run(guider, "euler", host.schedule(base), host.latent(base), callback=callback)
    assert max(seen) == before + patched  # as with a single LoRA
    own = {id(each.model_patcher.model) for each in guider.guiders}
    assert own == {id(base.model)}


@real
@pytest.mark.parametrize(("count", "share"), [(2, 0.5), (3, 0.5), (2, 0.0)])
def test_partly_loaded_networks(count, share, monkeypatch):
    """Low VRAM: modules are loaded while they fit, the others patched as they are used. Then none fits."""
    import comfy.model_management as management

    base, copies = host.sd15(0), [host.sd15(0) for _ in range(count)]
    loras = [host.lora(base, k) for k in range(count)]
    apart = [host.lora(each, k) for k, each in enumerate(copies)]

    def of(models):
        lead, *partners = [host.cfg_guider(m, 2 * k + 1, 2 * k + 2, 3.0) for k, m in enumerate(models)]
        return AMDMGuider(lead, partners, window=Window(0, 0.5))

    want = sampled(of(apart))
    room, loaded = max(0.1, base.model_size() * share), []

    def load_part(models, **_):
        for each in models:
            each.unpatch_model(each.offload_device)
            each.patch_model(each.load_device, lowvram_model_memory=room)

    monkeypatch.setattr(management, "load_models_gpu", load_part)
    guider = of(loras)
    note = lambda *_: loaded.append((base.model.model_lowvram, base.model.model_loaded_weight_memory))
    got = host.run(guider, "euler", host.schedule(base), host.latent(base), callback=note)
    assert host.off(got, want) < 1e-6
    assert all(lowvram and memory <= room for lowvram, memory in loaded)
    assert loaded[0][1] > 0 or share == 0
    assert len({memory for _, memory in loaded}) == 1  # as many as before stay loaded


@pytest.mark.parametrize("how", ["unloaded", "partly unloaded"])
def test_unloaded_between_calls(how):
    """Another model that is loaded in a step, such as a preview's decoder, may push out a network."""
    if how == "partly unloaded" and not REAL:
        pytest.skip("the stand-in loads as a whole")
    base, copies = host.sd15(0), [host.sd15(0) for _ in range(2)]
    pairs = [(host.lora(base, 1), host.lora(base, 2)), (host.lora(copies[0], 1), host.lora(copies[1], 2))]
    want = sampled(joined(*pairs[1]))
    for one, other in pairs:
        guider, freed = joined(one, other), []

        def unload(*_, guider=guider, freed=freed):
            for each in guider.guiders:
                patcher = each.model_patcher
                if how == "unloaded":
                    patcher.detach()
                elif patcher.model.current_patcher is patcher:
                    freed.append(patcher.partially_unload(patcher.offload_device, patcher.model_size() // 3))

        got = host.run(guider, "euler", host.schedule(base), host.latent(base), callback=unload)
        assert host.off(got, want) < 1e-6
        assert how == "unloaded" or freed[0] > 0


@real
@pytest.mark.parametrize("end", [0.5, 1.0])
def test_object_patches_and_injections_are_exchanged_too(end):
    """Modules that a patcher exchanges, and injections. With end 1 the partner is the last that is called."""
    import comfy.model_patcher

    base, copies = host.sd15(0), [host.sd15(0) for _ in range(2)]

    def one_of(model, seed, scale):
        own = host.lora(model, seed)
        layer = model.model.diffusion_model.out[2]
        injection = comfy.model_patcher.PatcherInjection(
            inject=lambda _: layer.bias.data.add_(scale), eject=lambda _: layer.bias.data.sub_(scale)
        )
        own.set_injections("test", [injection])
        own.add_object_patch(
            "diffusion_model.middle_block.1.norm", torch.nn.GroupNorm(32, 64, eps=10 * scale)
        )
        return own

    want = sampled(joined(one_of(copies[0], 1, 0.1), one_of(copies[1], 2, 0.5), end))
    assert host.off(sampled(joined(one_of(base, 1, 0.1), one_of(base, 2, 0.5), end)), want) < 1e-5
    plain = host.sd15(0)
    assert host.off(sampled(host.cfg_guider(base)), sampled(host.cfg_guider(plain))) < 1e-5


@real
@pytest.mark.parametrize("end", [0.5, 1.0])
def test_hook_loras_of_one_network(end):
    """LoRAs that are hooks on conditions, two of them on one patcher, by range of steps."""
    import comfy.hooks
    from comfy_extras.nodes_hooks import PairConditioningSetProperties

    base, copies = host.sd15(0), [host.sd15(0) for _ in range(2)]
    state = base.model.state_dict()
    keys = [key for key in state if "attn2" in key and state[key].ndim == 2]

    def hooked(seed, strength):
        """Two conditions with a LoRA as a hook of weights, as Create Hook Model as LoRA makes them."""
        generator = torch.Generator().manual_seed(seed)
        changes = {
            key: 0.3 * torch.randn(state[key].shape, generator=generator) * state[key].std() for key in keys
        }
        hooks = comfy.hooks.HookGroup()
        hook = comfy.hooks.WeightHook(strength_model=strength)
        hook.weights = {key: ("diff", (value,)) for key, value in changes.items()}
        hook.need_weight_init = False
        hooks.add(hook)
        positive, negative = host.conditioning(2 * seed + 1), host.conditioning(2 * seed + 2)
        return PairConditioningSetProperties().set_properties(positive, negative, 1.0, "default", hooks=hooks)

    def of(one, other):
        guiders = [host.cfg_guider(m, *hooked(k, 0.5 + k), 3.0) for k, m in enumerate((one, other))]
        return AMDMGuider(guiders[0], guiders[1:], window=Window(0, end))

    want = sampled(of(*copies))
    assert host.off(sampled(of(base, base)), want) < 1e-6
    plain = AMDMGuider(
        host.cfg_guider(copies[0], 1, 2, 3.0), [host.cfg_guider(copies[1], 3, 4, 3.0)], window=Window(0, 0.5)
    )
    assert host.off(sampled(plain), want) > 1e-3
    assert host.off(sampled(host.cfg_guider(base)), sampled(host.cfg_guider(host.sd15(0)))) < 1e-6
