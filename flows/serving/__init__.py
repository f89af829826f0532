"""Serving of every film lane: one process that follows the registry's alias and swaps models without a restart.

    source    what an alias stands for: this checkout's log and shelf, a shared MLflow, or a plain folder
    golden    the picture that a model has to answer as it did before, or it is not let in
    predictor a loaded model that stamps its answers
    follower  resolves, loads beside the present model, checks, and swaps
    canary    which films the challenger answers, and when that is stopped
    shadow    both models on the same film; the log of predictions
    desk      where films wait for a worker and one line-up of models answers each
    body, guard, metrics, app, launch   the web around it

The registry is only ever read. What serving itself has to remember lies in `.plumbline/serving/`.
"""

from pathlib import Path

from stages.core.stage import STATE

FOLDER: Path = STATE / "serving"
"""What serving remembers: golden answers, canary decisions, the log of predictions."""
