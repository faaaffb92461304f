"""The OpenAPI 3.1 document, made from the table of routes and the pydantic models of the bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import models_json_schema

from printsvc import __version__
from printsvc.web.route import Route

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "detail_vi"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "detail_vi": {"type": "string"},
        "fields": {"type": "array", "items": {"type": "string"}},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "vi", "en"],
                "properties": {name: {"type": "string"} for name in ("pointer", "code", "vi", "en")},
            },
        },
    },
}


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the document of these routes."""
    routes = list(routes)
    models = {route.body for route in routes if route.body is not None}
    keys, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    references = {model: schema for (model, _), schema in keys.items()}
    paths: dict[str, Any] = {}
    for route in routes:
        operation: dict[str, Any] = {
            "summary": route.summary,
            "operationId": route.handler.__name__,
            "responses": {
                **{str(status): _success(route.media) for status in route.answers},
                "default": {
                    "description": "A problem (RFC 9457).",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
            },
        }
        text = {"type": "string"}
        parameters: list[dict[str, Any]] = [
            {"name": name, "in": "path", "required": True, "schema": text}
            for name in re.findall(r"{(\w+)}", route.path)
        ]
        parameters += [{"name": name, "in": "query", "schema": text} for name in route.query]
        if parameters:
            operation["parameters"] = parameters
        if route.roles:
            operation["security"] = [{"bearer": []}]
            operation["description"] = f"For: {', '.join(route.roles)}."
        content: dict[str, Any] = {media: {} for media in route.also_takes}
        if route.body is not None:
            content = {"application/json": {"schema": references[route.body]}} | content
        if content:
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "printsvc", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**definitions.get("$defs", {}), "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _success(media: str) -> dict[str, Any]:
    schema = {"type": "object"} if media == "application/json" else {"type": "string"}
    return {"description": "Done.", "content": {media: {"schema": schema}}}
