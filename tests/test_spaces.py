"""Spaces that arrays hold, as JSON."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from rlentropy.errors import InputError
from rlentropy.spaces import space_from_json, space_to_json

# ---------------------------------------------------------------- spaces


@pytest.mark.parametrize(
    "space",
    [
        Discrete(4),
        Discrete(4, start=-2),
        Box(-np.inf, np.inf, (3,)),
        Box(np.array([-1.0, 0.1]), np.array([1.0, np.inf])),
        Box(0, 255, (2, 3), np.uint8),
        Box(-2.5, 0.3, (), np.float64),
        MultiDiscrete([2, 3]),
        MultiDiscrete([2, 3], start=[1, -1]),
        MultiBinary(5),
        MultiBinary([2, 3]),
    ],
)
def test_spaces_survive_json(space):
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_spaces_that_no_array_holds():
    with pytest.raises(InputError, match="spaces must be Box, Discrete, MultiDiscrete or Multi"):
        space_to_json(Dict({"a": Discrete(2)}))
    for content in ({"type": "Dict"}, {"type": "Discrete", "n": 0, "start": 0}, {"n": 3}, 7):
        with pytest.raises(InputError, match="metadata must describe a space"):
            space_from_json(content)
