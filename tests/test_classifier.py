"""The scikit-learn classifier: its contract, the chain rule by loops, and HiClass where it is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

from ensemble_kit import ConditionalClassifier
from ensemble_kit.errors import EnsembleKitError, UsageError

LEVELS = {"fruit": {"apple": ["gala", "fuji"], "pear": ["rocha"]}, "milk": {"oat": ["o1", "o2", "o3"], "cow": ["c1"]}}


def hierarchy(seed: int = 0, n_samples: int = 240) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    paths = [(a, b, c) for a, below in LEVELS.items() for b, names in below.items() for c in names]
    centres = random.normal(0, 1.3, (len(paths), 4))
    picked = random.integers(len(paths), size=n_samples)
    return centres[picked] + random.normal(0, 1, (n_samples, 4)), np.array(paths)[picked]


def faces(seed: int = 1, n_samples: int = 400) -> tuple[np.ndarray[Any, Any], pd.DataFrame]:
    """Age shows in another feature under each mask."""
    random = np.random.default_rng(seed)
    mask, gender, age = (random.integers(n, size=n_samples) for n in (3, 2, 3))
    features = random.normal(0, 1, (n_samples, 8))
    features[:, 0] += 2 * mask
    features[:, 1] += 2 * gender
    features[np.arange(n_samples), 2 + mask] += 2 * age
    return features, pd.DataFrame({"mask": mask, "gender": gender, "age": age})


GRAPH: dict[str, list[str]] = {"mask": [], "gender": [], "age": ["mask"]}

EXCEPTIONS = {"check_array_api_input": "needs an environment variable of SciPy's to run at all"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [None, DecisionTreeClassifier(random_state=0), LinearSVC()])
def test_it_is_a_scikit_learn_classifier(estimator: Any) -> None:
    results = check_estimator(ConditionalClassifier(estimator), on_fail=None, on_skip=None)
    bad = {result["check_name"] for result in results if result["status"] != "passed"}
    assert bad <= set(EXCEPTIONS)
    assert len(results) > 40


@pytest.mark.parametrize("seed", range(5))
def test_hard_routing_agrees_with_hiclass(seed: int) -> None:
    """One classifier a parent node, followed top down, is the hard route on a chain of levels."""
    hiclass = pytest.importorskip("hiclass")
    features, labels = hierarchy(seed)
    base = LogisticRegression(max_iter=1000)
    theirs = hiclass.LocalClassifierPerParentNode(local_classifier=base).fit(features[:160], labels[:160])
    ours = ConditionalClassifier(base, route="hard").fit(features[:160], labels[:160])
    assert (theirs.predict(features) == ours.predict(features)).all()


def test_the_soft_joint_is_the_chain_rule() -> None:
    features, labels = hierarchy()
    model = ConditionalClassifier(GaussianNB()).fit(features, labels)
    joint = model.predict_joint_proba(features[:20])
    kind = GaussianNB().fit(features, labels[:, 0])
    for column, path in enumerate(model.schema_.joint_names()):
        a, b, c = path.split(" / ")
        wanted = kind.predict_proba(features[:20])[:, list(kind.classes_).index(a)]
        for parent, level, child in ((a, 1, b), (b, 2, c)):
            own = labels[:, level - 1] == parent
            if len(set(labels[own, level])) > 1:
                expert = GaussianNB().fit(features[own], labels[own, level])
                wanted = wanted * expert.predict_proba(features[:20])[:, list(expert.classes_).index(child)]
        np.testing.assert_allclose(joint[:, column], wanted, atol=1e-12)
    assert len(model.experts_) == 5  # kind, coarse twice, fine twice: two coarse classes have one fine class
    for level, probs in enumerate(model.predict_proba(features[:20])):
        assert probs.shape == (20, len(model.classes_[level]))
        np.testing.assert_allclose(probs.sum(axis=1), 1)


def test_specialised_experts_find_what_a_pooled_one_cannot() -> None:
    features, labels = faces()
    train, test = slice(0, 300), slice(300, None)
    scores = {}
    graphs: dict[str, dict[str, list[str]]] = {"conditional": GRAPH, "independent": {name: [] for name in GRAPH}}
    for name, graph in graphs.items():
        model = ConditionalClassifier(LogisticRegression(), graph=graph, paths="product")
        scores[name] = model.fit(features[train], labels.iloc[train]).score(features[test], labels.iloc[test])
    assert scores["conditional"] > scores["independent"] + 0.05
    assert model.schema_.names == ("mask", "gender", "age")
    assert model.schema_.n_joint == 18
    assert model.predict(features[:3]).dtype == labels.to_numpy().dtype


def test_an_expert_runs_on_the_samples_routed_to_it_only() -> None:
    seen: list[int] = []

    class Counted(GaussianNB):  # type: ignore[misc]
        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            seen.append(len(X))
            return super().predict_proba(X)

    features, labels = faces()
    model = ConditionalClassifier(Counted(), graph=GRAPH, route="hard").fit(features, labels)
    model.predict(features)
    states = model.predict(features)[:, 0]
    assert sorted(seen[:5]) == sorted([400, 400, *np.bincount(states)])


@pytest.mark.parametrize("decide", ["joint", "attribute", "top_down"])
def test_three_decisions(decide: Any) -> None:
    features, labels = faces()
    model = ConditionalClassifier(GaussianNB(), graph=GRAPH, decide=decide).fit(features, labels)
    found = model.predict(features)
    joint = model.predict_joint_proba(features)
    marginals = model.predict_proba(features)
    if decide == "joint":
        assert (model.schema_.encode(dict(zip(GRAPH, found.T, strict=True))) == joint.argmax(axis=1)).all()
    elif decide == "attribute":
        assert all((found[:, i] == probs.argmax(axis=1)).all() for i, probs in enumerate(marginals))
    else:
        hard = clone(model).set_params(route="hard", decide="joint").fit(features, labels)
        assert (found == hard.predict(features)).all()


def test_sets_of_classes_and_a_pooled_fallback() -> None:
    features, labels = faces()
    conditions = {"age": [{"mask": ("1", "2")}]}
    model = ConditionalClassifier(GaussianNB(), graph=GRAPH, conditions=conditions).fit(features, labels)
    assert [expert.describe() for expert in model.experts_] == ["mask", "gender", "age given mask=1,2", "age"]


def test_a_state_with_one_class_in_training_is_answered_by_the_pooled_expert() -> None:
    features = np.array([[0.0], [1], [2], [3], [0.2], [0.8]])
    labels = np.array([["a", "x"], ["a", "y"], ["a", "x"], ["a", "y"], ["b", "x"], ["b", "x"]])
    observed = ConditionalClassifier(GaussianNB()).fit(features, labels)
    product = ConditionalClassifier(GaussianNB(), paths="product").fit(features, labels)
    assert [expert.describe() for expert in observed.experts_] == ["y0", "y1 given y0=a"]
    assert [expert.describe() for expert in product.experts_] == ["y0", "y1 given y0=a", "y1"]
    assert (observed.schema_.n_joint, product.schema_.n_joint) == (3, 4)


def test_blocks_pipelines_frames_and_cross_validation() -> None:
    features, labels = faces()
    frame = pd.DataFrame(features, columns=[f"f{i}" for i in range(8)])
    base = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0))
    graph: Any = {"mask": [], ("gender", "age"): ["mask"]}
    model = ConditionalClassifier(base, graph=graph)
    assert model.fit(frame, labels).predict(frame).shape == (400, 3)
    assert list(model.feature_names_in_) == list(frame.columns)
    assert len(model.experts_) == 4
    assert 0 < cross_val_score(model, frame, labels, cv=3).mean() < 1


def test_an_estimator_for_each_node() -> None:
    features, labels = faces()
    each = {"mask": GaussianNB(), "gender": LogisticRegression(), "age": DecisionTreeClassifier()}
    model = ConditionalClassifier(each, graph=GRAPH).fit(features, labels)
    assert [type(e.estimator).__name__ for e in model.experts_[:3]] == [type(each[n]).__name__ for n in GRAPH]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"paths": "all"}, UsageError, 'paths: unknown "all"'),
        ({"route": "hrad"}, UsageError, 'did you mean "hard"?'),
        ({"graph": {"mask": [], "gender": []}}, UsageError, "no node predicts age"),
        ({"graph": {"mask": ["age"], "gender": [], "age": ["mask"]}}, UsageError, "a cycle among"),
        ({"conditions": {"agee": [{}]}, "graph": GRAPH}, UsageError, 'no node "agee"; did you mean "age"?'),
        (
            {"estimator": {"mask": GaussianNB()}, "graph": GRAPH},
            UsageError,
            "expected one for each of mask, gender, age",
        ),
        ({"names": ["mask"]}, UsageError, "expected one for each of 3 columns"),
        ({"conditions": {"age": [{"mask": ["7"]}]}, "graph": GRAPH}, UsageError, 'has no class "7"'),
    ],
)
def test_bad_parameters(options: dict[str, Any], error: type[EnsembleKitError], message: str) -> None:
    features, labels = faces()
    with pytest.raises(error) as found:
        ConditionalClassifier(**{"estimator": GaussianNB(), **options}).fit(features, labels)
    assert message in str(found.value)


def test_a_route_that_abstains_leaves_no_label() -> None:
    features, labels = faces()

    def unsure(belief: Any) -> Any:
        return np.where(belief.max(axis=1, keepdims=True) > 0.9, belief, 0)

    model = ConditionalClassifier(GaussianNB(), graph=GRAPH, route=unsure).fit(features, labels)
    with pytest.raises(EnsembleKitError, match="samples have no label; use a route that always answers"):
        model.predict(features)
