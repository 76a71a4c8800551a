"""FastAPI and uvicorn: JSON over HTTP, two processes.

python fastapi_server.py BUNDLE PORT
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from peer_funnel import PeerFunnel
from pydantic import BaseModel


@asynccontextmanager
async def load(app: FastAPI) -> AsyncIterator[None]:
    """Load the funnel, in each of the processes."""
    app.state.funnel = PeerFunnel(Path(os.environ["BUNDLE"]))
    yield


app = FastAPI(lifespan=load)


class Request(BaseModel):
    """Who asks, and for how much."""

    user_id: str
    candidate_count: int
    limit: int = 20


class Response(BaseModel):
    """The best items, best first."""

    ids: list[str]
    scores: list[float]


@app.post("/recommend")
async def recommend(asked: Request) -> Response:
    """Answer one request; in the event loop, which costs less than a thread."""
    ids, scores = app.state.funnel.recommend(asked.user_id, asked.candidate_count, asked.limit)
    return Response(ids=ids, scores=scores)


def main() -> None:
    os.environ["BUNDLE"] = sys.argv[1]
    uvicorn.run(
        "fastapi_server:app", host="127.0.0.1", port=int(sys.argv[2]), workers=2, access_log=False
    )


if __name__ == "__main__":
    main()
