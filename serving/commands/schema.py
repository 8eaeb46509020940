"""`nbo schema`: what a file of `nbo apply` may hold, as JSON Schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from serving.api.fields import OBJECT_ID
from serving.api.kinds import KINDS, Kind

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run(out: Path | None) -> None:
    """Print the schema, or write it to a file."""
    text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


def schema() -> dict[str, Any]:
    """Lists by kind, each of the API's bodies with its id. Source: JSON Schema, draft 2020-12."""
    made, holder = models_json_schema([(kind.body, "validation") for kind in KINDS], ref_template="#/$defs/{model}")
    definitions = {name: _without_titles(definition) for name, definition in holder["$defs"].items()}
    lists = {}
    for kind in KINDS:
        reference = made[kind.body, "validation"]["$ref"]
        _add_id(definitions[reference.rpartition("/")[2]], kind)
        lists[kind.group] = {"type": "array", "items": {"$ref": reference}}
    return {
        "$schema": DIALECT,
        "title": "Catalogue of a next-best-offer service, as `nbo apply` takes it",
        "type": "object",
        "properties": lists,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _add_id(body: dict[str, Any], kind: Kind) -> None:
    """In a file the id stands in the object, not in a path."""
    body["title"] = kind.name
    body["properties"] = {kind.key: {"type": "string", "pattern": OBJECT_ID}, **body["properties"]}
    body["required"] = [kind.key, *body.get("required", [])]


def _without_titles(definition: dict[str, Any]) -> dict[str, Any]:
    """Pydantic titles each field with its own name."""
    fields = {
        name: {key: value for key, value in field.items() if key != "title"}
        for name, field in definition["properties"].items()
    }
    return {**{key: value for key, value in definition.items() if key != "title"}, "properties": fields}
