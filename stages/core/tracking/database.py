"""PostgreSQL behind MLflow and Prefect, where `PLUMBLINE_DATABASE` names a server; else each has its SQLite file.

    PLUMBLINE_DATABASE=postgresql://USER:PASSWORD@HOST:5432/NAME

stands for two databases, NAME_mlflow and NAME_prefect: both programs keep a table of the same name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from stages.core.errors import StageError

VARIABLE = "PLUMBLINE_DATABASE"
_SCHEME = "postgresql"
_LOCK = 0x706C756D
"""Number of the lock that whoever writes to MLflow's database holds; any, but the same for all checkouts."""


def mlflow_database() -> str | None:
    """SQLAlchemy's address of MLflow's database, or None where `PLUMBLINE_DATABASE` is not set."""
    return _database("mlflow", "psycopg")


def prefect_database() -> str | None:
    """The same of Prefect's."""
    return _database("prefect", "asyncpg")


def _database(program: str, driver: str) -> str | None:
    address = os.environ.get(VARIABLE)
    if not address:
        return None
    parts = urlsplit(address)
    name = parts.path.strip("/")
    if parts.scheme != _SCHEME or not name or "/" in name:
        raise StageError(f"{VARIABLE} must read postgresql://USER:PASSWORD@HOST:PORT/NAME")
    whole = parts._replace(scheme=f"{_SCHEME}+{driver}", path=f"/{name}_{program}")
    return urlunsplit(whole)


def is_postgresql(uri: str) -> bool:
    return uri.startswith((f"{_SCHEME}:", f"{_SCHEME}+"))


@contextmanager
def only_writer(uri: str) -> Iterator[None]:
    """While no other checkout writes to the same PostgreSQL database; at once with any other store.

    Raises:
        StageError: no driver, or the database cannot be reached.
    """
    if not is_postgresql(uri):
        yield
        return
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    shown = make_url(uri).render_as_string(hide_password=True)
    try:
        # The lock belongs to the connection, and is gone when this process is.
        engine = create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        connection = engine.connect()
        connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
    except ModuleNotFoundError as error:
        raise StageError(
            f"{shown} needs the package {error.name}: pip install 'plumbline[postgres]'"
        ) from None
    except SQLAlchemyError as error:
        raise StageError(
            f"{shown} cannot be reached ({str(error).splitlines()[0]}). Make the databases with createdb, see "
            f"'Scaling out' in README.md, or unset {VARIABLE}"
        ) from error
    try:
        yield
    finally:
        connection.close()
