"""The driver: a loss that falls, a run that was interrupted, noise and weights by their formulas."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from amdm.shapes import denoisers, networks, training, world
from amdm.shapes.configs import CONFIGS

CPU = torch.device("cpu")
SHORT = replace(CONFIGS["base"], images=16 * 32, batch=16)


def advanced(run, steps):
    for _ in range(steps):
        training.advance(run)
    return run


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    whole = advanced(training.begin(SHORT, CPU), 5)
    training.checkpoint(advanced(training.begin(SHORT, CPU), 2), tmp_path / "run.safetensors")
    torch.manual_seed(12345)  # the global generator has no say
    resumed = advanced(training.resume(SHORT, CPU, tmp_path / "run.safetensors"), 3)
    assert resumed.step == whole.step == 5
    assert torch.equal(resumed.losses, whole.losses) and whole.losses[:5].all()
    assert torch.equal(resumed.generator.get_state(), whole.generator.get_state())
    for name, value in whole.parameters.items():
        assert torch.equal(resumed.parameters[name], value), name
        assert torch.equal(resumed.average[name], whole.average[name]), name
        ours, theirs = (run.optimizer.state[run.parameters[name]] for run in (resumed, whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_a_checkpoint_resumes_its_own_configuration_only(tmp_path):
    path = tmp_path / "run.safetensors"
    training.checkpoint(advanced(training.begin(SHORT, CPU), 1), path)
    assert training.resume(replace(SHORT, images=2 * SHORT.images), CPU, path).step == 1
    with pytest.raises(ValueError, match="remove it to start anew"):
        training.resume(replace(SHORT, seed=99), CPU, path)


@pytest.mark.parametrize("damage", ["garbage", "cut short", "another file"])
def test_a_damaged_checkpoint_is_named(damage, tmp_path):
    path = tmp_path / "run.safetensors"
    training.checkpoint(advanced(training.begin(SHORT, CPU), 1), path)
    match damage:
        case "garbage":
            path.write_bytes(b"garbage")
        case "cut short":
            path.write_bytes(path.read_bytes()[:-100])
        case "another file":
            save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=rf"^{path} is damaged: .*; remove it to start anew"):
        training.resume(SHORT, CPU, path)


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    run = advanced(training.begin(SHORT, CPU), 1)
    training.checkpoint(run, path)

    def killed(tensors, file, metadata):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        training.checkpoint(advanced(run, 1), path)
    assert training.resume(SHORT, CPU, path).step == 1


def test_checkpoints_hold_tensors_only(tmp_path):
    path = tmp_path / "run.safetensors"
    training.checkpoint(advanced(training.begin(SHORT, CPU), 1), path)
    with safe_open(path, "pt") as file:
        kinds = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
    assert kinds == {"parameter", "average", "optimizer", "generator", "losses"}


@pytest.mark.slow
def test_a_few_steps_reduce_the_loss():
    run = advanced(training.begin(replace(CONFIGS["base"], images=8 * 400, batch=8, warmup=10), CPU), 40)
    held_out = world.sample_scenes(world.VALIDATION[:32])
    before = training.begin(SHORT, CPU).network

    def loss(network):
        with torch.no_grad():
            return training.loss_of(SHORT, network, held_out, torch.Generator().manual_seed(0)).item()

    assert loss(run.network) < 0.6 * loss(before)


def test_the_rate_rises_holds_and_falls():
    steps = 4000
    assert training.rate_factor(0, steps, 500) == 1 / 500
    assert training.rate_factor(500, steps, 500) == 1
    assert training.rate_factor(steps - 600, steps, 500) == pytest.approx(0.5)
    assert training.rate_factor(steps - 1, steps, 500) == pytest.approx(1 / 1200)


@pytest.mark.parametrize(
    ("predicts", "weight", "scale"),
    [
        ("epsilon", lambda snr: snr.clamp(max=5) / snr, lambda snr: snr),
        ("v_prediction", lambda snr: snr.clamp(max=5) / (snr + 1), lambda snr: snr + 1),
        ("edm", torch.ones_like, lambda snr: snr + 1),
    ],
)
def test_loss_weights_are_the_published_ones(predicts, weight, scale):
    """Published for the prediction's squared error, which is `scale` times that of the denoised latents."""
    snr = torch.tensor([0.03, 0.3, 1.0, 14.0]) ** -2
    torch.testing.assert_close(training.loss_weight(predicts, snr**-0.5), weight(snr) * scale(snr))


def test_levels_are_drawn_from_the_schedule_or_log_normal():
    vp = training.draw_sigma("epsilon", 20_000, torch.Generator().manual_seed(0))
    table = denoisers.training_sigmas().float()
    assert torch.isin(vp, table).all() and len(vp.unique()) == 1000
    # The mean step of 20,000 uniform ones is 499.5 within four standard errors.
    steps = torch.searchsorted(table, vp)
    assert abs(steps.float().mean().item() - 499.5) < 4 * 1000 / 12**0.5 / 20_000**0.5
    edm = training.draw_sigma("edm", 20_000, torch.Generator().manual_seed(0)).log()
    mean, deviation = training.EDM_LOG_SIGMA
    assert abs(edm.mean().item() - mean) < 4 * deviation / 20_000**0.5
    assert abs(edm.std().item() - deviation) < 4 * deviation / 40_000**0.5


def test_conditions_are_dropped_all_at_once_and_styles_at_times():
    scenes = world.sample_scenes(range(400))
    told = training.draw_conditions(CONFIGS["layout"], scenes, torch.Generator().manual_seed(0))
    silent = told["encoder_hidden_states"].abs().sum((1, 2)) == 0
    assert torch.equal(silent, told["maps"].abs().sum((1, 2, 3)) == 0)
    # Four standard deviations of 400 draws with probability 0.1, and of those left with 0.5.
    assert abs(silent.float().mean().item() - 0.1) < 4 * 0.3 / 20
    styles = told["encoder_hidden_states"][~silent][..., 14:18].sum((1, 2))
    assert abs(styles.mean().item() - 0.5) < 4 * 0.5 / len(styles) ** 0.5


def test_a_finished_run_is_stored_in_half_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    run = advanced(training.begin(SHORT, CPU), 1)
    networks.save("base", run.network, run.average)
    stored = networks.load("base").unet
    assert stored.dtype == torch.float32
    for name, value in stored.named_parameters():
        assert torch.equal(value, run.average[name].half().float()), name
        assert not value.requires_grad
