"""Reads rules: from YAML values, from YAML files (with the line of every mistake), and inline `OLD=NEW`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import InputError, Location, Problem, did_you_mean
from zoo.remap.rules import adapt, layout, names, split_concat
from zoo.remap.rules.base import Rule
from zoo.remap.rules.values import MisfitError

RULES: dict[str, type[Rule]] = {
    rule.kind: rule
    for rule in (
        names.Rename, names.StripPrefix, names.AddPrefix, names.Drop, names.Keep, names.Tie, names.Untie,
        layout.CastRule, layout.Transpose, layout.PermuteRule, layout.ReshapeRule, layout.SliceRule,
        split_concat.SplitRule, split_concat.ConcatRule, split_concat.StackRule, split_concat.UnstackRule,
        adapt.ResamplePosEmbed, adapt.ResampleRelBias, adapt.AdaptInputRule, adapt.AdaptClassesRule,
    )
}  # fmt: skip
"""Every rule by the name it has in YAML."""

MAX_FILE = 1_000_000  # bytes of a rule file
MAX_NODES = 50_000  # values in one, after aliases are followed

Path_ = tuple[str | int, ...]
Locate = Callable[[Path_], Location | None]


def parse_rules(value: Any, location: Location | Locate | None = None) -> list[Rule]:
    r"""The rules of a YAML value (a list of one-key mappings, or one mapping), or of one written inline.

    Inline is `OLD=NEW`, a rename, or a rule as in YAML (`drop: ^fc\.`).

    `location` is the place of the value, or a function from a path in it (`(2, "reshape", "to")`) to a place.
    Raises InputError with every mistake at once.
    """
    locate: Locate = location if callable(location) else lambda _: location
    if isinstance(value, str):
        value = _inline(value, locate(()))
    if isinstance(value, Mapping):
        value = [{kind: rule} for kind, rule in value.items()]
    if not isinstance(value, Sequence):
        raise InputError(f"expected a list of rules, not {value!r}", location=locate(()))
    problems: list[Problem] = []
    rules = [_rule(item, (place,), locate, problems) for place, item in enumerate(value)]
    if problems:
        raise InputError(problems)
    return [rule for rule in rules if rule is not None]


def _inline(text: str, location: Location | None) -> dict[str, Any]:
    kind, colon, rest = text.partition(":")
    if colon and kind.strip() in RULES:
        return {kind.strip(): _yaml(rest.strip(), location)}
    old, equals, new = text.partition("=")
    if colon and not equals:
        message = f"{text!r} is no remap: there is no rule {kind.strip()!r}"
        raise InputError(message, location=location, suggestion=did_you_mean(kind.strip(), RULES))
    if not equals or not old:
        raise InputError(
            f"{text!r} is no rule", location=location, suggestion="write OLD=NEW, or a rule like drop: ^fc"
        )
    return {"rename": {old: new}}


def _yaml(text: str, location: Location | None) -> Any:
    """A bare pattern is taken as it is (`^fc\\.`, `[ab]`); only what starts with a brace or a quote is read as YAML."""
    if text[:1] not in ("{", "'", '"'):
        return text
    try:
        return _read_yaml(text, "")[0]
    except InputError as error:
        raise InputError(f"{text!r} is {error.problems[0].message}", location=location) from error


def _rule(item: Any, path: Path_, locate: Locate, problems: list[Problem]) -> Rule | None:
    if not isinstance(item, Mapping) or len(item) != 1:
        message = f"a rule is a mapping of one key, not {item!r}"
        problems.append(Problem(message, locate(path), "for example `- strip_prefix: module.`"))
        return None
    ((kind, value),) = item.items()
    if kind not in RULES:
        hint = did_you_mean(str(kind), RULES) or f"the rules are {', '.join(RULES)}"
        problems.append(Problem(f"there is no rule {kind!r}", locate((*path, kind)), hint))
        return None
    try:
        rule: Rule = RULES[kind].parse(value, locate((*path, kind)))  # type: ignore[attr-defined]
    except MisfitError as misfit:
        place = (*path, kind) if misfit.key is None else (*path, kind, misfit.key)
        problems.append(Problem(f"{kind}: {misfit}", locate(place) or locate((*path, kind)), misfit.suggestion))
        return None
    return rule


def load_rules(path: str | Path) -> list[Rule]:
    """The rules of a YAML file: a list, or a mapping with the list under `remap`. Raises InputError with places."""
    try:
        if Path(path).stat().st_size > MAX_FILE:
            raise InputError(f"{path} is larger than {MAX_FILE:,} bytes; that is no file of rules")
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the rules {path}: {error}") from error
    value, places = _read_yaml(text, str(path))
    within: Path_ = ("remap",) if isinstance(value, Mapping) and "remap" in value else ()
    rules = parse_rules(value["remap"] if within else value, lambda place: places.get((*within, *place)))
    if not rules:
        raise InputError(f"{path} contains no rules")
    return rules


def _read_yaml(text: str, file: str) -> tuple[Any, dict[Path_, Location]]:
    """The value of a YAML text, and the place of every node by its path. Raises InputError for what is no YAML."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        places = _places(node, file)
        return (None if node is None else loader.construct_document(node)), places
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:  # TypeError: a list as a key
        mark = getattr(error, "problem_mark", None)
        location = Location(file, mark.line + 1, mark.column + 1) if mark and file else None
        said = "it nests too deeply" if isinstance(error, RecursionError) else getattr(error, "problem", None) or error
        raise InputError(f"not YAML: {said}", location=location) from error


def _places(node: Any, file: str) -> dict[Path_, Location]:
    """The place of every node, by its path; of a mapping's value, the place of its key.

    Aliases are followed, as they will be; a bomb made of them ends here.
    """
    import yaml

    places: dict[Path_, Location] = {}
    count = 0

    def walk(node: Any, path: Path_) -> None:
        nonlocal count
        count += 1
        if count > MAX_NODES:
            raise InputError(f"not YAML for rules: more than {MAX_NODES:,} values, counting what aliases repeat")
        places.setdefault(path, Location(file, node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                walk(item, (*path, index))
        elif isinstance(node, yaml.MappingNode):
            for key, item in node.value:
                name = key.value if isinstance(key.value, str) else str(key.value)[:40]
                places[(*path, name)] = Location(file, key.start_mark.line + 1, key.start_mark.column + 1)
                walk(item, (*path, name))

    if node is not None:
        walk(node, ())
    return places


def dump_rules(rules: Sequence[Rule]) -> str:
    """The rules as YAML text that `load_rules` reads."""
    import yaml

    text: str = yaml.safe_dump([rule.as_mapping() for rule in rules], sort_keys=False, width=120, allow_unicode=True)
    return text
