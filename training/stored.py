"""One file of a run or a registered model as bytes, so that whoever decodes it can say what is wrong with it."""

from __future__ import annotations

import tempfile
from pathlib import Path


def stored(uri: str) -> bytes:
    """One file of MLflow's, as it lies there; `MlflowException` where there is none."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as scratch:
        return Path(download_artifacts(artifact_uri=uri, dst_path=scratch)).read_bytes()
