"""Alembic migrations, one for SQLite and PostgreSQL. Run them by `printsvc migrate`; `printsvc up` does it itself."""
