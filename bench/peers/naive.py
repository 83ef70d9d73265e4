"""python -m bench.peers.naive: FastAPI around the pipeline, one request at a time."""

from __future__ import annotations

import threading

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response

from bench.peers.drawing import PeerRequest, draw_together, load_pipeline, peer_options, png


def main() -> None:
    options = peer_options()
    pipeline = load_pipeline(options)
    app = FastAPI()
    alone = threading.Lock()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/generate")
    def generate(request: PeerRequest) -> Response:
        with alone:
            pixels = draw_together(pipeline, [request])
        return Response(png(pixels[0]), media_type="image/png")

    uvicorn.run(app, host="127.0.0.1", port=options.port, access_log=False)


if __name__ == "__main__":
    main()
