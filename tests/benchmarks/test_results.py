"""The committed results: the report and the README say what the tables say."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from amdm.shapes.configs import AGGREGATED
from benchmarks import (
    afa,
    best_length,
    caption_choice,
    caption_guide,
    caption_noise,
    caption_once,
    caption_three,
    dilution,
    figure6_7,
    fronts,
    overview,
    paper,
    report,
    stages,
    table6,
    table6_sweep,
    table7,
    table8_9,
    table10,
    tables,
)
from benchmarks.__main__ import EXPERIMENTS, HERE, modules
from benchmarks.methods import levels
from benchmarks.table1_2 import AB

SUMMARY = ("mAP default full", "ISR avg", "scene right", "KID above renders")
README = Path(__file__).parents[2] / "README.md"
RESULTS = [name for name in EXPERIMENTS if (HERE / "results" / f"{name}.csv").exists()]
REPORT = (HERE / "REPORT.md").read_text()


def test_what_the_readme_says_of_the_caption_counted_once():
    readme = README.read_text()
    table = tables.read(HERE / "results" / "caption_choice.csv")
    noise = tables.read(HERE / "results" / "caption_noise.csv")
    rows = dict.fromkeys((caption_choice.ALL, caption_choice.FEW, caption_once.PUBLISHED), table)
    for how, where in (rows | {caption_noise.LINEAR: noise}).items():
        first, second = (
            where[caption_once.label(models, how)].cells["scene right"] for models in caption_once.LEADS
        )
        assert f"| {first} and {second} % |" in readme
    looks = [
        gap("caption_choice", *(caption_once.label(models, each) for each in JOINED), "KID")
        for models in caption_once.LEADS
    ]
    assert f"(KID {looks[0]} and {looks[1]}, times 1000)" in " ".join(readme.split())
    ahead = [
        gap("caption_noise", *(caption_once.label(models, each) for each in NOISY), "scene right")
        for models in caption_once.LEADS
    ]
    said = f"(+{ahead[0]}), behind if B does (+{ahead[1]})"
    assert said in " ".join(readme.split())
    three = tables.read(HERE / "results" / "caption_three.csv")
    ours, *theirs = (
        three[row].cells["scene right"].value
        for row in (caption_three.NOISY, caption_three.LINEAR, caption_three.PUBLISHED, caption_three.OTHER)
    )
    amdm = " or ".join(f"{value:.1f}" for value in theirs[1:])
    said = f"Three models: {ours:.1f}% right, linear fold {theirs[0]:.1f}%, AMDM {amdm}%"
    assert said in " ".join(readme.split())
    costs = tables.read(HERE / "results" / "table6_published.csv")
    times = [round(costs[name].evaluations / costs["AMDM"].evaluations) for name in DEAR]
    assert f"{times[1]} (FKC) to {times[0]} (ULA) times AMDM's evaluations" in readme


ON_THE_PAGE = [
    *(
        ("caption_guide", caption_guide.label("layout", g), caption_guide.label("attribute", g))
        for g in (2, 3)
    ),
    ("dilution", dilution.PUBLISHED, dilution.HALF),
    ("dilution", dilution.LINEAR_ONE, dilution.HALF),
    *(
        ("caption_three", caption_three.NOISY, other)
        for other in (caption_three.PUBLISHED, caption_three.OTHER, caption_three.LINEAR)
    ),
    *(("fronts", fronts.label(one, 7), fronts.label(fronts.AMDM, 7)) for one in (fronts.ONCE, fronts.NOISY)),
]


def test_what_the_methods_page_says_of_noise_for_all():
    page = " ".join((README.parent / "docs/methods/projective_guidance.md").read_text().split())

    def said(models, how, other):
        row = caption_once.label(models, how)
        cells = [gap("caption_noise", row, other, metric) for metric in ("scene right", "KID")]
        first, looks = (f"{'+' if cell.value > 0 else ''}{cell}" for cell in cells)
        return first, looks

    for how in (caption_noise.AMDM, caption_noise.LINEAR, caption_noise.PROJECTIVE):
        for models in caption_once.LEADS:
            other = how if how == caption_noise.PROJECTIVE else caption_once.label(models, how)
            assert "{}, KID {}".format(*said(models, caption_choice.ALL, other)) in page
    equal, behind = (said(models, SHARED, caption_noise.PROJECTIVE) for models in caption_once.LEADS)
    lagging = caption_once.label(caption_once.LEADS[1], SHARED)
    fewer = turned(gap("caption_noise", lagging, caption_noise.PROJECTIVE, "scene right"))
    assert f"({equal[0]})" in page and f"{fewer} points fewer" in page and behind[1] in page


@pytest.mark.parametrize(("name", "one", "other"), ON_THE_PAGE)
def test_what_the_methods_page_says_of_guides_and_few_steps(name, one, other):
    """Differences of the scenes that are right, and of the interactions that an average loses."""
    metric = "interactions" if name == "dilution" else "scene right"
    page = " ".join((README.parent / "docs/methods/projective_guidance.md").read_text().split())
    assert str(gap(name, one, other, metric)) in page


JOINED = (caption_choice.ALL, caption_once.PUBLISHED)
NOISY = (caption_choice.ALL, caption_noise.LINEAR)
SHARED = caption_noise.SHARED
DEAR = ("ULA (Du 2023)", "FKC (Skreta 2025a)")


def test_the_report_is_made_from_the_tables(tmp_path):
    shutil.copytree(
        HERE / "results",
        tmp_path / "results",
        ignore=shutil.ignore_patterns("*.png", "claims.csv", "paper.csv"),
    )
    made = report.write(tmp_path, modules())
    assert made.read_text() == REPORT
    for written in (report.CLAIMS, report.PAPER):
        assert (tmp_path / written).read_text() == (HERE / written).read_text()


def test_the_report_can_be_read():
    """At most 6,000 words and 8 columns, claims first; an experiment has a picture and at most one table."""
    words = [word for word in REPORT.split() if any(letter.isalnum() for letter in word)]  # no table's bars
    assert len(words) <= 6000
    first, *rest = re.split(r"^## ", REPORT, flags=re.M)
    assert first.count("\n---|") == 3 and [part.splitlines()[0] for part in rest[2:]] == [
        module.TITLE for module in modules(RESULTS).values()
    ]
    for part in rest[2:]:
        assert part.count("\n---|") <= 1 and part.count("![") == 1 and part.count("\n*") == 1
    assert max(rule.count("---") for rule in re.findall(r"^---.*$", REPORT, re.M)) <= 8
    assert all(len(module.SAYS) <= 3 for module in modules(RESULTS).values() if hasattr(module, "SAYS"))


def test_the_reports_links_lead_somewhere():
    headings = {overview.anchor(title) for title in re.findall(r"^## (.*)$", REPORT, re.M)}
    links = re.findall(r"\]\(([^)]*)\)", REPORT)
    assert {link[1:] for link in links if link[0] == "#"} <= headings
    assert all((HERE / link).exists() for link in links if link[0] != "#")


def sections():
    found = {}
    for name, module in modules(RESULTS).items():
        gaps = differences(name) if (HERE / "results" / f"{name}_differences.csv").exists() else {}
        found[name] = module, module.section(tables.read(HERE / "results" / f"{name}.csv"), gaps)
    return found


def test_every_claim_is_in_the_reports_first_tables():
    """Each once, with its verdict; the statements of `theory_checks` by their settings."""
    overviews = REPORT.split("\n## ")[0].splitlines()
    lines = [*overview.of_theory(), *overview.of_theory(ours=True)]
    records = json.loads(overview.THEORY.read_text())
    assert sum(sum(line.verdicts.values()) for line in lines) == len(records)
    for line in lines:
        verdicts = [
            r["verdict"] for r in records if overview.statement_of(r["statement"]).claim == line.claim
        ]
        assert ("fails" in line.verdicts) == ("fails" in verdicts)
    with (HERE / report.CLAIMS).open() as file:
        rows = list(csv.DictReader(file))
    claims = [(module, claim) for module, section in sections().values() for claim in section.claims]
    assert len(rows) == len(claims)
    for row, (module, claim) in zip(rows, claims, strict=True):
        assert (row["experiment"], row["claim"], row["verdict"]) == (module.TITLE, claim.claim, claim.verdict)
        words = (claim.line or claim.claim)[1:]
        place = f"(#{overview.anchor(module.TITLE)})"
        (line,) = [
            line for line in overviews if f"{words} | " in line.replace("](", " | ](") and place in line
        ]
        mark = "" if row["corrected"] in ("the same", "not tested") else overview.MARK
        assert f"{claim.verdict}{mark}" in line
        assert line.startswith(f"[{claim.place[:1].upper()}{claim.place[1:]}](") == bool(claim.place)
    theirs = [line for line in overviews if line.count(" | ") == 4]
    ours = [line for line in overviews if line.count(" | ") == 1]
    assert (len(theirs), len(ours)) == (len(set(theirs)), len(set(ours)))
    lines += [
        line for module, section in sections().values() for line in report.lines_of(section, module.TITLE, 1)
    ]
    assert len(theirs) + len(ours) == len(lines) + 2  # the heads


def test_a_verdict_has_its_colour():
    line = overview.Line("table 1", "t", "c", "", "", {"refuted": 2, "undecided": 1, "supported": 3})
    assert overview.verdict_of(line) == "🟢 supported 3, 🟡 undecided 1, 🔴 refuted 2"
    assert overview.verdict_of(line._replace(verdicts={"fails": 4})) == "🔴 fails"
    assert overview.verdict_of(line._replace(verdicts={"reproduces†": 1})) == "🟢 reproduces†"
    with pytest.raises(ValueError, match="'Lemma Z' has no line"):
        overview.statement_of("Lemma Z")


def test_the_numbers_in_the_reports_sentences():
    rows = [("", 3), ("", 7), (", steps 1 to 7", 7)]
    pairs = [(f"{AB}{how}", f"{AB}, published, steps 1 to {last}") for how, last in rows]
    scenes = [gap("published", *pair, "scene right") for pair in pairs]
    assert [round(cell.value) for cell in scenes] == [35, 34, 18]
    table = tables.read(HERE / "results" / "table6_published.csv")
    ahead = {
        row: cells
        for row, cells in table.items()
        if cells.cells["scene right"].value > 72 and row != "renders"
    }
    times = [round(row.evaluations / table["AMDM"].evaluations) for row in ahead.values()]
    assert [name.split(" (")[0] for name in ahead] == ["SuperDiff AND", "FKC"] and times == [21, 11]
    table = tables.read(HERE / "results" / "best_length.csv")
    gains = {row: cells.cells[best_length.GAIN].value for row, cells in table.items()}
    assert max(gains.values()) < 3
    assert all(gain <= 0 for row, gain in gains.items() if "of the way" not in row)
    for s in figure6_7.STEPS:
        cells = differences("figure6_7")[f"spherical, s = {s} - linear, s = {s}"].cells
        assert (cells["ISR avg"].high < 0) == (s in figure6_7.FEW)
        assert cells["KID"].low < 0 < cells["KID"].high
    for how in ("g = 3", "g = 2, eta = 1"):
        for pair in ("layout(+attribute)", "attribute(+layout)"):
            cell = gap(
                "caption_once", f"{pair}, caption once, {how}", f"{pair}, AMDM as published", "scene right"
            )
            assert cell.low > 0


@pytest.mark.parametrize("name", RESULTS)
def test_every_table_has_a_picture_and_a_manifest_and_knows_its_commit(name):
    assert (HERE / "results" / f"{name}.png").exists()
    manifest = (HERE / "results" / f"{name}.json").read_text()
    assert '"measured by"' in manifest and "+changes" not in manifest


def differences(name):
    return tables.read(HERE / "results" / f"{name}_differences.csv")


def gap(name, one, other, metric):
    return differences(name)[f"{one} - {other}"].cells[metric]


def test_the_causes_that_the_report_gives_are_in_the_tables():
    """Interactions lost with s and made up for by a short first fold; late windows of unrelated images."""
    lost = [gap("figure6_7", f"spherical, s = {s}", "layout", "mAP default full") for s in (5, 50)]
    assert lost[1].high < lost[0].value < 0
    for how, keeps in (("linear", True), ("spherical, first fold x 0.707", True), ("spherical", False)):
        cell = gap("controls", f"layout(+attribute), {how}", "layout", "mAP default full")
        assert (cell.low > -report.POINTS) == keeps, how
    poor = gap("table4", "late", "layout", "KID")
    fine = gap("table4", "late, from the lead", "layout", "KID")
    assert poor.low > 0 and fine.high < report.MARGIN["KID"]
    nothing = gap("table4", "late, from the lead", "layout", "ISR avg")
    assert abs(nothing.low) < report.POINTS and abs(nothing.high) < report.POINTS
    apart = gap("table10", table10.SHARED, table10.IN_VP, "ISR avg")
    assert abs(apart.value) < report.POINTS and gap("table10", table10.IN_VP, "layout", "ISR avg").low > 0
    style = [
        tables.read(HERE / "results" / "table8_9.csv")[row].cells["style"].value
        for row in (table8_9.A, table8_9.ABC_OTHER, table8_9.AC, table8_9.ABC, table8_9.C)
    ]
    assert style == sorted(style)


def test_what_afas_page_says_of_table_6():
    page = " ".join((README.parent / "docs/methods/afa.md").read_text().split())
    table = tables.read(HERE / "results" / "table6.csv")
    for row in (table6.AFA, "AMDM"):
        assert all(
            str(table[row].cells[metric]) in page for metric in ("scene right", "interactions", "colours")
        )
    assert (table[table6.AFA].seeds, table["AMDM"].seeds) == (1, 3)
    assert AGGREGATED["afa"].images == 17_920
    assert all(f"({gap('afa', afa.TRAINED, other, 'scene right')})" in page for other in afa.OTHERS)


def test_what_amdms_page_says_of_table_6():
    """AMDM leads in interactions, not in instances; as published it is behind linear but for images."""
    page = " ".join((README.parent / "docs/methods/amdm.md").read_text().split())
    table = tables.read(HERE / "results" / "table6.csv")
    assert f"Its ISR of {table['AMDM'].cells['ISR avg']} is within a point" in page
    kids = [table[row].cells["KID"] for row in ("AMDM", table6.PUBLISHED)]
    assert f"at the price of its images (KID {kids[0]}, with the paper's settings {kids[1]})" in page
    verdicts = {claim.claim: claim.verdict for claim in table6.section(table, differences("table6")).claims}
    compared = {name: verdicts[f"AMDM controls more than {name}"] for name in table6.NUMBERS}
    assert {name for name, verdict in compared.items() if verdict == "undecided"} == {
        "FKC (Skreta 2025a)",
        "ULA (Du 2023)",
        "HMC (Du 2023)",
    }
    assert set(compared.values()) == {"undecided", "reproduces"}
    assert round(gap("table6", "AMDM", "SuperDiff OR (Skreta 2025b)", "ISR avg").value) == 36
    others = [method for method in table6.OTHERS if "OR" not in method]
    assert len(others) == 7
    for method in others:
        assert abs(gap("table6", "AMDM", method, "ISR avg").value) < 1
        assert gap("table6", "AMDM", method, "mAP default full").low > 0
    ahead = gap("table6", "AMDM", "linear (Liu 2022)", "ISR avg")
    assert f"`linear` is {turned(ahead)} above it" in page
    assert gap("table6", "AMDM", "SuperDiff OR (Skreta 2025b)", "ISR avg").low > 30
    theirs = [row[0] for name, row in paper.TABLE_6.items() if "al." in name]
    ahead = [paper.TABLE_6["InteractDiffusion(+MIGC)"][0] - isr for isr in theirs]
    assert (round(min(ahead)), round(max(ahead))) == (7, 10)
    least = min(others, key=lambda method: gap("table6", "AMDM", method, "mAP default full").value)
    most = max(table6.OTHERS, key=lambda method: gap("table6", "AMDM", method, "mAP default full").value)
    for method, name in ((least, "SuperDiff AND"), (most, "SuperDiff OR")):
        cell = gap("table6", "AMDM", method, "mAP default full")
        assert method.startswith(name) and str(cell) in page
    assert experiment_of("AMDM").eta == 1.0 and experiment_of(table6.PUBLISHED).eta == 0.0
    for method in ("linear (Liu 2022)", "conjunction (Liu 2022)", "projective (Bradley 2025)"):
        assert dict(experiment_of(method).options)["eta"] == 1.0
    assert dict(experiment_of("FKC (Skreta 2025a)").options)["eta"] == 1.0
    behind = gap("table6", table6.PUBLISHED, "linear (Liu 2022)", "scene right")
    assert f"{turned(behind)} points fewer scenes right" in page
    better = gap("table6", table6.PUBLISHED, "linear (Liu 2022)", "KID")
    assert f"KID lower by {turned(better)}" in page
    dear = ["SuperDiff AND (Skreta 2025b)", "FKC (Skreta 2025a)"]
    both = " and ".join(turned(gap("table6_published", "AMDM", name, "scene right")) for name in dear)
    assert f"{both} points more scenes right" in page
    table = tables.read(HERE / "results" / "table6_published.csv")
    times = [round(table[name].evaluations / table["AMDM"].evaluations) for name in dear]
    assert f"for {times[0]} and {times[1]} times its evaluations" in page


def turned(cell):
    """A difference the other way round."""
    return f"{-cell.value:.1f} [{-cell.high + 0.0:.1f}, {-cell.low:.1f}]"


def test_which_choices_of_the_sweep_are_at_the_end_of_what_was_tried():
    chosen = table6_sweep.best(tables.read(HERE / "results" / "table6_sweep.csv"))
    assert "guidance 7.5" in chosen["SuperDiff OR (Skreta 2025b)"]
    assert "0.03 sigma^2, weights (1.0, 1.0)" in chosen["ULA (Du 2023)"]
    assert "0.01 sigma^2" in chosen["HMC (Du 2023)"]
    assert "weights (1.5, 1.5)" in chosen["FKC (Skreta 2025a)"]


def experiment_of(row):
    return table6.experiment("full").rows[row]


def test_why_amdm_is_not_for_the_plane():
    """A half has the whole's likelihood, not its discrepancy; noise brings what is far off back to it."""
    table = tables.read(HERE / "results" / "table7.csv")
    rows = {row: table[f"{row}, exact"].cells for row in table7.METHODS | table7.EXACT}
    truth, half = rows["truth"], rows["AMDM, window 0"]
    assert truth[table7.LIKELIHOOD].value == pytest.approx(2.096, abs=0.03)
    assert half[table7.LIKELIHOOD].value == pytest.approx(2.096, abs=0.03)
    noisy, calm = (rows[f"AMDM, window 0.4{eta}"] for eta in (", eta 1", ""))
    assert noisy[table7.LIKELIHOOD].value > 2 and calm[table7.LIKELIHOOD].value < -10
    for metric in table7.DISCREPANCY.values():
        assert truth[metric].high < half[metric].low
        assert noisy[metric].value == pytest.approx(half[metric].value, abs=0.1)


def test_what_is_said_of_the_corrections_default():
    """In the docstring of `amdm` and in the README."""
    success = gap("table3", "the paper's 0.3", "the paper's 0.0", "ISR avg")
    quality = gap("table3", "the paper's 0.3", "the paper's 0.0", "KID")
    assert (round(success.value, 1), round(quality.value, 1)) == (-1.0, -1.6)
    assert success.high < 0 and quality.high < 0
    table = tables.read(HERE / "results" / "best_length.csv")
    gains = [row.cells[best_length.GAIN] for name, row in table.items() if name.endswith(", auto")]
    assert len(gains) == 10 and all(gain.value < 0 for gain in gains)
    largest = [table[best_length.label(r, 16384, "auto")].cells[best_length.GAIN] for r in best_length.RADII]
    assert [round(gain.value) for gain in largest] == [-6, -8]


@pytest.mark.parametrize(("name", "what", "attribute"), stages.SHOWN)
def test_a_level_decides_and_not_a_step(name, what, attribute):
    """The half-way steps of two schedules lie apart, the levels there within each other's interval."""
    table = tables.read(HERE / "results" / "stages.csv")
    steps = [stages.decided(table, name, what, attribute, s) for s in stages.SCHEDULES]
    sigmas = [
        np.interp(found, range(51), levels(s, 50).numpy())
        for found, s in zip(steps, stages.SCHEDULES, strict=True)
    ]
    assert steps[0][2] < steps[1][1] or attribute == "style"  # its two intervals touch
    assert max(sigmas[0][2], sigmas[1][2]) < min(sigmas[0][1], sigmas[1][1])
