"""The reference of configs: every table and key with type, default, published value and meaning, from the JSON schema of the config classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from docsite.docstrings import as_markdown
from docsite.published import KINDS, Published, Values

Schema = Mapping[str, Any]
ELSEWHERE = ("Rubric",)
"""Classes whose tables are files of their own."""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


class Table(NamedTuple):
    """One table of a config."""

    path: str
    """Dotted path, with ``NAME`` where the user chooses the name."""
    kind: str
    """``base.kind`` or the like where there are several kinds of it."""
    is_list: bool
    """Whether it is an array of tables."""
    schema: Schema


def page(name: str, schema: Schema, values: Values) -> str:
    """The page of a top-level table, as Markdown."""
    root = schema["properties"][name]
    lines = [f"# `[{name}]`", "", text(described(root, schema)), ""]
    for table in tables(name, root, schema):
        lines += [f"## `{heading(table)}`", "", text(table.schema.get("description", "")), ""]
        lines += ["| key | type | default | published | meaning |", "| --- | --- | --- | --- | --- |"]
        lines += [row(table, key, value, schema, values) for key, value in table.schema["properties"].items()]
        lines.append("")
    return "\n".join(lines)


def heading(table: Table) -> str:
    """A table as a TOML file writes it."""
    opened = f"[[{table.path}]]" if table.is_list else f"[{table.path}]"
    return f"{opened} {table.kind}".rstrip()


def tables(path: str, node: Schema, schema: Schema, kind: str = "", is_list: bool = False) -> Iterator[Table]:
    """The tables at ``path`` and below, each where a file has it; a list that may also be a table of names is shown as that."""
    node = resolved(node, schema)
    if node.get("title") in ELSEWHERE:
        return
    if "properties" in node:
        yield Table(path, kind, is_list, node)
        for key, value in node["properties"].items():
            yield from tables(f"{path}.{key}", value, schema, kind)
    elif "items" in node:
        yield from tables(path, node["items"], schema, kind, is_list=True)
    elif isinstance(node.get("additionalProperties"), Mapping):
        yield from tables(f"{path}.NAME", node["additionalProperties"], schema, kind)
    else:
        held = [one for one in choices(node) if holds_table(one, schema)]
        kinds = [one for one in held if "properties" in resolved(one, schema)]
        for one in kinds if len(kinds) > 1 else held[-1:]:
            yield from tables(path, one, schema, constant(resolved(one, schema)) if len(kinds) > 1 else kind)


def holds_table(node: Schema, schema: Schema) -> bool:
    """Whether tables are found below ``node``."""
    return next(tables("", node, schema), None) is not None


def constant(node: Schema) -> str:
    """The key that tells a kind of table from the others, as ``with kind = "import"``; a class may stand for several."""
    for key in KINDS:
        value = node["properties"].get(key, {})
        if names := [value["const"]] if "const" in value else value.get("enum", []):
            return f"with {key} = {', '.join(json.dumps(name) for name in names)}"
    return ""


def said(table: Table, key: str, values: Values) -> Published | None:
    """What the last recipe says of a key that is of this kind of table."""
    fitting = [one for one in values.get(f"{table.path}.{key}", ()) if not one.of or json.dumps(one.of) in table.kind or not table.kind]
    return fitting[-1] if fitting else None


def row(table: Table, key: str, node: Schema, schema: Schema, values: Values) -> str:
    """A key's row."""
    required = key in table.schema.get("required", ())
    default = "required" if required else code(node["default"]) if node.get("default") is not None else "absent"
    recipe = said(table, key, values)
    value = "" if recipe is None else f"{code(recipe.value)} (ours)" if recipe.is_ours else code(recipe.value)
    cells = (f"`{key}`", type_of(node, schema), default, value, text(described(node, schema)))
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def type_of(node: Schema, schema: Schema) -> str:
    """What a value is, in words."""
    if "$ref" in node:
        target = resolved(node, schema)
        return "table" if "properties" in target else type_of(target, schema)
    if "const" in node:
        return code(node["const"])
    if "enum" in node:
        return ", ".join(code(value) for value in node["enum"])
    if several := choices(node):
        return " or ".join(dict.fromkeys(type_of(one, schema) for one in several))
    if node.get("type") == "array":
        return f"list of {type_of(node['items'], schema)}" if "items" in node else "list"
    if isinstance(node.get("additionalProperties"), Mapping):
        return f"name → {type_of(node['additionalProperties'], schema)}"
    bounds = ", ".join(f"{sign} {node[word]}" for word, sign in BOUNDS.items() if word in node)
    return f"{node.get('type', 'any')} {bounds}".rstrip()


def choices(node: Schema) -> list[Schema]:
    """What a value may be, one after another, but nothing at all."""
    return [one for one in node.get("anyOf", node.get("oneOf", ())) if one.get("type") != "null"]


def resolved(node: Schema, schema: Schema) -> Schema:
    """``node``, or the definition that it refers to."""
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def described(node: Schema, schema: Schema) -> str:
    """A key's description, or its table's."""
    return str(node.get("description") or resolved(node, schema).get("description", ""))


def code(value: object) -> str:
    """A value as a config writes it."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def text(docstring: str) -> str:
    """A docstring on one line, as Markdown."""
    return " ".join(as_markdown(docstring).split()).replace("``", "`")
