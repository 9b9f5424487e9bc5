"""Asks the server at argv[1] for the picture at argv[2], with kserve's client; prints what it got as JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import pathlib
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main() -> None:
    url, data = sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes()
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    in_json = InferInput("image", [1], "BYTES", data=[base64.b64encode(data).decode()])
    binary = InferInput("image", [1], "BYTES")
    binary.set_data_from_numpy(np.array([data], dtype=object), binary_data=True)
    requests = [
        InferRequest("first", [in_json]),
        InferRequest("first", [binary]),
        InferRequest("first", [binary], parameters={"binary_data_output": True}),
    ]
    answers = [await client.infer(url, each, model_name="first") for each in requests]
    print(
        json.dumps(
            {
                "ready": [
                    await client.is_server_live(url),
                    await client.is_server_ready(url),
                    await client.is_model_ready(url, "first"),
                ],
                "probabilities": [each.outputs[0].as_numpy().tolist() for each in answers],
            }
        )
    )


asyncio.run(main())
