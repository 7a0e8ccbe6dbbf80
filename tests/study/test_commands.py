"""`vilex study ...` as it is typed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.study.conftest import answer_all, sensible
from vilex.cli.app import app
from vilex.errors import InputError
from vilex.study.answer_store import Answers
from vilex.study.design import Study

ROOT = Path(__file__).parents[2]
TINY = ["--raters", "2", "--comparisons", "4", "--repeats", "1", "--checks", "2", "--practice", "1"]


def vilex(*arguments):
    result = CliRunner().invoke(app, ["study", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.fixture
def made(folders, tmp_path):
    methods = [f"fine={folders}/secret-good", folders / "secret-poor"]
    said = vilex("make", *methods, "--source", folders / "sources", "-o", tmp_path / "study", *TINY)
    return tmp_path / "study", said


def test_making_says_what_so_many_raters_can_settle(made):
    folder, said = made
    assert "2 methods, 1 pairs, 6 sources" in said
    assert re.search(r"^ +2 +8 +\d+%$", said, re.MULTILINE)
    assert "warning: 2 raters cannot settle it" in said
    assert "warning: no comparison is seen by two raters" not in said
    assert Study.open(folder).design.methods == ("fine", "secret-poor")


def test_making_warns_where_no_two_raters_see_the_same(folders, tmp_path):
    said = vilex("make", folders / "secret-good", folders / "secret-poor", "--source", folders / "sources",
                 "-o", tmp_path / "study", "--raters", "2", "--comparisons", "3", "--repeats", "0")  # fmt: skip
    assert "warning: no comparison is seen by two raters, so that nothing will be known of how far they agree" in said


def test_the_power_that_the_page_shows_is_what_its_command_prints():
    page = (ROOT / "docs" / "study.md").read_text().split("### How many")[1].split("### ")[0]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    words = blocks["sh"].split()
    assert words[:3] == ["vilex", "study", "power"]
    assert vilex(*words[2:]) == blocks["text"]
    rows = json.loads(vilex(*words[2:], "--json"))["power"]["50"]
    assert [row["raters"] for row in rows[:3]] == [3, 5, 8]
    assert rows[0]["settled"] < 0.1 < 0.8 < rows[-1]["settled"]


def test_more_sources_settle_more():
    words = ["power", "--sources", "10,100", "--raters", "12", "--difference", "0.7"]
    said, tables = vilex(*words), json.loads(vilex(*words, "--json"))["power"]
    assert "raters    10 sources   100 sources\n     3 " in said
    few, many = ({row["raters"]: row["settled"] for row in tables[count]} for count in ("10", "100"))
    assert many[12] > few[12] + 0.2 and f"    12  {few[12]:12.0%}  {many[12]:12.0%}" in said
    with pytest.raises(InputError, match=r"^--sources 1: expected 2 to 10000$"):
        vilex("power", "--sources", "20,1")


def test_side_by_side_few_sources_make_fewer_comparisons_and_that_is_said():
    said = vilex("power", "--sources", "10,60", "--raters", "5", "--comparisons", "40", "--difference", "0.9")
    assert said.endswith("\n10 sources make 10 comparisons; each rater of theirs has so many.\n")


def test_power_of_a_design_that_cannot_be_dealt_is_one_line():
    with pytest.raises(InputError, match=r"^--comparisons 41: 20 sources and 2 pairs of methods make 40; give at most"):
        vilex("power", "--sources", "20", "--methods", "3", "--one-against-all", "--comparisons", "41")
    said = vilex("power", "--sources", "2", "--comparisons", "2", "--difference", "0.51")
    assert "20 raters cannot settle it" in said and "nor can 120: more sources, more --comparisons" in said


def test_many_raters_on_a_plain_difference_are_enough(folders, tmp_path):
    said = vilex("make", folders / "secret-good", folders / "secret-poor", "--source", folders / "sources",
                 "-o", tmp_path / "study", "--difference", "0.95", "--raters", "20")  # fmt: skip
    assert "20 raters are enough." in said and "warning" not in said


def test_report_export_and_delete(made, tmp_path):
    folder, _ = made
    answers = Answers(Study.open(folder))
    for _ in range(2):
        answer_all(answers, answers.join(), sensible)
    said = vilex("report", folder)
    assert "| fine against secret-poor | 1 (" in said and f"-> {folder / 'report'}" in said
    assert {path.name for path in (folder / "report").iterdir()} == {
        "answers.csv", "report.md", "results.json", "sheet.md", "win-rates.svg",
    }  # fmt: skip
    vilex("export", folder, "2", "-o", tmp_path / "two.json")
    assert len(json.loads((tmp_path / "two.json").read_text())["answers"]) == 8 * 3
    assert "fine" not in (tmp_path / "two.json").read_text()
    assert vilex("delete", folder, "1") == "rater 1: 24 answers deleted\n"
    assert {one.rater for one in answers.all()} == {2}
    with pytest.raises(InputError, match=r"^rater 1: there is none; their numbers are 2$"):
        vilex("delete", folder, "1")


def test_a_study_that_was_served_is_never_replaced(made, folders):
    folder, _ = made
    again = [folders / "secret-good", folders / "secret-fair", "--source", folders / "sources", "-o", folder, *TINY]
    with pytest.raises(InputError, match="holds a study already"):
        vilex("make", *again)
    vilex("make", *again, "--overwrite")
    assert Study.open(folder).design.methods == ("secret-good", "secret-fair")
    assert {path.name for path in (folder / "pictures").iterdir()} == Study.open(folder).design.pictures
    Answers(Study.open(folder))
    with pytest.raises(InputError, match="holds a study that was served"):
        vilex("make", *again, "--overwrite")


def test_wrong_words_are_one_line(folders, tmp_path):
    with pytest.raises(InputError, match=r"^--criteria beauty: expected semantic, style, layout"):
        vilex("make", folders / "secret-good", "--source", folders / "sources", "--criteria", "beauty")
    with pytest.raises(InputError, match=r"holds no study; make one with `vilex study make`"):
        vilex("report", tmp_path)


def test_serving_says_where(made):
    folder, _ = made
    code = "from vilex.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "study", "serve", str(folder), "--port", "0"], text=True,
                               stdout=subprocess.PIPE, cwd=ROOT)  # fmt: skip
    try:
        assert re.match(r"vilex study: http://127\.0\.0\.1:\d+  \(Ctrl-C ends it\)", process.stdout.readline())
    finally:
        process.kill()
        process.wait()
