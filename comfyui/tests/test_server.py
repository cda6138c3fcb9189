"""The real server: each example workflow is queued over HTTP, and its latent is that of amdm's functions."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

import amdm
from amdm import Known
from comfyui.guider import noise_seed
from comfyui.tests import host
from comfyui.tests.conftest import REAL
from comfyui.tests.make_examples import NEGATIVE, PROMPT

pytestmark = pytest.mark.skipif(not REAL, reason="needs COMFYUI_PATH")

FOLDER = Path(__file__).parents[1]
NAME = "comfyui-amdm"
STEPS = 8


class Server:
    """A server of its own folder, with links to the nodes and to the tiny models' loaders."""

    def __init__(self, base):
        for name, target in {NAME: FOLDER, "tiny_nodes": FOLDER / "tests" / "tiny_nodes"}.items():
            (base / "custom_nodes").mkdir(exist_ok=True)
            (base / "custom_nodes" / name).symlink_to(target)
        for folder in ("input", "models", "user", "temp", "output"):
            (base / folder).mkdir()
        self.base, self.pictures = base, pictures(base / "input")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        root = Path(os.environ["COMFYUI_PATH"]).resolve()
        paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.log = (base / "log.txt").open("w")
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(root / "main.py"),
                "--cpu",
                "--port",
                str(self.port),
                "--base-directory",
                str(base),
                "--database-url",
                "sqlite:///:memory:",
                "--preview-method",
                "latent2rgb",
                "--disable-api-nodes",
            ],
            cwd=base,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        deadline = time.monotonic() + 180
        while True:
            try:
                self.get("/system_stats")
                break
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None and time.monotonic() < deadline, self.tail()
                time.sleep(0.3)
        self.nodes = json.loads(self.get("/object_info"))

    def tail(self):
        return (self.base / "log.txt").read_text()[-3000:]

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as reply:
            return reply.read()

    def post(self, path, body):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as reply:
                return json.loads(reply.read() or "{}")
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()[:3000]) from None

    def queue(self, prompt):
        return self.post("/prompt", {"prompt": prompt})["prompt_id"]

    def done(self, queued, seconds=120):
        """Wait for a queued prompt, and return its record."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            history = json.loads(self.get(f"/history/{queued}"))
            if queued in history:
                return history[queued]
            time.sleep(0.1)
        raise AssertionError(self.tail())

    def latent(self, prompt):
        """Run a prompt, and return its saved latent and the record."""
        import safetensors.torch

        record = self.done(self.queue(prompt))
        assert record["status"]["status_str"] == "success", record["status"]
        (saved,) = [each for output in record["outputs"].values() for each in output.get("latents", ())]
        path = self.base / "output" / saved["subfolder"] / saved["filename"]
        return safetensors.torch.load_file(path)["latent_tensor"], record


def pictures(folder):
    """Random pictures for LoadImage; what is transparent in one of them is drawn anew."""
    from PIL import Image

    made = {}
    for seed, name in enumerate(("edges.png", "style.png", "picture.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 4), np.uint8)
        pixels[..., 3] = 255
        if name == "picture.png":
            pixels[:, 32:, 3] = 0
        Image.fromarray(pixels).save(folder / name)
        made[name] = torch.from_numpy(pixels[None, ..., :3] / np.float32(255))
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.process.terminate()
    made.process.wait(30)
    made.log.close()


def prompt_of(server, name):
    """An example in the form that is queued: small, with loaders of tiny models, and its latent saved."""
    workflow = json.loads((FOLDER / "example_workflows" / f"{name}.json").read_text())
    sources = {link: [str(source), slot] for link, source, slot, *_ in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        kind = node["type"]
        if kind == "MarkdownNote":
            continue
        assert kind in server.nodes, f"{kind} is no node of this ComfyUI"
        kind = f"Tiny{kind}" if f"Tiny{kind}" in server.nodes else kind
        inputs = {each["name"]: sources[each["link"]] for each in node["inputs"] if each["link"] is not None}
        known = {**server.nodes[kind]["input"]["required"], **server.nodes[kind]["input"].get("optional", {})}
        own = [name for name, spec in known.items() if isinstance(spec[0], list) or spec[0] in WIDGETS]
        values = [value for value in node["widgets_values"] if value not in ("fixed", "image")]
        assert len(own) == len(values), (kind, own, values)
        inputs |= zip(own, values, strict=True)
        small = {"width": 64, "height": 64, "steps": STEPS}
        prompt[str(node["id"])] = {
            "class_type": kind,
            "inputs": {key: small.get(key, value) for key, value in inputs.items()},
        }
    sampler = next(key for key, each in prompt.items() if each["class_type"] == "SamplerCustomAdvanced")
    prompt["latent"] = {
        "class_type": "SaveLatent",
        "inputs": {"samples": [sampler, 0], "filename_prefix": name},
    }
    return prompt


WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def node_of(prompt, kind):
    return next(key for key, each in prompt.items() if each["class_type"] == kind)


def told():
    from comfyui.tests import real

    return [real.conditioning(real.Text().tokenize(text)) for text in (PROMPT, NEGATIVE)]


def loras():
    from comfyui.tests import real

    return [real.named_lora(host.sd15(0), f"lora_{k}.safetensors") for k in (1, 2)]


def direct(sample, models, image, sigmas, start, **options):
    starts = [
        start + (1 + sigmas[0] ** 2) ** 0.5 * host.noise_like(image, noise_seed(0, i)) for i in range(2)
    ]
    x = sample(models, starts, sigmas, disable=True, validate=False, **options)
    return models[0].guider.model_patcher.model.process_latent_out(x)


def test_two_loras(server):
    prompt = prompt_of(server, "two_LoRAs")
    got, record = server.latent(prompt)
    guiders = [host.cfg_guider(model, *told(), 7.0) for model in loras()]
    image, sigmas = torch.zeros(1, 4, 8, 8), host.schedule(guiders[0].model_patcher, "karras", STEPS)
    models = [host.Oracle(each, sigmas, image) for each in guiders]
    want = direct(amdm.sample_amdm, models, image, sigmas, 0, sampler=amdm.dpmpp_2m)
    assert_equal(got, want)
    shown = record["outputs"][node_of(prompt, "AMDMAngles")]
    assert shown["text"][0].count("\n") == 2 and shown["images"][0]["filename"].endswith(".png")


def test_control_and_style(server):
    import comfy.k_diffusion.sampling as sampling
    from nodes import ControlNetApplyAdvanced, StyleModelApply

    from comfyui.tests import real

    got, _ = server.latent(prompt_of(server, "ControlNet_and_style"))
    positive, negative = told()
    controlled = ControlNetApplyAdvanced().apply_controlnet(
        positive, negative, real.control_net(4), server.pictures["edges.png"], 1.0, 0.0, 1.0
    )
    seen = real.Vision().encode_image(server.pictures["style.png"])
    (styled,) = StyleModelApply().apply_stylemodel(positive, real.Style(), seen, 1.0, "multiply")
    model = host.sd15(0)
    parts = {"a": controlled, "b": (styled, negative), "caption": (positive, negative)}
    image, sigmas = torch.zeros(1, 4, 8, 8), host.schedule(model, "karras", STEPS)
    guided = {name: host.cfg_guider(model, *pair, 7.0) for name, pair in parts.items()}
    apart = {name: Apart(guider, sigmas, image) for name, guider in guided.items()}
    start = (1 + sigmas[0] ** 2) ** 0.5 * host.noise_like(image, 0)
    draws = sampling.BrownianTreeNoiseSampler(start, sigmas[sigmas > 0].min(), sigmas.max(), seed=0, cpu=True)
    want = amdm.sample_projective_guidance(
        [apart["a"], apart["b"]],
        start,
        sigmas,
        background=apart["caption"],
        guidance=2.0,
        window_eta=1.0,
        eta=1.0,
        sampler=amdm.dpmpp_2m_sde,
        noise_sampler=draws,
        disable=True,
        validate=False,
    )
    assert_equal(got, model.model.process_latent_out(want))


def test_inpainting(server):
    got, _ = server.latent(prompt_of(server, "inpainting"))
    from comfyui.tests import real

    image = real.Autoencoder().encode(server.pictures["picture.png"])
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    guiders = [host.cfg_guider(model, *told(), 7.0) for model in loras()]
    sigmas, one = host.schedule(guiders[0].model_patcher, "karras", STEPS), guiders[0].model_patcher.model
    noise, known = host.noise_like(image, 0), one.process_latent_in(image)
    models = [host.Oracle(each, sigmas, image, mask, noise) for each in guiders]
    want = direct(amdm.sample_amdm, models, image, sigmas, known, window=0.6, known=Known(known, mask, noise))
    assert_equal(got, want)
    assert host.off(got[..., :4], image[..., :4]) < 1e-4


class Apart:
    """A guider of CFGGuider whose two predictions are had from guiders of one prompt each."""

    def __init__(self, guider, sigmas, image):
        self.predictions, self.cfg = {}, guider.cfg
        for name in ("positive", "negative"):
            alone = host.basic_guider(guider.model_patcher)
            alone.original_conds = {"positive": guider.original_conds[name]}
            self.predictions[name] = host.Oracle(alone, sigmas, image)

    def conditional(self, x, sigma):
        return self.predictions["positive"](x, sigma)

    def both(self, x, sigma):
        return self.predictions["negative"](x, sigma), self.conditional(x, sigma)

    def guidance_at(self, sigma):
        return self.cfg

    def __call__(self, x, sigma):
        without, given = self.both(x, sigma)
        return without + self.cfg * (given - without)


def assert_equal(got, want):
    off = host.off(got, want)
    print(f"relative difference {off:.1e}")
    assert off < 2e-5


def test_only_what_changed_runs_again(server):
    prompt = prompt_of(server, "two_LoRAs")
    first, _ = server.latent(prompt)
    guider = node_of(prompt, "AMDMGuider")
    prompt[guider]["inputs"]["end"] = 0.8
    second, record = server.latent(prompt)
    cached = next(message for kind, message in record["status"]["messages"] if kind == "execution_cached")[
        "nodes"
    ]
    ran = {each["class_type"] for key, each in prompt.items() if key not in cached}
    assert ran == {
        "AMDMGuider",
        "AMDMAngles",
        "SamplerCustomAdvanced",
        "VAEDecode",
        "SaveImage",
        "SaveLatent",
    }
    assert host.off(second, first) > 1e-3
    prompt[guider]["inputs"]["end"] = 0.4
    again, _ = server.latent(prompt)
    assert host.off(again, first) == 0


def test_interruption(server):
    prompt = prompt_of(server, "two_LoRAs")
    want, _ = server.latent(prompt)
    scheduler = node_of(prompt, "BasicScheduler")
    prompt[scheduler]["inputs"]["steps"] = 400
    queued = server.queue(prompt)
    while not json.loads(server.get("/queue"))["queue_running"]:
        time.sleep(0.05)
    time.sleep(1)
    begun = time.monotonic()
    server.post("/interrupt", {})
    record = server.done(queued, 20)
    assert time.monotonic() - begun < 10
    assert "execution_interrupted" in [kind for kind, _ in record["status"]["messages"]]
    prompt[scheduler]["inputs"]["steps"] = STEPS
    assert host.off(server.latent(prompt)[0], want) == 0


def test_errors_are_sentences(server):
    prompt = prompt_of(server, "two_LoRAs")
    prompt[node_of(prompt, "KSamplerSelect")]["inputs"]["sampler_name"] = "lms"
    record = server.done(server.queue(prompt))
    said = dict(record["status"]["messages"])["execution_error"]["exception_message"]
    assert said.startswith("AMDM cannot step the sampler lms of this model, expected one of: euler, ddim")


def test_the_host_finds_examples_and_help(server):
    names = {path.stem for path in (FOLDER / "example_workflows").glob("*.json")}
    assert set(json.loads(server.get("/workflow_templates"))[NAME]) == names
    for name in names:
        assert server.get(f"/api/workflow_templates/{NAME}/{name}.jpg")[:2] == b"\xff\xd8"
    for node in ("AMDMGuider", "AMDMAngles"):
        assert server.nodes[node]["python_module"] == f"custom_nodes.{NAME}"
        page = server.get(f"/extensions/{NAME}/docs/{node}/en.md").decode()
        assert page.startswith(f"# {server.nodes[node]['display_name']}")
