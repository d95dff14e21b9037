"""Dataclasses from YAML, from `key=value` and back: typed, with the nearest name for a key that is not known.

A setting is a field of a dataclass, a section is a field that is itself a dataclass, and `section.setting` is a key. Types are
bool, int, float, str, Path, `X | None`, `tuple[X, ...]`, `Literal[...]`, `dict[str, X]` and dataclasses; the help of a setting
is its metadata `help`.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from trainer.errors import UserError

T = TypeVar("T")


def keys(kind: type[Any], prefix: str = "") -> Iterator[str]:
    """All keys of a dataclass, in order: `optimization.learning_rate`."""
    for field in fields(kind):
        section = _section(kind, field.name)
        if section is None:
            yield prefix + field.name
        else:
            yield from keys(section, f"{prefix}{field.name}.")


def find(kind: type[Any], key: str) -> Field[Any]:
    """The field of a key. KeyError where there is none."""
    *path, name = key.split(".")
    for part in path:
        section = _section(kind, part)
        if section is None:
            raise KeyError(key)
        kind = section
    for field in fields(kind):
        if field.name == name:
            return field
    raise KeyError(key)


def default_of(kind: type[Any], key: str) -> Any:
    """The default of a key."""
    field = find(kind, key)
    return field.default_factory() if field.default_factory is not MISSING else field.default


def help_of(kind: type[Any], key: str) -> str:
    """The help of a key."""
    return str(find(kind, key).metadata.get("help", ""))


def get(settings: Any, key: str) -> Any:
    """The value of a key. AttributeError where there is none."""
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings


def updated(settings: T, changes: Mapping[str, Any], source: str) -> T:
    """A copy with the values of some keys: `{"optimization.learning_rate": 1e-3}`.

    Raises:
        UserError: an unknown key, or a value of another type; the sentence begins with `source`.
    """
    return _changed(settings, [(key.split("."), key, value) for key, value in changes.items()], source, type(settings))


def merged(settings: T, document: Any, source: str) -> T:
    """A copy with the values of a nested document, as YAML gives it. Raises as `updated` does."""
    if document is None:
        return settings
    return updated(settings, dict(_flat(type(settings), document, "", source)), source)


def read_yaml(path: Path) -> Any:
    """The document of a YAML file. UserError where it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{where}: this is not YAML. {getattr(error, 'problem', '') or ''}".rstrip()) from None


def parse_assignments(assignments: typing.Iterable[str]) -> dict[str, Any]:
    """`["optimization.learning_rate=1e-3"]` → keys and values; a value is read as YAML. UserError without a `=`."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {assignment}: expected KEY=VALUE, such as optimization.learning_rate=0.001.")
        try:
            changes[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {key.strip()}: the value is not readable; write it as in YAML.") from None
    return changes


def to_document(settings: Any) -> dict[str, Any]:
    """All settings as nested dicts of what YAML can say: paths are strings, tuples are lists."""
    return {field.name: _plain(getattr(settings, field.name)) for field in fields(settings)}


def to_yaml(settings: Any) -> str:
    """All settings as YAML, in the order of the dataclasses."""
    text: str = yaml.safe_dump(to_document(settings), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text


def _hints(kind: type[Any]) -> dict[str, Any]:
    if kind not in _known_hints:
        _known_hints[kind] = typing.get_type_hints(kind)
    return _known_hints[kind]


_known_hints: dict[type[Any], dict[str, Any]] = {}


def _section(kind: type[Any], name: str) -> type[Any] | None:
    """The dataclass of a section, None where the field is a setting."""
    hint = _hints(kind).get(name)
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def _flat(kind: type[Any], document: Any, prefix: str, source: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(document, Mapping):
        where = f"`{prefix.rstrip('.')}`" if prefix else "the file"
        raise UserError(f"{source}: {where} must hold keys and values.")
    for name, value in document.items():
        section = _section(kind, str(name))
        if section is None:
            yield f"{prefix}{name}", value
        elif value is not None:
            yield from _flat(section, value, f"{prefix}{name}.", source)


def _changed(settings: T, changes: list[tuple[list[str], str, Any]], source: str, root: type[Any]) -> T:
    """A copy with all changes at once, since a section may check that its settings agree."""
    kind = type(settings)
    values: dict[str, Any] = {}
    for name in dict.fromkeys(path[0] for path, _, _ in changes):
        of_name = [(path[1:], key, value) for path, key, value in changes if path[0] == name]
        if _section(kind, name) is not None:
            values[name] = _changed_section(getattr(settings, name), of_name, source, root)
            continue
        for rest, key, value in of_name:
            if name not in _hints(kind) or (rest and not isinstance(getattr(settings, name), Mapping)):
                raise UserError(f"{source}: there is no setting `{key}`.{_nearest(root, key)}")
            if rest:  # an entry of a dict
                value = {**values.get(name, getattr(settings, name)), ".".join(rest): value}
            values[name] = _value(_hints(kind)[name], value, key, source)
    try:
        return replace(settings, **values)  # type: ignore[type-var]
    except ValueError as error:
        raise UserError(f"{source}: {error}") from None


def _changed_section(section: Any, changes: list[tuple[list[str], str, Any]], source: str, root: type[Any]) -> Any:
    for rest, key, value in changes:
        if not rest and not isinstance(value, Mapping):
            raise UserError(f"{source}: `{key}` is a section; set one of {', '.join(keys(type(section), key + '.'))}.")
    whole = [
        ([str(name)], f"{key}.{name}", item) for rest, key, value in changes if not rest for name, item in value.items()
    ]
    return _changed(section, [*whole, *(change for change in changes if change[0])], source, root)


def _nearest(root: type[Any], key: str) -> str:
    known = list(keys(root))
    leaf = key.rsplit(".", 1)[-1]
    of_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    near = of_leaf or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:
        leaves = {name.rsplit(".", 1)[-1]: name for name in known}
        near = [leaves[name] for name in difflib.get_close_matches(leaf, list(leaves), n=1, cutoff=0.5)]
    return f" Did you mean `{near[0]}`?" if near else " `trainer config` lists them all."


def _value(hint: Any, value: Any, key: str, source: str) -> Any:
    """The value as the type that `hint` says. UserError for another."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        choices = [choice for choice in arguments if choice is not type(None)]
        for choice in choices:
            try:
                return _value(choice, value, key, source)
            except UserError:
                if choice is choices[-1]:
                    raise
    if origin is Literal:
        if value in arguments:
            return value
        for argument in arguments:  # YAML reads `32` and `none` its own way
            if str(argument) == str(value):
                return argument
        raise UserError(
            f"{source}: `{key}` must be one of {', '.join(map(str, arguments))}.{_near_choice(value, arguments)}"
        )
    if origin is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_value(arguments[0], item, key, source) for item in items)
        if len(items) != len(arguments):
            raise UserError(f"{source}: `{key}` must be a list of {len(arguments)} values.")
        return tuple(_value(kind, item, key, source) for kind, item in zip(arguments, items, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{source}: `{key}` must hold names and values.")
        return {str(name): _value(arguments[1], item, f"{key}.{name}", source) for name, item in value.items()}
    return _scalar(hint, value, key, source)


def _scalar(hint: Any, value: Any, key: str, source: str) -> Any:
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and value is not None and not isinstance(value, (Mapping, list, tuple)):
        return str(value)
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint in (int, float) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-3 as text
            number = float(value)
        except (TypeError, ValueError):
            number = None
        if number is not None:
            if hint is float:
                return number
            if number.is_integer():
                return int(value) if isinstance(value, int) else int(number)
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}[hint]
    raise UserError(f"{source}: `{key}` must be {wanted}.")


def _near_choice(value: Any, choices: tuple[Any, ...]) -> str:
    near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_document(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    return value
