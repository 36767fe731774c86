import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from bench.evaluation import expected_calibration_error, negative_log_likelihood, quick_scores, score


@pytest.fixture(params=[(500, 10, 3.0), (37, 6, 1.0), (200, 100, 5.0)], ids=str)
def answers(request):
    count, classes, spread = request.param
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)) * spread
    logits[np.arange(count), labels] += spread
    return logits.astype(np.float32), labels


def test_scores_agree_with_scikit_learn(answers):
    logits, labels = answers
    classes = np.arange(logits.shape[1])
    scores = score(logits, labels)
    predicted = logits.argmax(axis=1)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    assert scores.accuracy == metrics.accuracy_score(labels, predicted)
    assert scores.top5_accuracy == metrics.top_k_accuracy_score(labels, logits, k=5, labels=classes)
    assert scores.nll == pytest.approx(metrics.log_loss(labels, probabilities, labels=classes), rel=1e-9)
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    np.testing.assert_array_equal(scores.confusion_matrix, confusion)
    recall = metrics.recall_score(labels, predicted, average=None, labels=classes, zero_division=np.nan)
    mine = [np.nan if value is None else value for value in scores.per_class_accuracy]
    np.testing.assert_allclose(mine, recall)
    assert quick_scores(logits, labels) == (scores.nll, scores.accuracy)


def test_the_calibration_error_agrees_with_its_definition(answers):
    logits, labels = answers
    probabilities = softmax(logits.astype(np.float64), axis=1)
    expected = 0.0
    for m in range(1, 16):
        confidence = probabilities.max(axis=1)
        members = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if members.any():
            correct = (probabilities.argmax(axis=1) == labels)[members].mean()
            expected += members.mean() * abs(correct - confidence[members].mean())
    assert expected_calibration_error(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_a_calibrated_answer_has_no_calibration_error():
    logits = np.log(np.tile([0.75, 0.25], (400, 1)))
    labels = (np.arange(400) % 4 == 0).astype(int)
    assert expected_calibration_error(logits, labels) == pytest.approx(0, abs=1e-9)


def test_top5_is_blank_below_six_classes():
    assert score(np.eye(5), np.arange(5)).top5_accuracy is None


def test_a_class_without_test_images_has_no_accuracy():
    assert score(np.eye(3)[:2], np.array([0, 1])).per_class_accuracy == (1.0, 1.0, None)


def test_a_confident_mistake_costs_what_it_should():
    logits = np.array([[200.0, 0.0]])
    assert negative_log_likelihood(logits, np.array([1])) == pytest.approx(200.0)
