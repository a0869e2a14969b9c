"""The solved heads against scikit-learn's, on real digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge

from zoo.training.solver import logistic_loss, softmax_loss, solve, solve_ridge


@pytest.fixture(scope="module")
def digits():
    features, targets = load_digits(return_X_y=True)
    return torch.tensor(features), torch.tensor(targets)


def newton(**arguments):
    """scikit-learn's solver that gets to 1e-8 in some 15 iterations; lbfgs takes thousands, on some processors all."""
    return LogisticRegression(solver="newton-cholesky", tol=1e-8, **arguments)


@pytest.mark.parametrize("l2", [1.0, 0.1, 0.01, 0.001])
def test_softmax_is_scikit_learns_optimum(digits, l2):
    features, targets = digits
    solution = solve(features, softmax_loss(targets), 10, l2=l2, tolerance=1e-7, max_iterations=100)
    theirs = newton(C=1 / (l2 * len(features))).fit(features, targets)
    assert solution.converged
    assert solution.gradient_norm <= 1e-7
    expected = theirs.decision_function(features.numpy())
    logits = (features @ solution.weight.T + solution.bias).numpy()
    logits -= logits.mean(1, keepdims=True)  # softmax leaves a shift of all logits free
    expected -= expected.mean(1, keepdims=True)
    assert np.abs(logits - expected).max() < 1e-4
    assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.999


def test_gradient_norm_is_autograds(digits):
    features, targets = digits
    solution = solve(features, softmax_loss(targets), 10, l2=1e-2, tolerance=1e-4, max_iterations=3)
    weight, bias = solution.weight.requires_grad_(), solution.bias.requires_grad_()
    logits = features @ weight.T + bias
    objective = torch.nn.functional.cross_entropy(logits, targets) + 0.5e-2 * weight.square().sum()
    gradient = torch.autograd.grad(objective, (weight, bias))
    norm = torch.cat([part.flatten() for part in gradient]).norm()
    assert solution.objective == pytest.approx(objective.item(), rel=1e-9)
    assert solution.gradient_norm == pytest.approx(float(norm), rel=1e-6)
    assert not solution.converged


def test_large_offsets_and_dead_features_do_not_hurt(digits):
    features, targets = digits
    moved = torch.cat([features * 1e-3 + 100, torch.zeros(len(features), 3)], dim=1)
    solution = solve(moved, softmax_loss(targets), 10, l2=1e-8, tolerance=1e-6, max_iterations=100)
    assert solution.converged
    assert ((moved @ solution.weight.T + solution.bias).argmax(1) == targets).double().mean() > 0.99


def test_solution_is_deterministic(digits):
    features, targets = digits
    first, second = (
        solve(features.float(), softmax_loss(targets), 10, l2=1e-2, tolerance=1e-5, max_iterations=50) for _ in range(2)
    )
    assert torch.equal(first.weight, second.weight)


def test_logistic_loss_fits_each_label_alone(digits):
    features, targets = digits
    labels = torch.stack([targets % 2 == 0, targets > 4], dim=1).double()
    solution = solve(features, logistic_loss(labels), 2, l2=1e-3, tolerance=1e-8, max_iterations=100)
    assert solution.converged
    for column in range(2):
        # PyTorch's loss is averaged over the labels too, so one label alone carries twice the penalty
        theirs = newton(C=1 / (2e-3 * len(features)))
        theirs.fit(features, labels[:, column])
        assert np.abs(theirs.coef_[0] - solution.weight[column].numpy()).max() < 1e-5


def test_ridge_is_scikit_learns(digits):
    features, targets = digits
    wanted = torch.eye(10, dtype=torch.float64)[targets]
    solution = solve_ridge(features, wanted, l2=1e-2)
    theirs = Ridge(alpha=1e-2 * len(features)).fit(features, wanted)
    assert np.abs(theirs.coef_ - solution.weight.numpy()).max() < 1e-9
    assert np.abs(theirs.intercept_ - solution.bias.numpy()).max() < 1e-9
    assert solution.gradient_norm < 1e-9


def test_probabilities_of_certain_classes_are_class_indices(digits):
    features, targets = digits
    limits = {"l2": 1e-2, "tolerance": 1e-6, "max_iterations": 50}
    certain = torch.nn.functional.one_hot(targets, 10).float()
    hard, soft, smooth = (
        solve(features, softmax_loss(given), 10, **limits) for given in (targets, certain, 0.9 * certain + 0.01)
    )
    assert torch.allclose(hard.weight, soft.weight, atol=1e-9)
    assert smooth.converged
    assert smooth.weight.norm() < 0.9 * hard.weight.norm()


WEIGHTS = (1.0, 5.0, 0.0, 0.5, 1.0, 2.0, 1.0, 1.0, 3.0, 1.0)


def test_class_weights_are_scikit_learns(digits):
    features, targets = digits
    solution = solve(features, softmax_loss(targets, WEIGHTS), 10, l2=1e-2, tolerance=1e-7, max_iterations=100)
    total = sum(WEIGHTS[target] for target in targets.tolist())
    theirs = newton(C=1 / (1e-2 * total), class_weight=dict(enumerate(WEIGHTS)))
    theirs.fit(features, targets)
    assert solution.converged
    assert np.abs(theirs.predict_proba(features) - _chances(solution, features)).max() < 1e-6


def _chances(solution, features):
    return (features @ solution.weight.T + solution.bias).softmax(1).numpy()


def test_class_weights_of_certain_shares_are_those_of_indices(digits):
    _, targets = digits
    logits = torch.randn(len(targets), 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    certain = torch.nn.functional.one_hot(targets, 10).double()
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    torchs = torch.nn.functional.cross_entropy(logits, targets, weight=weight)
    for given in (targets, certain):
        assert softmax_loss(given, WEIGHTS).value(logits).item() == pytest.approx(torchs.item())


@pytest.mark.parametrize("kind", ["softmax", "logistic"])
def test_derivatives_of_weighted_losses_are_autograds(kind):
    generator = torch.Generator().manual_seed(0)
    logits, direction = (torch.randn(7, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    targets = (torch.rand(7, 3, generator=generator) > 0.4).double() if kind == "logistic" else torch.arange(7) % 3
    loss = (logistic_loss if kind == "logistic" else softmax_loss)(targets, (1.0, 4.0, 0.5))
    value, slope = torch.autograd.functional.vjp(loss.value, logits)
    _, curved = torch.autograd.functional.vhp(loss.value, logits, direction)
    assert torch.allclose(loss.gradient(logits) / 7, slope)
    assert torch.allclose(loss.product(logits, direction) / 7, curved)
    assert value > 0


def test_ridge_by_weights_is_scikit_learns(digits):
    features, targets = digits
    wanted, counts = torch.eye(10, dtype=torch.float64)[targets], torch.tensor(WEIGHTS)[targets].double()
    solution = solve_ridge(features, wanted, l2=1e-2, counts=counts / counts.mean())
    theirs = Ridge(alpha=1e-2 * float(counts.sum())).fit(features, wanted, sample_weight=counts)
    assert np.abs(theirs.coef_ - solution.weight.numpy()).max() < 1e-8
    assert np.abs(theirs.intercept_ - solution.bias.numpy()).max() < 1e-8
    assert solution.gradient_norm < 1e-8
