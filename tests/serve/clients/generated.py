"""Generates a client from the document of the server at argv[1], asks for the picture at argv[2], prints the answer."""

from __future__ import annotations

import base64
import io
import json
import pathlib
import subprocess
import sys
import tempfile

url, data = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes()
with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--url", f"{url}/openapi.json"]
    subprocess.run([*command, "--meta", "none", "--output-path", f"{folder}/generated"], check=True, stdout=sys.stderr)
    sys.path.insert(0, folder)
    from generated import Client
    from generated.api.v1 import models_v1_models_get, predict_v1_predict_post
    from generated.models import PredictV1PredictPostFilesBody as Files
    from generated.models import PredictV1PredictPostJsonBody as Images
    from generated.types import File

    client = Client(url)
    models = models_v1_models_get.sync_detailed(client=client)
    bodies = [
        Images([base64.b64encode(data).decode()]),
        Files([File(io.BytesIO(data), "a.png", "image/png")]),
        File(io.BytesIO(data)),
    ]
    answers = [predict_v1_predict_post.sync_detailed(client=client, body=each, top=4) for each in bodies]
    print(
        json.dumps(
            {
                "models": [each["name"] for each in json.loads(models.content)["models"]],
                "labels": [json.loads(each.content)["predictions"][0]["label"] for each in answers],
            }
        )
    )
