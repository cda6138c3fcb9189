"""The nodes: what they show, what they make of their widgets, and the picture of a run."""

import asyncio
import doctest
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import comfyui
from comfyui import guider, nodes
from comfyui.nodes import AMDMAngles, AMDMGuiderNode, in_order, io
from comfyui.report import as_text, picture
from comfyui.tests import host, standin
from comfyui.tests.conftest import REAL

NODES = [AMDMGuiderNode, AMDMAngles]
FOLDER = Path(comfyui.__file__).parent


def test_the_examples_of_docstrings():
    assert [doctest.testmod(module) for module in (nodes, guider)] == [(0, 1), (0, 1)]


def widgets(**changed):
    """The defaults of AMDM Guider's widgets, and changed ones."""
    defaults = {
        each.id: getattr(each, "default", None) if REAL else each.more.get("default")
        for each in AMDMGuiderNode.define_schema().inputs
    }
    return {name: value for name, value in defaults.items() if value is not None} | changed


def made(**given):
    return AMDMGuiderNode.execute(**widgets(**given)).args[0]


def two():
    return host.cfg_guider(host.sd15(0)), host.cfg_guider(host.sd15(1), 3, 4)


def test_the_host_loads_the_nodes():
    extension = asyncio.run(comfyui.comfy_entrypoint())
    assert asyncio.run(extension.get_node_list()) == NODES
    assert (FOLDER / comfyui.WEB_DIRECTORY).is_dir()


@pytest.mark.parametrize("node", NODES)
def test_every_input_says_what_it_is(node):
    schema = node.define_schema()
    if REAL:
        schema.validate()
    assert all(each.tooltip for each in schema.inputs)
    assert schema.description
    page = (FOLDER / "web" / "docs" / schema.node_id / "en.md").read_text()
    assert all(f"**{each.id}**" in page for each in schema.inputs)


def test_inputs_grow_where_the_host_has_them(monkeypatch):
    """Hosts newer than 0.3.64 have Autogrow; its schema is a stand-in's here."""
    names = [each.id for each in AMDMGuiderNode.define_schema().inputs]
    monkeypatch.setattr(io, "Autogrow", standin.Autogrow, raising=False)
    grown = [each for each in AMDMGuiderNode.define_schema().inputs if each.id not in names]
    template = lambda each: each.more["template"]
    assert [(each.id, each.optional) for each in grown] == [("more_partners", True), ("more_weights", True)]
    assert [template(each).names[:2] for each in grown] == [["partner0", "partner1"], ["weight0", "weight1"]]
    # Workflows of older hosts keep their meaning: what was there is there, in the same order.
    assert [each.id for each in AMDMGuiderNode.define_schema().inputs if each.id in names] == names


def test_partners_and_weights_stay_together():
    lead, partner = two()
    third, more = (
        host.cfg_guider(host.sd15(2)),
        {f"partner{k}": host.cfg_guider(host.sd15(3 + k)) for k in (1, 0)},
    )
    guider = made(
        lead=lead,
        partner_1=partner,
        weight_1=0.5,
        partner_3=third,
        weight_3=3.0,
        more_partners=more,
        more_weights={"weight0": 0.25},
    )
    networks = [each.model_patcher.model for each in guider.guiders]
    given = [lead, partner, third, more["partner0"], more["partner1"]]
    assert networks == [each.model_patcher.model for each in given]
    assert guider.weights == [1.0, 0.5, 3.0, 0.25, 1.0]
    assert in_order({"partner10": "c", "partner2": "b", "partner1": None}) == ["b", "c"]


def test_widgets_are_amdms_options():
    lead, partner = two()
    guider = made(lead=lead, partner_1=partner)
    assert guider.options["correction"] == "auto"
    assert (guider.shared, guider.projective, guider.window([0] * 11)) == (False, False, (0, 4))
    guider = made(
        lead=lead, partner_1=partner, correction=0.3, noise="shared", fold="linear", start=0.2, end=1.0
    )
    assert (guider.shared, guider.options["correction"], guider.window([0] * 11)) == (True, 0.3, (2, 10))
    method = {"method": "projective guidance", "background": host.basic_guider(host.sd15(0))}
    guider = made(lead=lead, partner_1=partner, guidance=2.0, window_eta=1.0, **method)
    assert (guider.shared, guider.projective) == (True, True)
    assert (guider.options["guidance"], guider.options["window_eta"]) == (2.0, 1.0)
    guider = made(lead=lead, partner_1=partner, **method)
    assert (guider.options["guidance"], guider.options["window_eta"]) == (None, None)
    with pytest.raises(ValueError, match="Projective guidance needs a background: connect a guider that has"):
        made(lead=lead, partner_1=partner, method="projective guidance")


@pytest.mark.parametrize("method", ["AMDM", "projective guidance"])
def test_angles_are_shown(method, monkeypatch):
    lead, partner = two()
    guider = made(lead=lead, partner_1=partner, partner_2=partner, method=method, background=lead)
    sigmas, image = host.schedule(lead.model_patcher), host.latent(lead.model_patcher, 2)
    out = host.run(guider, "euler", sigmas, image)
    if REAL:
        preview = lambda image, cls: SimpleNamespace(as_dict=lambda: {"images": [{}]})
        monkeypatch.setattr("comfy_api.latest.ui.PreviewImage", preview)
    shown = AMDMAngles.execute(guider, {"samples": out})
    image, text = shown.args
    assert image.shape[0] == 1 and image.shape[3] == 3 and image.min() >= 0 and image.max() == 1
    assert (image < 0.5).any()
    assert text.count("\n") == 1 and text.startswith("step 0, sigma 14.6")  # 2 of 6 steps
    assert ("norm gap" if method == "AMDM" else "lengths of the controls") in text
    assert shown.ui["text"] == (text,) and shown.ui["images"]
    angle = torch.rad2deg(guider.report.rows[0].angle.mean(-1))
    assert f"angle {angle[0]:.1f}, {angle[1]:.1f} degrees" in text


def test_a_run_without_joined_steps_says_so():
    lead, partner = two()
    guider = made(lead=lead, partner_1=partner, end=0.0)
    assert as_text(guider.report).startswith("No step was joined")
    assert picture(guider.report).shape[3] == 3
    with pytest.raises(ValueError, match="The guider is a CFGGuider, expected that of an AMDM Guider node"):
        AMDMAngles.execute(lead, {})


@pytest.mark.parametrize(
    "path", sorted((FOLDER / "example_workflows").glob("*.json")), ids=lambda path: path.stem
)
def test_workflows_fit_the_nodes(path):
    """Each link and widget is one that the node has, and a picture is beside the file."""
    workflow = json.loads(path.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, source, slot, target, target_slot, kind in workflow["links"]:
        assert link in nodes[source]["outputs"][slot]["links"]
        assert nodes[target]["inputs"][target_slot]["link"] == link
        assert nodes[source]["outputs"][slot]["type"] == kind
    own = next(node for node in workflow["nodes"] if node["type"] == "AMDMGuider")
    inputs = [each.id for each in AMDMGuiderNode.define_schema().inputs]
    assert {each["name"] for each in own["inputs"]} <= set(inputs)
    values = [name for name in inputs if name in widgets()]
    assert len(own["widgets_values"]) == len(values)
    made_of = dict(zip(values, own["widgets_values"], strict=True))
    assert (
        made_of["method"] in ("AMDM", "projective guidance") and 0 <= made_of["start"] <= made_of["end"] <= 1
    )
    assert path.with_suffix(".jpg").stat().st_size > 1000
    assert any(node["type"] in ("Note", "MarkdownNote") for node in workflow["nodes"])
