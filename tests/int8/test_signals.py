"""A signal after OpenVINO's cores have come and gone is handled, and does not kill the process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from exported_once import SIMPLE

import vitrail
from vitrail.int8.signals import same_signal_stack

pytestmark = pytest.mark.usefixtures("exported_once")
PROGRAM = """
import signal, sys, torch, vitrail
images = [torch.randint(256, (3, 20, 30), dtype=torch.uint8) for _ in range(3)]
older = vitrail.load(sys.argv[1])
older.predict(images)
younger = vitrail.load(sys.argv[1])
younger.predict(images)
del older
del younger
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the stack is Linux's")
def test_a_signal_is_survived(tiny_predictor, tmp_path):
    """After two engines; after a quantisation: test_quantize.py, of its process."""
    source = vitrail.export(tiny_predictor(**SIMPLE), tmp_path / "model.xml", to="openvino").path
    call = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, source]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=250)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the stack is Linux's")
def test_what_a_library_leaves_is_undone():
    """Two cores that go in the order in which they came."""
    from vitrail.engines import libraries

    openvino = libraries.openvino()
    given = openvino.opset13.parameter([2, 2])
    model = openvino.Model([openvino.opset13.relu(given)], [given])
    with same_signal_stack():
        older, younger = (openvino.Core().compile_model(model, "CPU") for _ in range(2))
        del older
        del younger
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(True))
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard
