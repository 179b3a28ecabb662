"""Gradients of small networks in numpy, for what learns from many rows at once.

On a CPU numpy's tanh and products of thin matrices are several times as fast as torch's, and rows
that pass forward and back again in blocks stay in the cache, where a graph of autograd would be
written to memory and read again. Adam stays torch's: its one fused call is the fastest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rlentropy.neural.networks import MLP, Activation, Layers, Rows

BLOCK = 2048  # rows whose activations fit the cache

Slopes = list[tuple[Rows, Rows]]  # of weights (in, out) and biases (1, out), a pair a layer


def activations(layers: Layers, x: Rows, activation: Activation) -> list[Rows]:
    """What each layer sees, the inputs (n, in) first, and the outputs (n, out) last."""
    seen = [x]
    for k, (weight, bias) in enumerate(layers):
        y = seen[-1] @ weight
        y += bias
        if k + 1 < len(layers):
            y = np.tanh(y, out=y) if activation == "tanh" else np.maximum(y, 0.0, out=y)
        seen.append(y)
    return seen


def backward(layers: Layers, seen: Sequence[Rows], slope: Rows, activation: Activation) -> Slopes:
    """Slopes of Σ slope · outputs in the parameters.

    Args:
        seen: of `activations`; the hidden ones are overwritten.
        slope: (n, out).
    """
    ones = np.ones((1, len(slope)), np.float32)
    found: Slopes = []
    for k in reversed(range(len(layers))):
        found.append((seen[k].T @ slope, ones @ slope))
        if k:
            slope, y = slope @ layers[k][0].T, seen[k]
            if activation == "tanh":
                y *= y
                slope *= np.subtract(1.0, y, out=y)
            else:
                slope *= y > 0.0
    return found[::-1]


def added(total: Slopes | None, more: Slopes) -> Slopes:
    """The sum of two; the first, which may be none yet, is overwritten."""
    if total is None:
        return more
    for sums, terms in zip(total, more, strict=True):
        for part, term in zip(sums, terms, strict=True):
            part += term
    return total


def add_to_gradient(network: MLP, member: int, slopes: Slopes) -> None:
    """Add a member's slopes to `network.gradient`, where `Adam.step` finds them."""
    for weight, bias, (by_weight, by_bias) in zip(
        network.weights, network.biases, slopes, strict=True
    ):
        assert weight.grad is not None
        assert bias.grad is not None
        weight.grad[member] += torch.as_tensor(by_weight, device=weight.device)
        bias.grad[member] += torch.as_tensor(by_bias, device=bias.device)
