"""YAML into a Document: YAML 1.2's core schema, positions through anchors and merge keys, hard limits."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from zoo.errors import InputError, Location, Problem, any_of, did_you_mean
from zoo.recipe.document import Document, Path

MAX_BYTES = 1_000_000  # a long recipe is 5 kB; a remap with a thousand rules is 100 kB


def read_text(path: str) -> str:
    """The text of the file at `path`. Raises InputError when it is missing, a folder, too large or not UTF-8."""
    if not path:
        raise InputError("the name of the recipe is empty", suggestion="name a YAML file")
    file = pathlib.Path(path)
    try:
        if file.is_dir():
            raise InputError(f"{path} is a folder, not a recipe", suggestion=_recipes_in(file))
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"there is no recipe {path}", suggestion=_similar(file)) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(f"cannot read {path!r}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES:,} bytes, which no recipe is")
    return _decode(path, content)


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise InputError(
            f"byte 0x{content[error.start]:02x} is not UTF-8 text",
            location=Location(path, line, column),
            suggestion="save the file as UTF-8",
        ) from None


def _recipes_in(folder: pathlib.Path) -> str | None:
    names = sorted(str(file) for file in folder.glob("*.y*ml"))[:3]
    return f"recipes in it: {', '.join(names)}" if names else None


def _similar(file: pathlib.Path) -> str | None:
    """Recipes of a like name beside the missing file, or under `recipes/`."""
    places = [file.parent, pathlib.Path("recipes")]
    found = {candidate.name: str(candidate) for place in places for candidate in sorted(place.glob("*.y*ml"))}
    if file.name + ".yaml" in found:
        return f"did you mean {found[file.name + '.yaml']}?"
    hint = did_you_mean(file.name, found)
    if hint:
        for name, full in found.items():
            hint = hint.replace(name, full)
        return hint
    return f"see {any_of([*found.values()][:3])}" if found else None


MAX_NODES = 50_000  # values after aliases are followed; stops alias bombs
_TAG = "tag:yaml.org,2002:"
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TOO_MUCH = f"more than {MAX_NODES:,} values, counting what aliases repeat"

_HINTS = (  # PyYAML's words -> what to do about it
    (r"'\\t' that cannot start any token", "indent with spaces, not tabs"),
    (r"unknown escape character", "write regular expressions in single quotes"),
    (r"mapping values are not allowed", "check the indentation, or quote a text with ': ' in it"),
    (r"could not find expected ':'", "write KEY: VALUE"),
    (r"while scanning an alias|while scanning an anchor|undefined alias", "quote a text that begins with * or &"),
    (r"expected <block end>", "check the indentation"),
    (r"expected ',' or '[\]}]'", "close the bracket, or put a comma between the values"),
    (r"cannot start any token", "quote a text that begins with a special character"),
    (r"end of stream", "close the quote or bracket"),
    (r"expected a single document", "a recipe is one document: remove '---'"),
)


class _Loader(yaml.SafeLoader):
    """SafeLoader's scanner and composer with YAML 1.2's idea of what is a boolean and a number."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own way
    nodes = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise InputError(_TOO_MUCH)
        return super().compose_node(parent, index)


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):  # fmt: skip
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)


def parse(text: str, file: str) -> Document:
    """Read one YAML document. Raises InputError with a location when it is not YAML or beyond the limits.

    Lesser mistakes (a key written twice, a tag, an alias to itself) are collected in the document's `problems`.
    """
    try:
        root = _compose(text)
        document = Document(file)
        if root is not None:
            document.data = _Reader(document).read(root, ())
            document.keys[()] = document.values[()]
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None
    except RecursionError:
        raise InputError("brackets or lists nest too deeply", location=Location(file, 1, 1)) from None
    except InputError as error:
        raise InputError(error.problems[0].message, location=Location(file, 1, 1)) from None
    return document


def _compose(text: str) -> Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> InputError:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        location = Location(file, before.count("\n") + 1, error.position - before.rfind("\n"))
        return InputError("a control character does not belong in a recipe", location=location, suggestion="remove it")
    words = [str(word) for word in (getattr(error, "context", None), getattr(error, "problem", None)) if word]
    said = ": ".join(words) or str(error)
    marks = [getattr(error, "problem_mark", None), getattr(error, "context_mark", None)]
    if re.search(
        r"stream end|end of stream", said
    ):  # a bracket or quote never closed: where it opened says more than where the file ends
        marks.reverse()
    mark = marks[0] or marks[1]
    location = Location(file, mark.line + 1, mark.column + 1) if mark else Location(file, 1, 1)
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, said)), None)
    return InputError(f"not valid YAML: {said}", location=location, suggestion=hint)


class _Reader:
    """Turns nodes into plain data, noting where each stands."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0
        self.open: set[int] = set()  # nodes being read: meeting one again is an alias to itself

    def read(self, node: Node, path: Path) -> Any:
        self._count()
        self.document.values[path] = self._at(node)
        self.document.keys.setdefault(path, self._at(node))
        if id(node) in self.open:
            return self._note(node, "this alias contains itself", "write the values out")
        self.open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                self._standard(node, "seq")
                return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self.open.discard(id(node))

    def _count(self) -> None:
        self.count += 1
        if self.count > MAX_NODES:
            raise InputError(_TOO_MUCH)

    def _at(self, node: Node) -> Location:
        return Location(self.document.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _note(self, node: Node, message: str, suggestion: str | None = None) -> None:
        self.document.problems.append(Problem(message, self._at(node), suggestion))

    def _check_text(self, node: Node) -> None:
        """Escapes can write what no file name or terminal takes: control characters, halves of surrogate pairs."""
        if _NO_TEXT.search(node.value):
            self._note(node, "a character that no text may contain", "remove its escape sequence")
            # said once; half a pair would make all around it unreadable
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        self._standard(node, "map")
        pairs: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._note(key, "a list or mapping cannot be a key", "quote the key")
            elif key.tag == _TAG + "merge":
                merged += value.value if isinstance(value, SequenceNode) else [value]
            elif key.value in pairs:
                first = pairs[key.value][0].start_mark.line + 1
                message = f"{key.value[:80]!r} is written twice; the first is in line {first}"
                self._note(key, message, "remove one of them")
            else:
                self._check_text(key)
                pairs[key.value] = (key, value)
        for source in merged:
            self._merge(source, pairs)
        for name, (key, _) in pairs.items():
            self.document.keys[(*path, name)] = self._at(key)
        return {name: self.read(value, (*path, name)) for name, (_, value) in pairs.items()}

    def _merge(self, source: Node, pairs: dict[str, tuple[Node, Node]]) -> None:
        """`<<: *anchor`: the anchor's keys that the mapping does not write itself; earlier anchors win."""
        if not isinstance(source, MappingNode):
            return self._note(source, "'<<' merges mappings only", "write <<: *ANCHOR")
        if id(source) in self.open:
            return self._note(source, "this mapping merges itself", "write the values out")
        self.open.add(id(source))
        for key, value in source.value:
            self._count()
            if isinstance(key, ScalarNode) and key.tag == _TAG + "merge":
                for inner in value.value if isinstance(value, SequenceNode) else [value]:
                    self._merge(inner, pairs)
            elif isinstance(key, ScalarNode):
                pairs.setdefault(key.value, (key, value))
        return self.open.discard(id(source))

    def _standard(self, node: Node, *kinds: str) -> bool:
        """Whether the node has one of YAML's own tags `kinds`; any other tag is a mistake (it may mean code)."""
        if node.tag in [_TAG + kind for kind in kinds]:
            return True
        self._note(node, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed in a recipe", "remove it")
        return False

    def _scalar(self, node: Node) -> Any:
        if not self._standard(node, "str", "null", "bool", "int", "float", "merge"):
            return node.value
        self._check_text(node)
        try:
            return _convert(node.tag.removeprefix(_TAG), node.value)
        except ValueError:
            self._note(node, f"{node.value[:40]!r} cannot be read as {node.tag.removeprefix(_TAG)}")
            return None


def _convert(kind: str, text: str) -> Any:
    """The value of a scalar of one of YAML's kinds. Raises ValueError when a written tag does not fit its text."""
    if kind == "null":
        return None
    if kind == "bool":
        return ("false", "true").index(text.lower()) == 1
    if kind == "int":
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
