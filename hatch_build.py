"""The wheel's build hook: packages that the repository has at its top are in the wheel below ``groupwise._bundled``, and named so.

Installed under their short names, ``flows``, ``tasks``, ``sql`` and ``expectations`` would meet those of the user's own project
(docs/decisions/0008-wheel.md). ``pyproject.toml`` says which packages move and where to; here the names of their modules are rewritten, in
their own files and in those of ``groupwise``. An editable install moves nothing.
"""

import ast
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LOADERS = {"__import__", "files", "find_spec", "import_module", "run_module", "PackageLoader"}
"""Functions whose text arguments are names of modules."""

OPENING = '"""Packages that the repository has at its top, under names that meet nobody else\'s; written when the wheel is built."""\n'


class BundleError(Exception):
    """A file names a module that moves in a way that cannot be rewritten."""


class BundleHook(BuildHookInterface[BuilderConfig]):
    """Gives the wheel the rewritten text of every file that names a module that moves."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files. Raises BundleError."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="groupwise-wheel-")
        config = self.build_config
        moves = Moves(Path(self.root), {old.rstrip("/"): new.rstrip("/").replace("/", ".") for old, new in config.sources.items()})
        rewritten = {f"{home}/__init__.py": OPENING.encode() for home in moves.parents()}
        for file in config.builder.recurse_selected_project_files():
            content = Path(file.path).read_bytes()
            text = moves.rewrite(content, file.relative_path)
            if text != content:
                rewritten[file.distribution_path] = text
        for number, (place, text) in enumerate(rewritten.items()):
            copy = Path(self._folder.name) / str(number)
            copy.write_bytes(text)
            build_data["force_include"][str(copy)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called by hatchling when the wheel is written."""
        if version != "editable":
            self._folder.cleanup()


@dataclass(frozen=True)
class Name:
    """A module's name in a file. line : from 1; column : in bytes, of the statement, name or text that it is in."""

    line: int
    column: int
    before: bytes
    old: str
    new: str


class Moves:
    """Packages that move. root : the repository; homes : the new dotted name of every package, by its old one."""

    def __init__(self, root: Path, homes: Mapping[str, str]) -> None:
        self.root = root
        self.homes = homes
        self.modules = {
            f"{package}.{path.stem}"
            for package in homes
            for path in (root / package).iterdir()
            if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
        }
        packages = "|".join(map(re.escape, homes))
        modules = "|".join(map(re.escape, sorted(self.modules, key=len, reverse=True))) or "(?!)"
        self._dotted = re.compile(rf"(?:{modules})(?:\.\w+)*(?::\w+)?")
        self._package = re.compile(rf"\b(?:{packages})\b".encode())
        self._mention = re.compile(rf"(?<![\w./-])(?:(?:{modules})\b(?!\.(?:yaml|json|sql)\b)|(?:{packages})\.\Z)|-m\s+(?:{packages})\b")

    def parents(self) -> list[str]:
        """Folders of the wheel that hold packages that have moved."""
        return sorted({str(PurePosixPath(*new.split(".")[:-1])) for new in self.homes.values()})

    def rewrite(self, content: bytes, file: str) -> bytes:
        """The file's content with new names; BundleError where it would still have an old one."""
        if not file.endswith((".py", ".yaml", ".json", ".j2")) or self._package.search(content) is None:
            return content
        if not file.endswith(".py"):
            self._refuse_mentions([(1, content.decode())], file)
            return content
        names = list(self._names(ast.parse(content), file))
        content = _replaced(content, names, file)
        tree = ast.parse(content)
        for name in self._names(tree, file) if names else ():
            raise BundleError(f"{file}:{name.line}: {name.old} cannot be rewritten")
        self._refuse_mentions(_texts(tree), file)
        return content

    def _refuse_mentions(self, texts: Iterable[tuple[int, str]], file: str) -> None:
        for line, text in texts:
            mention = self._mention.search(text)
            if mention is not None:
                at = line + text.count("\n", 0, mention.start())
                raise BundleError(f"{file}:{at}: {mention[0]} is a name that the wheel does not have; write an import or an entry point")

    def _names(self, tree: ast.Module, file: str) -> Iterator[Name]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._imported(alias, file)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from self._moved(node, rb"from[ \t]+", node.module)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and self._dotted.fullmatch(node.value):
                yield from self._moved(node, rb"[\"']", node.value)
            else:
                for text in _arguments(node):
                    if text.value in self.homes:
                        yield from self._moved(text, rb"[\"']", str(text.value))

    def _imported(self, alias: ast.alias, file: str) -> Iterator[Name]:
        for name in self._moved(alias, b"", alias.name):
            if alias.asname is None and "." in alias.name:
                raise BundleError(f"{file}:{alias.lineno}: write `from {alias.name} import ...` for `import {alias.name}`")
            bound = "" if alias.asname else f" as {alias.name}"
            yield Name(name.line, name.column, name.before, name.old, name.new + bound)

    def _moved(self, node: ast.stmt | ast.expr | ast.alias, before: bytes, old: str) -> Iterator[Name]:
        package = re.split(r"[.:]", old, maxsplit=1)[0]
        if package in self.homes:
            yield Name(node.lineno, node.col_offset, before, old, self.homes[package] + old.removeprefix(package))


def _replaced(content: bytes, names: list[Name], file: str) -> bytes:
    lines = content.splitlines(keepends=True)
    for name in sorted(names, key=lambda name: (name.line, name.column), reverse=True):
        line, old = lines[name.line - 1], name.old.encode()
        found = re.compile(name.before + re.escape(old) + rb"(?![\w.])").match(line, name.column)
        if found is None:
            raise BundleError(f"{file}:{name.line}: write {name.old} on one line, as plain text")
        lines[name.line - 1] = line[: found.end() - len(old)] + name.new.encode() + line[found.end() :]
    return b"".join(lines)


def _arguments(node: ast.AST) -> Iterator[ast.Constant]:
    """Texts that are a module's name for where they are: the argument of a loader, what follows ``-m`` in a command."""
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        if called in LOADERS:
            yield from (argument for argument in node.args if isinstance(argument, ast.Constant))
    elif isinstance(node, ast.List | ast.Tuple):
        for option, value in zip(node.elts, node.elts[1:], strict=False):
            if isinstance(option, ast.Constant) and option.value == "-m" and isinstance(value, ast.Constant):
                yield value


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Texts of the program with the line that each begins on: no docstrings, which may speak of the repository."""
    # attributes have docstrings too
    spoken = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
            yield node.lineno, node.value
