"""What a classifier makes of embeddings that stay as they are: nearest neighbours, and a linear one.

Shapes: N clips, E embedding size.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 10


def classify(train: np.ndarray, train_class: np.ndarray, test: np.ndarray, test_class: np.ndarray) -> dict[str, float]:
    """Balanced accuracy of ``knn`` and ``linear`` that learn from embeddings ``(N, E)`` and are tested on others."""
    knn = KNeighborsClassifier(min(NEIGHBOURS, len(train)), metric="cosine", weights="distance")
    return {
        name: float(balanced_accuracy_score(test_class, model.fit(train, train_class).predict(test)))
        for name, model in (("knn", knn), ("linear", linear_probe()))
    }


def linear_probe() -> Pipeline:
    """Logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))
