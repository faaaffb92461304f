"""HTTP: routes, problems, tokens, OpenAPI."""
