import math
from typing import NamedTuple

import pytest
import torch
from scipy.stats import multivariate_normal
from tolerances import assert_equal
from torch import Tensor

from amdm.denoisers import GaussianMixture

METHODS = pytest.mark.parametrize("method", ["__call__", "score", "eps", "log_density"])
LEVELS = pytest.mark.parametrize("sigma", [0.01, 0.5, 3.0, 50.0])
KINDS = ["isotropic", "diagonal", "low rank"]


def draw(*shape: int, rng: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


class Case(NamedTuple):
    """A mixture of 3 components, what it was built from, and its covariances `(3, n, n)` written out."""

    model: GaussianMixture
    parts: dict[str, Tensor]
    dense: Tensor

    @property
    def weights(self) -> Tensor:
        return self.parts["weights"] / self.parts["weights"].sum()

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean and the covariance of the whole mixture."""
        mean = self.weights @ self.parts["means"]
        apart = self.parts["means"] - mean
        return mean, torch.einsum("k,kij->ij", self.weights, self.dense + apart[:, :, None] * apart[:, None])


def build(kind: str, n: int, rng: torch.Generator) -> Case:
    variances = 0.2 + draw(3, n, rng=rng).square()
    parts = {"means": 2 * draw(3, n, rng=rng), "weights": torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)}
    if kind != "diagonal":
        variances = variances[:, 0]
    parts["variances"] = variances
    dense = torch.diag_embed(variances.reshape(3, -1).expand(3, n))
    if kind == "low rank":
        parts["factors"] = draw(3, 2, n, rng=rng)
        dense = dense + parts["factors"].mT @ parts["factors"]
    return Case(GaussianMixture(**parts), parts, dense)


@pytest.fixture(params=[(kind, n) for kind in KINDS for n in (1, 2, 6)], ids=lambda p: f"{p[0]}-{p[1]}")
def case(request, rng) -> Case:
    return build(*request.param, rng)


def points(case: Case, sigma: float, rng: torch.Generator, batch: int = 4) -> Tensor:
    return (2 + sigma) * draw(batch, case.dense.shape[1], rng=rng)


def log_joint(case: Case, x: Tensor, sigma: float) -> Tensor:
    """log(weight_k N(x; mean_k, C_k + sigma^2 I)), by scipy: `(batch, components)`."""
    noise = sigma**2 * torch.eye(x.shape[1], dtype=torch.float64)
    laws = [multivariate_normal(*law) for law in zip(case.parts["means"], case.dense + noise, strict=True)]
    return torch.stack([x.new_tensor(law.logpdf(x)).reshape(-1) for law in laws], dim=1) + case.weights.log()


def bayes(case: Case, x: Tensor, sigma: float) -> Tensor:
    """sum_k p(k | x) (m_k + C_k (C_k + sigma^2 I)^-1 (x - m_k)), by dense matrices."""
    means, noise = case.parts["means"], sigma**2 * torch.eye(x.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(case.dense + noise, (x[:, None] - means)[..., None])
    responsibilities = log_joint(case, x, sigma).softmax(dim=1)
    return torch.einsum("bk,bkn->bn", responsibilities, means + (case.dense @ solved)[..., 0])


def jacobian_norms(model: GaussianMixture, x: Tensor, sigma: float) -> Tensor:
    """The largest singular value of the Jacobian of eps at every sample."""
    jacobians = torch.func.vmap(torch.func.jacrev(lambda one: model.eps(one[None], sigma)[0]))(x)
    return torch.linalg.matrix_norm(jacobians, ord=2)


@LEVELS
def test_one_gaussian_shrinks_x_towards_its_mean(sigma, rng):
    mean, x = draw(1, 4, rng=rng), (1 + sigma) * draw(5, 4, rng=rng)
    model = GaussianMixture(mean, torch.tensor([0.7], dtype=torch.float64))
    assert_equal(model(x, sigma), mean + 0.7 / (0.7 + sigma**2) * (x - mean))
    assert_equal(model.score(x, sigma), (mean - x) / (0.7 + sigma**2))


@LEVELS
def test_log_density_is_scipys(case, sigma, rng):
    x = points(case, sigma, rng)
    assert_equal(case.model.log_density(x, sigma), log_joint(case, x, sigma).logsumexp(dim=1))


def test_log_density_is_of_the_data_by_default(case, rng):
    x = points(case, 0.0, rng)
    assert_equal(case.model.log_density(x), log_joint(case, x, 0.0).logsumexp(dim=1))


@LEVELS
def test_denoised_is_bayes_rule(case, sigma, rng):
    x = points(case, sigma, rng)
    assert_equal(case.model(x, sigma), bayes(case, x, sigma))


@LEVELS
def test_score_is_the_gradient_of_the_log_density(case, sigma, rng):
    x = points(case, sigma, rng).requires_grad_()
    (gradient,) = torch.autograd.grad(case.model.log_density(x, sigma).sum(), x)
    assert_equal(case.model.score(x.detach(), sigma), gradient)


@LEVELS
def test_tweedies_formula_gives_denoised_from_the_score(case, sigma, rng):
    x = points(case, sigma, rng)
    assert_equal(case.model(x, sigma), x + sigma**2 * case.model.score(x, sigma))


@LEVELS
def test_eps_is_the_removed_noise_over_sigma(case, sigma, rng):
    x = points(case, sigma, rng)
    expected = (x - case.model(x, sigma)) / sigma
    assert_equal(case.model.eps(x, sigma), expected, tol=1e-12 / min(1, sigma**2))  # x - denoised cancels


@METHODS
def test_per_sample_levels_are_those_levels_one_by_one(case, method, rng):
    call, x, sigmas = getattr(case.model, method), points(case, 1.0, rng), [0.01, 0.5, 3.0, 50.0]
    one_by_one = torch.cat([call(x[i : i + 1], sigmas[i]) for i in range(4)])
    assert_equal(call(x, x.new_tensor(sigmas)), one_by_one, tol=1e-14)


@METHODS
@pytest.mark.parametrize("level", [0.3, torch.tensor(0.3, dtype=torch.float64)], ids=["number", "tensor"])
def test_one_level_is_the_whole_batchs_in_full_precision(case, method, level, rng):
    call, x = getattr(case.model, method), points(case, 1.0, rng)
    assert_equal(call(x, level), call(x, x.new_full((4,), 0.3)), tol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_of_several_axes_is_its_flat_vector(kind, rng):
    flat = build(kind, 18, rng)
    shaped = {name: t.unflatten(-1, (2, 3, 3)) if t.shape[-1] == 18 else t for name, t in flat.parts.items()}
    model, x = GaussianMixture(**shaped), points(flat, 1.0, rng)
    assert_equal(model(x.unflatten(1, (2, 3, 3)), 1.0).flatten(1), flat.model(x, 1.0), tol=1e-14)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_huge_sigma_gives_the_mean_and_the_first_order_in_1_over_sigma(case, dtype, tol, rng):
    model = GaussianMixture(**{name: t.to(dtype) for name, t in case.parts.items()})
    z, (mean, covariance) = points(case, 0.0, rng), case.moments()
    expected = mean + z @ covariance / 1e6
    assert_equal(model((1e6 * z).to(dtype), 1e6), expected.to(dtype), tol)


def test_tiny_sigma_returns_x(case, rng):
    x = points(case, 0.0, rng)
    assert_equal(case.model(x, 1e-6), x, tol=1e-10)


@METHODS
def test_float32_in_is_float32_out_but_float64_between(case, method, rng):
    call, x = getattr(case.model, method), points(case, 0.0, rng).float()
    assert_equal(call(x, 0.3), call(x.double(), 0.3).float(), tol=0.0)


def test_thin_components_keep_float32s_precision(rng):
    parts = build("low rank", 6, rng).parts
    parts |= {"variances": 1e-4 * parts["variances"], "factors": 10 * parts["factors"]}
    x, fine = GaussianMixture(**parts).sample(100, 0.01, generator=rng).float(), GaussianMixture(**parts)
    coarse = GaussianMixture(**{name: t.float() for name, t in parts.items()})
    assert_equal(coarse.log_density(x, 0.01), fine.log_density(x, 0.01), tol=1e-3)


def test_restricting_leaves_out_components_of_weight_0(case, rng):
    kept = {name: t[[0, 2]] for name, t in case.parts.items()} | {
        "weights": torch.tensor([1.0, 4.0]).double()
    }
    restricted, x = case.model.restrict([1.0, 0.0, 4.0]), points(case, 1.0, rng)
    assert_equal(restricted.log_density(x), GaussianMixture(**kept).log_density(x), tol=1e-14)


def test_no_weights_are_equal_weights(case, rng):
    x, parts = points(case, 1.0, rng), {name: t for name, t in case.parts.items() if name != "weights"}
    assert_equal(GaussianMixture(**parts)(x, 1.0), case.model.restrict([7.0, 7.0, 7.0])(x, 1.0), tol=1e-14)


@pytest.mark.slow
def test_draws_have_the_mixtures_mean_and_covariance(case, rng):
    x, (mean, covariance) = case.model.sample(100_000, 1.5, generator=rng), case.moments()
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    expected = covariance + 1.5**2 * torch.eye(len(mean), dtype=torch.float64)
    assert ((x.mean(0) - mean).abs() <= 4 * x.std(0) / 100_000**0.5).all()
    assert ((products.mean(0) - expected).abs() <= 4 * products.std(0) / 100_000**0.5).all()


@pytest.mark.slow
def test_draws_come_from_each_component_as_often_as_its_weight_says(rng):
    case = build("low rank", 3, rng)
    k, x = case.model.sample_components(100_000, generator=rng)
    expected = torch.nn.functional.one_hot(k).double().mean(0)
    assert ((expected - case.weights).abs() <= 4 * (case.weights * (1 - case.weights) / 100_000).sqrt()).all()
    one = x[k == 1]
    standard_error = (case.dense[1].diagonal() / len(one)).sqrt()
    assert ((one.mean(0) - case.parts["means"][1]).abs() <= 4 * standard_error).all()


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 1.0, 1e3])
def test_the_bound_of_one_gaussian_is_its_smallest_variances(case, sigma):
    smallest = torch.linalg.eigvalsh(case.dense[1])[0].item()
    bound = case.model.restrict([0.0, 1.0, 0.0]).lipschitz_bound(sigma)
    assert bound == pytest.approx(sigma / (smallest + sigma**2), rel=1e-12)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 3.0])
def test_equal_covariances_bound_the_jacobian_everywhere(case, sigma, rng):
    equal = {name: t[:1].expand_as(t) for name, t in case.parts.items() if name in ("variances", "factors")}
    model = GaussianMixture(**case.parts | equal)
    norms = jacobian_norms(model, points(case, sigma, rng, batch=200), sigma)
    assert norms.max() <= model.lipschitz_bound(sigma) * (1 + 1e-12)


@pytest.mark.parametrize("radius", [1.0, 10.0])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 3.0])
def test_unequal_covariances_bound_the_jacobian_within_the_radius(case, sigma, radius, rng):
    center, directions = case.parts["means"].mean(0), points(case, 0.0, rng, batch=200)
    x = center + radius * directions / directions.norm(dim=1).clamp(min=2)[:, None]
    bound = case.model.lipschitz_bound(sigma, radius, center)
    assert jacobian_norms(case.model, x, sigma).max() <= bound * (1 + 1e-12)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_the_bound_is_attained_midway_between_two_distant_components(sigma):
    means = torch.tensor([[3.0, 1.0], [-3.0, 1.0]], dtype=torch.float64)
    model = GaussianMixture(means, torch.full((2,), 0.4, dtype=torch.float64))
    norm = jacobian_norms(model, means.mean(0, keepdim=True), sigma).item()
    assert norm == pytest.approx(model.lipschitz_bound(sigma), rel=1e-12)


@pytest.mark.parametrize(("low", "radius"), [(0.01, 20.0), (0.01, 200.0), (4.0, 200.0)])
def test_between_crossed_components_the_jacobian_grows_as_the_bound_does(low, radius):
    variances = torch.tensor([[9.0, low], [low, 9.0]], dtype=torch.float64)
    center = torch.tensor([5.0, -7.0], dtype=torch.float64)
    model = GaussianMixture(center.expand(2, 2), variances)
    norm = jacobian_norms(model, center[None] + radius / math.sqrt(2), 1.0).item()
    assert 0.95 <= norm / model.lipschitz_bound(1.0, radius, center) <= 1


@pytest.mark.parametrize("sigma", [1e-9, 1.0, 1e9])
def test_unequal_covariances_have_no_bound_without_a_radius(case, sigma):
    assert case.model.lipschitz_bound(sigma) == math.inf


def test_covariances_equal_up_to_rounding_are_equal(rng):
    means, variances = draw(3, 4, rng=rng), torch.ones(3, dtype=torch.float64)
    nearly = GaussianMixture(means, variances, factors=1e-12 * draw(3, 2, 4, rng=rng))
    expected = GaussianMixture(means, variances).lipschitz_bound(0.1)
    assert nearly.lipschitz_bound(0.1) == pytest.approx(expected, rel=1e-12)


def test_the_bound_does_not_depend_on_where_the_origin_is():
    means = 1e-2 * torch.eye(30, dtype=torch.float64)
    near, far = (GaussianMixture(m, torch.full((30,), 1e-8).double()) for m in (means, means + 1e6))
    assert far.lipschitz_bound(1e-4) == pytest.approx(near.lipschitz_bound(1e-4), rel=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"variances": torch.tensor([1.0, 0.0, 1.0])}, "variances has the minimum 0.0, expected positive"),
        ({"variances": torch.tensor([1.0, math.nan, 1.0])}, "variances has the minimum nan"),
        ({"variances": torch.ones(3, 2)}, r"variances has shape \(3, 2\), expected \(3,\) or \(3, 4\)"),
        ({"variances": torch.ones(1)}, r"variances has shape \(1,\), expected \(3,\)"),
        ({"variances": torch.ones(3, 4), "factors": torch.ones(3, 2, 4)}, r"expected \(3,\) beside factors"),
        ({"factors": torch.ones(3, 2, 5)}, r"factors has shape \(3, 2, 5\)"),
        ({"factors": torch.ones(3, 4)}, r"factors has shape \(3, 4\)"),
        ({"weights": torch.tensor([1.0, 0.0, 1.0])}, r"weights is \[1.0, 0.0, 1.0\], expected positive"),
        ({"weights": torch.tensor([1.0, math.inf, 1.0])}, r"weights is \[1.0, inf, 1.0\], .* finite"),
        ({"weights": torch.ones(1)}, r"weights has shape \(1,\), expected \(3,\)"),
    ],
)
def test_parts_that_do_not_fit_are_named(changed, message, unchecked):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**{"means": torch.zeros(3, 4), "variances": torch.ones(3)} | changed)


@METHODS
def test_another_event_shape_is_named(method):
    model = GaussianMixture(torch.zeros(3, 4), torch.ones(3))
    with pytest.raises(ValueError, match=r"x has the event shape \(2, 2\), expected \(4,\)"):
        getattr(model, method)(torch.zeros(1, 2, 2), 1.0)


@pytest.mark.parametrize("weights", [[1.0, 2.0], [0.0, 0.0, 0.0], [1.0, -1.0, 2.0], [1.0, math.nan, 1.0]])
def test_restricting_to_what_are_no_weights_is_named(weights):
    with pytest.raises(ValueError, match=r"weights is \[.*\], expected 3 numbers of 0 or more, not all 0"):
        GaussianMixture(torch.zeros(3, 4), torch.ones(3)).restrict(weights)
