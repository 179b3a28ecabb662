"""Arguments of other kinds at every public door: one line that says what is wrong, or an answer."""

import warnings

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp

import rlentropy
from rlentropy import (
    EmpiricalModel,
    FiniteMDP,
    data,
    diversity,
    entropy,
    estimators,
    planning,
    policies,
    risk,
)
from rlentropy.data import Transitions
from rlentropy.log import Log
from rlentropy.perturbations import allowed, perturbed
from rlentropy.runs.policies import load

P = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.2, 0.8], [0.0, 1.0]]])
R, MU, PI = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 0.0]), np.full((2, 2), 0.5)
MDP = FiniteMDP(P, R, MU)
PLAN = np.full((3, 2, 2), 0.5)
D = entropy.visitation(MDP, PLAN, 3)
POINTS = np.arange(24.0).reshape(12, 2) ** 1.1
LAKE = gymnasium.make("FrozenLake-v1")

WRONG = [
    *(None, True, 0, 3, -1, 2.5, float("nan"), float("inf"), 1e300, 2**70, 1j, "text", "", b"x"),
    *([], [1, 2], [[1], [2, 3]], ["a"], {}, {"a": 1}, (), set(), object(), len, gymnasium.Env),
    *(np.zeros(0), np.zeros((2, 2)), np.full((2, 2), np.nan), np.array(["a", "b"]), np.array(3)),
    *(np.zeros((2, 2, 2, 2)), np.array([None, 1]), np.ma.masked_all(2), sp.csr_array((2, 2))),
    *(LAKE, MDP, np.float32(0.5), np.int64(2), np.datetime64("2020"), range(3), iter([1])),
]


def doors():
    """Name → a callable, and arguments that suit it."""
    m = {"mdp": MDP}
    yield "FiniteMDP", FiniteMDP, {"P": P, "r": R, "mu": MU}
    options = {"terminal": [False, False], "support": np.ones((2, 2, 2), bool)}
    ids = {"normalise": True, "state_ids": [0, 1], "action_ids": [0, 1]}
    yield "FiniteMDP options", lambda **k: FiniteMDP(P, R, MU, **k), options | ids
    yield "from_env", FiniteMDP.from_env, {"env": LAKE}
    table = {0: {0: [(1.0, 0, 0.0, False)]}}
    yield "from_table", FiniteMDP.from_table, {"table": table, "mu": [1.0]}
    toolbox = {"P": P.transpose(1, 0, 2), "R": R, "mu": MU}
    yield "from_mdptoolbox", FiniteMDP.from_mdptoolbox, toolbox
    yield "from_csv", FiniteMDP.from_csv, {"path": "no.csv", "mu": MU}
    yield "EmpiricalModel", EmpiricalModel, {"num_states": 2, "num_actions": 2, "stages": 1}
    model = {"smoothing": 0.5, "estimator": "add-c", "support": MDP}
    yield "EmpiricalModel options", lambda **k: EmpiricalModel(2, 2, **k), model
    seen = {name: np.array([0, 1]) for name in ("states", "actions", "successors")}
    yield "update", lambda **k: EmpiricalModel(2, 2).update(*k.values()), seen

    yield "optimum", planning.optimum, m | {"gamma": 0.9, "tolerance": 1e-6, "max_iterations": 99}
    robust = m | {"measure": risk.KLBall(0.1), "gamma": 0.9, "tolerance": 1e-6}
    yield "robust_optimum", planning.robust_optimum, robust | {"method": "newton"}
    yield "robust_evaluation", planning.robust_evaluation, robust | {"pi": PI, "start": MU}
    yield "gradient", planning.robust_policy_gradient, robust | {"pi": PI}
    yield "evaluation", planning.evaluation, m | {"pi": PI, "gamma": 0.9}
    induction = m | {"r": R, "horizon": 3, "temperature": 1.0}
    yield "backward_induction", planning.backward_induction, induction
    best = m | {"horizon": 3, "objective": "VE", "temperature": 1.0, "tolerance": 1e-3}
    yield "max_visitation_entropy", planning.max_visitation_entropy, best | {"max_passes": 99}
    yield "max_trajectory_entropy", planning.max_trajectory_entropy, m | {"horizon": 3}

    yield "visitation", entropy.visitation, m | {"pi": PLAN, "horizon": 3}
    yield "visitation_entropy", entropy.visitation_entropy, {"d": D, "objective": "VE"}
    yield "trajectory_entropy", entropy.trajectory_entropy, m | {"pi": PLAN, "horizon": 3}
    yield "nearest_neighbour", entropy.nearest_neighbour, {"points": POINTS, "k": 2}
    yield "particle_rewards", entropy.particle_rewards, {"points": POINTS, "k": 2, "kind": "apt"}

    yield "parse", risk.parse, {"text": "kl-ball:0.1", "support": None}
    for name, named in risk.NAMES.items():
        numbers = {1: ("0.5",), 0: (), 2: ("0.5", "0.5")}[named.parameters]
        measure = risk.parse(name + (":" + ",".join(numbers) if numbers else ""))
        if isinstance(measure, risk.Measure):
            values = {"p": np.array([0.5, 0.5]), "V": np.array([1.0, 2.0])}
            yield f"{name} W", measure.expectation, values
            yield f"{name} q", measure.worst_case, values
            yield f"{name} D", measure.penalty, {"q": np.array([0.5, 0.5]), "p": values["p"]}
    for kind in (risk.Entropic, risk.CVaR, risk.KLBall, risk.TVBall, risk.SRectangular):
        yield kind.__name__, lambda x, kind=kind: kind(x), {"x": 0.5}
    yield "f", risk.FDivergencePenalty, {"weight": 1.0, "f": lambda t: (t - 1.0) ** 2}

    columns = [np.arange(4), np.zeros(4, int), np.ones(4), np.arange(1, 5), np.zeros(4, bool)]
    names = ("observations", "actions", "rewards", "next_observations", "terminations")
    rows = dict(zip(names, columns, strict=True)) | {"truncations": np.arange(4) == 3}
    spaces = {"observation_space": LAKE.observation_space, "action_space": LAKE.action_space}
    yield "from_arrays", Transitions.from_arrays, rows | spaces | {"metadata": {}}
    yield "load data", data.load, {"source": "no.npz"}
    some = Transitions.from_arrays(**rows)
    yield "save data", data.save, {"target": "", "data": some}
    yield "load_run", rlentropy.load_run, {"path": "no-run", "env": LAKE}
    yield "load policy", load, {"run": "no-run", "env": LAKE}

    yield "allowed", allowed, {"env": LAKE}
    change = {"name": "success_rate", "value": 0.5, "relative": False}
    yield "perturbed", lambda **k: perturbed(gymnasium.make("FrozenLake-v1"), **k), change
    yield "perturbed env", perturbed, {"env": LAKE, "name": "random_action", "value": 0.5}
    yield "Tabular", policies.Tabular, {"pi": PLAN, "first_state": 0, "first_action": 0}
    yield "Mixture", policies.Mixture, {"pi": PLAN[None]}
    yield "random", policies.random, {"env": LAKE}
    yield "act", policies.Tabular(PLAN).act, {"observations": 1, "t": 0}
    rng = np.random.default_rng(0)
    playing = {"envs": [LAKE], "policy": policies.random(LAKE), "seeds": [0], "horizon": 2}
    yield "play", policies.play, playing | {"rng": rng}
    yield "Log", Log, {"directory": None, "eval_every": 0, "checkpoint_every": 0}
    yield "estimate", estimators.estimate, {"counts": np.array([1.0, 2.0]), "estimator": "add-c"}
    yield "vendi_score", diversity.vendi_score, {"K": np.eye(3)}


DOORS = {name: (call, suiting) for name, call, suiting in doors()}


@pytest.mark.parametrize("name", DOORS)
def test_only_input_errors_come_out(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, suiting = DOORS[name]
    broken = []
    for argument in suiting:
        for k, wrong in enumerate(WRONG):
            value = iter([1]) if k == len(WRONG) - 1 else wrong
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    call(**suiting | {argument: value})
            except (ValueError, RuntimeError) as error:
                if type(error) is not ValueError and "\n" in str(error):
                    broken.append(f"{argument}={value!r:.30}: lines {error!r:.80}")
            except Exception as error:
                broken.append(f"{argument}={value!r:.30}: {error!r:.120}")
    assert not broken, f"{name}: {len(broken)}\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: planning.optimum(LAKE, 0.9),
            r"mdp must be a FiniteMDP, got <TimeLimit.*; FiniteMDP\.from_env\(env\) is an env",
        ),
        (lambda: planning.optimum("lake", 0.9), "mdp must be a FiniteMDP, got 'lake'$"),
        (lambda: entropy.visitation(None, PLAN, 3), "mdp must be a FiniteMDP, got None$"),
        (lambda: planning.max_visitation_entropy(LAKE, 3), "mdp must be a FiniteMDP"),
        (
            lambda: FiniteMDP.from_env("FrozenLake-v1"),
            r"env must be a gymnasium\.Env, .* got a str; gymnasium\.make\('FrozenLake-v1'\) makes",
        ),
        (lambda: planning.optimum(MDP, "0.9"), "gamma must be a number, got '0.9'"),
        (lambda: planning.optimum(MDP, 0.9, 1e-8, 2.5), "max_iterations must be a whole number"),
        (lambda: planning.optimum(MDP, 0.9, 0.0), "tolerance must be > 0, got 0"),
        (
            lambda: planning.robust_optimum(MDP, None, 0.9),
            r"measure must be a risk\.Measure, got N",
        ),
        (
            lambda: planning.robust_optimum(MDP, risk.Nominal(), 0.9, method="newtn"),
            "method must be one of newton, .* got 'newtn'; did you mean newton",
        ),
        (lambda: planning.evaluation(MDP, {}, 0.9), "pi must be an array of real numbers, got {}"),
        (lambda: planning.backward_induction(MDP, R, 3, None), "temperature must be a number"),
        (lambda: planning.backward_induction(MDP, R, 2**70), "horizon must be <= 2147483648"),
        (lambda: FiniteMDP.from_csv(3), "path must be a path, got 3"),
        (lambda: MDP.to_csv(None), "path must be a path, got None"),
        (
            lambda: EmpiricalModel(2, 2, support=[1]),
            r"support must be scipy\.sparse or a Fin.* \[1\]",
        ),
        (lambda: Log(3), "directory must be a path, got 3"),
        (lambda: rlentropy.load_run(3), "run must be the folder of a run, got 3"),
        (lambda: load(None, LAKE), "run must be the folder of a run, got None"),
        (lambda: data.load(3), "data must be the path or Minari id of a dataset, got 3"),
        (lambda: data.save(3, None), "data must be a path or Minari id, got 3"),
        (lambda: data.save("a.npz", [1]), r"data must be Transitions to be saved, got \[1\]"),
        (
            lambda: policies.Tabular(PI),
            r"pi must be probabilities \(H, S, A\), got ndarray of shape",
        ),
        (lambda: policies.Mixture(PLAN), r"pi must be probabilities \(K, H, S, A\), got ndarray"),
        (lambda: policies.random("lake"), r"env must be a gymnasium\.Env, got 'lake'"),
    ],
)
def test_refusals_lead_on(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_can_not_be_played_is_refused():
    rng, policy = np.random.default_rng(0), policies.random(LAKE)
    for arguments, message in (
        (([LAKE], policy, [0, 1], 3), "envs must be one for each of 2 seeds, got 1"),
        (([LAKE, 3], policy, [0, 1], 3), r"envs must hold gymnasium\.Envs, not vectorised, got \["),
        ((LAKE, policy, [0], 3), r"envs must be a list of gymnasium\.Env, got <TimeLimit"),
        (([LAKE], None, [0], 3), r"policy must be one of rlentropy\.policies, got None"),
        (([LAKE], policy, 0, 3), r"seeds must be numbers \(n,\), n >= 1, got ndarray|array"),
        (([LAKE], policy, [0], 0), "horizon must be >= 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            policies.play(*arguments, rng)


def test_paths_may_be_texts(tmp_path):
    MDP.to_csv(str(tmp_path / "mdp.csv"))
    assert FiniteMDP.from_csv(str(tmp_path / "mdp.csv"), MU) == MDP
    some = Transitions.from_arrays([0], [0], [1.0], [1], [True], [False])
    data.save(str(tmp_path / "some.npz"), some)
    assert len(data.load(str(tmp_path / "some.npz"))) == 1
    Log(str(tmp_path / "run")).scalar("eval/x", 1.0, 1)
    assert (tmp_path / "run/metrics.jsonl").is_file()
