"""The demos run at a small size and write what they say."""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch

from amdm import sample_dpmpp_2m, start_noise
from amdm.schedules import karras_sigmas
from amdm.shapes import denoisers, latents, scores, two_models, world
from amdm.shapes.scores import Counts

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits():
    return example("digits")


@pytest.fixture(scope="module")
def shapes():
    return two_models


@pytest.fixture(scope="module")
def small(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("digits") / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "WANTED", digits.WANTED[:4])  # groups of 11, 11, 11 and 10
        digits.main(["--out", str(out), "--samples", "43", "--quiet"])
    return out


@pytest.fixture(scope="module")
def lines(small):
    with (small / "digits.csv").open(newline="") as file:
        return {line["method"]: line for line in csv.DictReader(file)}


@pytest.mark.slow
def test_digits_draws_a_picture(small):
    assert (small / "digits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_digits_counts_a_partner_on_the_steps_of_the_window_only(lines):
    assert {method: int(line["evaluations_per_sample"]) for method, line in lines.items()} == {
        "A": 50,
        "B": 50,
        "A(+B)": 70,
        "B(+A)": 70,
        "A, start rescaled": 50,
        "A(+B), shared start": 70,
        "A(+B), all steps": 100,
        "A(+B), projective": 89,
        "B(+A), projective": 89,
        "A(+B), projective, all steps": 149,
        "A(+B), guidance 2": 110,
        "B(+A), guidance 2": 110,
        "one model told both": 50,
    }


@pytest.mark.slow
def test_digits_shares_lie_in_their_intervals_and_both_is_the_rarest(lines):
    for line in lines.values():
        assert int(line["n"]) == 43
        digit, stroke, joint = (float(line[what]) for what in ("digit", "stroke", "joint"))
        assert joint <= min(digit, stroke) and joint >= digit + stroke - 1 - 1e-3
        for what in ("digit", "stroke", "joint"):
            assert float(line[f"{what}_low"]) <= float(line[what]) <= float(line[f"{what}_high"])


@pytest.mark.slow
def test_digits_models_know_what_they_are_told(lines):
    assert float(lines["A"]["digit_low"]) > 0.5 > float(lines["B"]["digit_high"])
    assert float(lines["B"]["stroke_low"]) > 0.5
    assert float(lines["one model told both"]["joint_low"]) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 3])
def test_digits_prints_a_verdict_at_any_size(digits, tmp_path, capsys, samples):
    digits.main(["--out", str(tmp_path), "--samples", str(samples), "--seed", "5", "--quiet"])
    printed = capsys.readouterr()
    assert "A(+B) " in printed.out and " A: " in printed.out and str(tmp_path / "digits.png") in printed.out
    assert printed.err == ""


def test_digits_verdict_follows_the_interval(digits):
    def row(right):
        joint = digits.np.array(right, dtype=bool)
        return digits.Row(digits.np.zeros((len(joint), 8, 8)), digits.np.stack([joint] * 3), 50)

    rows = {
        "all": row([1] * 40),
        "none": row([0] * 40),
        "first": row([1, 0] * 20),
        "second": row([0, 1] * 20),
    }
    assert digits.compare(rows, "all", "none") == "all beats none: +100.0 points [+100.0, +100.0]"
    assert digits.compare(rows, "none", "all").startswith("none is worse than all: -100.0")
    assert digits.compare(rows, "first", "second").startswith("first shows no difference to second: +0.0")
    assert digits.compare(rows, "all", "all") == "all shows no difference to all: +0.0 points [+0.0, +0.0]"


SCENES = 9  # one more than is pictured


@pytest.fixture(scope="module")
def drawn(shapes, tmp_path_factory):
    out = tmp_path_factory.mktemp("shapes") / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "STEPS", 5)
        patch.setattr(shapes, "BATCH", 5)
        shapes.main(["--out", str(out), "--scenes", str(SCENES), "--quiet"])
        images = shapes.draw(world.sample_scenes(world.TEST[:SCENES]), denoisers.GUIDANCE, quiet=True)
    return out, images


@pytest.mark.slow
def test_shapes_draws_a_picture_and_a_table(shapes, drawn):
    out, images = drawn
    assert (out / "shapes.png").read_bytes().startswith(b"\x89PNG")
    scenes = world.sample_scenes(world.TEST[:SCENES])
    with (out / "shapes.csv").open(newline="") as file:
        lines = {line["method"]: line for line in csv.DictReader(file)}
    assert list(lines) == list(shapes.METHODS)
    for method, line in lines.items():
        counts = shapes.judge(scores.find(images[method], scenes), scenes)
        for what in shapes.JUDGED:
            low, rate, high = (float(line[key]) for key in (f"{what} low", what, f"{what} high"))
            right, wanted = (part.sum().item() for part in counts[what])
            assert low <= rate <= high and rate == pytest.approx(right / wanted, abs=1e-4)
        assert float(line["all three"]) <= float(line["shapes"]) and line["scenes"] == str(SCENES)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "name", "which"), [("A", "layout", 0), ("B", "attribute", 1)])
def test_shapes_a_model_alone_is_dpm_solver_from_its_start(drawn, method, name, which):
    scenes, training = world.sample_scenes(world.TEST[:SCENES]), denoisers.training_sigmas()
    sigmas = karras_sigmas(5, training[1].item(), training[981].item()).float()  # the ends of DDIM's 50 steps
    x = start_noise(scenes.seeds.tolist(), latents.SHAPE, sigmas[0], 2)[which]
    args = denoisers.extra_args(name, scenes)
    alone = sample_dpmpp_2m(denoisers.load(name), x, sigmas, args, disable=True)
    torch.testing.assert_close(drawn[1][method], latents.decode(alone), atol=1e-4, rtol=0)
    assert not torch.allclose(drawn[1][f"{method}(+{'BA'[which]})"], latents.decode(alone), atol=0.1)


def test_shapes_verdict_follows_the_interval(shapes):
    def counts(right):
        right = torch.tensor(right)
        return {"all three": Counts(right, torch.ones_like(right))}

    table = {"all": counts([1] * 40), "none": counts([0] * 40), "half": counts([1, 0] * 20)}
    assert shapes.verdict(table, "all", "none") == "all beats none: +100.0 points [+100.0, +100.0]"
    assert shapes.verdict(table, "half", "all").startswith("half is worse than all: -50.0")
    assert shapes.verdict(table, "all", "all").startswith("all shows no difference to all: +0.0 points")


def test_shapes_wants_as_many_scenes_as_it_pictures(shapes, capsys):
    with pytest.raises(SystemExit):
        shapes.main(["--scenes", "7"])
    assert "--scenes is 7, expected 8 to" in capsys.readouterr().err
