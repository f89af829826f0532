"""What it costs to find that nothing is to be done, over all stages of this checkout.

    python -m bench.noop [--repeats 3]

Three commands, in turn: `dvc repro` as this environment has it (`flows.quick_dvc`), the same of DVC as it comes
(`python -m dvc repro`, of which nothing is promised), and the flow with a server of its own (`python -m
flows.build`). The table shows the run of median time of each; below it stands where that time goes. Build and
publish everything first. Exit status 1 where a stage runs, or a command takes longer than promised on a machine
that is otherwise idle: CPU seconds stand beside the clock's.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass

from stages.core.params import project_root

COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "dvc repro": (["-m", "flows.quick_dvc", "repro"], 6.0),
    "python -m dvc repro": (["-m", "dvc", "repro"], None),
    "flows.build": (["-m", "flows.build"], 12.0),
}
"""what it is called -> arguments of Python, seconds that it may take"""
PARTS = {
    "import DVC": "import dvc.repo, dvc.cli",
    "import Prefect and the flow": "import flows.pipeline",
    "read the graph and its status": "from flows import dag; import dvc.repo; {clock}; dag.read_graph(root)",
    "repair after a kill": "from flows import dag; import dvc.repo; {clock}; dag.heal(root)",
    "keys of dvc.lock": "from flows import links; {clock}; links.read(root)",
    "start Prefect's server": (
        "from flows.server import temporary_server, wait_until_up; {clock}; "
        "wait_until_up(temporary_server(root / '.plumbline/services/noop.log'))"
    ),
    "import MLflow (only after a change)": "import mlflow",
}
"""part -> statements; `{clock}` starts the clock anew"""


@dataclass(frozen=True)
class Taken:
    """Seconds on the clock and of CPU, of a command and all below it."""

    clock: float
    cpu: float


def run(arguments: list[str]) -> tuple[Taken, str]:
    """Run Python with these arguments in the checkout: what it took, and its output."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project_root(),
        env=os.environ | {"PYTHONPATH": str(project_root())},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return Taken(time.monotonic() - began, cpu), done.stdout


def part(statements: str) -> float:
    """Seconds that statements take in a fresh interpreter, from `{clock}` on."""
    clock = "t = time.monotonic()"
    code = f"import time; from stages.core.params import project_root; root = project_root(); {clock}; "
    code += statements.format(clock=clock) + "; print('took', time.monotonic() - t)"
    _, output = run(["-c", code])
    return float(output.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    taken: dict[str, list[Taken]] = {name: [] for name in COMMANDS}
    ran = False
    for arguments, _ in COMMANDS.values():
        ran |= "Running stage" in run(arguments)[1]  # one that does not count: it publishes what is new
    for _ in range(repeats):
        for name, (arguments, _) in COMMANDS.items():
            spent, output = run(arguments)
            taken[name].append(spent)
            ran |= "Running stage" in output
    late = []
    print("| command | seconds | of CPU | at most |\n|---|---|---|---|")
    for name, (_, promised) in COMMANDS.items():
        median = sorted(taken[name], key=lambda spent: spent.clock)[repeats // 2]
        print(f"| {name} | {median.clock:.1f} | {median.cpu:.1f} | {promised or ''} |")
        late += [name] * (promised is not None and median.clock > promised)
    print("\n| part | seconds |\n|---|---|")
    for name, statements in PARTS.items():
        print(f"| {name} | {part(statements):.1f} |")
    print(f"\nload: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    if ran or late:
        sys.exit("a stage ran: build first" if ran else f"later than promised: {', '.join(late)}")


if __name__ == "__main__":
    main()
