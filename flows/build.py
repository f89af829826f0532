"""Build the pipeline as a Prefect flow: `python -m flows.build [--stages 'spine-*'] [--profile NAME]`.

The files are those of `dvc repro`; the flow adds parallel branches, retries, a view and MLflow. Exit
status: 0 all up to date, 1 a stage failed or could not be built, 130 or 143 stopped by a signal. Where another
build runs in the checkout, this one waits for it.

With --profile params.yaml is switched first, as by `plumbline use NAME`, and stays so.

With --serve the command waits for runs that are started in the UI or by --cron. Cancel a run in the UI, or
end it and the command with Ctrl-C; on SIGTERM the command lets a run finish and takes no more.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from flows.profiles import assert_known
from flows.server import prefect_api, wait_until_up
from flows.worker import SERVED_BY
from stages.core.errors import StageError
from stages.core.params import project_root


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _end)
    try:
        if arguments.profile:
            assert_known(project_root(), arguments.profile)
        url = prefect_api(project_root(), temporary=not arguments.serve)
        return _serve(arguments) if arguments.serve else _build(url, arguments)
    except StageError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.build", description=__doc__)
    parser.add_argument("--stages", nargs="+", metavar="PATTERN", help="these and what they need")
    parser.add_argument("--profile", metavar="NAME", help="switch to this profile; default is the active one")
    parser.add_argument("--workers", type=int, help="stages that run at once; default the number of cores")
    parser.add_argument(
        "--keep-going",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="after a failure, finish what does not depend on it (default)",
    )
    parser.add_argument("--serve", action="store_true", help="wait for runs started in the UI of `make up`")
    parser.add_argument("--cron", help="with --serve: also build on this schedule, for example '0 3 * * *'")
    return parser


def _build(url: str, arguments: argparse.Namespace) -> int:
    from flows.pipeline import build  # imports Prefect and DVC while the server starts

    wait_until_up(url)
    parameters = {k: getattr(arguments, k) for k in ("stages", "profile", "workers", "keep_going")}
    state = build(**parameters, return_state=True)
    print(state.message)
    return 0 if state.is_completed() else 1


def _serve(arguments: argparse.Namespace) -> int:
    from flows.pipeline import build

    os.environ[SERVED_BY] = str(os.getpid())
    build.serve(
        name="served",  # build/local is the worker's
        cron=arguments.cron,
        limit=1,
        global_limit=1,
        parameters={
            "stages": arguments.stages or ["*"],
            "workers": arguments.workers,
            "profile": arguments.profile,
        },
    )
    return 0


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    """Unwind instead of dying at once, so that the temporary server ends first."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
