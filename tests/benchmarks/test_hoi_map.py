"""HICO-DET's metrics: numbers by hand, and a brute force that shares nothing with them."""

import math
import random

import numpy as np
import pytest
import torch
from real_data import detections, write_hico

from amdm.command_line.arguments import Expected
from benchmarks.real import hico, hoi_map

FIRST, SECOND, THIRD = (f"HICO_test2015_{i:08}" for i in (1, 2, 3))
RIDERS = ([0, 0, 100, 100], [200, 0, 300, 100])
BICYCLE, APPLE = [0, 50, 100, 150], [50, 50, 70, 70]
OF_BICYCLES, OF_APPLES = 1, hico.OBJECTS.index(53)


def rides(rider, score):
    """A detection of a rider of the bicycle."""
    return rider, BICYCLE, OF_BICYCLES, {5: score}


@pytest.fixture
def dataset(tmp_path):
    return hico.read(write_hico(tmp_path))


def test_right_and_wrong_by_hand(dataset):
    """Category 001 has two riders. Scores .9 right, .8 in another image, .7 right: precisions 1, 1/2, 2/3.

    At recalls 0 to 0.5 the best is 1, at 0.6 to 1 it is 2/3. Known Object leaves the other image out: 1.
    002 has no detection: 0. 003 is found: 1. 004 has neither detection nor truth, and counts as 0.
    """
    found = {
        FIRST: detections(rides(RIDERS[0], 0.9), rides(RIDERS[1], 0.7)),
        SECOND: detections(rides(RIDERS[0], 0.8), ([0, 0, 100, 400], APPLE, OF_APPLES, {7: 0.1})),
    }
    scores = hoi_map.evaluate(found, dataset)
    riding = (6 + 5 * 2 / 3) / 11
    assert scores == pytest.approx(
        {"Default Full": 25 * (riding + 1), "Default Rare": 0, "Known Full": 50, "Known Rare": 0}
    )


def test_a_pair_is_found_once(dataset):
    """The same pair twice, a little apart: beyond the overlap of doubles, so the second is wrong.

    60 of 101 pixels' width are common, 61/141 of the union: no double, and no match either.
    """
    moved = [40, 0, 140, 100]
    found = {FIRST: detections(rides(RIDERS[0], 0.5), rides(moved, 0.9))}
    categories = dataset.categories
    of_riding = hoi_map.detect(found[FIRST], categories)["001"]
    assert of_riding.scores.tolist() == pytest.approx([0.9, 0.5])
    assert hoi_map.judge(of_riding, dataset.truth[FIRST].pairs["001"]).tolist() == [False, True]
    near = {FIRST: detections(rides(RIDERS[0], 0.5), rides([5, 0, 105, 100], 0.9))}
    assert hoi_map.detect(near[FIRST], categories)["001"].scores.tolist() == pytest.approx([0.9])


def test_the_hundred_best_of_the_600(dataset):
    """Verb 117 with a bicycle is not of the categories; of 150 apart riders the hundred best are left."""
    many = [
        ([2000 * i, 0, 2000 * i + 100, 100], BICYCLE, OF_BICYCLES, {5: i / 150, 117: 1.0}) for i in range(150)
    ]
    found = hoi_map.detect(detections(*many), dataset.categories)
    assert list(found) == ["001"]
    assert found["001"].scores.tolist() == pytest.approx([i / 150 for i in range(149, 49, -1)])


def test_edges_count(dataset):
    """Edges count as pixels, but a box between equal edges has no area; one half is not enough."""
    pair = [([0, 0, 9, 9], [0, 0, 9, 9])]
    half = hoi_map.Found(np.array([[0.0, 0, 9, 4]]), np.array([[0.0, 0, 9, 9]]), np.array([1.0]))
    assert not hoi_map.judge(half, pair)[0]  # 50 of 100 pixels
    more = half._replace(persons=np.array([[0.0, 0, 9, 5]]))
    assert hoi_map.judge(more, pair)[0]
    line = half._replace(persons=np.array([[3.0, 0, 3, 9]]))
    assert not hoi_map.judge(line, [([3, 0, 3, 9], [0, 0, 9, 9])])[0]


def test_only_the_images_that_were_drawn(dataset):
    found = {FIRST: detections(rides(RIDERS[0], 0.9), rides(RIDERS[1], 0.7))}
    assert hoi_map.evaluate(found, dataset, [FIRST])["Default Full"] == pytest.approx(25)
    nothing = hoi_map.evaluate({}, dataset)
    assert nothing["Default Full"] == 0
    without = hico.Dataset(dataset.categories, frozenset(), dataset.truth)
    assert math.isnan(hoi_map.evaluate(found, without)["Default Rare"])


def brute(found, dataset, known):
    """The definition, detection by detection, with integers and without arrays."""

    def overlap(a, b):
        def area(x0, y0, x1, y1):
            return (x1 - x0 + 1) * (y1 - y0 + 1) if x1 > x0 and y1 > y0 else 0

        common = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        return common / (area(*a) + area(*b) - common)

    total = []
    for one in dataset.categories:
        listed, wanted = [], 0
        for name, image in dataset.truth.items():
            if known and one.object not in (image.objects or ()):
                continue
            wanted += len(image.pairs.get(one.id, []))
            for person, thing, label, verbs in found.get(name, []):
                if hico.OBJECTS[label] == one.object and one.verb in verbs:
                    listed.append((verbs[one.verb], name, person, thing))
        taken, hits, best = set(), [], [0.0] * 11
        for _, name, person, thing in sorted(listed, reverse=True):
            for i, pair in enumerate(dataset.truth[name].pairs.get(one.id, [])):
                if (
                    (name, i) not in taken
                    and overlap(person, pair[0]) > 0.5
                    and overlap(thing, pair[1]) > 0.5
                ):
                    taken.add((name, i))
                    hits.append(True)
                    break
            else:
                hits.append(False)
        for i in range(len(hits)):
            right = sum(hits[: i + 1])
            for level in range(11):
                if wanted and right / wanted >= level * 0.1:
                    best[level] = max(best[level], right / (i + 1))
        if wanted or not listed:
            total.append(sum(best) / 11)
    return 100 * sum(total) / len(total)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_the_definition_says(seed):
    """Random truths and detections, few enough that no image has a hundred, and none that are doubles."""
    draw = random.Random(seed)
    kinds = [(verb, thing) for verb in (3, 4, 5) for thing in (0, 1)]
    categories = [
        hico.Category(f"{i:03}", verb, hico.OBJECTS[t], "", "") for i, (verb, t) in enumerate(kinds)
    ]

    def box():
        x, y = draw.randrange(0, 60), draw.randrange(0, 60)
        return [x, y, x + draw.randrange(20, 60), y + draw.randrange(20, 60)]

    truth, found = {}, {}
    for name in "abcdefgh":
        pairs = {one.id: [(box(), box()) for _ in range(draw.randrange(3))] for one in categories}
        objects = frozenset(draw.sample((1, 2), draw.randrange(3)))
        truth[name] = hico.Truth(pairs, objects if draw.random() < 0.9 else None)
        found[name] = []
        for one in categories:
            for person, thing in pairs[one.id]:
                shift = [draw.randrange(-9, 10) for _ in range(4)]
                near = [edge + by for edge, by in zip(person, shift, strict=True)]
                found[name].append((near, thing, hico.OBJECTS.index(one.object), {one.verb: draw.random()}))
            far = 1000 * (1 + len(found[name]))
            found[name].append(
                ([far, 0, far + 50, 50], box(), hico.OBJECTS.index(one.object), {one.verb: draw.random()})
            )
    dataset = hico.Dataset(categories, frozenset({"000"}), truth)
    # Doubles are left to the cases above.
    kept = {name: [p for p in pairs if _alone(p, pairs)] for name, pairs in found.items()}
    given = {name: detections(*pairs) for name, pairs in kept.items()}
    scores = hoi_map.evaluate(given, dataset)
    assert scores["Default Full"] == pytest.approx(brute(kept, dataset, known=False))
    assert scores["Known Full"] == pytest.approx(brute(kept, dataset, known=True))


def _alone(pair, pairs):
    """True for the first of pairs of one category whose persons overlap at all."""
    person, _, label, verbs = pair
    for other, _, other_label, other_verbs in pairs[: pairs.index(pair)]:
        if (label, *verbs) == (other_label, *other_verbs):
            apart = person[0] > other[2] + 1 or other[0] > person[2] + 1
            if not (apart or person[1] > other[3] + 1 or other[1] > person[3] + 1):
                return False
    return True


def test_the_file_of_detections(tmp_path):
    one = detections(rides(RIDERS[0], 0.9))
    torch.save([{**one, "file_name": f"{FIRST}.jpg"}], tmp_path / "detections.pt")
    read = hoi_map.read(tmp_path / "detections.pt")
    assert list(read) == [FIRST] and torch.equal(read[FIRST]["boxes"], one["boxes"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "a list with a dictionary for each image, found a dict"),
        ([{"file_name": "a.jpg"}], "image 0 to have boxes, labels, verb_scores, sub_ids, obj_ids"),
        (
            [
                {
                    **detections((RIDERS[0], BICYCLE, 1, {})),
                    "file_name": "a",
                    "verb_scores": torch.zeros(1, 600),
                }
            ],
            r"verb_scores of shape \(1, 117\), found \(1, 600\)",
        ),
    ],
)
def test_another_file_is_named(tmp_path, content, message):
    torch.save(content, tmp_path / "detections.pt")
    with pytest.raises(Expected, match=message):
        hoi_map.read(tmp_path / "detections.pt")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save([print], tmp_path / "detections.pt")
    with pytest.raises(Expected, match="with tensors"):
        hoi_map.read(tmp_path / "detections.pt")
