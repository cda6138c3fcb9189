"""A denoiser's own name is said where messages speak of the model."""

import warnings
from dataclasses import dataclass

import pytest
import torch

from amdm import LatentSpace, check_same_ecosystem, ddim, projective_guidance, sample_amdm, sample_ddim
from amdm.denoisers import RectifiedFlow, linear

X, SIGMAS = 3 * torch.ones(2, 4), torch.tensor([3.0, 1.0, 0.0])


@dataclass(frozen=True)
class Named:
    """A denoiser as a host makes it."""

    name: object
    factor: float = 0.5
    sigma_max: float = 10.0
    latent_space: LatentSpace | None = None

    def __call__(self, x, sigma):
        return x * self.factor


GOOD, NAN = Named("SDXL base"), Named("the ControlNet's guider", float("nan"))


def test_in_errors_about_what_a_model_returned():
    with pytest.raises(FloatingPointError, match=r"^models\[1\] \(the ControlNet's guider\) returned NaN"):
        sample_amdm([GOOD, NAN], X, SIGMAS, disable=True)
    with pytest.raises(FloatingPointError, match=r"^model \(the ControlNet's guider\) returned NaN"):
        sample_ddim(NAN, X, SIGMAS, disable=True)
    with pytest.raises(FloatingPointError, match=r"^background \(the ControlNet's guider\) returned NaN"):
        list(projective_guidance([GOOD, GOOD], X, SIGMAS, background=NAN, window=2))


def test_in_compositions():
    class Half(Named):
        def __call__(self, x, sigma):
            return x[:1]

    with pytest.raises(ValueError, match=r"^models\[1\] of the composition \(half\) returned shape \(1, 4\)"):
        linear([GOOD, Half("half")])(X, torch.ones(2))


def test_inside_a_sampler_of_ones_own():
    own = lambda model, *args, **options: ddim(model, *args, **options)
    with pytest.raises(FloatingPointError, match=r"^models\[1\] \(the ControlNet's guider\) returned NaN"):
        sample_amdm([GOOD, NAN], X, SIGMAS, disable=True, sampler=own)


def test_in_errors_about_levels_and_spaces():
    with pytest.raises(ValueError, match=r"of models\[1\] \(short\)$"):
        check_same_ecosystem([GOOD, Named("short", sigma_max=1.0)], SIGMAS)
    with pytest.raises(ValueError, match=r"of models\[1\] \(short\) \(validate=False"):
        sample_amdm([GOOD, Named("short", sigma_max=1.0)], X, SIGMAS)
    sd, flux = (Named(name, latent_space=LatentSpace(name)) for name in ("SD", "FLUX"))
    with pytest.raises(
        ValueError, match=r"^models\[0\] \(SD\) and models\[1\] \(FLUX\) do not share a latent"
    ):
        check_same_ecosystem([sd, flux])


def test_in_warnings():
    far = Named("an eps network", 100.0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sample_ddim(far, X, SIGMAS, disable=True)
    assert any(str(each.message).startswith("model (an eps network) returned |denoised") for each in seen)


@pytest.mark.parametrize("name", ["", None, 3])
def test_what_is_no_text_is_no_name(name):
    with pytest.raises(FloatingPointError, match=r"^model returned NaN"):
        sample_ddim(Named(name, float("nan")), X, SIGMAS, disable=True)


def test_a_flow_takes_a_name_and_a_space():
    flow = RectifiedFlow(lambda x, s: x * float("nan"), name="FLUX", latent_space=LatentSpace("ae"))
    with pytest.raises(FloatingPointError, match=r"^models\[1\] \(FLUX\) returned NaN"):
        sample_amdm([GOOD, flow], X, SIGMAS, disable=True)
    with pytest.raises(ValueError, match=r"^models\[0\] \(FLUX\) and models\[1\] \(SD\)"):
        check_same_ecosystem([flow, Named("SD", latent_space=LatentSpace("vae"))])
