"""Several patchers (LoRAs) of one network: whose weights are in it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
import comfy.utils
from comfy.patcher_extension import CallbacksMP

CHANGED: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()
"""The parameters that the host changed when it loaded a patcher's weights in place of another's."""


def put_in(patcher: Any) -> None:
    """Make the network ready for one of its patchers: weights, objects, injections, hooks. Often no work.

    ComfyUI's patchers of one network share its parameters, so the one that was loaded last has its weights in
    it. Only patched weights are exchanged: the network stays where it is, and no second copy of it is made.
    """
    model, before = patcher.model, patcher.model.current_patcher
    if before is not patcher and before is not None:
        before.eject_model()
        before.unpatch_hooks()  # it remembers which hooks are in: they would not be put in again
    if model.current_weight_patches_uuid is None:
        comfy.model_management.load_models_gpu([patcher])  # it was unloaded since
    elif model.current_weight_patches_uuid == patcher.patches_uuid:
        if before is not patcher:
            _exchange_objects(patcher)
    elif before is not None and before is not patcher and same_weights(before, patcher):
        _exchange_objects(patcher)
        model.current_weight_patches_uuid = patcher.patches_uuid
    elif patcher in CHANGED and before in CHANGED and not model.model_lowvram:
        _exchange_parameters(patcher, CHANGED[patcher])
    else:
        _exchange_weights(patcher)
    model.current_patcher = patcher


def give_back(patcher: Any) -> None:
    """Leave the network as the host expects it: with nothing in it of patchers that it did not load last.

    Weights may stay: the host restores them from the backup that all patchers of a network share.
    """
    last = patcher.model.current_patcher
    if last is not None and last is not patcher:
        last.eject_model()
        last.unpatch_hooks()
        patcher.model.current_patcher = patcher


def _exchange_objects(patcher: Any) -> None:
    patcher.unpatch_model(unpatch_weights=False)
    patcher.patch_model(load_weights=False)


def _exchange_weights(patcher: Any) -> None:
    """Let the host restore what was changed and change what this patcher does; no module is moved."""
    model = patcher.model
    if getattr(patcher, "is_dynamic", lambda: False)():  # of newer hosts: they patch weights as they are used
        patcher.partially_load(patcher.load_device)
        return
    # As many modules as before stay loaded: the host takes them in order of size while they fit below this.
    room = model.model_loaded_weight_memory + 1 if model.model_lowvram else 0
    patcher.unpatch_model()
    patcher.patch_model(patcher.load_device, lowvram_model_memory=room)
    if not model.model_lowvram and changes_parameters_alone(patcher):
        CHANGED[patcher] = list(patcher.backup)


def _exchange_parameters(patcher: Any, changed: Sequence[str]) -> None:
    """Do the same for a network that is loaded whole, without a pass over its modules."""
    model, backup, own = patcher.model, patcher.backup, set(changed)
    for key, kept in backup.items():
        weight = kept.weight if key in own else kept.weight.to(patcher.load_device)
        put = comfy.utils.copy_to_param if kept.inplace_update else comfy.utils.set_attr_param
        put(model, key, weight)
    backup.clear()
    _exchange_objects(patcher)
    for key in changed:
        patcher.patch_weight_to_device(key, patcher.load_device)
    model.current_weight_patches_uuid = patcher.patches_uuid


def changes_parameters_alone(patcher: Any) -> bool:
    """Return True if loading the patcher does no more than to change parameters and exchange objects."""
    more = patcher.weight_wrapper_patches or patcher.injections or patcher.force_cast_weights
    return not (more or patcher.get_all_callbacks(CallbacksMP.ON_LOAD))


def same_weights(one: Any, other: Any) -> bool:
    """Return True if two patchers of one network change its weights alike, as clones do."""
    own, their = ({**each.patches, **each.weight_wrapper_patches} for each in (one, other))
    if own.keys() != their.keys() or one.force_cast_weights != other.force_cast_weights:
        return False
    pairs = chain.from_iterable(zip(own[key], their[key], strict=False) for key in own)
    return all(len(own[key]) == len(their[key]) for key in own) and all(a is b for a, b in pairs)
