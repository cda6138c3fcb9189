"""A(+B) from an unmodified pipeline call: bit for bit a VP loop written out, `sample_amdm` to rounding."""

import copy
import json
import math
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMParallelScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    ModularPipeline,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
)
from strategies import randn
from tolerances import assert_equal

from amdm import sample_amdm
from amdm.denoisers import GaussianMixture
from amdm.diffusers import from_pipeline, training_sigmas
from amdm.diffusers.scheduler import AggregatingScheduler, Partners
from amdm.geometry import lerp_fold, radial_correct, slerp_fold

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
LEADS = {"sd": tiny.sd, "sdxl": tiny.sdxl, "controlnet": tiny.sd_controlnet}
ONE_FAST = ["sd", *(pytest.param(lead, marks=pytest.mark.slow) for lead in ("sdxl", "controlnet"))]


def generator():
    return torch.Generator().manual_seed(3)


def partner_model(lead):
    """A model of the same latents, another add-on."""
    make = tiny.sdxl_ip_adapter if lead == "sdxl" else tiny.sd_gligen
    pipe, kwargs = make(tiny.ddim(), num_inference_steps=10)
    return from_pipeline(pipe, **kwargs).model


def written_out(pipe, kwargs, models, starts, *, eta, window, weights, lengths, fold=slerp_fold):
    """Algorithm 1 in VP: the pipeline's own network called as it calls it, DDIM's steps by diffusers."""
    calls = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda m, args, kw: calls.append((args[1], kw)), with_kwargs=True
    )
    plain = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.scheduler = plain
    told = []

    def keep(pipe, i, t, kw):
        told.append(calls[-1])
        return {}

    pipe(**kwargs, callback_on_step_end=keep)
    hook.remove()
    table, source = training_sigmas(plain), generator()
    z = [kwargs["latents"], *starts]
    for i, (t, said) in enumerate(told):
        n = len(models) + 1 if i < window[1] else 1
        means, xs = [], []
        for k in range(n):
            if k == 0:
                residuals = {}
                if getattr(pipe, "controlnet", None) is not None:
                    down, mid = pipe.controlnet(
                        torch.cat([z[0]] * 2),
                        t,
                        encoder_hidden_states=said["encoder_hidden_states"],
                        controlnet_cond=torch.cat([kwargs["image"]] * 2),
                        return_dict=False,
                    )
                    residuals = {
                        "down_block_additional_residuals": down,
                        "mid_block_additional_residual": mid,
                    }
                with torch.no_grad():
                    out = pipe.unet(torch.cat([z[0]] * 2), t, **{**said, **residuals})[0]
                uncond, cond = out.chunk(2)
                output = uncond + kwargs["guidance_scale"] * (cond - uncond)
            else:
                sigma = float(table[t])
                x = z[k] * math.sqrt(1 + sigma**2)
                with torch.no_grad():
                    output = (x - models[k - 1](x, x.new_full((len(x),), sigma))) / sigma
            noise = torch.randn(z[k].shape, generator=source) if eta > 0 else None
            still = torch.zeros_like(z[k])
            means.append(plain.step(output, t, z[k], eta=eta, variance_noise=still).prev_sample)
            xs.append(plain.step(output, t, z[k], eta=eta, variance_noise=noise).prev_sample)
        if window[0] <= i < window[1]:
            merged = fold(xs, weights)
            xs = [radial_correct(merged, mean, length) for mean, length in zip(means, lengths, strict=True)]
        z = xs
    return z[0]


@pytest.mark.parametrize("eta", [pytest.param(0.0, marks=pytest.mark.slow), 0.6])
@pytest.mark.parametrize("lead", ONE_FAST)
def test_it_is_the_loop_written_out_bit_for_bit_and_sample_amdm_to_rounding(lead, eta):
    pipe, kwargs = LEADS[lead](tiny.ddim(), num_inference_steps=10)
    model, start = partner_model(lead), tiny.randn(21, 1, 4, 8, 8)
    prepared = from_pipeline(pipe, **kwargs)
    alone = pipe(**kwargs, eta=eta, generator=generator()).images
    partners = Partners([model], latents=start, weights=0.4, correction=[0.3, 0.2], window=4)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    actual = pipe(**kwargs, eta=eta, generator=generator()).images
    assert torch.equal(pipe(**kwargs, eta=eta, generator=generator()).images, actual), (
        "a second call is the first"
    )
    assert (actual - alone).abs().max() > 0.1

    expected = written_out(
        pipe, kwargs, [model], [start], eta=eta, window=(0, 4), weights=[0.4], lengths=[0.3, 0.2]
    )
    assert torch.equal(actual, expected)

    source = generator()
    x = sample_amdm(
        [prepared.model, model],
        [prepared.x, start * (1 + prepared.sigmas[0].item() ** 2) ** 0.5],
        prepared.sigmas,
        weights=0.4,
        correction=[0.3, 0.2],
        window=4,
        eta=eta,
        noise_sampler=lambda sigma, sigma_next: torch.randn(prepared.x.shape, generator=source),
        disable=True,
    )
    assert_equal(x / (1 + prepared.sigmas[-1].item() ** 2) ** 0.5, actual, 5e-6)


@pytest.mark.slow
def test_three_models_a_late_window_and_another_fold():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=10)
    models = [
        partner_model("sd"),
        GaussianMixture(randn(0, 2, 4, 8, 8, dtype=torch.float32), torch.ones(2) / 2),
    ]
    starts = [tiny.randn(21, 1, 4, 8, 8), tiny.randn(22, 1, 4, 8, 8)]
    options = {"weights": [0.5, 0.65], "window": (2, 5), "fold": lerp_fold}
    pipe.scheduler = AggregatingScheduler.of(
        pipe.scheduler, Partners(models, starts, correction=0.1, **options)
    )
    actual = pipe(**kwargs).images
    expected = written_out(pipe, kwargs, models, starts, eta=0.0, lengths=[0.1] * 3, **options)
    assert torch.equal(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("config", [{"timestep_spacing": "linspace"}, {"clip_sample": True}])
def test_where_no_schedule_follows_the_pipeline_the_scheduler_does(config):
    # SDXL's pipeline leaves the scheduler as it is; Stable Diffusion's would turn the clipping off.
    pipe, kwargs = tiny.sdxl(tiny.ddim(**config), num_inference_steps=10)
    model, start = partner_model("sdxl"), tiny.randn(21, 1, 4, 8, 8)
    with pytest.raises(ValueError, match="AggregatingScheduler"):
        from_pipeline(pipe, **kwargs)
    partners = Partners([model], latents=start, correction=0.0, window=4)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    actual = pipe(**kwargs).images
    expected = written_out(
        pipe, kwargs, [model], [start], eta=0.0, window=(0, 4), weights=[0.5], lengths=[0.0, 0.0]
    )
    assert torch.equal(actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_partner_that_is_the_lead_changes_nothing(prediction):
    """For every kind of prediction: the partner's denoised is turned into what the lead's network says."""
    pipe, kwargs = tiny.sd(tiny.ddim(prediction_type=prediction), num_inference_steps=10)
    expected = pipe(**kwargs).images
    model = from_pipeline(pipe, **kwargs).model
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([model], window=1.0))
    assert_equal(pipe(**kwargs).images, expected, 2e-5)


def test_zero_terminal_snr_is_finite():
    config = {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    }
    pipe, kwargs = tiny.sd(tiny.ddim(**config), num_inference_steps=10)
    expected = pipe(**kwargs).images
    model = from_pipeline(pipe, **kwargs).model
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([model]))
    assert_equal(pipe(**kwargs).images, expected, 2e-5)


def test_a_steps_options_are_ddims():
    """Clipping that bites, eps from what was clipped, noise that is given."""
    plain = tiny.ddim(clip_sample=True)
    model = lambda x, sigma: 0.9 * x
    lead, latent, noise = (tiny.randn(seed, 1, 4, 8, 8) for seed in (1, 2, 3))
    scheduler = AggregatingScheduler.of(plain, Partners([model], window=1.0))
    plain.set_timesteps(10)
    scheduler.set_timesteps(10)
    t = int(plain.timesteps[5])
    options = {"eta": 0.5, "use_clipped_model_output": True}
    scheduler.step(lead, t, latent, **options, variance_noise=noise, generator=generator())
    met = scheduler.aggregation
    sigma = float(training_sigmas(plain)[t])
    x = latent * math.sqrt(1 + sigma**2)
    outputs = [lead, (x - model(x, sigma)) / sigma]
    own = torch.randn(latent.shape, generator=generator())  # the lead's is given, the partner's comes first
    for i, (output, drawn) in enumerate(zip(outputs, (noise, own), strict=True)):
        step = lambda noise, output=output: (
            plain.step(output, t, latent, **options, variance_noise=noise).prev_sample
        )
        assert torch.equal(met.means[i], step(torch.zeros_like(latent)))
        assert torch.equal(met.xs[i], step(drawn))
        unclipped = plain.step(output, t, latent, eta=0.5, variance_noise=drawn).prev_sample
        assert (met.xs[i] - unclipped).abs().max() > 0.1


def test_no_window_is_ddim_and_the_record_is_of_the_last_step():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=6)
    expected = pipe(**kwargs, eta=0.5, generator=generator()).images

    def untouched(x, sigma):
        raise AssertionError("a partner was called")

    for window in (0, (2, 2)):
        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([untouched], window=window))
        assert torch.equal(pipe(**kwargs, eta=0.5, generator=generator()).images, expected)

    angles = []

    def keep(pipe, i, t, kw):
        angles.append(None if pipe.scheduler.aggregation is None else pipe.scheduler.aggregation.angle.item())
        return {}

    partners = Partners([partner_model("sd")], latents=tiny.randn(21, 1, 4, 8, 8), window=2)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    pipe(**kwargs, callback_on_step_end=keep)
    assert 1.2 < angles[0] < 1.9 and angles[1] < angles[0] and angles[2:] == [None] * 4
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([partner_model("sd")], window=1.0))
    pipe(**kwargs)
    assert pipe.scheduler.aggregation is not None
    pipe.scheduler.set_timesteps(6)
    assert pipe.scheduler.aggregation is None


def test_partners_of_a_pipeline_in_half_precision_work_in_float32():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    pipe.to(torch.bfloat16)
    kwargs["latents"] = kwargs["latents"].bfloat16()
    dtypes = []

    def model(x, sigma):
        dtypes.append(x.dtype)
        return 0.5 * x

    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([model], window=2))
    assert pipe(**kwargs).images.dtype == torch.bfloat16
    assert dtypes == [torch.float32] * 2


def test_it_is_made_of_the_schedulers_that_pipelines_come_with():
    config = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    made = AggregatingScheduler.of(PNDMScheduler(**config, steps_offset=1), Partners([lambda x, sigma: x]))
    made.set_timesteps(50)
    assert made.timesteps[0] == 981 and made.config.beta_end == 0.012


@pytest.mark.parametrize(
    "kind", [EulerDiscreteScheduler, DPMSolverMultistepScheduler, LCMScheduler, PNDMScheduler]
)
def test_a_warning_names_both_where_its_steps_are_not_the_other_schedulers(kind):
    """With an empty window too the image is another."""
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=6)
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    expected = pipe(**kwargs).images
    with pytest.warns(UserWarning, match=f"scheduler is {kind.__name__}, .* takes DDIMScheduler's steps"):
        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([identity], window=0))
    assert (pipe(**kwargs).images - expected).abs().max() > 0.1 * expected.abs().max()


@pytest.mark.parametrize("kind", [DDIMScheduler, DDIMParallelScheduler, AggregatingScheduler])
def test_no_warning_where_its_steps_are_the_other_schedulers(kind):
    pipe, kwargs = tiny.sd(kind.from_config(tiny.ddim().config), num_inference_steps=6)
    if kind is AggregatingScheduler:
        pipe.scheduler.partners = Partners([])
    expected = pipe(**kwargs).images
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([identity], window=0))
    assert torch.equal(pipe(**kwargs).images, expected)


def test_no_partners_are_ddim():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    expected = pipe(**kwargs, eta=0.5, generator=generator()).images
    for models in ([], ()):
        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners(models, window=1.0))
        assert torch.equal(pipe(**kwargs, eta=0.5, generator=generator()).images, expected)
        assert pipe.scheduler.aggregation is None


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_weights_and_correction_are_functions_of_the_step_as_sample_amdms_are(eta):
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=6)
    model, start = partner_model("sd"), tiny.randn(21, 1, 4, 8, 8)
    prepared = from_pipeline(pipe, **kwargs)
    seen = []

    def weights(step):
        seen.append(step)
        assert step.aggregation is None
        return 0.3 if step.index % 2 else 0.5 + 0.01 * step.denoised.mean()

    def correction(step):
        assert step is not seen[-1]
        return list(0.5 * step.aggregation.deviation)

    options = {"weights": weights, "correction": correction, "window": (1, 4)}
    partners = Partners([model], latents=start, **options)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    actual = pipe(**kwargs, eta=eta, generator=generator()).images
    source = generator()
    x = sample_amdm(
        [prepared.model, model],
        [prepared.x, start * (1 + prepared.sigmas[0].item() ** 2) ** 0.5],
        prepared.sigmas,
        **options,
        eta=eta,
        noise_sampler=lambda sigma, sigma_next: torch.randn(prepared.x.shape, generator=source),
        disable=True,
    )
    assert_equal(x / (1 + prepared.sigmas[-1].item() ** 2) ** 0.5, actual, 1e-5)
    assert len(seen) == 6
    for ours, theirs in zip(seen[:3], seen[3:], strict=True):
        assert ours.index == theirs.index
        for name in ("sigma", "sigma_next", "std"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-5, abs=1e-6)
        for name in ("x", "denoised", "mean", "x_next"):
            assert_equal(getattr(ours, name), getattr(theirs, name), 2e-5)


def test_what_a_function_of_the_step_returns_is_checked():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    for options, message in (
        ({"weights": lambda step: [0.5, 0.5]}, "weights has 2 entries but there are 2 models"),
        ({"correction": lambda step: -1.0}, r"correction\[0\] is -1"),
    ):
        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([identity], **options))
        with pytest.raises(ValueError, match=message):
            pipe(**kwargs)


@pytest.mark.parametrize("timestep", [999, 990, 500, 1, 0])
def test_a_step_from_outside_the_schedule_is_ddims_and_partners_denoise_at_its_level(timestep):
    """The schedule is 981, 961, ... 1."""
    plain, sample = tiny.ddim(), tiny.randn(1, 2, 4, 8, 8)
    plain.set_timesteps(50)
    levels = training_sigmas(plain)
    output, seen = 0.1 * sample, []

    def same(x, sigma):
        seen.append(sigma[0].item())
        return x - sigma[0] * 0.1 * x / (1 + sigma[0] ** 2) ** 0.5

    scheduler = AggregatingScheduler.of(plain, Partners([same], window=1.0))
    scheduler.set_timesteps(50)
    actual = scheduler.step(output, timestep, sample)
    assert seen == [pytest.approx(levels[timestep].item())]
    expected = plain.step(output, timestep, sample)
    assert_equal(actual.prev_sample, expected.prev_sample, 1e-5)
    assert torch.equal(actual.pred_original_sample, expected.pred_original_sample)


def test_timesteps_between_count_as_the_next_step_of_the_window():
    """Of 990, 981, 961, 941, 921, 901, 881, ... five aggregate; 950 counts as 941, 900 as 881."""
    scheduler = AggregatingScheduler.of(tiny.ddim(), Partners([identity], window=5))
    scheduler.set_timesteps(50)
    latent, met = tiny.randn(1, 1, 4, 8, 8), []
    for timestep in (990, 981, 950, 921, 900, 881):
        latent = scheduler.step(0.1 * latent, timestep, latent).prev_sample
        met.append(scheduler.aggregation is not None)
    assert met == [True] * 4 + [False] * 2


def test_a_step_back_is_refused():
    scheduler = AggregatingScheduler.of(tiny.ddim(), Partners([identity]))
    latent = tiny.randn(1, 1, 4, 8, 8)
    for again in (981, 961, 990):
        scheduler.set_timesteps(50)
        for timestep in (981, 961):
            scheduler.step(latent, timestep, latent)
        with pytest.raises(ValueError, match=f"timestep is {again} after 961, expected a lower one"):
            scheduler.step(latent, again, latent)


def test_it_clips_where_the_other_scheduler_did_and_nowhere_else():
    """DDIM's default is to clip; Euler's, PNDM's and the rest do not."""
    config = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    partners = Partners([lambda x, sigma: x])
    assert not AggregatingScheduler.of(EulerDiscreteScheduler(**config), partners).config.clip_sample
    assert AggregatingScheduler.of(DDIMScheduler(**config), partners).config.clip_sample
    assert not AggregatingScheduler.of(tiny.ddim(), partners).config.clip_sample


def identity(x, sigma):
    return x


def saved_with_partners(folder):
    pipe, kwargs = tiny.sd(tiny.ddim(timestep_spacing="trailing"), num_inference_steps=4)
    expected = pipe(**kwargs).images
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([partner_model("sd")]))
    pipe.save_pretrained(folder)
    return kwargs, expected


def test_a_saved_pipeline_has_ddims_configuration(tmp_path):
    saved_with_partners(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    config = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]
    assert config["_class_name"] == "DDIMScheduler" and "partners" not in config
    tiny.ddim(timestep_spacing="trailing").save_pretrained(tmp_path / "plain")
    plain = json.loads((tmp_path / "plain" / "scheduler_config.json").read_text())
    assert {name: config[name] for name in plain} == plain


@pytest.mark.slow
def test_a_saved_pipeline_loads_in_a_process_that_has_no_amdm(tmp_path):
    kwargs, expected = saved_with_partners(tmp_path / "saved")
    torch.save(kwargs, tmp_path / "kwargs.pt")
    program = """
import sys
from amdm.shapes.imports import import_beside_torchvision
import_beside_torchvision("diffusers")
sys.modules["amdm"] = None
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
folder = sys.argv[1]
pipe = DiffusionPipeline.from_pretrained(f"{folder}/saved")
assert type(pipe.scheduler) is DDIMScheduler
pipe.set_progress_bar_config(disable=True)
torch.save(pipe(**torch.load(f"{folder}/kwargs.pt")).images, f"{folder}/images.pt")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert torch.equal(torch.load(tmp_path / "images.pt"), expected)


@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_a_modular_pipeline_is_the_stock_one(eta):
    """Its guider calls the network once for each side of guidance: rounding differs, nothing else."""
    stock, arguments = tiny.sdxl(tiny.ddim(), num_inference_steps=6)
    pipe, kwargs = tiny.sdxl_modular(tiny.ddim(), num_inference_steps=6)
    alone = stock(**arguments, eta=eta, generator=generator()).images
    assert_equal(pipe(**kwargs, eta=eta, generator=generator()), alone, 5e-6)
    partners = Partners([partner_model("sdxl")], latents=tiny.randn(21, 1, 4, 8, 8), window=3)
    stock.scheduler = AggregatingScheduler.of(stock.scheduler, partners)
    pipe.update_components(scheduler=AggregatingScheduler.of(pipe.scheduler, partners))
    expected = stock(**arguments, eta=eta, generator=generator()).images
    assert (expected - alone).abs().max() > 0.1
    assert_equal(pipe(**kwargs, eta=eta, generator=generator()), expected, 5e-6)


def test_a_saved_modular_pipeline_names_ddim_only(tmp_path):
    pipe, _ = tiny.sdxl_modular(tiny.ddim(), num_inference_steps=6)
    pipe.update_components(scheduler=AggregatingScheduler.of(pipe.scheduler, Partners([identity])))
    pipe.save_pretrained(str(tmp_path))
    library, name, spec = json.loads((tmp_path / "modular_model_index.json").read_text())["scheduler"]
    assert [library, name] == spec["type_hint"] == ["diffusers", "DDIMScheduler"]
    loaded = ModularPipeline.from_pretrained(tmp_path)
    loaded.load_components(names=["scheduler"])
    assert type(loaded.scheduler) is DDIMScheduler


def test_a_scheduler_is_copied_and_pickled_with_its_partners():
    scheduler = AggregatingScheduler.of(tiny.ddim(), Partners([identity]))
    for same in (copy.copy(scheduler), copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert isinstance(same, AggregatingScheduler) and same.partners.models == [identity]
        assert dict(same.config) == dict(scheduler.config)


def test_a_partner_that_returns_nan_is_named():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=6)

    def broken(x, sigma):
        return x * float("nan") if sigma[0] < 4 else 0.5 * x

    partners = Partners([lambda x, sigma: 0.5 * x, broken], latents=kwargs["latents"], window=4)
    message = r"models\[1\] returned NaN or infinity for sample 0, first at step 1 "
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    with pytest.raises(FloatingPointError, match=message):
        pipe(**kwargs)


def counted(model, calls):
    def call(x, sigma):
        calls.append(sigma)
        return model(x, sigma)

    return call


@pytest.mark.parametrize("window", [0.4, (1, 3), 1.0])
@pytest.mark.parametrize("end", [0.5, 0.7])
def test_a_window_counts_the_steps_that_the_pipeline_takes(end, window):
    """SDXL's base, which stops before its refiner: images and calls are sample_amdm's."""
    pipe, kwargs = tiny.sdxl(tiny.ddim(), num_inference_steps=10)
    kwargs["denoising_end"] = end
    prepared, calls = from_pipeline(pipe, **kwargs), []
    other, arguments = tiny.sdxl_ip_adapter(tiny.ddim(), num_inference_steps=10, denoising_end=end)
    partner = from_pipeline(other, **arguments)
    models = [prepared.model, counted(partner.model, calls)]
    x = sample_amdm(models, prepared.x, prepared.sigmas, window=window, disable=True)
    expected = len(calls)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners(models[1:], window=window))
    assert_equal(pipe(**kwargs).images, prepared.decode(x).images, 5e-6)
    assert len(calls) == 2 * expected > 0


@pytest.mark.parametrize("options", [{}, {"background": identity, "guidance": 5.0}], ids=["amdm", "guided"])
@pytest.mark.parametrize("stop", ["denoising_end", "interrupt"])
def test_nan_is_told_though_the_pipeline_stops_before_the_window_closes(stop, options):
    pipe, kwargs = tiny.sdxl(tiny.ddim(), num_inference_steps=6)
    pipe.scheduler = AggregatingScheduler.of(
        pipe.scheduler, Partners([lambda x, sigma: x * float("nan")], window=1.0, **options)
    )
    if stop == "denoising_end":
        kwargs["denoising_end"] = 0.5
    else:

        def interrupt(pipe, i, t, tensors):
            pipe._interrupt = i == 1
            return tensors

        kwargs["callback_on_step_end"] = interrupt
    with pytest.raises(FloatingPointError, match=r"models\[0\] returned NaN or infinity .* at step 0 "):
        pipe(**kwargs)


PARTS = {
    "slice": lambda timesteps: timesteps[2:5],
    "slices of copies": lambda timesteps: timesteps.to("cpu").clone()[2:][:3],
    "those that are": lambda timesteps: timesteps[(timesteps < 800) & (timesteps > 450)],
    "those listed": lambda timesteps: timesteps[torch.tensor([2, 3, 4])],
    "detached": lambda timesteps: timesteps.long().detach().contiguous().narrow(0, 2, 3),
    "turned twice": lambda timesteps: timesteps.flip(0)[5:8].flip(0),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_loop_over_a_part_of_the_timesteps_is_known_however_it_is_taken(part):
    calls = []
    partners = Partners([counted(identity, calls)], window=lambda levels: (0, len(levels) - 1))
    scheduler = AggregatingScheduler.of(tiny.ddim(), partners)
    scheduler.set_timesteps(10)
    x, taken = randn(0, 1, 4, 8, 8), []
    for i, t in enumerate(PARTS[part](scheduler.timesteps)):
        x = scheduler.step(0.1 * x, t, x).prev_sample
        assert type(t) is torch.Tensor and scheduler.aggregation is not None and len(calls) == i + 1
        taken.append(int(t))
    assert taken == scheduler.timesteps.tolist()[2:5]


def test_the_timesteps_are_as_of_any_tensor(tmp_path):
    """What pipelines and users make of them is what they would make of DDIM's, and of that class."""
    scheduler = AggregatingScheduler.of(tiny.ddim(), Partners([identity]))
    plain = DDIMScheduler.from_config(scheduler.config)
    for each in (scheduler, plain):
        each.set_timesteps(10)

    def saved(timesteps):
        torch.save(timesteps, tmp_path / "timesteps.pt")
        return torch.load(tmp_path / "timesteps.pt")

    uses = [
        lambda t: t[:1].repeat(2),
        lambda t: t[3],
        lambda t: t * 1,
        lambda t: t == t[2],
        lambda t: t.expand(2, -1),
        lambda t: t.float(),
        lambda t: torch.tensor(t),
        lambda t: torch.as_tensor(t, dtype=torch.float32),
        lambda t: torch.stack([t, t]),
        lambda t: torch.cat([t, t[:3]]),
        lambda t: torch.from_numpy(t.numpy()),
        lambda t: torch.linspace(0, 1, 1000)[t],
        lambda t: torch.tensor(list(filter(lambda one: one >= 500, t))),
        lambda t: torch.tensor([int(one) for one in reversed(t)]),
        lambda t: torch.tensor([len(t), *t.tolist(), t.ndim, t.numel(), *t.shape]),
        lambda t: torch.tensor(max(t)),
        copy.copy,
        copy.deepcopy,
        lambda t: pickle.loads(pickle.dumps(t)),
        saved,
    ]
    for use in uses:
        actual, expected = use(scheduler.timesteps), use(plain.timesteps)
        assert type(actual) is torch.Tensor and actual.dtype == expected.dtype
        assert torch.equal(actual, expected)
    assert repr(scheduler.timesteps) == repr(plain.timesteps)
    scheduler.timesteps[0] = 950
    scheduler.timesteps = scheduler.timesteps[:4]
    assert scheduler.timesteps.tolist() == [950, *plain.timesteps.tolist()[1:4]]
    for same in (copy.copy(scheduler), copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert same.timesteps.scheduler is same and same.timesteps.tolist() == scheduler.timesteps.tolist()


@pytest.mark.parametrize("strength", [0.4, 0.75])
def test_image_to_image_counts_the_steps_of_its_strength(strength):
    """And a loop that is left before its end, or begun anew, changes nothing of the next call."""
    parts, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=8)
    modules = {name: part for name, part in parts.components.items() if name != "image_encoder"}
    del kwargs["latents"]
    pipe = tiny.quiet(StableDiffusionImg2ImgPipeline(**modules, requires_safety_checker=False))
    kwargs |= {"image": tiny.image_of(64), "strength": strength}
    calls = []
    partners = Partners([counted(identity, calls)], window=0.5)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)

    def leave(pipe, i, t, tensors):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe(**kwargs, generator=generator(), callback_on_step_end=leave)
    calls.clear()
    pipe(**kwargs, generator=generator())
    assert len(calls) == round(0.5 * int(8 * strength))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (CogVideoXDDIMScheduler(), "CogVideoXDDIMScheduler, whose levels are not those of its configuration"),
        (EulerDiscreteScheduler(timestep_type="continuous"), "expected one of a DDPM"),
        (
            DDIMScheduler.from_config(FlowMatchEulerDiscreteScheduler(shift=3.0).config),
            "made from a flow's configuration",
        ),
    ],
)
def test_schedulers_with_other_levels_or_clocks_than_ddims_are_refused(scheduler, message):
    with pytest.raises(TypeError, match=message):
        AggregatingScheduler.of(scheduler, Partners([identity]))


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused():
    model = lambda x, sigma: x
    with pytest.raises(TypeError, match="partners is list, expected Partners"):
        AggregatingScheduler.of(tiny.ddim(), [model])
    with pytest.raises(
        TypeError, match="scheduler is FlowMatchEulerDiscreteScheduler, expected one of a DDPM"
    ):
        AggregatingScheduler.of(FlowMatchEulerDiscreteScheduler(), Partners([model]))
    with pytest.raises(TypeError, match="models is function, expected a list of denoisers"):
        Partners(model)
    with pytest.raises(TypeError, match=r"models\[1\] is str, expected a callable"):
        Partners([model, "prepared"])
    with pytest.raises(ValueError, match="weights has 2 entries but there are 2 models"):
        Partners([model], weights=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"correction\[0\] is -1"):
        Partners([model], correction=-1.0)
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    pipe.scheduler = AggregatingScheduler.of(
        pipe.scheduler, Partners([model], latents=torch.zeros(1, 4, 4, 4))
    )
    with pytest.raises(ValueError, match=r"latents\[0\] has shape \(1, 4, 4, 4\), expected the pipeline's"):
        pipe(**kwargs)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([lambda x, sigma: x[:, :2]]))
    with pytest.raises(ValueError, match=r"models\[0\] returned shape \(1, 2, 8, 8\)"):
        pipe(**kwargs)
    other, arguments = tiny.sd(tiny.ddim(), num_inference_steps=4)
    arguments["latents"] = tiny.randn(7, 1, 4, 16, 16)
    larger = from_pipeline(other, **arguments, height=128, width=128).model
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([larger]))
    with pytest.raises(ValueError, match=r"models\[0\] denoises \(4, 16, 16\), expected .* \(4, 8, 8\)"):
        pipe(**kwargs)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([larger, partner_model("sd")]))
    with pytest.raises(ValueError, match=r"models\[0\].*models\[1\].*do not share a latent space: shape"):
        pipe(**kwargs)
    narrow = lambda x, sigma: x
    narrow.sigma_min, narrow.sigma_max = 0.1, 2.0
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([narrow]))
    with pytest.raises(ValueError, match=r"outside the range"):
        pipe(**kwargs)
    pipe.scheduler = AggregatingScheduler(**tiny.SD_SCHEDULE)
    with pytest.raises(ValueError, match=r"expected a scheduler made by AggregatingScheduler\.of"):
        pipe(**kwargs)


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize(
    ("scale", "validate", "told"), [(1.0, True, 0), ("VE", True, 1), (1 / 15, True, 1), ("VE", False, 0)]
)
def test_partners_starts_that_are_not_vp_are_told(scale, validate, told):
    """VP latents are noise of unit size; VE ones are sqrt(1 + sigma^2) times that."""
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    partner = from_pipeline(pipe, **kwargs)
    scale = math.sqrt(1 + partner.sigmas[0].item() ** 2) if scale == "VE" else scale
    latents = scale * randn(1, *partner.x.shape).float()
    partners = Partners([partner.model], latents=latents, window=2, validate=validate)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pipe(**kwargs)
    assert sum(str(each.message).startswith("latents[0] has the norm") for each in seen) == told


def test_a_fold_that_returns_no_tensor_and_a_window_of_no_step_are_told():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=1)
    model = from_pipeline(pipe, **kwargs).model
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([model]))
    with pytest.warns(UserWarning, match=r"^window is 0.4, which rounds to none of 1 step"):
        pipe(**kwargs)
    partners = Partners([model], window=1, fold=lambda xs, weights: None)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    with pytest.raises(TypeError, match=r"^fold returned None, expected a tensor"):
        pipe(**kwargs)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDIMParallelScheduler])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("alphas_cumprod", lambda alphas: 0.9 * alphas),
        ("final_alpha_cumprod", lambda alpha: 0.9995 * alpha),
        ("init_noise_sigma", lambda scale: 2 * scale),
    ],
)
def test_a_ddim_scheduler_that_was_changed_by_hand_is_taken_as_it_is(kind, name, change):
    scheduler = kind.from_config(tiny.ddim().config)
    setattr(scheduler, name, change(getattr(scheduler, name)))
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=3, height=64, width=64)
    del kwargs["latents"]
    alone = pipe(**kwargs, generator=generator()).images
    pipe.scheduler = AggregatingScheduler.of(scheduler, Partners([]))
    assert torch.equal(pipe(**kwargs, generator=generator()).images, alone)


def test_another_scheduler_that_was_changed_by_hand_is_refused():
    scheduler = EulerDiscreteScheduler()
    scheduler.alphas_cumprod = 0.9 * scheduler.alphas_cumprod
    with pytest.raises(
        TypeError, match="EulerDiscreteScheduler, whose levels are not those of its configuration"
    ):
        AggregatingScheduler.of(scheduler, Partners([identity]))
