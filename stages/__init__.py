"""The code of every stage. Importing it switches off what its libraries would report to the outside."""

import os
import sys

for _name, _value in {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
}.items():
    os.environ.setdefault(_name, _value)

# Waiting threads spin by default: where others want the cores, a training step takes 50 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if "DVC_STAGE" in os.environ and sys.argv[:1] == ["-m"]:
    # DVC runs `python -m stages...`, which comes here first: some stages spend seconds importing torch.
    from stages.core.lifeline import end_with_dvc

    end_with_dvc()
