"""What is measured of drawn images, what is said of what is not, and the files beside the paper's numbers."""

import csv
import json
from dataclasses import replace

import pytest
import tiny_judges
import torch
from PIL import Image
from real_data import detections, write_paths

from amdm.sample.tables import Problems
from benchmarks.real import __main__ as command
from benchmarks.real import drawing, measures, quality, results
from benchmarks.real.configurations import configured, images_of, prompts_of
from benchmarks.real.paths import read_paths
from benchmarks.real.rows import TABLES
from benchmarks.tables import Cell

ID_MIGC = "InteractDiffusion(+MIGC)"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return read_paths(write_paths(folder, measures={"detections": "detections"}), Problems())


def painted(table, benchmark, paths):
    """The images of a benchmark, in place of drawn ones."""
    prompts = prompts_of(benchmark, paths, Problems())
    config = configured(ID_MIGC, benchmark, prompts, paths, files=False)
    found = images_of(table, ID_MIGC, benchmark, prompts, config)
    for job in found.jobs:
        job.path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (512, 512)).save(job.path)
        job.manifest.write_text(json.dumps({"sha256": job.name}))
    return found


@pytest.fixture(scope="module")
def images(paths):
    return painted(1, "hico", paths)


@pytest.fixture(autouse=True)
def manifests(monkeypatch):
    monkeypatch.setattr(measures, "sha256_of", lambda path: json.loads(path.read_text())["sha256"])


def test_what_is_not_given_is_not_measured(images, paths):
    cells, lacking = measures.measure(TABLES[1], images, paths, quiet=True)
    assert not cells
    assert lacking["CLIP"] == "expected measures.clip in the file of paths"
    assert lacking["FID"] == "expected measures.inception and data.hico_images in the file of paths"
    where = f"{ID_MIGC}.pt, which FGAHOI finds in {paths.out / 'hico' / 'fgahoi' / ID_MIGC}"
    assert lacking[f"Default Full, Default Rare, Known Full, Known Rare of {ID_MIGC}"].endswith(where)


def test_interactions_of_what_fgahoi_found(images, paths):
    """Boxes are in the drawn images' pixels: 20 x 20 of 100 x 400 are 102 x 25 of 512 x 512."""
    folder = paths["measures.detections"]
    folder.mkdir(exist_ok=True)
    apple = detections(([0, 0, 512, 512], [256, 64, 358, 89], 47, {7: 0.9}))
    found = [{**apple, "file_name": "HICO_test2015_00000002.jpg"}]
    torch.save(found, folder / f"{ID_MIGC}.pt")  # those of a trial
    _, lacking = measures.measure(TABLES[1], images, paths, quiet=True)
    (why,) = [why for name, why in lacking.items() if name.startswith("Default Full")]
    assert "to have HICO_test2015_00000001 and others, 1 of 2 are missing: let FGAHOI read" in why
    found.append({**detections(), "file_name": "HICO_test2015_00000001.jpg"})
    torch.save(found, folder / f"{ID_MIGC}.pt")
    cells, _ = measures.measure(TABLES[1], images, paths, quiet=True)
    # 001 and 002 are not found, 003 is; of 004 there is nothing.
    assert {name: cell.value for name, cell in cells.items()} == pytest.approx(
        {"Default Full": 25, "Default Rare": 0, "Known Full": 25, "Known Rare": 0}
    )
    (folder / f"{ID_MIGC}.pt").unlink()


def test_photographs_are_seen_once_for_all_rows(images, paths, tmp_path, monkeypatch):
    """Inception's features are random here; its own tests say what FID and KID are."""
    seen = []

    def features(files, inception, *, device, side=None, quiet):
        seen.append((len(files), side))
        return torch.randn(len(files), 8, generator=torch.Generator().manual_seed(len(files)))

    monkeypatch.setattr(quality, "load", lambda file, device: None)
    monkeypatch.setattr(quality, "features", features)
    for i in range(30):
        (tmp_path / f"{i}.jpg").touch()
    given = {**paths.given, "data.hico_images": tmp_path, "measures.inception": tmp_path / "weights.pth"}
    paths = replace(paths, given=given)
    _, lacking = measures.measure(TABLES[1], images, paths, quiet=True)
    assert lacking[f"FID of {ID_MIGC}"] == "expected 20 or more images, found 2"
    twenty = images._replace(jobs=images.jobs * 10, prompts=images.prompts * 10)
    for _ in range(2):
        assert measures.looks(twenty, paths, tmp_path, True).keys() == {"KID"}
    assert seen == [(30, 512), (20, None), (20, None)]


def test_what_was_measured_is_remembered(images, paths, monkeypatch):
    times = []

    def measure(images, paths, folder, quiet):
        times.append(folder)
        return {"CLIP": Cell(27.0, 26.0, 28.0)}

    one = measures.Measure(("hico",), ("CLIP",), {}, measure)
    for _ in range(2):
        assert measures.remembered("x", one, images, paths, True) == {"CLIP": Cell(27.0, 26.0, 28.0)}
    assert times == [paths.out / "hico" / "measured" / ID_MIGC]
    images.jobs[0].manifest.write_text(json.dumps({"sha256": "another"}))
    measures.remembered("x", one, images, paths, True)
    assert len(times) == 2


def test_instances_and_captions_by_tiny_models(tmp_path):
    """The measures' own tests say what they measure; here all of table 2's columns come from folders."""
    folders = {"grounding_dino": tiny_judges.grounding_dino, "sam": tiny_judges.sam, "clip": tiny_judges.clip}
    given = {name: str(make(tmp_path / name)) for name, make in folders.items()}
    paths = read_paths(write_paths(tmp_path, measures=given), Problems())
    cells, lacking = measures.measure(TABLES[2], painted(2, "mig", paths), paths, quiet=True)
    without = {f"{kind} {level}" for kind in ("ISR", "mIoU") for level in ("L4", "L5", "L6")}
    assert set(TABLES[2].columns) - set(cells) == without
    assert lacking == {f"{column} of {ID_MIGC}": "expected more images" for column in without}
    assert all(0 <= cells[f"{kind} avg"].value <= 100 for kind in ("ISR", "mIoU"))
    records = (tmp_path / "out" / "mig" / "measured" / ID_MIGC / "instances.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in records] == ["500084_0", "000711_1"]


def test_the_seconds_of_all_processes(images):
    drawing.log_of(images).unlink(missing_ok=True)
    assert drawing.seconds_per_image(images) is None
    for count, seconds in ((3, 6.0), (1, 4.0)):
        drawing.note(images, count, seconds)
    assert drawing.seconds_per_image(images) == 2.5


def test_each_process_draws_its_share(images, monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "draw", lambda config, jobs, quiet: drawn.extend(job.name for job in jobs))
    monkeypatch.setattr(drawing, "own_share", lambda count: range(1, count, 2))
    drawing.draw_all([images], [[0, 1]], quiet=True)
    assert drawn == [images.jobs[1].name]


def test_results_beside_the_papers(images, paths):
    cells = {"CLIP": Cell(27.5, 27.0, 28.0), "KID": Cell(3.25)}
    rows = {row: {} for row in TABLES[1].rows} | {ID_MIGC: cells}
    text = results.write(TABLES[1], [images], rows, {"FID": "no photographs"}, paths, trial=True)
    assert f"{ID_MIGC} | - (31.4) | - (24.52) |" in text and "| - (18.35) | 27.50±0.50 (27.18) | 3.25" in text
    folder = paths.out / "results"
    lines = list(csv.DictReader((folder / "table1_trial.csv").read_text().splitlines()))
    assert len(lines) == 4 * 6 + 1
    mine = {line["column"]: line for line in lines if line["row"] == ID_MIGC}
    numbers = {"ours": "27.5000", "low": "27.0000", "high": "28.0000", "paper": "27.1800"}
    assert mine["CLIP"] == {"row": ID_MIGC, "column": "CLIP"} | numbers
    assert mine["FID"]["ours"] == "" and mine["KID"]["paper"] == ""
    how = json.loads((folder / "table1_trial.json").read_text())
    assert how["not measured"] == {"FID": "no photographs"} and how["images"][0]["number"] == 2
    assert (folder / "table1_trial.png").is_file()
    assert [results.digits(Cell(value)) for value in (0.581, 27.5)] == [".3f", ".2f"]  # as tables 8 and 1
    third = images._replace(config=replace(images.config, out=paths.out / "mig" / "correction 0.1"))
    named = results.manifest(TABLES[3], [third], {}, paths)["images"][0]["configuration"]
    assert named == str(paths.out / "mig" / "correction 0.1.toml")


@pytest.mark.parametrize("number", TABLES)
def test_every_table_has_a_picture(number):
    table = TABLES[number]
    rows = {row: {table.columns[0]: Cell(10.0, 9.0, 12.0)} for row in table.rows}
    assert len(results.figure(table, rows).axes) == len(table.columns)


def test_every_column_of_the_paper_is_measured():
    for table in TABLES.values():
        found = [one for benchmark in table.benchmarks for one in measures.of(table, benchmark).values()]
        assert set(table.columns) <= {column for one in found for column in one.columns}


def said(*words, capsys):
    status = command.main([str(word) for word in words])
    return status, capsys.readouterr()


def test_a_line_for_each_thing_that_is_wrong(tmp_path, capsys):
    file = write_paths(tmp_path, models={"sd14": "sd"}, measures={"clip": "clip", "sam": "sam"})
    status, printed = said("2", "--paths", file, "--dry-run", capsys=capsys)
    assert status == 2 and printed.out == ""
    judges, lines = printed.err.splitlines()[:2], printed.err.splitlines()[2:]
    assert [line.split(" is ")[0] for line in judges] == ["measures.sam", "measures.clip"]
    assert lines == [
        "models.migc_checkout is missing, expected a checkout of github.com/limuloo/MIGC",
        "models.migc_weights is missing, expected the file MIGC_SD14.ckpt",
        "models.interactdiffusion is missing, expected the folder interactdiffusion/diffusers-v1-2, "
        "or v1.0 in that format",
    ]


def test_files_that_are_not_there_are_said_before_anything_is_drawn(tmp_path, capsys):
    file = write_paths(tmp_path, measures={"clip": "clip", "sam": "sam"}, trust_remote_code=False)
    (tmp_path / "mig_bench.json").write_text("[]")
    status, printed = said("2", "--paths", file, capsys=capsys)
    assert status == 2
    lines = printed.err.splitlines()
    assert [line.split(" is ")[0] for line in lines] == ["measures.sam", "measures.clip", "data.mig_bench"]
    (tmp_path / "mig_bench.json").unlink()
    status, printed = said("1", "--paths", file, capsys=capsys)
    assert status == 2 and not list(tmp_path.rglob("*.png.part"))
    assert any("trust_remote_code" in line for line in printed.err.splitlines())


def test_arguments(capsys):
    for words, message in {
        ("7", "--paths", "x"): "invalid choice: 7",
        ("2",): "--paths",
        ("2", "--paths", "x", "--limit", "0"): "is 0, expected a whole number of 1 or more",
    }.items():
        with pytest.raises(SystemExit):
            command.main(words)
        assert message in capsys.readouterr().err
