"""The rows of the paper's tables: all are there, as configurations that say what the paper does."""

import tomllib
from functools import cache

import pytest
from real_data import write_paths

from amdm.sample.methods import evaluations
from amdm.sample.tables import Problems
from benchmarks import paper
from benchmarks.real.configurations import configured, images_of, needed, prompts_of, toml
from benchmarks.real.paths import FILES, read_paths
from benchmarks.real.rows import SETTINGS, TABLES


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    problems = Problems()
    found = read_paths(write_paths(tmp_path_factory.mktemp("real"), seed=3), problems)
    assert not problems.lines
    return found


@pytest.fixture(scope="module")
def drawn(paths):
    """Return a function for a row's images; each setting is read once."""
    problems = Problems()
    prompts = {benchmark: prompts_of(benchmark, paths, problems) for benchmark in ("mig", "hico", "coco")}
    assert not problems.lines

    @cache
    def read(setting, benchmark):
        return configured(setting, benchmark, prompts[benchmark], paths, files=False)

    def of(table, row, benchmark=""):
        benchmark = benchmark or TABLES[table].benchmarks[0]
        config = read(TABLES[table].rows[row].setting, benchmark)
        return images_of(table, row, benchmark, prompts[benchmark], config)

    return of


@pytest.mark.parametrize("number", TABLES)
def test_every_row_of_the_paper_is_there(number):
    table = TABLES[number]
    rows = set(getattr(paper, f"TABLE_{number}")) - {"columns"}
    assert set(table.rows) == rows
    assert all(len(table.published(row)) == len(table.columns) for row in rows)


def test_numbers_of_the_paper():
    assert TABLES[2].published("InteractDiffusion(+MIGC)")["ISR avg"] == 54.78
    assert TABLES[3].published("0.3")["mIoU avg"] == 47.74


@pytest.mark.parametrize("number", TABLES)
def test_every_row_can_be_drawn(number, drawn, paths):
    for row in TABLES[number].rows:
        images = drawn(number, row)
        assert len(images.jobs) == len(images.prompts) == 2
        assert [job.seed for job in images.jobs] == [3_000_000, 3_000_001]
        assert {file.parent for file in images.files} == {paths.out / images.benchmark / images.setting}
        assert images.name == images.setting or images.name.endswith(f" alone, {images.setting}")


COSTS = {
    (1, "MIGC"): [50],
    (1, "MIGC(+InteractDiffusion)"): [50, 20],
    (3, "0.1"): [50, 20],
    (4, "middle"): [50, 35],
    (4, "late"): [50, 50],
    (6, "Du et al. (2023)"): [150, 150],
    (6, "Bradley et al. (2025)"): [50, 50, 50],
    (6, "Skreta et al. (2025a)"): [200, 200],
    (6, "Skreta et al. (2025b)"): [50, 50],
    (8, "IP-Adapter"): [10],
    (9, "InteractDiffusion(+IP-Adapter)"): [10, 5],
}


@pytest.mark.parametrize(("row", "cost"), COSTS.items(), ids=map(str, COSTS))
def test_what_an_image_costs(row, cost, drawn):
    images = drawn(*row)
    assert evaluations(images.config.sampling, len(images.jobs[0].models), images.config.steps) == cost


def test_the_papers_setting(drawn, paths):
    """Appendix G.2: 50 steps, 20 of them aggregated, weight 0.5, both corrections 0.3."""
    images = drawn(2, "InteractDiffusion(+MIGC)")
    with (paths.out / "mig" / "InteractDiffusion(+MIGC).toml").open("rb") as file:
        read = tomllib.load(file)
    assert read["sampling"] == {"method": "amdm", "weights": 0.5, "correction": 0.3, "window": 20}
    assert read["call"] == {"num_inference_steps": 50, "guidance_scale": 7.5}
    assert [model["system"] for model in read["models"]] == ["InteractDiffusion", "MIGC"]
    lead, partner = images.jobs[0].calls
    assert lead["interactdiffusion_action_phrases"] == ["and", "and"]
    assert lead["interactdiffusion_subject_phrases"] == lead["interactdiffusion_object_phrases"]
    assert partner["prompt"] == [["a photo of a black cat and a white cat", "a black cat", "a white cat"]]
    assert partner["MIGCsteps"] == 25
    assert "longbody" in lead["negative_prompt"] and lead["negative_prompt"] == partner["negative_prompt"]
    assert images.config.sampling.starts == "independent"


def test_the_style_goes_to_the_adapter_alone(drawn):
    lead, partner = drawn(8, "InteractDiffusion(+IP-Adapter)").jobs[0].calls
    assert "ip_adapter_image" not in lead and partner["ip_adapter_image"].endswith("bus.png")
    (alone,) = drawn(9, "IP-Adapter").jobs[0].calls
    assert alone["ip_adapter_image"] == partner["ip_adapter_image"]


def test_one_setting_is_drawn_once_for_all_tables(drawn):
    joined = [(2, "InteractDiffusion(+MIGC)"), (3, "0.3"), (4, "early"), (6, "InteractDiffusion(+MIGC)")]
    files = [drawn(*row).files for row in joined]
    assert all(each == files[0] for each in files)
    assert not set(drawn(2, "InteractDiffusion").files) & set(files[0])


def test_settings_that_the_paper_does_not_say_are_called_ours():
    silent = {name for name, one in SETTINGS.items() if one.ours}
    assert silent == {"Langevin", "projective", "FKC", "SuperDiff AND"}


def test_what_a_table_needs():
    migc = ["models.sd14", "models.migc_checkout", "models.migc_weights"]
    assert needed(2) == [*migc, "models.interactdiffusion", "data.mig_bench"]
    assert "models.sdxl" in needed(9) and "models.sdxl" not in needed(8)


def test_a_path_that_is_not_given(paths):
    problems = Problems()
    assert not paths.need(["measures.sam", "models.sd14"], problems)
    assert problems.lines == ["measures.sam is missing, expected the folder facebook/sam-vit-huge"]


def test_what_is_wrong_in_the_file_of_paths(tmp_path):
    (tmp_path / "paths.toml").write_text(
        'seed = "a"\ncolour = 1\nmeasures = 3\n[models]\nsd13 = "x"\nsd14 = 1\n'
    )
    problems = Problems()
    read_paths(tmp_path / "paths.toml", problems)
    assert problems.lines == [
        f"models.sd13 is not a key, expected one of {', '.join(FILES['models'])}",
        "models.sd14 is 1, expected a path, in quotes",
        "measures is 3, expected a table",
        "colour is not a key, expected one of out, seed, dtype, trust_remote_code, negative_prompt",
        "seed is 'a', expected a whole number of 0 or more",
    ]
    for text in (None, "a ="):
        if text:
            (tmp_path / "other.toml").write_text(text)
        problems = Problems()
        read_paths(tmp_path / "other.toml", problems)
        assert len(problems.lines) == 1 and "other.toml, expected a TOML file: " in problems.lines[0]


def test_toml_is_read_as_it_was_written():
    values = {
        "a": 'say "é"\n\\', "b": [0.5, 1], "c": True, "d": {"e": 1}, "f": [{"g": "x"}, {"g": "y"}],
    }  # fmt: skip
    assert tomllib.loads(toml(values)) == values
