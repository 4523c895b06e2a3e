"""Sizes that keep the package readable, in every file of it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sb3_ppo_variants

PACKAGE = Path(sb3_ppo_variants.__file__).parent
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, PUBLIC_FILES = 300, 50, 8


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def long_files(folder: Path) -> list[str]:
    """Name the files with too many lines."""
    counts = {file.relative_to(folder): len(file.read_text().splitlines()) for file in files(folder)}
    return [f"{name}: {count} lines" for name, count in counts.items() if count > LINES_OF_A_FILE]


def long_functions(folder: Path) -> list[str]:
    """Name the functions with too many lines, from ``def`` to the end, without the docstring."""
    found = []
    for file in files(folder):
        for function in functions(ast.parse(file.read_text())):
            count = lines_of(function)
            if count > LINES_OF_A_FUNCTION:
                found.append(f"{file.relative_to(folder)}:{function.lineno} {function.name}: {count} lines")
    return found


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count from ``def``, which comes after the decorators."""
    assert function.end_lineno is not None
    count = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        count -= docstring.end_lineno - docstring.lineno + 1
    return count


def test_no_file_is_long() -> None:
    assert long_files(PACKAGE) == []


def test_no_function_is_long() -> None:
    assert long_functions(PACKAGE) == []


def test_few_files_lie_beside_the_rooms() -> None:
    """They are the public places, and a newcomer reads all their names: what else there is belongs into a room."""
    names = [file.name for file in PACKAGE.glob("*.py")]
    assert len(names) <= PUBLIC_FILES, names


@pytest.mark.parametrize(("statements", "found"), [(49, []), (50, ["a.py:2 f: 51 lines"])])
def test_docstring_and_decorators_do_not_count(statements: int, found: list[str], tmp_path: Path) -> None:
    head = ["@staticmethod", "def f() -> None:", '    """Two', '    lines."""']
    (tmp_path / "a.py").write_text("\n".join([*head, *["    pass"] * statements]))
    assert long_functions(tmp_path) == found


@pytest.mark.parametrize(("lines", "found"), [(300, []), (301, ["room/a.py: 301 lines"])])
def test_a_file_in_a_room_is_counted_too(lines: int, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("pass\n" * lines)
    assert long_files(tmp_path) == found
