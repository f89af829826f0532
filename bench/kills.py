"""Random kills while a pipeline is built; after each one a rerun has to leave everything as it should be.

    python -m bench.kills [--kills 50] [--seed 0] [--folder DIR]
    python -m bench.kills --demo 3          # on the pipeline of this checkout, in clones with caches of their own

The pipeline is `bench/slow_pipeline`, nine stages that sleep for half a minute in all, two of which share the
GPU. A kill is SIGKILL, at a random moment of a build from nothing, to the command of a stage, to DVC, to the
flow started by hand, to the flow that a worker started, to the worker or to Prefect's server. Running again
has to end with the bytes of an undisturbed build, no process left over, no lock in the way of a plain `dvc`,
one MLflow run a stage and one version in the registry. Exit status 1 where one of that does not hold.

Results are kept in FOLDER/kills-SEED.jsonl: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.scratch import PATIENCE_S, SOURCES, Scratch, ViolationError, make_template, until
from flows.processes import end
from flows.server import temporary_server, wait_until_up
from stages.core.identity import locked_stages
from stages.core.stage import STATE

VICTIMS = {
    "stage": ("slow.", "stages."),
    "dvc": ("flows.repro",),
    "flow": ("flows.build",),
    "served flow": ("prefect.engine", "prefect.flow_engine", "_workspace_supervisor"),
    "worker": ("prefect worker start",),
    "server": (),
}
"""what is killed -> how it looks in a list of processes; the server is known by its number"""
SERVED = ("served flow", "worker")
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=STATE / "kills", help="scratch; default %(default)s")
    parser.add_argument(
        "--victims", nargs="+", default=list(VICTIMS), choices=list(VICTIMS), metavar="VICTIM"
    )
    parser.add_argument(
        "--demo", type=int, metavar="N", help="N kills on the pipeline of this checkout instead"
    )
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.demo:
        sys.exit(demo(folder, arguments.demo, arguments.seed))
    bench = Bench(folder, arguments.seed, arguments.victims)
    print(table(rows := list(bench.rows(arguments.kills))))
    sys.exit(any(row["violation"] for row in rows))


class Bench:
    """Kill after kill on scratch checkouts in one folder.

    Args:
        folder: holds the template, the checkout of the moment, the logs and the results.
        seed: of the victims and the moments.
        victims: names of `VICTIMS` to choose from.
    """

    def __init__(self, folder: Path, seed: int, victims: list[str]) -> None:
        self.folder, self.seed, self.victims = folder, seed, victims
        self.results = folder / f"kills-{seed}.jsonl"
        self.log = folder / "build.log"
        os.environ["PREFECT_HOME"] = str(folder / "prefect")
        self._server: psutil.Process | None = None

    def rows(self, kills: int) -> Iterator[dict[str, object]]:
        """One row a kill, those of an earlier call first; prints each."""
        text = self.results.read_text(encoding="utf-8") if self.results.is_file() else ""
        known = {row["kill"]: row for row in map(json.loads, text.splitlines())}
        try:
            expected, span = self._undisturbed() if len(known) < kills else ({}, 0.0)
            for kill in range(kills):
                if kill not in known:
                    known[kill] = self._kill(kill, expected, span)
                    with self.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(known[kill]) + "\n")
                print(*known[kill].values(), sep="  ", flush=True)
                yield known[kill]
        finally:
            if self._server is not None:
                end([self._server], grace=5.0)

    def _undisturbed(self) -> tuple[dict[str, str], float]:
        """Outputs of a build that nobody disturbs, and the seconds that it takes."""
        shutil.rmtree(self.folder / "template", ignore_errors=True)
        make_template(self.folder / "template")
        scratch = self._fresh()
        began = time.monotonic()
        self._build(scratch)
        span = time.monotonic() - began
        expected = scratch.outputs()
        scratch.assert_whole(expected)
        print(f"undisturbed: {len(expected)} files in {span:.1f} s", flush=True)
        return expected, span

    def _kill(self, kill: int, expected: dict[str, str], span: float) -> dict[str, object]:
        chance = random.Random(f"{self.seed} {kill}")
        victim, moment = chance.choice(self.victims), chance.uniform(0.05, 0.95) * span
        row: dict[str, object] = {"kill": kill, "victim": victim, "moment": round(moment, 1)}
        scratch = self._fresh()
        began = time.monotonic()
        try:
            row["process"] = (self._disturb_served if victim in SERVED else self._disturb)(
                scratch, victim, moment, chance
            )
            scratch = self._scratch()  # perhaps with another server
            rerun = time.monotonic()
            (self._serve if victim in SERVED else self._build)(scratch)
            row["rerun"] = round(time.monotonic() - rerun, 1)
            scratch.assert_quiet()
            scratch.assert_whole(expected)
            row["violation"] = ""
        except ViolationError as violation:
            row |= {
                "process": row.get("process", ""),
                "rerun": row.get("rerun", ""),
                "violation": str(violation),
            }
            shutil.copy(self.log, self.folder / f"violation-{self.seed}-{kill}.log")
        finally:
            end(scratch.processes(), grace=5.0)
        return row | {"seconds": round(time.monotonic() - began, 1)}

    def _fresh(self) -> Scratch:
        shutil.rmtree(self.folder / "checkout", ignore_errors=True)
        shutil.copytree(self.folder / "template", self.folder / "checkout", symlinks=True)
        self.log.write_bytes(b"")
        return self._scratch()

    def _scratch(self) -> Scratch:
        if self._server is None or not self._server.is_running():
            before = set(psutil.Process().children())
            self.url = temporary_server(self.folder / "server.log")
            (self._server,) = set(psutil.Process().children()) - before
            wait_until_up(self.url)
        return Scratch(self.folder / "checkout", self.url, self.folder / "prefect")

    def _build(self, scratch: Scratch) -> None:
        code = scratch.start("flows.build", "--workers", "3", log=self.log).wait(PATIENCE_S)
        if code:
            raise ViolationError(f"the build ended with status {code}")

    def _disturb(self, scratch: Scratch, victim: str, moment: float, chance: random.Random) -> str:
        """Kill while a build by hand goes on, and let what is left of it end."""
        build = scratch.start("flows.build", "--workers", "3", log=self.log)
        killed = self._strike(scratch, victim, moment, chance, lambda: build.poll() is not None)
        try:
            build.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise ViolationError(f"the build did not end after the {victim} was killed") from None
        scratch.assert_quiet()
        return killed

    def _disturb_served(self, scratch: Scratch, victim: str, moment: float, chance: random.Random) -> str:
        with self._worker(scratch) as worker:
            run = self._ask_for_run(scratch)
            until(lambda: scratch.processes(*VICTIMS["served flow"]), PATIENCE_S, "the flow's process")
            killed = self._strike(scratch, victim, moment, chance, lambda: self._state(scratch, run) in FINAL)
            if victim == "worker":
                worker.wait()
                scratch.assert_quiet()
            else:
                until(lambda: self._state(scratch, run) in FINAL, PATIENCE_S, "the end of the killed run")
        scratch.assert_quiet()
        return killed

    def _serve(self, scratch: Scratch) -> None:
        with self._worker(scratch):
            run = self._ask_for_run(scratch)
            until(lambda: self._state(scratch, run) in FINAL, PATIENCE_S, "the end of the run")
            if (state := self._state(scratch, run)) != "COMPLETED":
                raise ViolationError(f"the run ended as {state}")

    @contextmanager
    def _worker(self, scratch: Scratch) -> Iterator[subprocess.Popen[bytes]]:
        """A worker as `plumbline work` starts it, ready for runs; ended as by Ctrl-C."""
        worker = scratch.start("flows.cli", "work", log=self.log)
        try:
            until(lambda: scratch.processes(*VICTIMS["worker"]), PATIENCE_S, "the worker")
            yield worker
        finally:
            end([psutil.Process(worker.pid)] if worker.poll() is None else [], grace=30.0)
            worker.wait()

    def _ask_for_run(self, scratch: Scratch) -> str:
        found = scratch.ask("deployments/filter", {"deployments": {"name": {"any_": ["local"]}}})
        asked = {"state": {"type": "SCHEDULED"}, "parameters": {"workers": 3}}
        return str(scratch.ask(f"deployments/{found[0]['id']}/create_flow_run", asked)["id"])

    def _state(self, scratch: Scratch, run: str) -> str:
        (found,) = scratch.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return str(found["state_type"])

    def _strike(self, scratch: Scratch, victim: str, moment: float, chance: random.Random, over) -> str:
        """Kill a victim at its moment, or as soon as one lives; returns its command line, "" if all was over."""
        time.sleep(moment)
        while True:
            alive = [self._server] if victim == "server" else scratch.processes(*VICTIMS[victim])
            if alive:
                chosen = chance.choice(sorted(alive, key=lambda process: process.pid))
                with suppress(psutil.NoSuchProcess):
                    line = chosen.cmdline()
                    chosen.kill()
                    psutil.wait_procs([chosen], timeout=1.0)
                    return " ".join(line[1:])[:60]
            if over():
                return ""
            time.sleep(0.02)


def table(rows: list[dict[str, object]]) -> str:
    """Kills, kills that came in time and violations by victim, as Markdown."""
    lines = ["| victim | kills | while it lived | violations | rerun, s |", "|---|---|---|---|---|"]
    for victim in VICTIMS:
        of = [row for row in rows if row["victim"] == victim]
        reruns = sorted(float(str(row["rerun"])) for row in of if row["rerun"] != "")
        lasted = f"{reruns[0]:.0f} to {reruns[-1]:.0f}" if reruns else ""
        hit, wrong = sum(bool(row["process"]) for row in of), sum(bool(row["violation"]) for row in of)
        lines.append(f"| {victim} | {len(of)} | {hit} | {wrong} | {lasted} |")
    hit, wrong = sum(bool(row["process"]) for row in rows), sum(bool(row["violation"]) for row in rows)
    return "\n".join([*lines, f"| all | {len(rows)} | {hit} | {wrong} | |"])


def demo(folder: Path, kills: int, seed: int) -> int:
    """Kills on the pipeline of this checkout: a clone with an empty cache, a kill within `minutes`, a rerun.

    All outputs have to have the hashes of this checkout's dvc.lock, which an undisturbed build made on the
    same kind of CPU. Returns the number of kills after which they had not.
    """
    expected = _hashes(SOURCES)
    wrong = 0
    for kill in range(kills):
        chance = random.Random(f"demo {seed} {kill}")
        clone = folder / f"demo-{seed}-{kill}"
        shutil.rmtree(clone, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", str(SOURCES), str(clone)], check=True)
        scratch, log = Scratch(clone, "", clone / ".prefect"), folder / f"demo-{seed}-{kill}.log"
        victim, moment = chance.choice(["stage", "dvc", "flow"]), chance.uniform(30.0, 300.0)
        build = scratch.start("flows.build", log=log)
        time.sleep(moment)
        alive = until(
            lambda scratch=scratch, victim=victim: scratch.processes(*VICTIMS[victim]), 120.0, victim
        )
        chosen = chance.choice(alive)
        print(f"{kill}  {victim}  after {moment:.0f} s  {' '.join(chosen.cmdline()[1:4])}", flush=True)
        chosen.kill()
        build.wait()
        scratch.assert_quiet()
        code = scratch.start("flows.build", log=log).wait()
        found = _hashes(clone)
        other = sorted(
            path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
        )
        wrong += bool(code or other)
        print(
            f"{kill}  status {code}, {len(expected)} outputs, other bytes: {', '.join(other) or 'none'}",
            flush=True,
        )
    return wrong


def _hashes(root: Path) -> dict[str, str]:
    return {
        out["path"]: out["md5"] for entry in locked_stages(root).values() for out in entry.get("outs", [])
    }


if __name__ == "__main__":
    main()
