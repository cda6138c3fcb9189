"""Every argument of every public function by itself: right values are right, others are refused by name."""

import inspect
import warnings

import pytest
from arguments import PUBLIC, TARGETS, Target, is_clear

pytestmark = pytest.mark.usefixtures("unchecked")

NO_FUNCTIONS = {
    # vocabulary, records and rules, whose fields are the samplers' options
    "Denoiser", "NoiseSampler", "Sampler", "Step", "Restart", "LatentSpace", "Aggregation", "At", "Moves",
    "Particles", "Rule", "Controls", "AMDM", "DDIM", "Composed", "Prediction", "FOLDS", "SAMPLERS",
    "Superposition", "INFINITE_SIGMA", "denoisers", "geometry", "samplers", "schedules",
    # how samplers are made, and what they call with what they have checked
    "of_models", "of_one_model", "auto_length", "join", "resolve_window", "effective_samples",
    "systematic_resample",
}  # fmt: skip


EACH = [(target, argument) for target, each in TARGETS.items() for argument in each.arguments]


def called(target: Target, argument, value):
    needed = {name: target.arguments[name].good[0] for name in target.required}
    return target.call(**{**needed, **target.also.get(argument, {}), argument: value})


@pytest.mark.parametrize(("name", "argument"), EACH)
def test_right_values(name, argument):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "window is 0.4, which rounds to none")
        for value in TARGETS[name].arguments[argument].good:
            called(TARGETS[name], argument, value)


@pytest.mark.parametrize(("name", "argument"), EACH)
def test_wrong_values_are_refused_by_name(name, argument):
    faults = []
    for value in TARGETS[name].arguments[argument].bad:
        try:
            called(TARGETS[name], argument, value)
            faults.append(f"{value!r} is accepted")
        except Exception as error:
            if not is_clear(error, [argument]):
                faults.append(f"{value!r}: {error!r}")
    assert not faults, "\n".join(faults)


def test_every_public_function_is_in_the_table():
    assert PUBLIC.keys() - NO_FUNCTIONS - TARGETS.keys() == {
        name
        for name in PUBLIC
        if name.startswith("sample_")  # they call the generators
    }


@pytest.mark.parametrize("name", [name for name in TARGETS if name in PUBLIC])
def test_every_argument_is_in_the_table(name):
    assert set(inspect.signature(PUBLIC[name]).parameters) == TARGETS[name].arguments.keys()
