"""python -m bench.peers.lit: LitServe around the pipeline, with its request batching."""

from __future__ import annotations

import litserve
import numpy as np
from starlette.responses import Response

from bench.peers.drawing import (
    PeerOptions,
    PeerRequest,
    draw_together,
    load_pipeline,
    peer_options,
    png,
)

TIMEOUT_S = 600.0


class PipelineApi(litserve.LitAPI):  # type: ignore[misc]
    """LitServe calls `setup` in its worker process, then the other methods for every batch."""

    def __init__(self, options: PeerOptions) -> None:
        super().__init__(
            max_batch_size=options.batch, batch_timeout=options.wait, api_path="/generate"
        )
        self._options = options

    def setup(self, device: str) -> None:
        self._pipeline = load_pipeline(self._options)

    def decode_request(self, request: dict[str, object]) -> PeerRequest:
        return PeerRequest.model_validate(request)

    def batch(self, inputs: list[PeerRequest]) -> list[PeerRequest]:
        return inputs

    def predict(self, requests: list[PeerRequest]) -> np.ndarray:
        return draw_together(self._pipeline, requests)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        return Response(png(output), media_type="image/png")


def main() -> None:
    options = peer_options()
    accelerator = "cpu" if options.device == "cpu" else "cuda"
    server = litserve.LitServer(
        PipelineApi(options), accelerator=accelerator, devices=1, timeout=TIMEOUT_S
    )
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
