"""Text to tokens, byte for byte as TensorFlow cuts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.transforms import Tokenize
from shortlist_server.runtime.featurize.elements import VocabularyIndex
from shortlist_server.runtime.featurize.values import TEXT, Elements, require

UPPER, LOWER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz"
PUNCTUATION = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What Keras's DEFAULT_STRIP_REGEX removes."""
WHITESPACE = b"\t\n\v\f\r"
"""Where tf.strings.split cuts, beside at blanks. Unicode's other spaces are letters to it."""

FIRST = 2
"""Index of the vocabulary's first token: 0 is padding, 1 unknown."""


class Tokenizer:
    """Keras TextVectorization: texts to lists of token indices."""

    def __init__(self, declared: Tokenize, vocabulary: VocabularyIndex, source: str) -> None:
        self._vocabulary = vocabulary
        self._tokens_of = _cutter(declared)
        self._whole = declared.split is None
        self._source = source

    @property
    def bound(self) -> int:
        """All indices are below this."""
        return FIRST + len(self._vocabulary)

    def __call__(self, texts: Elements) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of all tokens, text after text, and how many each text has.

        Raises:
            FeatureTypeMismatch: something is not text.
            UnicodeEncodeError: a text holds lone surrogates.
        """
        require(texts, TEXT, self._source)
        lists = [self._tokens_of(text) for text in texts]
        tokens = list(chain.from_iterable(lists))
        indices = self._vocabulary.positions(tokens) + FIRST  # unknown: -1 + 2
        if self._whole:
            # Keras's padding token is the empty text; only an uncut text can be empty.
            indices[[not token for token in tokens]] = 0
        return indices, np.fromiter(map(len, lists), np.int64, len(lists))


def _cutter(declared: Tokenize) -> Callable[[str], Sequence[str]]:
    """Return what turns one text into its tokens.

    TensorFlow works on UTF-8 bytes and knows only ASCII: `str.lower` would change É, and
    `str.split` would cut at NBSP.
    """
    standardize = declared.standardize or ""
    source, target, removed = b"", b"", b""
    if "lower" in standardize:
        source, target = UPPER, LOWER
    if "strip" in standardize:
        removed = PUNCTUATION
    if declared.split == "whitespace":
        source, target = source + WHITESPACE, target + b" " * len(WHITESPACE)
    table = bytes.maketrans(source, target)

    def standardized(text: str) -> str:
        return text.encode().translate(table, removed).decode()

    if declared.split == "whitespace":
        return lambda text: [token for token in standardized(text).split(" ") if token]
    if declared.split == "character":
        return lambda text: list(standardized(text))
    return lambda text: [standardized(text)]
