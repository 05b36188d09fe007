"""Small changes of a solution, from its syntax tree, that its check must notice."""

import ast
import copy
from collections.abc import Iterator

OTHER = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield what was changed and the changed cell, for operators, signs, constants and lines between the marks."""
    lines = source.splitlines()
    first = next(place for place, line in enumerate(lines, 1) if "# BEGIN SOLUTION" in line)
    last = next(place for place, line in enumerate(lines, 1) if "# END SOLUTION" in line)
    count = sum(1 for _ in ast.walk(ast.parse(source)))
    for place in range(count):
        tree = ast.parse(source)
        node = list(ast.walk(tree))[place]
        if not first < getattr(node, "lineno", 0) < last:
            continue
        before = ast.unparse(node)
        for said in _changed(node, tree):
            yield f"line {node.lineno}: {before} -> {said}", ast.unparse(ast.fix_missing_locations(tree))
            tree = copy.deepcopy(ast.parse(source))
            node = list(ast.walk(tree))[place]


def _changed(node: ast.AST, tree: ast.AST) -> Iterator[str]:
    """Change the node in the tree, and yield how it reads now, once for each way."""
    if isinstance(node, ast.BinOp) and type(node.op) in OTHER:
        node.op = OTHER[type(node.op)]()
        yield ast.unparse(node)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        node.ops[0] = OTHER[type(node.ops[0])]()
        yield ast.unparse(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert | ast.Not):
        said = ast.unparse(node.operand)
        _replace(tree, node, node.operand)
        yield said
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        node.value = node.value + 1
        yield ast.unparse(node)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
        yield ast.unparse(node)
    elif isinstance(node, ast.Expr | ast.Assign | ast.AugAssign):
        _replace(tree, node, ast.Pass())
        yield "pass"


def _replace(tree: ast.AST, node: ast.AST, other: ast.AST) -> None:
    """Put another node in the place of one."""
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, field, other)
            elif isinstance(value, list) and node in value:
                value[value.index(node)] = other
