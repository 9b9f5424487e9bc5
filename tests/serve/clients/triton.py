"""Asks the server at argv[1] for the picture at argv[2], with tritonclient; prints what it got as JSON."""

from __future__ import annotations

import base64
import json
import pathlib
import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1].removeprefix("http://"))
data = pathlib.Path(sys.argv[2]).read_bytes()
encoded = triton.InferInput("image", [1], "BYTES")
encoded.set_data_from_numpy(np.array([data], dtype=object))
in_json = triton.InferInput("image", [1], "BYTES")
in_json.set_data_from_numpy(np.array([base64.b64encode(data)], dtype=object), binary_data=False)
plain = [triton.InferRequestedOutput("probabilities", binary_data=False)]
answers = [
    client.infer("first", [encoded]),
    client.infer("first", [encoded], model_version="1", request_id="7", outputs=plain),
    client.infer("first", [in_json]),
    client.infer("first", [in_json], outputs=plain),
]
try:
    client.infer("none", [encoded])
    error = None
except triton.InferenceServerException as refused:
    error = refused.message()
print(
    json.dumps(
        {
            "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("first", "1")],
            "inputs": [each["name"] for each in client.get_model_metadata("first")["inputs"]],
            "probabilities": [each.as_numpy("probabilities").tolist() for each in answers],
            "error": error,
        }
    )
)
