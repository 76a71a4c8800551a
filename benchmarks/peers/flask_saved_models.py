"""The codelab's backend, without TensorFlow Serving: both SavedModels in the process of Flask.

Kinder than the codelab, whose Flask app asks TensorFlow Serving twice over REST, with JSON between.
For a WSGI server: `gunicorn flask_saved_models:app` in this folder, with SAVED_MODELS in the
environment and, for TensorFlow's own pools, TENSORFLOW_THREADS.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tensorflow as tf
from flask import Flask, Response, jsonify, request

THREADS = int(os.environ["TENSORFLOW_THREADS"])
if THREADS:
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)

FOLDER = Path(os.environ["SAVED_MODELS"])
# A signature does not keep its model alive.
LOADED = {name: tf.saved_model.load(str(FOLDER / name)) for name in ("retrieval", "ranking")}
retrieval, ranking = (LOADED[name].signatures["serving_default"] for name in LOADED)
TITLES: dict[str, str] = json.loads((FOLDER / "titles.json").read_text())

app = Flask(__name__)


@app.post("/recommend")
def recommend() -> Response:
    """Retrieve ten films, and put them in the order of their predicted ratings."""
    user_id = request.get_json()["user_id"]
    movies = retrieval(user_id=tf.constant([user_id]))["movies"][0]
    ratings = ranking(user_id=tf.fill([len(movies)], user_id), movie_id=movies)["rating"].numpy()
    # As in the codelab: by score, and then by name.
    ranked: list[Any] = sorted(zip(ratings, movies.numpy(), strict=True), reverse=True)
    return jsonify({"movies": [TITLES[movie.decode()] for _, movie in ranked]})
