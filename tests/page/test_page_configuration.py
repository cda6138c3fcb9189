"""The fields of a tab as a configuration: every entry written out."""

import json
import tomllib

import pytest

from amdm.command_line.arguments import Expected
from amdm.page.configuration import Fields, ModelFields, loras_of, sampling_of, values_of
from amdm.page.grounding import Instance, Interaction, scene_of
from amdm.page.toml import toml_of

PERSON, CAT = Instance("person", (0.0, 0.1, 0.4, 0.9)), Instance("cat", (0.3, 0.5, 0.7, 0.8))
SCENE = scene_of("a person feeds a cat", "", [PERSON, CAT], [Interaction(1, "feeding", 2)])


@pytest.fixture
def folder_of(tmp_path):
    """A folder that says its pipeline's class, as `save_pretrained` writes it."""

    def make(kind, name="model"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "model_index.json").write_text(json.dumps({"_class_name": kind}))
        return str(tmp_path / name)

    return make


def of_one(model, **fields):
    return values_of(Fields(models=[model], prompt="a person feeds a cat", scene=SCENE, **fields))["models"][
        0
    ]


def test_everything_that_was_typed_is_in_the_configuration(folder_of):
    a = ModelFields(folder=folder_of("StableDiffusionPipeline", "a"))
    fields = Fields(
        models=[a, ModelFields(folder=folder_of("StableDiffusionGLIGENPipeline", "b"))],
        prompt=" two cats ", negative="fog", scene=SCENE, steps=10, guidance=5.0, seed=3, width=512,
        height=384, window=(1, 4), weights=(0.3, 0.9),
    )  # fmt: skip
    values = values_of(fields)
    assert values == {
        "prompt": "two cats",
        "seeds": [3],
        "alone": True,
        "call": {
            "num_inference_steps": 10,
            "guidance_scale": 5.0,
            "negative_prompt": "fog",
            "height": 384,
            "width": 512,
        },
        "sampling": {
            "method": "amdm", "sampler": "ddim", "window": [1, 4], "weights": [0.3], "correction": "auto",
        },
        "models": [
            {"name": "A", "pipeline": folder_of("StableDiffusionPipeline", "a"), "call": {}},
            {
                "name": "B",
                "pipeline": folder_of("StableDiffusionGLIGENPipeline", "b"),
                "call": {
                    "gligen_phrases": ["person", "cat"],
                    "gligen_boxes": [[0.0, 0.1, 0.4, 0.9], [0.3, 0.5, 0.7, 0.8]],
                },
            },
        ],
    }  # fmt: skip
    assert tomllib.loads(toml_of(values)) == values


def test_interact_diffusion_is_told_the_interactions(folder_of):
    kind = ["pipeline_stable_diffusion_interactdiffusion", "StableDiffusionInteractDiffusionPipeline"]
    model = of_one(ModelFields(folder=folder_of(kind), runs_code=True))
    assert (model["system"], model["trust_remote_code"]) == ("InteractDiffusion", True)
    assert model["call"] == {
        "interactdiffusion_subject_phrases": ["person"],
        "interactdiffusion_object_phrases": ["cat"],
        "interactdiffusion_action_phrases": ["feeding"],
        "interactdiffusion_subject_boxes": [[0.0, 0.1, 0.4, 0.9]],
        "interactdiffusion_object_boxes": [[0.3, 0.5, 0.7, 0.8]],
        "interactdiffusion_scheduled_sampling_beta": 1.0,
    }


def test_migc_is_told_the_instances(folder_of):
    folder = folder_of("StableDiffusionPipeline")
    model = of_one(ModelFields(folder=folder, migc_checkout="/code", migc_weights="/MIGC.ckpt"), steps=20)
    assert (model["system"], model["migc_checkout"], model["migc_weights"]) == ("MIGC", "/code", "/MIGC.ckpt")
    assert model["call"] == {
        "prompt": [["a person feeds a cat", "person", "cat"]],
        "bboxes": [[[0.0, 0.1, 0.4, 0.9], [0.3, 0.5, 0.7, 0.8]]],
        "MIGCsteps": 10,
    }


def test_add_ons_have_their_files_and_images(folder_of):
    model = of_one(
        ModelFields(
            folder=folder_of("StableDiffusionPipeline"),
            prompt="a cat, ink",
            loras="/l/ink.safetensors 0.7\n",
            controlnet="/edges",
            control_image="/e.png",
            control_scale=0.5,
            ip_adapter="/ip.safetensors",
            image_encoder="/encoder",
            ip_image="/style.png",
            ip_scale=0.8,
        )
    )
    del model["name"], model["pipeline"]
    assert model == {
        "lora": [{"file": "/l/ink.safetensors", "weight": 0.7}],
        "controlnet": "/edges",
        "ip_adapter": "/ip.safetensors",
        "image_encoder": "/encoder",
        "ip_adapter_scale": 0.8,
        "call": {
            "prompt": "a cat, ink",
            "image": "/e.png",
            "controlnet_conditioning_scale": 0.5,
            "ip_adapter_image": "/style.png",
        },
    }


def test_a_lora_has_the_weight_at_its_lines_end():
    lines = "/a b/one.safetensors\n\n /two.safetensors -0.5 \n/my lora 2\n/no number x"
    assert [(each["file"], each["weight"]) for each in loras_of(lines)] == [
        ("/a b/one.safetensors", 1.0),
        ("/two.safetensors", -0.5),
        ("/my lora", 2.0),
        ("/no number x", 1.0),
    ]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("amdm", {"sampler": "ddim", "window": [0, 4], "weights": [0.5, 0.5], "correction": 0.2}),
        ("projective_guidance", {"sampler": "ddim", "window": [0, 4], "weights": [0.5, 0.5]}),
        ("linear", {"sampler": "ddim", "weights": [0.25, 0.25, 0.5]}),
        ("superdiff", {}),
    ],
)
def test_a_method_gets_the_options_that_it_has(method, options):
    fields = Fields(
        models=[ModelFields()] * 3,
        prompt="",
        method=method,
        window=(0, 4),
        weights=(0.5, 0.5),
        correction=0.2,
    )
    assert sampling_of(fields) == {"method": method, **options}


@pytest.mark.parametrize(
    ("kind", "scene", "fields", "message"),
    [
        (
            "StableDiffusionPipeline",
            {},
            {"folder": " "},
            r"a folder with a pipeline: its path is empty \(model A\)",
        ),
        ("StableDiffusionGLIGENPipeline", {}, {}, r"a box on the canvas, .* \(model A\)"),
        (["x", "InteractDiffusionPipeline"], {"instances": [1]}, {}, r"an interaction of two boxes"),
        ("StableDiffusionPipeline", {}, {"controlnet": "/c"}, r"the ControlNet's image: its path is empty"),
        (
            "StableDiffusionPipeline",
            {},
            {"ip_adapter": "/i"},
            r"the folder of the IP-Adapter's image encoder",
        ),
        ("StableDiffusionPipeline", {}, {"migc_weights": "/i"}, r"the folder of MIGC's code"),
    ],
)
def test_what_is_missing_is_named(folder_of, kind, scene, fields, message):
    model = ModelFields(**{"folder": folder_of(kind), **fields})
    with pytest.raises(Expected, match=message):
        values_of(Fields(models=[model], prompt="a cat", scene=scene))


def test_a_prompt_is_needed():
    with pytest.raises(Expected, match="a prompt"):
        values_of(Fields(models=[], prompt=" "))
