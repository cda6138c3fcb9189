"""Draw the pictures of the methods' and concepts' pages: `python docs/pictures.py`, half a minute.

Two exact densities in two dimensions, A upright bars and B level bars; every method draws from them. The
numbers go to `docs/pictures/methods.csv`: network evaluations of a sample, the share of samples inside the
picture, their energy distance to the target's own samples, and that of two sets of the target's (`exact`).
"""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from amdm import (
    plots,
    sample_amdm,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_fkc,
    sample_heun,
    sample_lcm,
    sample_mcmc,
    sample_projective_guidance,
    sample_res_multistep,
    sample_superdiff,
    sample_uni_pc,
)
from amdm.denoisers import GaussianMixture, average_state_dicts, conjunction, linear, projective, scaling
from amdm.schedules import karras_sigmas
from amdm.shapes import scores
from amdm.shapes.world import Scenes
from benchmarks import caption_choice, caption_once, pictures, tables
from benchmarks.runner import held_out

HERE = Path(__file__).parent / "pictures"
A_COLOUR, B_COLOUR, DRAWN = (plots.COLOURS[name] for name in ("blue", "vermilion", "green"))
GREY = "0.55"
SAMPLES = 1500
A = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.05, 0.8]] * 2))
B = GaussianMixture(torch.tensor([[0.0, -1.0], [0.0, 1.0]]), torch.tensor([[0.8, 0.05]] * 2))
BACKGROUND = GaussianMixture(torch.zeros(1, 2), torch.tensor([0.8]))
GRID = torch.linspace(-3, 3, 150)
PLACES = torch.cartesian_prod(GRID, GRID)
LogDensity = Callable[[Tensor], Tensor]


def log_mean(x: Tensor) -> Tensor:
    """The geometric mean's log-density, up to a constant, as are the others."""
    return (A.log_density(x) + B.log_density(x)) / 2


def log_product(x: Tensor) -> Tensor:
    """The product's."""
    return A.log_density(x) + B.log_density(x)


def log_mixture(x: Tensor) -> Tensor:
    """The mixture's."""
    return torch.logaddexp(A.log_density(x), B.log_density(x))


def log_conjunction(x: Tensor) -> Tensor:
    """That of q_u (q_A/q_u)^2 (q_B/q_u)^2."""
    return 2 * log_product(x) - 3 * BACKGROUND.log_density(x)


def log_projective(x: Tensor) -> Tensor:
    """That of q_A q_B/q_b."""
    return log_product(x) - BACKGROUND.log_density(x)


def schedule(steps: int) -> Tensor:
    """Levels from 20 to 0.002, then 0."""
    return karras_sigmas(steps, 0.002, 20.0).float()


def start() -> Tensor:
    """The same start and random numbers for every method."""
    torch.manual_seed(0)
    return 20 * torch.randn(SAMPLES, 2)


def exact(log_target: LogDensity, seed: int) -> Tensor:
    """Samples of a density, drawn cell by cell."""
    torch.manual_seed(seed)
    cells = torch.multinomial(log_target(PLACES).softmax(0), SAMPLES, replacement=True)
    return PLACES[cells] + (torch.rand(SAMPLES, 2) - 0.5) * (GRID[1] - GRID[0])


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return 2 E|x - y| - E|x - x'| - E|y - y'|."""
    x, y = x.double(), y.double()
    across, inside = torch.cdist(x, y).mean(), torch.cdist(x, x).mean() + torch.cdist(y, y).mean()
    return (2 * across - inside).item()


def panel(axes: Axes, title: str, x: Tensor | None, contours: Sequence[tuple[LogDensity, str]]) -> None:
    """Samples over the contours of densities."""
    for log_density, colour in contours:
        density = log_density(PLACES).softmax(0).view(150, 150).T
        axes.contour(
            GRID, GRID, density / density.max(), levels=[0.1, 0.4, 0.7], colors=colour, linewidths=0.9
        )
    if x is not None:
        axes.plot(*x[:700].T, ".", ms=4, alpha=0.6, color=DRAWN, mec="none")
    axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=11)


def both(axes: Axes, title: str = "what the models draw") -> None:
    """The two densities, labelled in place."""
    panel(axes, title, None, [(A.log_density, A_COLOUR), (B.log_density, B_COLOUR)])
    axes.text(-1.0, 2.1, "A", color=A_COLOUR, ha="center", fontsize=14, weight="bold")
    axes.text(2.15, -1.12, "B", color=B_COLOUR, fontsize=14, weight="bold")


def save(figure: Any, name: str) -> None:
    """Save a picture of 830 pixels of width, at twice the resolution."""
    figure.savefig(HERE / f"{name}.png", dpi=200)
    plt.close(figure)


def one_model(name: str, sample: Callable[..., Tensor], per_step: int) -> list[dict[str, Any]]:
    """A sampler of one model at 10 and at 50 evaluations."""
    rows, (figure, axes) = [], plt.subplots(1, 3, figsize=(8.3, 3.2), layout="constrained")
    panel(axes[0], "target: A", exact(A.log_density, 1), [(A.log_density, A_COLOUR)])
    for part, budget in zip(axes[1:], (10, 50), strict=True):
        steps = (budget + per_step - 1) // per_step
        cost = per_step * steps - (per_step - 1)
        x = sample(A, start(), schedule(steps), disable=True)
        rows.append(row(name, cost, x, A.log_density))
        panel(part, f"{cost} evaluations, {steps} steps", x, [(A.log_density, A_COLOUR)])
    save(figure, name)
    return rows


def row(name: str, cost: int, x: Tensor, log_target: LogDensity | None) -> dict[str, Any]:
    """A line of the table."""
    inside = x[x.abs().amax(1) < 3]
    numbers: dict[str, Any] = {"method": name, "evaluations": cost, "inside": f"{len(inside) / len(x):.3f}"}
    if log_target is not None:
        targets = [exact(log_target, seed) for seed in (1, 2)]
        numbers["energy_distance"] = f"{energy_distance(inside, targets[0]):.4f}"
        numbers["exact"] = f"{energy_distance(targets[1], targets[0]):.4f}"
    return numbers


def several(name: str, panels: Sequence[tuple[str, int, Tensor, LogDensity | None]]) -> list[dict[str, Any]]:
    """Draw what the models draw, then a panel for each result over the contours of its target."""
    figure, axes = plt.subplots(1, 1 + len(panels), figsize=(8.3, 3.2), layout="constrained")
    both(axes[0])
    for part, (title, _, x, log_target) in zip(axes[1:], panels, strict=True):
        models = [(A.log_density, A_COLOUR), (B.log_density, B_COLOUR)]
        panel(part, title, x, models if log_target is None else [(log_target, GREY)])
    save(figure, name)
    return [row(f"{name}: {title}", cost, x, target) for title, cost, x, target in panels]


def compositions() -> list[dict[str, Any]]:
    """The methods of several models; 100 steps, but for AMDM, which takes the paper's 50."""
    models, sigmas = [A, B], schedule(100)
    noisy: dict[str, Any] = {"eta": 1.0, "disable": True}
    energies = [A.log_density, B.log_density]
    aggregated = [
        sample_amdm(pair, [start(), start().flip(0)], schedule(50), disable=True) for pair in ([A, B], [B, A])
    ]
    rows = several("amdm", [("A(+B)", 70, aggregated[0], None), ("B(+A)", 70, aggregated[1], None)])
    guided: dict[str, Any] = {"background": BACKGROUND, "eta": 1.0, "disable": True}
    first = sample_projective_guidance(models, start(), schedule(50), window=0.4, **guided)
    all_steps = sample_projective_guidance(models, start(), schedule(50), window=1.0, **guided)
    rows += several("projective_guidance", [
        ("AMDM, 20 of 50 steps", 70, aggregated[0], log_projective),
        ("20 of 50 steps", 90, first, log_projective),
        ("all 50 steps", 150, all_steps, log_projective),
    ])  # fmt: skip
    rows += several("linear", [
        ("target: geometric mean", 0, exact(log_mean, 1), log_mean),
        ("linear", 200, sample_ddim(linear(models), start(), sigmas, **noisy), log_mean),
    ])  # fmt: skip
    composed = conjunction(BACKGROUND, models, 2.0)
    rows += several("conjunction", [
        ("target", 0, exact(log_conjunction, 1), log_conjunction),
        ("conjunction, weights 2", 300, sample_ddim(composed, start(), sigmas, **noisy), log_conjunction),
    ])  # fmt: skip
    composed = projective(BACKGROUND, models)
    rows += several("projective", [
        ("target", 0, exact(log_projective, 1), log_projective),
        ("projective", 300, sample_ddim(composed, start(), sigmas, **noisy), log_projective),
    ])  # fmt: skip
    x = sample_fkc(models, start(), schedule(10), log_densities=energies, disable=True)
    rows += several("fkc", [
        ("FKC, 100 steps", 200, sample_fkc(models, start(), sigmas, disable=True), log_product),
        ("with densities, 10 steps", 20, x, log_product),
    ])  # fmt: skip
    moves: dict[str, Any] = {"step_size": lambda sigma, _: 0.1 * (sigma**2 + 0.05), "disable": True}
    hmc = sample_mcmc(models, start(), schedule(20), kernel="hmc", log_densities=energies, **moves)
    ula = sample_mcmc(models, start(), schedule(20), kernel="ula", **moves)
    rows += several("mcmc", [
        ("ULA, 20 levels", 2 * 20 * 11, ula, log_product),
        ("HMC, 20 levels", 2 * 20 * 31, hmc, log_product),
    ])  # fmt: skip
    union = sample_superdiff(models, start(), sigmas, combine="or", disable=True)
    equal = sample_superdiff(models, start(), sigmas, combine="and", disable=True)
    return rows + several("superdiff", [("OR", 200, union, log_mixture), ("AND", 200, equal, None)])


class Network(nn.Module):
    """A small denoiser with parameters, for their average."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)
        )

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the denoised prediction."""
        c_in, c_skip, c_out = scaling("v_prediction", sigma[:, None])
        denoised: Tensor = c_skip * x + c_out * self.layers(
            torch.cat([c_in * x, sigma[:, None].log() / 4], 1)
        )
        return denoised


def trained(data: GaussianMixture, before: Network | None, steps: int) -> Network:
    """Train a network on a density, or go on from one that was trained on another."""
    torch.manual_seed(0)
    network = Network()
    if before is not None:
        network.load_state_dict(before.state_dict())
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(steps):
        x0, sigma = data.sample(512), torch.exp(torch.rand(512) * 8 - 5)
        wanted, scale = x0, scaling("v_prediction", sigma[:, None]).c_out
        loss = ((network(x0 + sigma[:, None] * torch.randn(512, 2), sigma) - wanted) / scale).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.requires_grad_(False)


def averaged() -> list[dict[str, Any]]:
    """Networks fine-tuned from one that was trained on both densities, and their parameters' mean."""
    union = GaussianMixture(torch.cat([A.means, B.means]), torch.cat([A.variances, B.variances]))
    ancestor = trained(union, None, 2000)
    one, other = (trained(data, ancestor, 300) for data in (A, B))
    soup = Network()
    soup.load_state_dict(average_state_dicts([one.state_dict(), other.state_dict()]))
    mean = linear([one, other])
    panels = []
    for title, model, cost in (
        ("averaged parameters", soup.requires_grad_(False), 100),
        ("linear", mean, 200),
    ):
        x = sample_ddim(model, start(), schedule(100), eta=1.0, disable=True)
        panels.append((title, cost, x, log_mean))
    return several("weight_averaging", panels)


def coordinates() -> None:
    """Norms along runs of one model, in VE and in VP."""
    torch.manual_seed(0)
    model = GaussianMixture(torch.randn(8, 64), torch.full((8,), 0.3))
    sigmas = karras_sigmas(60, 0.02, 40.0).float()
    path: list[Tensor] = [(1 + sigmas[0] ** 2).sqrt() * torch.randn(12, 64)]
    sample_ddim(model, path[0], sigmas, callback=lambda info: path.append(info["step"].x_next), disable=True)
    norms = torch.stack(path[:-1]).norm(dim=2)
    figure, axes = plt.subplots(1, 2, figsize=(8.3, 3.2), layout="constrained", sharey=True)
    for part, values, name in zip(
        axes, (norms, norms / (1 + sigmas[:-1, None] ** 2).sqrt()), ("VE: |x|", "VP: |z|"), strict=True
    ):
        part.loglog(sigmas[:-1], values, color=A_COLOUR, lw=1, alpha=0.7)
        part.invert_xaxis()
        part.set(
            xlabel="level sigma (a run goes to the right)",
            xticks=[10, 1, 0.1],
            xticklabels=["10", "1", "0.1"],
        )
        part.set_title(name)
    axes[0].set(yticks=[10, 100], yticklabels=["10", "100"])
    axes[0].text(6, 140, "|x| falls with sigma", color=A_COLOUR)
    axes[1].text(30, 14, "|z| stays near sqrt(n) = 8", color=A_COLOUR)
    save(figure, "coordinates")


def all_right(images: Tensor, scenes: Scenes) -> Tensor:
    """Return True for every image with all shapes, colours and interactions as wanted."""
    counts = scores.compare(scores.find(images, scenes), scenes)
    right, wanted = scores.everything(counts, ("shapes", "colours", "interactions"))
    return right == wanted


def readme() -> None:
    """Three scenes as each model draws them alone and as two methods join them; the README's picture.

    They are the first two of the table's scenes, and the first on which the two methods differ.
    """
    results, scenes = Path(__file__).parent.parent / "benchmarks/results", held_out(1000, 20)
    rows = caption_choice.experiment("quick").rows
    table = tables.read(results / "caption_choice.csv")
    joined = caption_once.label(caption_once.LEADS[0], "")
    shown = {
        "layout": "A knows shapes,\ninteractions",
        "attribute": "B knows colours\n",
        f"{joined}{caption_once.PUBLISHED}": "A(+B)\nby AMDM",
        f"{joined}{caption_choice.ALL}": "A(+B) by\nprojective guidance",
    }
    drawn = {row: rows[row].draw(scenes, 0, "cpu") for row in shown}
    once, other = (all_right(image, scenes) for image in list(drawn.values())[2:])
    few = [0, 1, int((once != other).nonzero()[0])]
    images = {row: image[few] for row, image in drawn.items()}
    figure = plots.empty(plots.WIDTH, 5.6, gap=0.02)
    pictures.grid(figure, images, Scenes(*(each[few] for each in scenes)), len(few))
    figure.axes[0].set_title("wanted", fontsize=9)
    for axes, (row, title) in zip(figure.axes[1:], shown.items(), strict=False):
        right = table[row].cells["scene right"].value
        axes.set_title(f"{title}\n{right:.0f}% of scenes right", fontsize=9)
    save(figure, "readme")


GROUPS = {
    "Lemma A.1": "Lemma A.1: norms concentrate",
    "Proposition 3.1, norm gap": "Prop. 3.1: norm gap",
    "Proposition 3.1, angle": "Prop. 3.1: angle",
    "Proposition 3.2": "Prop. 3.2: the shell",
    "Proposition D.1": "Prop. D.1: after the correction",
}


def records() -> Any:
    """Return what the theory checks found."""
    return json.loads((Path(__file__).parent.parent / "theory_checks/results/theory.json").read_text())


def shell() -> None:
    """Draw how often a positive correction reaches the shell, by the noise that the models draw."""
    found = [r for r in records() if r["statement"] == "Proposition 3.2, existence, positive"]
    figure, axes = plt.subplots(figsize=(8.3, 2.3), layout="constrained")
    for y, kind in enumerate(("none", "shared", "independent")):
        colour = B_COLOUR if kind == "independent" else A_COLOUR
        values = [r["measured"] for r in found if r["setting"]["noise"] == kind]
        axes.plot(values, [y] * len(values), "o", ms=8, alpha=0.6, color=colour, mec="none")
        axes.text(
            -0.04,
            y,
            f"{kind} noise".replace("none", "no"),
            ha="right",
            va="center",
            fontsize=12,
            color=colour,
        )
    axes.axvline(0.95, color=GREY, lw=0.8)
    axes.text(0.94, -0.55, "the paper: 0.95 or more", ha="right", va="center", fontsize=10, color=GREY)
    axes.set(xlim=(-0.03, 1.03), ylim=(2.5, -0.9), yticks=[])
    axes.set_xlabel("share of draws in which a positive length reaches the shell")
    axes.spines[["left", "top", "right"]].set_visible(False)
    save(figure, "shell")


def theory() -> None:
    """Tightness of the bounds that hold: a dot for each setting, a row for each statement."""
    figure, axes = plt.subplots(figsize=(8.3, 3.4), layout="constrained")
    for y, (prefix, label) in enumerate(GROUPS.items()):
        found = [record for record in records() if record["statement"].startswith(prefix)]
        values = [
            r["tightness"] for r in found if r["verdict"] == "holds" and isinstance(r["tightness"], float)
        ]
        axes.plot(values, [y] * len(values), "o", ms=6, alpha=0.5, color=A_COLOUR, mec="none")
        axes.text(-0.02, y, label, ha="right", va="center", fontsize=11)
    axes.text(0.98, -0.45, "1: nothing sharper holds", ha="right", fontsize=10, color=GREY)
    axes.axvline(1, color=GREY, lw=0.8)
    axes.set(xlim=(0, 1.05), ylim=(len(GROUPS) - 0.5, -0.7), yticks=[], xlabel="tightness of the bound")
    axes.spines[["left", "top", "right"]].set_visible(False)
    save(figure, "theory")


def main() -> None:
    """Draw everything."""
    HERE.mkdir(exist_ok=True)
    readme()
    coordinates()
    theory()
    shell()
    rows = one_model("ddim", sample_ddim, 1) + one_model("heun", sample_heun, 2)
    rows += one_model("dpmpp_2m", sample_dpmpp_2m, 1) + one_model("dpmpp_2m_sde", sample_dpmpp_2m_sde, 1)
    rows += one_model("res_multistep", sample_res_multistep, 1) + one_model("uni_pc", sample_uni_pc, 1)
    rows += one_model("lcm", sample_lcm, 1) + compositions() + averaged()
    with (HERE / "methods.csv").open("w", newline="") as file:
        columns = ["method", "evaluations", "inside", "energy_distance", "exact"]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
