"""Readers of the real benchmarks' files: what they return, and one line for what is wrong."""

import json
import pickle

import pytest
from PIL import Image
from real_data import MIG, write_coco, write_hico, write_json

from amdm.command_line.arguments import Expected
from benchmarks.real import coco, fgahoi, hico, mig_bench
from benchmarks.real.prompts import Instance, Interaction


def test_mig_bench(tmp_path):
    one, other = mig_bench.read(write_json(tmp_path / "mig.json", MIG))
    assert (one.name, one.caption) == ("500084_0", "a photo of a black cat and a white cat")
    assert one.instances[1] == Instance("a white cat", (0.5, 0.5, 0.8, 0.75))
    box = (0.125, 0.25, 0.5, 0.5)
    assert other.name == "000711_1" and other.interactions[2] == Interaction(
        "a brown bird", "and", "a brown bird", box, box
    )
    assert mig_bench.levels([one, other]) == {"L2": 1, "L3": 1, "L4": 0, "L5": 0, "L6": 0}
    assert mig_bench.label_of("a green dining table") == ("green", "dining table")


def broken(**changes):
    return {"7": {**MIG["0"], **changes}}


def labelled(label, box=(0, 0, 1, 1)):
    return broken(segment=[{"bbox": list(box), "label": label}] * 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it to be a dictionary, found a list"),
        ({"7": 1}, "entry '7' to be a dictionary, found a int"),
        (broken(caption=3), "entry '7' to have 'caption', a string, found 3"),
        (broken(segment=MIG["0"]["segment"][:1]), "entry '7' to have 2 to 6 instances, found 1"),
        (labelled("a pink cat"), r"a colour of red, .* found 'a pink cat'"),
        (labelled("a red cat", (0.5, 0, 0.5, 1)), "segment 0 to be a box with an area"),
        (labelled("a red cat", (0.5, 0, 1)), r"to be a box \[x0, y0, x1, y1\]"),
    ],
)
def test_what_is_no_mig_bench_is_named(tmp_path, value, message):
    with pytest.raises(Expected, match=message):
        mig_bench.read(write_json(tmp_path / "mig.json", value))


def test_no_json(tmp_path):
    (tmp_path / "mig.json").write_text("{")
    with pytest.raises(Expected, match="JSON: Expecting property name"):
        mig_bench.read(tmp_path / "mig.json")
    with pytest.raises(Expected, match="a file"):
        mig_bench.read(tmp_path / "none.json")


def test_hico_prompts(tmp_path):
    riders, eater = hico.prompts(write_hico(tmp_path))
    assert riders.name == "HICO_test2015_00000001"
    assert riders.caption == "a person is riding a bicycle, a person and a bicycle"
    bicycle = (0.0, 50 / 300, 100 / 600, 0.5)
    assert riders.interactions[1] == Interaction(
        "person", "riding", "bicycle", (200 / 600, 0.0, 0.5, 100 / 300), bicycle
    )
    assert [one.phrase for one in riders.instances] == ["a person", "a bicycle", "a person", "a person"]
    # The other apple has no area; in the third image nobody interacts.
    assert eater.caption == "a person is eating an apple" and len(eater.interactions) == 1


def test_hico_truth(tmp_path):
    dataset = hico.read(write_hico(tmp_path))
    assert len(dataset.truth) == 3 and dataset.rare == {"002", "004"}
    first = dataset.truth["HICO_test2015_00000001"]
    assert first.pairs["001"][1] == ([200, 0, 300, 100], [0, 50, 100, 150])
    assert first.objects == {2}


def test_the_folder_for_fgahoi(tmp_path):
    """600 x 300 pixels become 512 x 512, where 100 is 85.3 across and 50 is 85.3 down."""
    Image.new("RGB", (512, 512)).save(tmp_path / "drawn.png")
    name = "HICO_test2015_00000001"
    for _ in range(2):  # a folder that is there is made anew
        fgahoi.write(tmp_path / "fgahoi", write_hico(tmp_path / "hico"), {name: tmp_path / "drawn.png"})
    dataset = hico.read(tmp_path / "fgahoi" / "annotations")
    assert list(dataset.truth) == [name]
    assert dataset.truth[name].pairs["001"][1] == ([170, 0, 256, 170], [0, 85, 85, 256])
    (image,) = json.loads((tmp_path / "fgahoi" / "annotations" / "test_hico.json").read_text())
    assert image["annotations"][2]["bbox"] == [341, 0, 512, 341] and image["width"] == 512
    for part in ("test", "test2015"):  # FGAHOI's code and its guide differ
        with Image.open(tmp_path / "fgahoi" / "images" / part / f"{name}.jpg") as picture:
            assert picture.size == (512, 512)
    (tmp_path / "hico" / "corre_hico.npy").unlink()
    with pytest.raises(Expected, match=r"^corre_hico.npy in .*hico, which FGAHOI reads$"):
        fgahoi.write(tmp_path / "fgahoi", tmp_path / "hico", {name: tmp_path / "drawn.png"})


def test_rare_by_the_training_counts(tmp_path):
    categories = hico.read_categories(write_hico(tmp_path) / "hoi_list_new.json")
    counts = hico.training_counts(tmp_path / "trainval_hico.json", categories)
    # Twelve times one rider and one who does nothing; a third names a box that is not there.
    assert counts == {"001": 12, "002": 12, "003": 0, "004": 0}
    assert hico.rare_of(counts) == {"003", "004"}
    assert hico.rare_of({"a": 9, "b": 10}) == {"a"}


def test_an_interaction_that_is_not_of_the_600(tmp_path):
    write_hico(tmp_path)
    images = json.loads((tmp_path / "test_hico.json").read_text())
    images[0]["hoi_annotation"][0]["category_id"] = 117
    write_json(tmp_path / "test_hico.json", images)
    with pytest.raises(
        Expected, match=r"hoi_list_new.json to have verb 117 with object 2, which HICO_test2015_0"
    ):
        hico.prompts(tmp_path)


def test_objects_of_coco():
    assert len(hico.OBJECTS) == 80 and hico.OBJECTS[0] == 1 and hico.OBJECTS[-1] == 90


def test_interact_diffusions_own_words(tmp_path):
    image = {
        "prompt": "a person is riding a bicycle", "file_name": "HICO_test2015_00000001.jpg", "img_id": 1,
        "save_folder_name": "test2015", "subject_phrases": ["person"], "object_phrases": ["bicycle"],
        "action_phrases": ["riding"], "subject_boxes": [[0.0, 0.0, 0.5, 1.0]],
        "object_boxes": [[0.25, 0.5, 1.0, 1.0]],
    }  # fmt: skip
    outside = image | {"subject_boxes": [[1.5, 0.0, 2.0, 1.0]], "file_name": "HICO_test2015_00000002.jpg"}
    (tmp_path / "test.pkl").write_bytes(pickle.dumps([outside, image]))
    (prompt,) = hico.published_prompts(tmp_path / "test.pkl")
    assert prompt.name == "HICO_test2015_00000001" and prompt.caption == image["prompt"]
    assert prompt.interactions == (
        Interaction("person", "riding", "bicycle", (0.0, 0.0, 0.5, 1.0), (0.25, 0.5, 1.0, 1.0)),
    )
    assert [one.phrase for one in prompt.instances] == ["a person", "a bicycle"]
    (tmp_path / "test.pkl").write_bytes(pickle.dumps([print]))
    with pytest.raises(Expected, match=r"nothing of builtins.print"):
        hico.published_prompts(tmp_path / "test.pkl")


def test_coco(tmp_path):
    captions, instances = write_coco(tmp_path)
    said, seen = coco.first_captions(captions), coco.largest_instances(instances)
    assert said == {2: "A bus.", 5: "Nothing.", 9: "Two dogs."}
    bus, dogs = coco.prompts(said, seen, tmp_path / "images")
    assert (bus.name, bus.caption, bus.style) == ("000000000002", "A bus.", tmp_path / "images" / "bus.png")
    assert bus.instances == (Instance("a bus", (0.5, 0.0, 1.0, 0.5)),)
    # The larger dog is first; a box that ends outside of the image is cut.
    assert [one.box for one in dogs.instances] == [(0.0, 0.0, 1.0, 0.5), (0.25, 0.25, 0.5, 0.5)]
    assert dogs.interactions[0] == Interaction("a dog", "and", "a dog", *[(0.0, 0.0, 1.0, 0.5)] * 2)
    with pytest.raises(Expected, match=r"a folder with bus.png and others, 2 of 2 are missing"):
        coco.prompts(said, seen, tmp_path)
