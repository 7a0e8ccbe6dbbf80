"""Every damage of the list can still be done, and its tests are there; `make mutants` does them."""

import ast
from pathlib import Path

import pytest

from tests.mutants.__main__ import ROOT, damaged
from tests.mutants.mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_can_be_done_and_leaves_code(mutant):
    assert ast.dump(ast.parse(damaged(mutant))) != ast.dump(ast.parse((ROOT / "src/vilex" / mutant.file).read_text()))


@pytest.mark.parametrize("test", sorted({test for mutant in MUTANTS for test in mutant.tests}))
def test_its_tests_are_there(test):
    file, _, name = test.partition("::")
    functions = {node.name for node in ast.walk(ast.parse(Path(ROOT, file).read_text()))
                 if isinstance(node, ast.FunctionDef)}  # fmt: skip
    assert not name or name.partition("[")[0] in functions


def test_names_are_their_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
