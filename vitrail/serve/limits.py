"""The limits of a server."""

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
        body_seconds: For a request's body to arrive; then 408.
        model_seconds: For the model to compute a batch whose turn it is; then its process is killed and restarted.
        drain: Seconds between "not ready" and the end of listening after SIGTERM or Ctrl-C.
    """

    batch_size: PositiveInt = 8
    batch_wait: Annotated[float, Field(ge=0, le=10)] = 0.005
    queue: PositiveInt | None = None
    max_body: PositiveInt = 16_000_000
    max_pixels: PositiveInt = 25_000_000
    max_images: PositiveInt = 16
    body_seconds: PositiveFloat = 30.0
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
