"""Raw values to model inputs: one implementation for training, export and serving.

`featurizer.py` applies what `plan.py` made of an input's transforms; `elements.py`, `lists.py` and
`text.py` hold the transforms themselves, `values.py` what raw values are.
"""

from shortlist_server.runtime.featurize.elements import VocabularyIndex
from shortlist_server.runtime.featurize.featurizer import Featurizer
from shortlist_server.runtime.featurize.values import Raw

__all__ = ["Featurizer", "Raw", "VocabularyIndex"]
