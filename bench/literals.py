"""Values typed on the command line: TOML literals, checked against the type of the default they replace."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import UsageError

WORD = re.compile(r"=\s*(?!(?:true|false|inf|nan)\s*(?:,|$))([A-Za-z_][\w./~+-]*)\s*(?=,|$)")
KEYLESS = "_"
PAIR = re.compile(r"\s*[\w-]+\s*=")
BARE = re.compile(r"[^\s,'\"=]+")
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a quoted string", list: "a list"}


def parse_pairs(text: str, where: str) -> dict[str, Any]:
    """Parse `KEY=VALUE[,KEY=VALUE...]` whose values are TOML literals; a text that is one word needs no quotes.

    Raises:
        UsageError: the text is not of that form.

    """
    for written in (text, WORD.sub(r'="\1"', text)):
        try:
            (pairs,) = tomllib.loads(f"pairs = [{{{written}}}]")["pairs"]  # in a list, a comment cannot hide the rest
            return dict(pairs)
        except (ValueError, RecursionError):  # TOML's own error is a ValueError, and so is a number of 5,000 digits
            continue
    raise UsageError(
        f"{where}: cannot read {text!r}. Expected KEY=VALUE[,KEY=VALUE...] with TOML values, such as depth=56, "
        "rate=0.5, flag=true or name=word. Other text needs quotes, and the shell quotes around those: "
        "\"name='two words'\"."
    )


def parse_path(text: str) -> Path:
    """Return a path that the system can at least be asked for.

    Raises:
        UsageError: it is too long, say, or holds what no path can.

    """
    try:
        os.stat(text)  # noqa: PTH116 - whether anything is there does not matter
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return Path(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{text[:60]!r} cannot be a path: {reason}") from None
    return Path(text)


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder that `~` or `~USER` stands for.

    Raises:
        UsageError: there is no such user.

    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: there is no such user here, or none with a home. Name the path in full.") from None


def replace_defaults(defaults: Mapping[str, Any], changes: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the defaults with the changes applied, each checked against its default's type.

    Raises:
        UsageError: a key that `owner` does not have, or a value of another type than the default's.

    """
    for key in changes:
        if key not in defaults:
            available = ", ".join(f"{name}={format_literal(value)}" for name, value in defaults.items())
            raise UsageError(f"{owner} has no parameter {key!r}. It has: {available or 'none'}.")
    return {
        key: _checked(default, changes[key], f"{owner}: {key}") if key in changes else default
        for key, default in defaults.items()
    }


def is_plain(value: object) -> bool:
    """Return whether a value can be a parameter: it must be the same after a trip through JSON, tuples aside."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def format_literal(value: object) -> str:
    """Return a value as the TOML literal that `parse_pairs` reads back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        return escaped if "'" in value or not value.isprintable() else f"'{value}'"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(format_literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}={format_literal(each)}' for key, each in value.items())}}}"
    return str(value)


def format_reference(
    name: str, parameters: Mapping[str, object], defaults: Mapping[str, object], argument: str = ""
) -> str:
    """Return `NAME` or `NAME:KEY=VALUE,...` with the parameters that differ from their defaults.

    The one that is called `argument` comes first, without its key.
    """
    changed = {key: value for key, value in parameters.items() if value != defaults.get(key)}
    parts = [_bare(changed.pop(argument))] if argument in changed else []
    parts += [f"{key}={format_literal(value)}" for key, value in changed.items()]
    return f"{name}:{','.join(parts)}" if parts else name


def _bare(value: object) -> str:
    return value if isinstance(value, str) and BARE.fullmatch(value) else format_literal(value)


def split_reference(text: str) -> tuple[str, dict[str, Any]]:
    """Split `NAME[:KEY=VALUE[,KEY=VALUE...]]` into the name and its parameters.

    A first value without a key (`keras:VGG16`) is that of the empty key: the plugin says which parameter it means.
    """
    name, colon, rest = text.partition(":")
    if not colon:
        return name, {}
    if PAIR.match(rest) or not rest.partition("=")[0].strip():
        return name, parse_pairs(rest, name)
    if rest.lstrip()[0] in "'\"":
        pairs = parse_pairs(f"{KEYLESS}={rest}", name)
        return name, {"": pairs.pop(KEYLESS), **pairs}
    first, _, others = rest.partition(",")
    return name, {"": first.strip(), **parse_pairs(others, name)}


def _checked(default: object, value: Any, where: str) -> Any:
    if not is_plain(value):
        raise UsageError(f"{where} must be true, false, a finite number, a text, or a list of these; got {value!r}.")
    kind = type(default)
    if default is None or (type(value) is kind and not isinstance(value, list)):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(default, list | tuple) and isinstance(value, list):
        return _checked_items(default, value, where)
    expected = NAMES.get(list if isinstance(default, tuple) else kind, kind.__name__)
    raise UsageError(f"{where} must be {expected}, as its default {format_literal(default)} is; got {value!r}.")


def _checked_items(default: list[Any] | tuple[Any, ...], value: Iterable[Any], where: str) -> Any:
    sample = default[0] if default else None
    return type(default)(_checked(sample, item, f"{where}, each item,") for item in value)
