"""Where MLflow keeps its records, and the one way to open it: locked, at the current schema, quiet."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.tracking.database import is_postgresql, mlflow_database, only_writer

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "dvc.key"
"""Tag of runs, logged models and registry versions: DVC's own key of the run that made them."""
LANE_TAG = "plumbline.lane"
"""Tag of the experiments that this project made."""
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
LOCK = Path(".plumbline") / "mlflow.lock"
_PATIENCE_S = 300.0
"""How long to wait for another process that is writing; logging a large model takes some seconds."""
_SQLITE = "sqlite:///"


class TrackingError(RuntimeError):
    """MLflow could not be brought up to date. The message says what is missing there and what to do."""


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI if set, else that of PLUMBLINE_DATABASE, else the SQLite file at the checkout's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or mlflow_database() or _own_uri(root)


def is_own_store(root: Path) -> bool:
    """Whether the store is the checkout's own database, not a server or a database chosen by a setting."""
    return tracking_uri(root) == _own_uri(root)


def artifact_location(root: Path, experiment: str) -> str | None:
    """Where a store that no server keeps has an experiment's artifacts; None leaves it to a server.

    A database that checkouts share keeps them where `PLUMBLINE_ARTIFACTS` says (a folder or s3://...), else in
    the checkout that made the experiment.
    """
    if is_own_store(root):
        return (root.resolve() / ARTIFACTS / experiment).as_uri()
    if tracking_uri(root) != mlflow_database():
        return None
    place = os.environ.get("PLUMBLINE_ARTIFACTS") or str(root / ARTIFACTS)
    base = place if "://" in place else Path(place).resolve().as_uri()
    return f"{base.rstrip('/')}/{experiment}"


@contextmanager
def connected(root: Path) -> Iterator[MlflowClient]:
    """A client of the store, with its schema up to date, while no other process of this checkout writes, and
    none of another one to the same PostgreSQL database.

    MLflow reads the address of its store from global state in several places, so it is set for the duration
    and put back afterwards.

    Raises:
        TrackingError: if another process holds the store for minutes, or it belongs to another checkout.
    """
    uri = tracking_uri(root)
    with _locked(root), only_writer(uri), _quiet():
        import mlflow

        if _is_database(uri):
            _upgrade(uri)
        with _global_uri(uri):
            client = mlflow.MlflowClient(uri)
            if is_own_store(root):
                _assert_of_this_checkout(root, client)
            yield client


def prepare(root: Path) -> str:
    """Create or upgrade the store, so that a server may open it; returns its address.

    Two processes that find a fresh database both create its tables, and one of them fails: whoever starts a
    server calls this first.
    """
    uri = tracking_uri(root)
    if _is_database(uri):
        with _locked(root), only_writer(uri), _quiet():
            _upgrade(uri)
    return uri


def set_aside_if_moved(root: Path) -> Path | None:
    """Rename the checkout's own database if it belongs to another folder; returns its new name.

    MLflow notes artifact folders with their absolute path: a database that was copied or moved along with
    its checkout would write into the old place. It is a view, and is rebuilt from the journal.
    """
    database = root / DATABASE
    if not is_own_store(root) or not database.is_file():
        return None
    try:
        with connected(root):
            return None
    except _MovedError:
        kept = next(p for n in range(1, 10_000) if not (p := root / f"{DATABASE}.moved-{n}").exists())
        return database.rename(kept)


class _MovedError(TrackingError):
    pass


def _is_database(uri: str) -> bool:
    return uri.startswith(_SQLITE) or is_postgresql(uri)


def _own_uri(root: Path) -> str:
    return f"{_SQLITE}{root.resolve() / DATABASE}"


def _assert_of_this_checkout(root: Path, client: MlflowClient) -> None:
    from mlflow.entities import ViewType

    foreign = [
        e.artifact_location
        for e in client.search_experiments(view_type=ViewType.ALL)
        if LANE_TAG in e.tags and e.artifact_location != artifact_location(root, e.name)
    ]
    if foreign:
        raise _MovedError(
            f"{DATABASE} was made for another folder (it keeps artifacts in {', '.join(sorted(foreign))}). "
            "Run `plumbline repair`: it puts the file aside and builds a new one from the journal."
        )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=_PATIENCE_S):
            yield
    except Timeout:
        raise TrackingError(
            f"another process has held {LOCK} for {_PATIENCE_S:.0f} s: see what runs, then `plumbline sync`"
        ) from None


def _upgrade(uri: str) -> None:
    """What `mlflow db upgrade` does, and only where it is needed."""
    from mlflow.store.db import utils
    from sqlalchemy.exc import SQLAlchemyError

    utils._make_parent_dirs_if_sqlite(uri)
    engine = utils.create_sqlalchemy_engine_with_retry(uri)
    try:
        utils._safe_initialize_tables(engine)
        if utils._get_schema_version(engine) != _latest_revision():
            utils._upgrade_db(engine)
    except SQLAlchemyError as error:
        raise TrackingError(
            f"{uri} cannot be opened ({str(error).splitlines()[0]}); if the file is damaged, move it away "
            "and run `plumbline repair`"
        ) from error
    finally:
        engine.dispose()


@functools.cache
def _latest_revision() -> str:
    """The schema that this MLflow wants; finding it reads some seventy files."""
    from mlflow.store.db import utils

    return str(utils._get_latest_schema_revision())


def _close(uri: str) -> None:
    """Close MLflow's pooled connections, which would go on writing into a database that was moved away."""
    from mlflow.store.model_registry import sqlalchemy_store as registry
    from mlflow.store.tracking import sqlalchemy_store as tracking

    for store in (tracking.SqlAlchemyStore, registry.SqlAlchemyStore):
        if uri in store._engine_map:
            store._engine_map[uri].dispose()


@contextmanager
def _global_uri(uri: str) -> Iterator[None]:
    import mlflow
    from mlflow.tracking._tracking_service import utils

    previous, environment = utils._tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        _close(uri)
        mlflow.set_tracking_uri(previous)  # type: ignore[arg-type]
        if environment is not None:
            os.environ["MLFLOW_TRACKING_URI"] = environment


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow's and Alembic's running commentary would drown the stage's own lines."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    import mlflow  # noqa: F401  sets its loggers' levels, so it comes first

    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
