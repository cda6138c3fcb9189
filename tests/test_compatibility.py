import pytest
import torch
from torch import Tensor

from amdm.compatibility import LatentSpace, check_same_ecosystem
from amdm.denoisers import Guided

SPACE = LatentSpace("a.safetensors", 0.18, 0.1, (4, 8, 8))


class Model:
    """A denoiser with these attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__ |= attributes

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("other", [SPACE, SPACE._replace(shape=None), LatentSpace(), None])
def test_spaces_that_agree_as_far_as_known_pass(other):
    check_same_ecosystem([Model(latent_space=SPACE), Model(), Model(latent_space=other)])


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("autoencoder", "b.safetensors", "a.safetensors and b.safetensors"),
        ("scaling", 0.36, "0.18 and 0.36"),
        ("shift", 0.0, "0.1 and 0.0"),
        ("shape", (16, 8, 8), r"\(4, 8, 8\) and \(16, 8, 8\)"),
    ],
)
def test_a_field_that_differs_is_named_with_both_models(field, value, shown):
    models = [Model(latent_space=SPACE), Model(), Model(latent_space=SPACE._replace(**{field: value}))]
    message = rf"models\[0\] \(Model\) and models\[2\] \(Model\) do not share .*: {field} is {shown}"
    with pytest.raises(ValueError, match=message):
        check_same_ecosystem(models)


@pytest.mark.parametrize("sigma", [0.09991, 0.1, 10.0, 10.009])
def test_levels_within_the_models_range_pass_up_to_rtol(sigma):
    check_same_ecosystem([Model(sigma_min=0.1, sigma_max=10.0)], torch.tensor([sigma, 0.0]))


def test_a_guided_model_is_known_by_its_model():
    guided = Guided(Model(latent_space=SPACE, sigma_min=0.1, sigma_max=10.0), 7.5)
    with pytest.raises(ValueError, match=r"models\[0\] \(Guided\) and models\[1\] \(Model\)"):
        check_same_ecosystem([guided, Model(latent_space=SPACE._replace(scaling=1.0))])
    with pytest.raises(ValueError, match=r"outside the range \[0.1, 10\] of models\[0\] \(Guided\)"):
        check_same_ecosystem([guided], torch.tensor([20.0, 0.0]))
    check_same_ecosystem([Guided(Model(), 7.5)], torch.tensor([20.0, 0.0]))


@pytest.mark.parametrize("sigma", [0.0998, 10.02])
def test_a_level_outside_a_models_range_is_named_with_the_model(sigma):
    message = rf"sigmas has {sigma}, outside the range \[0.1, 10\] of models\[1\] \(Model\)"
    with pytest.raises(ValueError, match=message):
        check_same_ecosystem([Model(), Model(sigma_min=0.1, sigma_max=10.0)], torch.tensor([sigma, 0.0]))


@pytest.fixture
def ddpm(k_diffusion):
    """k-diffusion's wrapper of an eps network on DDPM's linear schedule."""
    from k_diffusion.external import DiscreteEpsDDPMDenoiser

    alphas_cumprod = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)
    return DiscreteEpsDDPMDenoiser(torch.nn.Identity(), alphas_cumprod, quantize=False)


def test_k_diffusions_own_schedule_passes(ddpm):
    check_same_ecosystem([ddpm, Model()], ddpm.get_sigmas(10))


@pytest.mark.parametrize("end", ["sigma_min", "sigma_max"])
def test_k_diffusions_range_is_used(end, ddpm):
    sigma = float(getattr(ddpm, end)) * (0.99 if end == "sigma_min" else 1.01)
    with pytest.raises(ValueError, match=r"of models\[1\] \(DiscreteEpsDDPMDenoiser\)"):
        check_same_ecosystem([Model(), ddpm], torch.tensor([sigma, 0.0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(3), [Model()]), "^models is a torch.float32 tensor, expected a list of denoisers$"),
        ((Model(), torch.ones(3)), "^models is Model, expected a list of denoisers$"),
        (([Model()], [Model()]), "^sigmas is list, expected a floating-point tensor or None$"),
        (([Model(), 3],), r"^models\[1\] is int, expected a callable model"),
    ],
)
def test_arguments_of_another_kind_are_named(arguments, message, unchecked):
    with pytest.raises(TypeError, match=message):
        check_same_ecosystem(*arguments)
