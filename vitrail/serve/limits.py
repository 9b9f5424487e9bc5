"""The limits of a server: each is one number here, an option of ``vitrail serve``, and named by the error it causes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from vitrail.config import config

BATCHES = 8  # length of the queue by default


@config
class Limits:
    """Limits of a server; a request that exceeds one is refused immediately.

    Args:
        batch_size: Images the model computes together.
        batch_wait: Seconds that the first image of a batch waits for others while the model is idle.
        queue: Images accepted and not completed yet; beyond it 503. Default: 8 batches.
        max_body: Bytes of a request; beyond it 413.
        max_pixels: Pixels of an image, read from its header; beyond it 413.
        max_images: Images of a request; beyond it 413.
        max_restored: Pixels that a model of restoration makes for a request; beyond it 413.
        max_json_values: Commas, colons and opening brackets in a JSON body, counted before it is parsed; beyond it 413.
        max_header: Bytes of a request's line and headers; beyond it 431.
        max_connections: Open connections; beyond it the one that has been idle for longest is closed, else 503.
        header_seconds: For a request's headers to arrive; then 408.
        body_seconds: For a request's body to arrive; then 408.
        min_rate: Bytes a second of a body, on average, once it has been arriving for 5 s; below it 408.
        decode_seconds: Processor time to decode an image or to parse a body (five times that by the clock); then 422.
        model_seconds: For the model to compute a batch whose turn it is; then its process is killed and restarted.
        drain: Seconds between "not ready" and the end of listening after SIGTERM or Ctrl-C.
    """

    batch_size: PositiveInt = 8
    batch_wait: Annotated[float, Field(ge=0, le=10)] = 0.005
    queue: PositiveInt | None = None
    max_body: PositiveInt = 16_000_000
    max_pixels: PositiveInt = 25_000_000
    max_images: PositiveInt = 16
    max_restored: PositiveInt = 1_000_000
    max_json_values: PositiveInt = 2_500_000
    max_header: Annotated[int, Field(ge=1024, le=16_000_000)] = 65_536
    max_connections: PositiveInt = 1024
    header_seconds: PositiveFloat = 10.0
    body_seconds: PositiveFloat = 30.0
    min_rate: Annotated[float, Field(ge=0)] = 1000.0
    decode_seconds: PositiveFloat = 2.0
    model_seconds: PositiveFloat = 60.0
    drain: Annotated[float, Field(ge=0, le=600)] = 1.0

    @property
    def queue_size(self) -> int:
        """Images accepted and not completed yet, resolved."""
        return self.queue or BATCHES * self.batch_size

    @property
    def images(self) -> int:
        """Images of one request; never more than the queue holds."""
        return min(self.max_images, self.queue_size)

    @property
    def body_bytes(self) -> int:
        """Bytes of all bodies that are held at a time, whether they arrive or wait."""
        return self.queue_size * self.max_body
