"""Pictures of runs: artists have the numbers, found independently; frames are the images that were given."""

import math
from io import BytesIO

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from amdm import amdm, plots, projective_guidance, sample_amdm, sample_ddim, start_noise
from amdm.denoisers import GaussianMixture
from amdm.plots.style import METHODS, apart

SIGMAS = torch.tensor([20.0, 5.0, 1.0, 0.2, 0.0])
FIELDS = ("angle", "distance", "norm_gap")


@pytest.fixture
def models():
    generator = torch.Generator().manual_seed(0)
    return [
        GaussianMixture(torch.randn(2, 4, 3, 3, generator=generator), torch.full((2,), 0.1)) for _ in "ab"
    ]


@pytest.fixture
def starts():
    return start_noise([0, 1, 2], [4, 3, 3], 20.0, 2)


def by_hand(steps):
    """Angle, distance and norm gap by numpy in float64, rows by samples; unit variance at the step's end."""
    rows = []
    for step in steps:
        if step.aggregation is not None:
            a, b = (x.double().flatten(1).numpy() for x in step.aggregation.xs)
            lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
            cosine = (a * b).sum(1) / (lengths[0] * lengths[1])
            unit = math.sqrt(1 + step.sigma_next**2)
            gap = abs(lengths[0] - lengths[1]) / unit
            rows.append([np.arccos(cosine), np.linalg.norm(a - b, axis=1) / unit, gap])
    return np.array(rows).swapaxes(0, 1)


def test_lines_are_the_means_after_so_many_steps_and_bands_the_extremes(models, starts):
    expected = by_hand(amdm(models, starts, SIGMAS, window=3))
    figure = plots.plot_separation(amdm(models, starts, SIGMAS, window=3))
    for axes, rows in zip(figure.axes, expected, strict=True):
        (line,) = axes.lines
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line.get_ydata(), rows.mean(1), rtol=1e-4)
        band = axes.collections[0].get_paths()[0].vertices
        assert band[:, 1].max() == pytest.approx(rows.max(), rel=1e-3)
        assert band[:, 1].min() == pytest.approx(rows.min(), rel=1e-3)


def test_a_late_window_leaves_the_first_rows_unknown(models, starts):
    found = plots.Separation.of(amdm(models, starts, SIGMAS, window=(1, 3)))
    assert found.angle.shape == (4, 1, 3)
    assert found.angle.isnan().flatten(1).all(1).tolist() == [True, True, False, False]
    (line, *_) = plots.plot_separation(found).axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [2, 3])


def test_runs_have_colours_and_labels_of_their_own_in_given_axes(models, starts):
    figure = Figure(figsize=(9, 3))
    axes = figure.subplots(1, 3)
    runs = {name: amdm(order, starts, SIGMAS) for name, order in (("A(+B)", models), ("B(+A)", models[::-1]))}
    assert plots.plot_separation(runs, axes=axes) is figure and len(figure.axes) == 3
    colours = [to_hex(line.get_color()).upper() for line in axes[0].lines]
    assert colours[0] == plots.COLOURS["blue"] and len(set(colours)) == 2
    labels = {text.get_text(): to_hex(text.get_color()).upper() for text in axes[-1].texts}
    assert labels == dict(zip(runs, colours, strict=True)) and figure.axes[0].get_legend() is None


def test_axes_are_logarithmic_only_where_values_span_decades():
    rows = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.01], [10.0]]), torch.tensor([[0.0], [0.0]])
    scales = [axes.get_yscale() for axes in plots.plot_separation(plots.Separation(*rows)).axes]
    assert scales == ["linear", "log", "linear"]


def test_zeros_are_gaps_on_logarithmic_axes_and_bands_end_above_them():
    rows = torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.02, 0.02]])
    axes = plots.plot_separation(plots.Separation(rows, rows, rows)).axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.0, 1.0, pytest.approx(0.02)]
    assert axes.collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(0.02)
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_yticklabels() if label.get_text() == "0.1"] == ["0.1"]


def test_a_run_of_one_model_has_nothing_to_compare(models, starts):
    with pytest.raises(ValueError, match="no step that aggregates"):
        plots.plot_separation(amdm(models[:1], starts[:1], SIGMAS))


def test_projective_guidance_from_one_start_has_its_angles_elsewhere(models, starts):
    steps = projective_guidance(models, starts[0], SIGMAS, background=models[1])
    with pytest.raises(ValueError, match=r"projective guidance .* are in step\.record\.angle"):
        plots.plot_separation(steps)


def test_methods_have_one_colour_each_and_lines_of_a_figure_different_ones():
    assert set(METHODS.values()) <= set(plots.COLOURS)
    assert plots.colour_of("AMDM, 10 steps") == plots.colour_of("layout(+style)") == plots.COLOURS["blue"]
    assert plots.colour_of("HMC (Du 2023)") == plots.colour_of("ULA") != plots.colour_of("FKC")
    assert plots.colour_of("layout") == plots.COLOURS["black"]
    given = plots.colours_of(["AMDM", "A(+B)", "linear", "layout", "attribute", "FKC"])
    assert len(set(given.values())) == 6 and given["linear"] == plots.COLOURS["orange"]


@pytest.mark.parametrize(
    ("places", "expected"),
    [([], []), ([3.0], [3.0]), ([0.0, 2.0], [0.0, 2.0]), ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0])],
)
def test_labels_move_apart_about_their_middle(places, expected):
    assert apart(places, 1.0) == expected


def test_labels_that_move_into_others_move_them_too():
    moved = apart([5.0, 0.0, 0.2, 0.9], 1.0)
    assert moved[0] == 5.0 and np.diff(sorted(moved)).min() >= 1 - 1e-12
    assert sum(moved[1:]) == pytest.approx(1.1) and moved[1] < moved[2] < moved[3]


FORMS = {
    "PIL": lambda image: [Image.fromarray(image)],
    "array": lambda image: image,
    "batch of arrays": lambda image: image[None] / 255,
    "tensor": lambda image: torch.from_numpy(image / 255).movedim(-1, 0),
    "batch of tensors": lambda image: torch.from_numpy(image).movedim(-1, 0)[None],
    "list of tensors": lambda image: [torch.from_numpy(image / 255).movedim(-1, 0)],
}


@pytest.mark.parametrize("form", FORMS)
def test_grids_show_every_kind_of_image(form):
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    figure = plots.image_grid({"one": FORMS[form](image), "two": FORMS[form](255 - image)}, rows=["row"])
    shown = [axes.images[0].get_array() for axes in figure.axes]
    np.testing.assert_array_equal(shown, [image, 255 - image])
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    assert figure.axes[0].get_ylabel() == "row"


def test_grids_have_a_row_per_image_and_refuse_columns_of_different_lengths():
    images = torch.rand(3, 3, 2, 2)
    figure = Figure()
    axes = figure.subplots(3, 2, squeeze=False)
    assert plots.image_grid({"a": images, "b": images}, axes=axes) is figure
    assert all(len(part.images) == 1 for part in figure.axes)
    with pytest.raises(ValueError, match=r"different lengths: \{'a': 3, 'b': 2\}"):
        plots.image_grid({"a": images, "b": images[:2]})


def test_the_preview_is_the_published_linear_map():
    latent = torch.zeros(1, 4, 1, 2)
    latent[0, 3, 0, 0], latent[0, 0, 0, 1] = -1.0, 0.5
    expected = torch.tensor([[0.592, 0.6355, 0.7365], [0.5745, 0.55175, 0.552]]).T.reshape(1, 3, 1, 2)
    torch.testing.assert_close(plots.latent_to_rgb(latent), expected)
    assert plots.latent_to_rgb(torch.full((1, 4, 1, 1), 100.0).half()).flatten().tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="latent has 16 channels, but factors has 4 rows"):
        plots.latent_to_rgb(torch.zeros(1, 16, 1, 1))


def test_an_animation_has_the_frames_in_their_order(tmp_path):
    levels = [0, 100, 255]
    frames = [np.full((4, 6, 3), level, np.uint8) for level in levels]
    path = plots.gif(frames, tmp_path / "a.gif", seconds=0.3, height=12)
    with Image.open(path) as made:
        assert (made.n_frames, made.size, made.info["loop"]) == (3, (18, 12), 0)
        durations = []
        for k, level in enumerate(levels):
            made.seek(k)
            durations.append(made.info["duration"])
            assert set(made.convert("RGB").getdata()) == {(level,) * 3}
    assert durations == [100, 100, 1100]
    with pytest.raises(ValueError, match="nothing was recorded"):
        plots.gif([], tmp_path / "b.gif")


def test_a_trajectory_records_any_sampler_and_aggregations_too(models, starts, tmp_path):
    film, noisy = plots.Trajectory(), plots.Trajectory(lambda x: x[:, :3].clamp(0, 1), of="x")
    expected = by_hand(amdm(models, starts, SIGMAS))
    sample_amdm(models, starts, SIGMAS, callback=film, disable=True)
    for column, rows in zip(film.separation, expected, strict=True):
        np.testing.assert_allclose(column[1:, 0], rows, rtol=1e-3, atol=1e-6)
    sample_ddim(models[0], starts[0], SIGMAS, callback=noisy, disable=True)
    assert len(film.frames) == len(noisy.frames) == 4 and len(film.frames[0]) == 3
    unit = (starts[0] / math.sqrt(1 + 20.0**2))[:, :3].clamp(0, 1).movedim(1, -1).numpy()
    np.testing.assert_array_equal(noisy.frames[0], np.rint(255 * unit))
    for sample, width in ((None, 9), (1, 3)):
        with Image.open(film.save(tmp_path / "film.gif", sample=sample)) as made:
            assert made.n_frames == 4 and made.width == width * (256 // 3)
    with pytest.raises(ValueError, match="no step that aggregates"):
        _ = noisy.separation
    with pytest.raises(ValueError, match="of is 'noise'"):
        plots.Trajectory(of="noise")


def test_figures_leave_matplotlib_as_it_was(models, starts):
    before = dict(matplotlib.rcParams)
    figure = plots.plot_separation(amdm(models, starts, SIGMAS))
    assert dict(matplotlib.rcParams) == before and figure.canvas.manager is None


def test_figures_are_shown_by_notebooks_without_pyplot():
    figure = plots.empty(3.0, 2.0)
    with Image.open(BytesIO(figure._repr_png_())) as shown:
        assert shown.format == "PNG" and shown.size == (300, 200)
