"""Tables and statements; SQLite and PostgreSQL from one code."""
