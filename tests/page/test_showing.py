"""The words, the pictures and the plots of the tab of one's own models."""

import numpy as np
import pytest
from adapters import tiny_diffusers as tiny

from amdm.command_line.arguments import Expected
from amdm.page import showing
from amdm.page.comparing import Apart, Seen
from amdm.page.configuration import Fields, ModelFields, fields_of, values_of
from amdm.page.grounding import Instance, instances_of
from amdm.sample.cost import Network
from amdm.sample.reading import config_of
from amdm.sample.tables import Unusable


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        ("models[1].pipeline is /a, expected a folder", "Model B: pipeline is /a, expected a folder."),
        ("models[0].call.image is /a, expected an image", "Model A: image is /a, expected an image."),
        ("models[0] and models[2] differ", "Model A and model C differ."),
        ("sampling.weights is 3, expected 1", "Weight is 3, expected 1."),
        ("call.num_inference_steps is 0, expected 1.", "Steps is 0, expected 1."),
    ],
)
def test_problems_are_sentences_of_the_pages_words(problem, sentence):
    assert showing.sentence_of(problem) == sentence


def test_every_line_about_a_configuration_is_shown_and_none_of_it_is_markup():
    shown = showing.wrong(Unusable(["models[0].pipeline is <b>", "seeds is 1"]))
    assert shown.count("<p") == 2 and "&lt;b&gt;" in shown and "<b>" not in shown
    assert "Expected a prompt." in showing.wrong(Expected("a prompt"))


def test_errors_of_pipelines_are_one_sentence_here_and_whole_where_the_page_was_started(capsys):
    shown = showing.wrong(RuntimeError("out of memory\nmore"))
    assert "The models stopped with RuntimeError: out of memory." in shown and "more" not in shown
    assert "more" in capsys.readouterr().err
    assert "x is 3." in showing.wrong(ValueError("x is 3")).lower()
    assert capsys.readouterr().err == ""


def test_the_canvas_holds_what_was_put_there():
    instances = [Instance("a cat", (0.25, 0.5, 0.75, 1.0)), Instance("a mat", (0.0, 0.0, 0.5, 0.25))]
    shapes = {(None, None): (512, 512), (768, 384): (256, 512), (512, 1024): (512, 256)}
    for (width, height), shape in shapes.items():
        image = showing.blank(width, height)
        assert image.shape == (*shape, 3)
        assert instances_of(showing.on_canvas(instances, image)) == instances


def config(number=2, folder="/none", **fields):
    models = [ModelFields(folder=str(folder))] * number
    return config_of(values_of(Fields(models=models, prompt="a", **fields)) | {"device": "cpu"}, files=False)


def test_the_estimate_adds_up_and_warns(tmp_path):
    tiny.ddim().save_pretrained(tmp_path / "model" / "scheduler")
    folder = tmp_path / "model"
    (folder / "model_index.json").write_text("{}")
    networks = [Network(0, "unet", 3 * 2**30), Network(0, "vae", 2**29), Network(1, "unet", 2**20)]
    told = showing.estimate(config(folder=folder, steps=10, window=(0, 4)), networks, 2**40)
    assert "**3.50 GiB** of parameters in float32 on cpu" in told and "more memory" not in told
    assert "| A | model | unet 3.00 GiB, vae 0.50 GiB |" in told and "| B | model | unet 1.00 MiB |" in told
    # A picture alone has 10 steps, a joined one 10 and 4: two of each.
    assert "10 evaluations" in told and "all models 14" in told and "4 pictures take 48" in told
    assert "more memory than is free" in showing.estimate(config(folder=folder), networks, 2**30)
    assert "free" not in showing.estimate(config(folder=folder), networks, None)


def seen(title, steps, apart):
    return Seen(title, steps, 4, None, apart)


def test_the_plot_shows_all_joined_runs_and_a_sentence_if_there_is_none(monkeypatch):
    figures = []
    monkeypatch.setattr(showing, "as_html", lambda figure, alt: figures.append(figure) or "html")
    runs = {
        "A": [seen("A", 1, None)],
        "A(+B)": [seen("A(+B)", i, Apart([0.5 / i], [2.0 * i])) for i in (1, 2)] + [seen("A(+B)", 3, None)],
        "B(+A)": [seen("B(+A)", i, Apart([0.1 * i], [1.0])) for i in (1, 2)],
    }
    assert showing.separation(runs, config(steps=4, window=(0, 2))) == "html"
    angle, gap = figures[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in angle.lines}
    assert lines == {"A(+B)": [[1, 0.5], [2, 0.25]], "B(+A)": [[1, 0.1], [2, 0.2]]}
    assert [line.get_ydata().tolist() for line in gap.lines] == [[2.0, 4.0], [1.0, 1.0]]
    (window,) = angle.patches
    assert (window.get_x(), window.get_width()) == (0.5, 2.0)
    assert "nothing to be apart" in showing.separation({"A": runs["A"]}, config(method="linear"))


def test_a_card_says_how_far_its_picture_is():
    pixels = np.zeros((2, 2, 3), np.uint8)
    assert "waiting" in showing.card("A", None)
    drawing = showing.card("A", Seen("A", 2, 4, None))
    assert "step 2 of 4" in drawing and "drawing" in drawing and "img" not in drawing
    done = showing.card("A", Seen("A", 5, 4, pixels))
    assert "done" in done and "data:image/png" in done


VALUES = {
    **{f"{letter}.{name}": value for letter in "ABC" for name, value in vars(ModelFields()).items()},
    "A.folder": "/a", "B.folder": "/b", "prompt": "a cat", "negative": None, "canvas": None, "steps": 10,
    "guidance": 7.5, "seed": 3, "width": 0, "height": None, "method": "amdm", "sampler": "ddim",
    "window": [0, 400], "weightB": 0.5, "weightC": 0.33, "correction": None, "device": None, "dtype": "",
    **{f"{part}{k}": None for k in (1, 2) for part in ("subject", "action", "object")},
}  # fmt: skip


def test_fields_are_read_from_the_components():
    expected = Fields(
        models=[ModelFields(folder="/a"), ModelFields(folder="/b")], prompt="a cat", steps=10, seed=3,
        window=(0, 4), weights=(0.5, 0.33),
    )  # fmt: skip
    assert fields_of(VALUES) == expected
    assert len(fields_of(VALUES | {"C.folder": "/c", "C.loras": None}).models) == 3
    assert fields_of(VALUES | {"correction": " 0.2"}).correction == 0.2
    assert fields_of(VALUES | {"width": 512.0}).width == 512


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": None}, "a number for seed"),
        ({"seed": -1}, "seed to be a whole number of 0 or more, found -1"),
        ({"steps": 0}, "steps to be a whole number of 1 or more"),
        ({"steps": 2.5}, "steps to be a whole number"),
        ({"window": [400, 420]}, "a window with a step in it"),
        ({"correction": "much"}, "correction to be a number"),
    ],
)
def test_a_bad_field_is_named(values, message):
    with pytest.raises(Expected, match=message):
        fields_of(VALUES | values)
