"""The API reference as one page of HTML, made from the OpenAPI description; it loads nothing from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0 }
h2 { margin-top: 2.5rem }
h2::first-letter { text-transform: uppercase }
pre { overflow-x: auto }
code { font: 13px/1.45 ui-monospace, monospace }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4.2rem }
summary i { opacity: .7; font-style: normal }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 }
td, th { border-top: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top }
"""
HOW_TO_CALL = """<h2>How to call</h2>
<p>Send your key with every request, as <code>Authorization: Bearer KEY</code>, and bodies as JSON. The first
<code>nbo serve</code> prints two keys; <code>nbo keys create</code> makes more.</p>
<pre><code>curl -s "$NBO_URL/v1/decisions" -H "Authorization: Bearer $NBO_KEY" -H "Content-Type: application/json" \\
  -d '{"customer_id": "c-17", "placements": [{"placement_id": "home-hero", "limit": 1}]}'</code></pre>
"""


def page(openapi: Mapping[str, Any]) -> str:
    """The whole page."""
    info = openapi["info"]
    tags: dict[str, list[str]] = {}
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            shown = "".join(_operation(method, path, operation))
            tags.setdefault((operation.get("tags") or ["other"])[0], []).append(shown)
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(shown)}" for tag, shown in tags.items())
    schemas = "".join(_schema(name, schema) for name, schema in sorted(openapi["components"]["schemas"].items()))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>"
        f"<p>{escape(info.get('description', ''))}</p>"
        f'<p>The same as data: <a href="openapi.json">openapi.json</a>.</p>{HOW_TO_CALL}{sections}'
        f"<h2>schemas</h2>{schemas}</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(path)}</code> "
    yield f"<i>{escape(operation.get('description') or operation.get('summary', ''))}</i></summary>"
    for requirement in operation.get("security", []):
        scopes = " or ".join(f"<code>{escape(scope)}</code>" for scope in requirement.get("key", []))
        yield f"<p>Needs a key with the scope {scopes}.</p>"
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>parameter<th>in<th>type<th>meaning</tr>"
        for one in parameters:
            kind = _kind(one["schema"])
            yield f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{kind}"
            yield f"<td>{escape(one.get('description', one['schema'].get('description', '')))}</tr>"
        yield "</table>"
    if body := operation.get("requestBody"):
        yield f"<p>Body: {_content(body)}</p>"
    yield "<table><tr><th>status<th>meaning<th>body</tr>"
    for status, response in operation["responses"].items():
        yield f"<tr><td>{escape(status)}<td>{escape(response['description'])}<td>{_content(response)}</tr>"
    yield "</table></details>"


def _content(holder: Mapping[str, Any]) -> str:
    return ", ".join(_kind(content.get("schema", {})) for content in holder.get("content", {}).values())


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    kind = schema.get("type", "anything")
    shown = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if kind == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    return escape(schema.get("format", shown))


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code>{'' if field in required else ' (optional)'}<td>{_kind(one)}"
        f"<td>{escape(one.get('description', ''))}{_default(one)}</tr>"
        for field, one in schema.get("properties", {}).items()
    )
    return (
        f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
        f"<i>{escape(schema.get('description', ''))}</i></summary><table>{rows}</table></details>"
    )


def _default(schema: Mapping[str, Any]) -> str:
    return f" Default <code>{escape(json.dumps(schema['default']))}</code>." if "default" in schema else ""
