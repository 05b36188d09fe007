"""Every check is attacked: right answers pass, the stub and wrong answers fail with the hint that is meant for them."""

import ast
import asyncio
import json
import re

import nbformat
import pytest
import yaml

from tests.exercises.mutants import mutants
from tools.exercises import EXERCISES, SOLUTION, STUB, exercise_version
from tools.regression.execution import run_cells
from tools.regression.kernels import start_from_copies
from tools.regression.notebooks import ROOT, find_notebooks, title

BOOKS = {title(path): path for path in find_notebooks()}
SECONDS = 5  # for one answer
# Runs in the notebook's kernel after a check has passed: each answer in the place of the solution, with copies of the
# tensors whose names it or the check says.
TRY = """
def _said(code):
    return {*code.co_names}.union(*(_said(part) for part in code.co_consts if hasattr(part, "co_names")))
def _try(answers, check):
    import contextlib, io, signal
    def late(*_):
        raise TimeoutError("no end")
    signal.signal(signal.SIGALRM, late)
    said = {}
    for name, source in answers.items():
        answer = compile(source, "answer", "exec")
        names = globals() | {
            name: globals()[name].clone() for name in _said(answer) | _said(check) if torch.is_tensor(globals().get(name))
        }
        with contextlib.redirect_stdout(io.StringIO()):
            signal.alarm(%d)
            try:
                exec(answer, names)
                exec(check, names)
                said[name] = "passes" + names.get("_spoilt", "")
            except Exception as error:
                said[name] = f"{type(error).__name__}: {error}"
            finally:
                signal.alarm(0)
    return said
import json as _json
print(_json.dumps(_try(%r, compile(%r, "check", "exec"))))
"""


# After a solution: it leaves something else behind in what it was given.
SPOIL = """
_right = {0}
def {0}(*given):
    result = _right(*given)
    kept = [part.clone() if torch.is_tensor(part) else part for part in (result if type(result) is tuple else [result])]
    for part in given:
        if torch.is_tensor(part) and part.is_floating_point():
            part.detach().add_(1)
            globals()["_spoilt"] = " on what is spoilt"
    return tuple(kept) if type(result) is tuple else kept[0]
"""


def exercises(notebook):
    """Return each exercise's name with its answer cell and its check cell."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    answers = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("solution")]
    checks = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
    assert len(answers) == len(checks)
    found = {}
    for answer, check in zip(answers, checks, strict=True):
        name = answer.metadata.nbgrader.grade_id
        assert check.metadata.nbgrader.grade_id == f"{name}-check"
        found[name] = (answer, check)
    return found


WITH = {name: path for name, path in BOOKS.items() if exercises(nbformat.read(path, as_version=4))}


@pytest.fixture(scope="module")
def tried():
    """Return a function that gives what the checks of a notebook say of every answer, from one kernel."""
    start_from_copies()
    known = {}

    def of(name):
        if name not in known:
            known[name] = _attack(name)
        return known[name]

    return of


def _attack(name):
    """Run the exercises as learners find them, with no answer, and then with the solution; try every other answer."""
    book = nbformat.read(EXERCISES / f"{name}.ipynb", as_version=4)
    own = {cell.id for pair in exercises(book).values() for cell in pair}
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    # the set-up, the parameters, the imports, the exercises, and the last list
    unsolved = [*code[:3], *(cell for cell in code[3:] if cell.id in own or "progress(" in cell.source)]
    book.cells = [*unsolved, nbformat.v4.new_code_cell("import os\ndel os.environ['JPY_SESSION_NAME']")]
    given = yaml.safe_load((ROOT / "tests" / "exercises" / f"{name}.yml").read_text("utf-8"))
    for exercise, (answer, check) in exercises(nbformat.read(BOOKS[name], as_version=4)).items():
        about = given[exercise]
        answers = {"stub": SOLUTION.sub(STUB, answer.source), "solution": answer.source}
        answers |= {f"right: {said}": source for said, source in about["right"].items()}
        answers |= {f"wrong: {said}": wrong["code"] for said, wrong in about["wrong"].items()}
        answers |= {f"mutant: {said}": source for said, source in mutants(answer.source)}
        answers["spoils"] = answer.source + SPOIL.format(ast.parse(answer.source).body[-1].name)
        book.cells += [answer, check, nbformat.v4.new_code_cell(TRY % (SECONDS, answers, check.source))]
    asyncio.run(run_cells(book, (EXERCISES / name).parent, environment={"JPY_SESSION_NAME": "a learner's"}))
    said = [json.loads(cell.outputs[-1].text.splitlines()[-1]) for cell in book.cells[len(unsolved) + 3 :: 3]]
    return dict(zip(given, said, strict=True)), given, [output for cell in unsolved for output in cell.outputs]


@pytest.mark.parametrize("name", WITH)
def test_answers_get_what_they_deserve(name, tried):
    said, given, _ = tried(name)
    for exercise, verdicts in said.items():
        kinds = {kind: {k: v for k, v in verdicts.items() if k.startswith(kind)} for kind in ("right", "wrong")}
        assert len(kinds["right"]) >= 2
        assert len(kinds["wrong"]) >= 5
        assert verdicts["solution"] == "passes"
        assert re.fullmatch(r"NotDoneError: ○ .*: not yet", verdicts["stub"])
        for answer, verdict in kinds["right"].items():
            assert verdict == "passes", f"{exercise}, {answer}"
        for answer, verdict in kinds["wrong"].items():
            hint = given[exercise]["wrong"][answer.removeprefix("wrong: ")]["hint"]
            assert verdict.startswith("NotDoneError: ✗"), f"{exercise}, {answer}: {verdict}"
            assert hint in verdict, f"{exercise}, {answer}: {verdict}"


@pytest.mark.parametrize("name", WITH)
def test_mutants_are_noticed(name, tried, record_property):
    said, given, _ = tried(name)
    count = alive = 0
    for exercise, verdicts in said.items():
        made = {k.removeprefix("mutant: "): v for k, v in verdicts.items() if k.startswith("mutant")}
        living = {mutant for mutant, verdict in made.items() if verdict == "passes"}
        count, alive = count + len(made), alive + len(living)
        assert living == set(given[exercise].get("survivors", {})), exercise  # each with a written reason
    record_property("mutants", f"{name}: {count - alive} of {count} mutants noticed")
    assert alive <= 0.08 * count


@pytest.mark.parametrize("name", WITH)
def test_an_answer_that_spoils_what_it_was_given_is_told_so(name, tried):
    """Else what is expected, worked out from the same tensors, would be spoilt as well."""
    for exercise, verdicts in tried(name)[0].items():
        told = "changed" in verdicts["spoils"] or verdicts["spoils"] == "passes"  # it takes no tensors
        assert told, f"{exercise}: {verdicts['spoils']}"


@pytest.mark.parametrize("name", WITH)
def test_checks_are_folded_and_answers_are_not(name):
    for answer, check in exercises(nbformat.read(BOOKS[name], as_version=4)).values():
        assert check.metadata.get("jupyter") == {"source_hidden": True}, check.source.partition("\n")[0]
        assert "jupyter" not in answer.metadata


def test_the_exercise_versions_are_up_to_date():
    made = {name: exercise_version(path) for name, path in BOOKS.items()}
    assert {title(path) for path in find_notebooks(folder=EXERCISES)} == {name for name, text in made.items() if text}
    for name in WITH:
        assert (EXERCISES / f"{name}.ipynb").read_text("utf-8") == made[name], "stale: make exercises"
        for cell in nbformat.reads(made[name], as_version=4).cells:
            assert "SOLUTION" not in cell.source
            ast.parse(cell.source if cell.cell_type == "code" else "")


def defined(statement):
    """Return the names that a statement at the top of a cell defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


@pytest.mark.parametrize("name", WITH)
def test_no_other_cell_uses_what_the_learner_writes(name):
    """So a notebook with open exercises runs to its end: every other cell is the same, solved or not."""
    book = nbformat.read(BOOKS[name], as_version=4)
    own = exercises(book)
    written = {
        name for answer, _ in own.values() for statement in ast.parse(answer.source).body for name in defined(statement)
    }
    pairs = {cell.id for pair in own.values() for cell in pair}
    for cell in book.cells:
        if cell.cell_type == "code" and cell.id not in pairs:
            loads = {node.id for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)}
            assert not loads & written, cell.source


@pytest.mark.parametrize("name", WITH)
def test_unsolved_exercises_let_a_learner_go_on_and_are_listed(name, tried):
    said, _, outputs = tried(name)
    printed = "".join(output.get("text", "") for output in outputs)
    assert f"0 of {len(said)} exercises done" in printed
    assert printed.count("○ open:") == len(said)
    assert not any(output.get("name") == "stderr" for output in outputs)
