"""The command `plumbline`. Each command is a few lines; the work lies in the modules that it calls."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.lanes import LANES, lane
from stages.core.errors import StageError
from stages.core.params import project_root

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Landmark models that check and correct themselves.")  # fmt: skip
console = Console()

LaneName = Annotated[str, typer.Argument(help=f"{', '.join(LANES)}, or a lane of your own", metavar="LANE")]
Model = Annotated[
    str | None,
    typer.Option(help="a folder under models/, NAME@ALIAS (spine-phantom@champion) or models:/NAME/VERSION"),
]
Folder = Annotated[str | None, typer.Option(help="raw folder, or 'phantom'", metavar="DIR")]


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Print a StageError without a traceback and end with status 1."""
    try:
        yield
    except StageError as error:
        typer.secho(f"ERROR: {error}", err=True, fg="red")
        raise typer.Exit(1) from None


@app.command()
def check() -> None:
    """Packages, device, data, disk, locks and services: what works here and what does not."""
    from flows.check import findings

    with errors_in_words():
        found = findings(project_root())
    table = Table("what", "state", "detail")
    for finding in found:
        table.add_row(finding.what, "[green]ok" if finding.ok else "[red]look", finding.detail)
    console.print(table)
    raise typer.Exit(0 if all(f.ok for f in found) else 1)


@app.command()
def use(
    profile: str,
    spine: Folder = None,
    chest: Folder = None,
    ceph: Folder = None,
    ceph_clinic: Folder = None,
    pose: Folder = None,
    pose_videos: Folder = None,
) -> None:
    """Switch the profile and raw folders; those not named stay (with `demo`: return to phantoms)."""
    from flows.profiles import use as switch
    from flows.repro import RUNNER

    folders = {
        "spine": spine,
        "chest": chest,
        "ceph": ceph,
        "ceph_clinic": ceph_clinic,
        "pose": pose,
        "pose_videos": pose_videos,
    }
    with errors_in_words(), RUNNER.exclusive(project_root()):
        chosen = switch(project_root(), profile, folders)
    console.print(f"profile [bold]{chosen.profile}[/bold]")
    for name, folder in chosen.raw.items():
        console.print(f"  {name:11} {folder}", soft_wrap=True)
    console.print(
        "Next: `make repro` (or `dvc repro`). What was built with these settings before is restored."
    )


@app.command("new-lane")
def new_lane(
    name: Annotated[str, typer.Argument(help="of the lane: lower-case letters, digits and _")],
    labels: Annotated[
        Path | None,
        typer.Option("--from", help="coco.json, a labelme folder, or points.csv", metavar="LABELS"),
    ] = None,
    films: Annotated[
        Path | None, typer.Option(help="folder of the films, at any depth", metavar="DIR")
    ] = None,
    title: Annotated[str, typer.Option(help="heading of the report")] = "",
    dataset: Annotated[str, typer.Option(help="models are registered as NAME-DATASET")] = "",
    spacing_mm: Annotated[float | None, typer.Option(help="mm a px of every film, if known")] = None,
    patients: Annotated[
        str | None, typer.Option(help="regular expression on a film's name: its first group is the patient")
    ] = None,
    build: Annotated[bool, typer.Option(help="build it at once, up to its report")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="take the lane away again")] = False,
) -> None:
    """A lane for your own landmarks: labels and films in, description, parameters and stages out."""
    from flows import newlane

    with errors_in_words():
        root = project_root()
        if remove:
            lines = newlane.removed(root, name)
        else:
            lines = newlane.made(root, name, labels, films, title, dataset, spacing_mm, patients)
        for line in lines:
            console.print(line, soft_wrap=True)
        if build and not remove:
            raise typer.Exit(newlane.build(root, name, lambda line: console.print(line, soft_wrap=True)))


@app.command()
def repro(targets: Annotated[list[str] | None, typer.Argument(help="stages; default all")] = None) -> None:
    """`dvc repro`, then what may not be a stage: journal to MLflow, promotion of the candidates."""
    from flows import dag
    from flows.publishing import publish, warm_up
    from flows.repro import environment

    with errors_in_words():
        root = project_root()
        dvc = [sys.executable, "-m", "flows.quick_dvc", "--wait-for-lock", "repro", *(targets or [])]
        for line in dag.heal(root):
            console.print(line, soft_wrap=True)
        with subprocess.Popen(dvc, cwd=root, env=environment()) as process:
            ready = warm_up(root)
            try:
                code = process.wait()
            except KeyboardInterrupt:
                code = process.wait()  # Ctrl-C reached DVC and its stage too: let DVC release its locks
        ready.join()
        for line in publish(root, promote=code == 0):
            console.print(line, soft_wrap=True)
    raise typer.Exit(code)


@app.command()
def why(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="names or patterns; default all that would run", metavar="STAGE"),
    ] = None,
    edited: Annotated[
        list[str] | None,
        typer.Option(
            "--if", help="a file, folder or parameter: what would run after an edit", metavar="WHAT"
        ),
    ] = None,
) -> None:
    """Why a stage would run, be restored or be left alone; changes nothing."""
    from flows import quick_dvc
    from flows.why import affected, explain

    with errors_in_words():
        quick_dvc.install()
        for line in affected(project_root(), edited) if edited else explain(project_root(), stages or []):
            typer.echo(line)


@app.command()
def disk() -> None:
    """What takes up space here, and what it is needed for; changes nothing."""
    from flows.disk.inventory import inventory
    from flows.disk.report import tables

    with errors_in_words():
        for part in tables(inventory(project_root())):
            console.print(part, soft_wrap=isinstance(part, str))


@app.command()
def clean(
    cache: Annotated[bool, typer.Option("--cache", help="what no lock, branch or profile needs")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="unfinished work")] = False,
    mlflow: Annotated[bool, typer.Option("--mlflow", help="unregistered copies of old models")] = False,
    prefect: Annotated[bool, typer.Option("--prefect", help="the history of builds")] = False,
    older_than: Annotated[
        float | None, typer.Option(help="only what is older", metavar="DAYS", min=0)
    ] = None,
    other_profiles: Annotated[
        bool, typer.Option("--other-profiles", help="also what other profiles would be restored from")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do it; without, only say what would go")] = False,
) -> None:
    """Free disk space: say what could go and what is kept, and why; with --yes and an area, remove it."""
    from flows.disk import Area, cleaning, report

    named = {"cache": cache, "checkpoints": checkpoints, "mlflow": mlflow, "prefect": prefect}
    areas = {Area(name) for name, chosen in named.items() if chosen or not any(named.values())}
    wish = cleaning.Wish(frozenset(areas), older_than, other_profiles)
    with errors_in_words():
        if yes and not any(named.values()):
            raise StageError(
                "--yes wants to know what to remove: --cache, --checkpoints, --mlflow, --prefect"
            )
        plan = (cleaning.clean if yes else cleaning.plan)(project_root(), wish)
    for part in report.plan_lines(plan, wish, done=yes):
        console.print(part, soft_wrap=isinstance(part, str))


@app.command()
def sync() -> None:
    """Bring MLflow up to date with what the stages recorded."""
    from stages.core import tracking

    with errors_in_words():
        console.print(str(tracking.sync(project_root())))


@app.command()
def repair() -> None:
    """Rebuild a lost or wiped MLflow database (runs, versions, aliases) and drop stale DVC locks."""
    from flows import dag, registry

    with errors_in_words():
        root = project_root()
        for line in dag.heal(root):
            console.print(line, soft_wrap=True)
        console.print(str(registry.repair(root)), soft_wrap=True)


@app.command()
def evaluate(
    lane_name: LaneName,
    data: Annotated[Path, typer.Option(help="any folder in the lane's raw layout", metavar="DIR")],
    out: Annotated[Path, typer.Option(help="where to write the JSON", metavar="FILE")],
    model: Model = None,
    threads: Annotated[int, typer.Option(help="native threads")] = 2,
    clicks: Annotated[
        int | None, typer.Option(help="of an imagined user on the worst point (spine; default 5)", min=0)
    ] = None,
) -> None:
    """Measure a model on any folder of labelled films or motion capture."""
    with errors_in_words():
        folder = _model_folder(lane_name, model)
        if not data.is_dir():
            raise StageError(f"--data {data} is not a folder")
        with tempfile.TemporaryDirectory(prefix="plumbline-") as scratch:
            judge = lane(lane_name).module(lane(lane_name).judge).evaluate_folder
            told = _told(judge, lane_name, clicks=clicks)
            result = judge(folder, data, Path(scratch), threads, **told)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        shown = {k: v for k, v in result.items() if isinstance(v, int | float | str)}
        for name, value in shown.items():
            console.print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")


@app.command()
def predict(
    lane_name: LaneName,
    files: Annotated[list[Path], typer.Argument(help="films, poses or videos, or folders of them")],
    out: Annotated[Path, typer.Option(help="folder for overlays and predictions.json")] = Path("predictions"),
    model: Model = None,
    allow_phantom: Annotated[
        bool, typer.Option(help="let a phantom-trained model answer on a person's film")
    ] = False,
    hint: Annotated[
        list[str] | None,
        typer.Option(
            help="a point you are sure of, in px of the film (spine; repeat it)", metavar="POINT=X,Y"
        ),
    ] = None,
    refiner: Annotated[
        str | None, typer.Option(help="form that the model must have, or none for no model (pose)")
    ] = None,
    elevation: Annotated[float | None, typer.Option(help="degrees that the camera looks down (pose)")] = None,
    augmenter: Annotated[Path | None, typer.Option(help="folder of the LSTM marker augmenter (pose)")] = None,
    height: Annotated[float | None, typer.Option(help="of the person, m (pose, for the augmenter)")] = None,
    mass: Annotated[float | None, typer.Option(help="of the person, kg (pose, for the augmenter)")] = None,
) -> None:
    """Landmarks of films, or better poses, that nobody labelled: JSON and pictures. Research use only."""
    with errors_in_words():
        folder = Path() if refiner == "none" else _model_folder(lane_name, model)
        if absent := [str(f) for f in files if not f.exists()]:
            raise StageError(f"no such files: {', '.join(absent)}")
        out.mkdir(parents=True, exist_ok=True)
        predict_files = lane(lane_name).module("predict").predict_files
        told = _told(
            predict_files,
            lane_name,
            hints=hint,
            refiner=refiner,
            elevation=elevation,
            augmenter=augmenter,
            height=height,
            mass=mass,
        )
        answers = predict_files(folder, files, out, allow_phantom, **told)
        (out / "predictions.json").write_text(json.dumps(answers, indent=2) + "\n", encoding="utf-8")
        console.print(f"{len(answers)} answers in {out / 'predictions.json'}", soft_wrap=True)


def _told(function: Callable[..., Any], lane_name: str, **options: object) -> dict[str, Any]:
    """The options that were given; an error where the lane's function does not know them."""
    told = {name: value for name, value in options.items() if value is not None}
    if strange := sorted(told.keys() - inspect.signature(function).parameters.keys()):
        raise StageError(f"the lane {lane_name} has no {', '.join(strange)}: leave that option out")
    return told


def _model_folder(lane_name: str, model: str | None) -> Path:
    """The folder of the model to use: the lane's own, or the one named."""
    root = project_root(Path(__file__).parent)
    if model is not None:
        from flows.registry import resolve_model

        return resolve_model(model, root)
    folder = root / lane(lane_name).model
    if not (folder / "card.json").is_file():
        raise StageError(
            f"{lane(lane_name).model} holds no model: run `make repro`, or name one with --model"
        )
    return folder


@app.command("export")
def export_model(
    lane_name: LaneName,
    out: Annotated[Path, typer.Option(help="the ONNX file to write", metavar="FILE")],
    model: Model = None,
) -> None:
    """Write a model as one ONNX file, decoding inside, and hold its answers against torch."""
    with errors_in_words():
        exported = lane(lane_name).module("onnx_export").export(_model_folder(lane_name, model), out)
        for name, value in exported.lines().items():
            console.print(f"{name:32} {value}", soft_wrap=True)


@app.command()
def promote(
    lane_name: LaneName,
    reason: Annotated[str, typer.Option(help="goes into the log")] = "",
    force: Annotated[bool, typer.Option(help="promote even where the gate says no")] = False,
) -> None:
    """Register the lane's candidate and make it champion if it passes the gate. Safe to repeat."""
    from flows import registry

    with errors_in_words():
        decided = registry.promote(lane(lane_name).name, project_root(), force=force, reason=reason)
        console.print(str(decided), soft_wrap=True)


@app.command()
def rollback(
    lane_name: LaneName,
    to: Annotated[int | None, typer.Option(help="version; default the previous champion")] = None,
    reason: Annotated[str, typer.Option(help="goes into the log")] = "",
) -> None:
    """Make an earlier version champion again."""
    from flows import registry

    with errors_in_words():
        decided = registry.rollback(lane(lane_name).name, project_root(), to=to, reason=reason)
        console.print(str(decided), soft_wrap=True)


@app.command()
def review(
    lane_name: Annotated[str, typer.Argument(help="a film lane", metavar="LANE")] = "ceph",
    port: Annotated[int | None, typer.Option(help="default 8090; 0 takes a free one")] = None,
    name: Annotated[str, typer.Option(help="of the reviewer; the page asks otherwise")] = "",
    read_only: Annotated[bool, typer.Option(help="look at films and verdicts, give none")] = False,
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="open a browser")] = True,
) -> None:
    """The page on which films are reviewed, the one most worth a minute first."""
    from flows.review.launch import launch

    with errors_in_words():
        launch(lane(lane_name).name, project_root(), port, name, read_only, host, open_page, typer.echo)


@app.command("review-export")
def review_export(
    lane_name: LaneName,
    out: Annotated[Path, typer.Option(help="file (label-studio, coco) or folder (labelme)")],
    form: Annotated[str, typer.Option("--format", help="label-studio, labelme or coco")] = "label-studio",
) -> None:
    """Write the queue's films and points for another annotation program."""
    from flows.review.exchange.transfer import export_review
    from flows.review.launch import prepare

    with errors_in_words():
        count = export_review(prepare(lane_name, project_root(), say=typer.echo), form, out)
        console.print(f"{count} films in {out}", soft_wrap=True)


@app.command("review-import")
def review_import(
    lane_name: LaneName,
    file: Annotated[Path, typer.Argument(help="file or folder of the other program")],
    name: Annotated[str, typer.Option(help="of the person who annotated there")],
    form: Annotated[str, typer.Option("--format", help="label-studio, labelme or coco")] = "label-studio",
) -> None:
    """Take over what somebody said in another annotation program as verdicts of the open round."""
    from flows.review.exchange.transfer import import_review
    from flows.review.launch import prepare

    with errors_in_words():
        told = import_review(prepare(lane_name, project_root(), say=typer.echo), form, file, name)
        console.print(f"{told.films} films: {told.stored} verdicts added, {told.known} known already")


@app.command("round")
def review_round(
    lane_name: Annotated[
        str, typer.Argument(help="a lane that learns from reviewers", metavar="LANE")
    ] = "ceph",
    simulated: Annotated[bool, typer.Option(help="learn from the simulated reviewer")] = False,
    workers: Annotated[int | None, typer.Option(help="stages that run at once")] = None,
) -> None:
    """Close the round of reviews, let the model learn from it, and offer the result for promotion."""
    from flows.rounds.command import run

    with errors_in_words():
        console.print(run(lane(lane_name).name, simulated, workers), soft_wrap=True)


@app.command()
def dashboard(
    lane_name: Annotated[
        str, typer.Argument(help="a lane that learns from reviewers", metavar="LANE")
    ] = "ceph",
) -> None:
    """The loop's page with active model, deployments and training times."""
    from flows.loop_page import write_loop_page

    with errors_in_words():
        console.print(str(write_loop_page(project_root(), lane(lane_name).name)), soft_wrap=True)


@app.command()
def serve(
    lanes: Annotated[
        list[str] | None, typer.Argument(help="lanes or registered names; default all", metavar="LANE")
    ] = None,
    port: Annotated[int | None, typer.Option(help="default that of params.yaml; 0 takes a free one")] = None,
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="another name that the service is known by (repeat it)")
    ] = None,
    alias: Annotated[str, typer.Option(help="champion, challenger or previous")] = "champion",
    model: Annotated[Path | None, typer.Option(help="a model folder, served as it is", metavar="DIR")] = None,
    canary: Annotated[
        float | None, typer.Option(help="the challenger's share of the films, percent", min=0, max=100)
    ] = None,
    shadow: Annotated[bool, typer.Option(help="have the challenger answer every film too, unseen")] = False,
    allow_phantom: Annotated[
        bool, typer.Option(help="let a phantom-trained model answer on a person's film")
    ] = False,
) -> None:
    """Serve film lanes: follows the registry's alias without a restart. Research use only."""
    from flows.serving.launch import serve as run

    with errors_in_words():
        run(project_root(), lanes or ["all"], host=host, port=port, allow_hosts=allow_host, alias=alias,
            model=model, percent=canary, shadow=shadow, allow_phantom=allow_phantom)  # fmt: skip


@app.command()
def canary(
    lane_name: LaneName,
    percent: Annotated[float, typer.Argument(help="the challenger's share of the films, 0 to 100")],
) -> None:
    """Give the challenger its share of the films; running services follow. 0 stops it."""
    from flows.serving.launch import set_canary

    with errors_in_words():
        console.print(set_canary(project_root(), lane_name, percent), soft_wrap=True)


@app.command()
def snapshot(
    write: Annotated[bool, typer.Option("--write", help="put it into README.md, between its marks")] = False,
) -> None:
    """The results table of the README, from the evaluations under reports/."""
    from flows import snapshot as results

    with errors_in_words():
        typer.echo(results.write(project_root()) if write else results.snapshot(project_root()))


@app.command()
def up() -> None:
    """Start the Prefect and MLflow UIs on loopback."""
    from flows import services

    with errors_in_words():
        for line in services.up(project_root()):
            console.print(line, soft_wrap=True)


@app.command()
def work() -> None:
    """Carry out builds that are started in the Prefect UI or by its schedules; needs `plumbline up`."""
    from flows.worker import work as carry_out

    with errors_in_words():
        carry_out(project_root())


@app.command()
def down() -> None:
    """Stop what `up` started."""
    from flows import services

    with errors_in_words():
        for line in services.down(project_root()):
            console.print(line, soft_wrap=True)


if __name__ == "__main__":
    app()
