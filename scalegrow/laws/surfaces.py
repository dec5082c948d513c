"""ln of a sum of terms, with exact derivatives: the few lines that serve every law.

f = ln sum_k exp(t_k). With s_k the softmax weights of the terms,
    grad f = sum_k s_k grad t_k
    Hess f = sum_k s_k (grad t_k grad t_k' + Hess t_k) - grad f grad f'.
Where t_k is linear in theta, t_k = x_k . theta, every weighted sum over points that Newton's
method needs is a small matrix product against constant tables x_k x_l', for a whole batch of
thetas at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scalegrow.laws.points import FloatArray


def softmax_sum(terms: list[FloatArray]) -> tuple[FloatArray, list[FloatArray]]:
    """ln sum_k exp(t_k) and the shares s_k, without overflow; each t_k is (M, n)."""
    top = terms[0]
    for t in terms[1:]:
        top = np.maximum(top, t)
    parts = [np.exp(t - top) for t in terms]
    total: FloatArray = parts[0]
    for part in parts[1:]:
        total = total + part
    return top + np.log(total), [part / total for part in parts]


class LinearTerms:
    """The surface whose terms are t_k = x_k . theta, from features x of shape (n, K, p)."""

    def __init__(self, features: FloatArray) -> None:
        self.n, self.K, self.p = features.shape
        self.x = [np.ascontiguousarray(features[:, k]) for k in range(self.K)]
        self.pairs = [(k, l, *self._products(k, l)) for k in range(self.K) for l in range(k, self.K)]  # noqa: E741

    def _products(self, k: int, l: int) -> tuple[FloatArray, npt.NDArray[np.intp]]:  # noqa: E741
        """x_k x_l' (+ its transpose when k != l): the non-zero columns and where they belong."""
        product = self.x[k][:, :, None] * self.x[l][:, None, :]
        if k != l:
            product = product + product.transpose(0, 2, 1)
        flat = product.reshape(self.n, self.p * self.p)
        used = np.flatnonzero(np.any(flat != 0, axis=0))
        return np.ascontiguousarray(flat[:, used]), used

    def value(self, theta: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
        """f (M, n) and the shares s_k as state."""
        return softmax_sum([theta @ x.T for x in self.x])

    def jacobian(self, theta: FloatArray) -> FloatArray:
        """grad f_n = sum_k s_k x_k of every point, (n, p)."""
        _, shares = self.value(theta[None])
        total: FloatArray = np.sum([s[0][:, None] * x for s, x in zip(shares, self.x, strict=True)], axis=0)
        return total

    def gradient(self, state: list[FloatArray], b: FloatArray) -> FloatArray:
        """sum_n b_n sum_k s_k x_k."""
        total: FloatArray = np.sum([(b * s) @ x for s, x in zip(state, self.x, strict=True)], axis=0)
        return total

    def gram(self, state: list[FloatArray], a: FloatArray) -> FloatArray:
        """sum_n a_n grad f grad f' = sum_kl (a s_k s_l) x_k x_l'."""
        return self._sum_pairs(state, a, outer=True)

    def curvature(self, state: list[FloatArray], b: FloatArray) -> FloatArray:
        """sum_n b_n (sum_k s_k x_k x_k' - grad f grad f')."""
        return self._sum_pairs(state, b, outer=False) - self._sum_pairs(state, b, outer=True)

    def _sum_pairs(self, shares: list[FloatArray], weights: FloatArray, *, outer: bool) -> FloatArray:
        out = np.zeros((len(weights), self.p * self.p))
        for k, l, table, used in self.pairs:  # noqa: E741
            if outer:
                out[:, used] += (weights * shares[k] * shares[l]) @ table
            elif k == l:
                out[:, used] += (weights * shares[k]) @ table
        return out.reshape(-1, self.p, self.p)


@dataclass(frozen=True)
class Derivatives:
    """f (M, n), grad f (M, n, p) and Hess f (M, n, p, p)."""

    f: FloatArray
    grad: FloatArray
    hess: FloatArray


class Smooth:
    """The surface of any smooth f given with its derivatives, for laws that are not linear in theta."""

    def __init__(self, derivatives: Callable[[FloatArray], Derivatives]) -> None:
        self.derivatives = derivatives

    def value(self, theta: FloatArray) -> tuple[FloatArray, Derivatives]:
        """f (M, n) and all its derivatives as state."""
        state = self.derivatives(theta)
        return state.f, state

    def jacobian(self, theta: FloatArray) -> FloatArray:
        """grad f_n of every point, (n, p)."""
        return self.derivatives(theta[None]).grad[0]

    def gradient(self, state: Derivatives, b: FloatArray) -> FloatArray:
        """sum_n b_n grad f_n."""
        total: FloatArray = np.matmul(b[:, None, :], state.grad)[:, 0]
        return total

    def gram(self, state: Derivatives, a: FloatArray) -> FloatArray:
        """sum_n a_n grad f_n grad f_n'."""
        return _gram(a, state.grad)

    def curvature(self, state: Derivatives, b: FloatArray) -> FloatArray:
        """sum_n b_n Hess f_n."""
        M, n, p, _ = state.hess.shape
        total: FloatArray = np.matmul(b[:, None, :], state.hess.reshape(M, n, p * p)).reshape(M, p, p)
        return total


def sum_of_terms(t: FloatArray, grad_t: FloatArray, hess_t: FloatArray) -> Derivatives:
    """f = ln sum_k exp(t_k) from t (M, n, K), grad t (M, n, K, p), Hess t (M, n, K, p, p)."""
    f, shares = softmax_sum([t[..., k] for k in range(t.shape[-1])])
    s = np.stack(shares, axis=-1)
    grad = np.einsum("mnk,mnkp->mnp", s, grad_t)
    hess = np.einsum("mnk,mnkp,mnkq->mnpq", s, grad_t, grad_t, optimize=True)
    hess += np.einsum("mnk,mnkpq->mnpq", s, hess_t)
    return Derivatives(f, grad, hess - grad[..., :, None] * grad[..., None, :])


@dataclass(frozen=True)
class Terms:
    """t (M, n, K), grad t (M, n, K, p), and the few non-zero second derivatives (k, i, j): (M, n), i <= j."""

    t: FloatArray
    grad: FloatArray
    second: dict[tuple[int, int, int], FloatArray]


@dataclass(frozen=True)
class _Bent:
    terms: Terms
    shares: FloatArray
    grad: FloatArray


class BentTerms:
    """The surface of ln sum_k exp(t_k) whose terms are almost linear in theta."""

    def __init__(self, terms: Callable[[FloatArray], Terms]) -> None:
        self.terms = terms

    def value(self, theta: FloatArray) -> tuple[FloatArray, _Bent]:
        """f (M, n); the state holds the terms, their shares and grad f."""
        terms = self.terms(theta)
        f, shares = softmax_sum([terms.t[..., k] for k in range(terms.t.shape[-1])])
        s = np.stack(shares, axis=-1)
        return f, _Bent(terms, s, np.matmul(s[..., None, :], terms.grad)[..., 0, :])

    def jacobian(self, theta: FloatArray) -> FloatArray:
        """grad f_n of every point, (n, p)."""
        return self.value(theta[None])[1].grad[0]

    def gradient(self, state: _Bent, b: FloatArray) -> FloatArray:
        """sum_n b_n grad f_n."""
        total: FloatArray = np.matmul(b[:, None, :], state.grad)[:, 0]
        return total

    def gram(self, state: _Bent, a: FloatArray) -> FloatArray:
        """sum_n a_n grad f_n grad f_n'."""
        return _gram(a, state.grad)

    def curvature(self, state: _Bent, b: FloatArray) -> FloatArray:
        """sum_n b_n (sum_k s_k (grad t_k grad t_k' + Hess t_k) - grad f grad f')."""
        M, n, K, p = state.terms.grad.shape
        weights = b[..., None] * state.shares
        total = _gram(weights.reshape(M, n * K), state.terms.grad.reshape(M, n * K, p)) - self.gram(state, b)
        for (k, i, j), values in state.terms.second.items():
            bend = np.einsum("mn,mn->m", weights[..., k], np.broadcast_to(values, (M, n)))
            total[:, i, j] += bend
            if i != j:
                total[:, j, i] += bend
        return total


def _gram(weights: FloatArray, rows: FloatArray) -> FloatArray:
    total: FloatArray = np.matmul((weights[..., None] * rows).transpose(0, 2, 1), rows)
    return total
