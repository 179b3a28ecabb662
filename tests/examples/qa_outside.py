"""A random world of six states, the last one terminal, that shows its model, a lie, or nothing."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rlentropy import FiniteMDP

S, A = 6, 3
STEPS = [0]  # real steps taken in this process


def kernel(seed=99):
    rng = np.random.default_rng(seed)
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            P[s, a, rng.choice(S, 3, replace=False)] = rng.dirichlet(np.ones(3))
    P[S - 1] = np.eye(S)[S - 1]
    return P


class World(gymnasium.Env):
    def __init__(self, shows="nothing", first_state=0, first_action=0, flaw=None):
        self.observation_space = Discrete(S, start=first_state)
        self.action_space = Discrete(A, start=first_action)
        self.first_state, self.first_action, self.flaw = first_state, first_action, flaw
        self.true = kernel()
        mu, terminal = np.eye(S)[0], np.arange(S) == S - 1
        if shows in ("mdp", "lie"):
            P = self.true if shows == "mdp" else self.true[:, ::-1]
            self.mdp = FiniteMDP(P, np.zeros((S, A)), mu, terminal=terminal)
        elif shows == "table":
            self.initial_state_distrib = mu
            self.P = {
                s: {
                    a: [(float(p), j, 0.0, bool(j == S - 1)) for j, p in enumerate(self.true[s, a])]
                    for a in range(A)
                }
                for s in range(S)
            }
        elif shows == "foreign-mdp":
            self.mdp = object()
        elif shows == "array":
            self.P = self.true

    def see(self):
        if self.flaw == "outside":
            return self.s + self.first_state + (S if self.s > 1 else 0)
        if self.flaw == "fraction":
            return self.s + self.first_state + 0.5
        return self.s + self.first_state

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s, self.t = 0, 0
        return self.see(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        STEPS[0] += 1
        self.t += 1
        self.s = int(self.np_random.choice(S, p=self.true[self.s, action - self.first_action]))
        truncated = self.flaw == "truncates" and self.t == 3
        return self.see(), 0.0, self.s == S - 1, truncated, {}


class Grid(World):
    """Spaces that are not Discrete."""

    def __init__(self, actions=False):
        super().__init__()
        if actions:
            self.action_space = Box(-1.0, 1.0, (1,))
        else:
            self.observation_space = MultiDiscrete([2, 3])


for name, kwargs in {
    "Known": {"shows": "mdp"},
    "Table": {"shows": "table"},
    "Hidden": {},
    "Liar": {"shows": "lie"},
}.items():
    gymnasium.register(f"QA/{name}-v0", f"{__name__}:World", kwargs=kwargs, max_episode_steps=12)
gymnasium.register("QA/Endless-v0", f"{__name__}:World")
gymnasium.register("QA/Grid-v0", f"{__name__}:Grid", max_episode_steps=12)
