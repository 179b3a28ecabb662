"""robust-planning and robust-pg as a user runs them, and the pieces of the gradient method."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from oracles import discounted

import rlentropy  # noqa: F401  (registers the environments)
from rlentropy import FiniteMDP, planning, risk
from rlentropy.cli import main
from rlentropy.log import Log
from rlentropy.planning.robust import worst_occupancy
from rlentropy.robust import policy_gradient

TOY = '{"p": 0.15}'


def random_mdp(rng, S=4, A=3):
    P = rng.dirichlet(np.ones(S), (S, A))
    return P, rng.random((S, A)), rng.dirichlet(np.ones(S))


def read(folder: Path):
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return summary, lines, dict(np.load(folder / "policy.npz"))


def test_planning_command_writes_bounds_that_hold_the_golden_value(tmp_path):
    command = ["robust-planning", "--env-id", "rlentropy/Ring-v0", "--env-kwargs", TOY]
    assert main([*command, "--risk", "entropic:0.1", "--out", str(tmp_path / "run")]) == 0
    summary, _, arrays = read(tmp_path / "run")
    assert summary["optimum"] == pytest.approx(14.66570561, abs=2e-8)
    assert summary["lower_bound"] <= 14.66570562
    assert summary["upper_bound"] >= 14.66570560
    assert summary["value"] == pytest.approx(summary["optimum"], abs=1e-7)
    assert arrays["pi"].argmax(1).tolist() == [2, 2, 2, 1, 0, 0, 0, 0, 1, 2, 2, 2, 1, 0]
    assert arrays["V"].shape == (14,)
    assert arrays["Q"].shape == (14, 3)


def test_planning_takes_joint_budgets_and_supports(tmp_path):
    command = ["robust-planning", "--env-id", "rlentropy/RiverSwim-v0", "--gamma", "0.9"]
    values = {}
    for k, (name, extra) in enumerate(
        [
            ("s-l1-ball:0.1", []),
            ("l1-ball:0.1", []),
            ("contamination:0.1", ["--risk-support", "nominal"]),
            ("contamination:0.1", ["--risk-support", "full"]),
        ]
    ):
        out = tmp_path / str(k)
        assert main([*command, "--risk", name, *extra, "--out", str(out)]) == 0
        values[k] = read(out)[0]["optimum"]
    assert values[0] >= values[1] - 1e-8  # nature's budget is shared by the actions
    assert values[2] >= values[3] - 1e-8


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--risk", "kl-ball:-1"], "radius must be >= 0"),
        (["--risk", "cvar:1.5"], "level must be in (0, 1]"),
        (["--risk", "entropc:1"], "did you mean entropic"),
        (["--gamma", "1"], "gamma must be in [0, 1)"),
        (["--max-iterations", "1"], "max_iterations must be > 1 here"),
        (["--tolerance", "-1"], "tolerance must be > 0"),
        (["--tolerance", "1e-20"], "tolerance must be within reach: robust value: bounds are"),
        (["--method", "magic"], "method"),
    ],
)
def test_planning_refuses_bad_input_in_one_line(arguments, complaint, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["robust-planning", "--env-id", "rlentropy/RiverSwim-v0", "--out", str(out)]
    assert main([*command, *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_an_unknown_model_is_refused(tmp_path, capsys):
    assert main(["robust-pg", "--env-id", "CartPole-v1", "--out", str(tmp_path / "r")]) == 2
    assert "known model" in capsys.readouterr().err


@pytest.mark.parametrize("parametrisation", policy_gradient.Parametrisation.__args__)
def test_every_parametrisation_reaches_the_optimum(parametrisation):
    env = gymnasium.make("rlentropy/Ring-v0", p=0.15)
    config = policy_gradient.Config(risk="entropic:0.1", parametrisation=parametrisation)
    found = policy_gradient.run(env, config, np.random.default_rng(0), Log(None))
    assert found.summary["gap"] <= 1e-6
    assert found.summary["optimum"] == pytest.approx(14.66570561, abs=1e-7)


@pytest.mark.parametrize("parametrisation", policy_gradient.Parametrisation.__args__)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_no_step_of_any_size_lowers_a_state(parametrisation, size, rng):
    P, r, mu = random_mdp(rng)
    mdp, gamma = FiniteMDP(P, r, mu), 0.9
    parameters = rng.dirichlet(np.ones(3), 4)
    if parametrisation == "softmax":
        parameters = np.log(parameters)
    before = np.full(4, -np.inf)
    for _ in range(8):
        pi = policy_gradient.policy_of(parameters, parametrisation)
        value = planning.robust_evaluation(mdp, pi, risk.Entropic(1.5), gamma, 1e-11)
        Q = discounted.action_values(P, r, gamma, discounted.entropic(1.5 / gamma), pi)
        dense = (pi * Q).sum(1)
        assert np.abs(value.V - dense).max() <= 1e-9
        assert (dense >= before - 1e-10).all()
        before = dense
        d = worst_occupancy(mdp, value, gamma)
        parameters = policy_gradient.improve(parameters, value.Q, d, gamma, parametrisation, size)


def test_the_domination_bound_holds_and_its_mismatch_is_that_of_dense_occupancies(rng):
    gamma, beta = 0.8, 2.0
    for _ in range(10):
        P, r, mu = random_mdp(rng)
        mdp, pi = FiniteMDP(P, r, mu), rng.dirichlet(np.ones(3), 4)
        best = planning.robust_optimum(mdp, risk.Entropic(beta), gamma)
        value = planning.robust_evaluation(mdp, pi, risk.Entropic(beta), gamma)
        Q = discounted.action_values(P, r, gamma, discounted.entropic(beta / gamma), pi)
        V = (pi * Q).sum(1)
        worst = discounted.tilted(P, V, beta)
        d, d_best = (discounted.occupancy(worst, mu, each, gamma) for each in (pi, best.pi))
        bound, mismatch = policy_gradient.domination(mdp, value, d, best.pi, gamma)
        assert mismatch == pytest.approx((d_best / d).max(), rel=1e-6)
        slack = d @ (Q.max(1) - (pi * Q).sum(1)) / (1 - gamma)
        assert bound == pytest.approx(mismatch * slack, rel=1e-6)
        assert mu @ best.V - mu @ V <= bound + 1e-9


def test_the_theory_step_is_one_over_the_smoothness_constant():
    env = gymnasium.make("rlentropy/Ring-v0", p=0.15)
    config = policy_gradient.Config(risk="entropic:0.1", step="theory", updates=2, gamma=0.5)
    found = policy_gradient.run(env, config, np.random.default_rng(0), Log(None))
    H, span = 2.0, 15.0  # rewards -10 to 5: those in [0, 1], times 15, and β times 15 with them
    L = span * 0.5 * 3 * (3 + 0.1 * span * H**2) / (2 * 0.5**3)
    assert found.summary["step_size"] == pytest.approx(1 / L)


def test_a_resumed_gradient_run_is_the_unbroken_one(tmp_path):
    command = ["robust-pg", "--env-id", "rlentropy/Ring-v0", "--env-kwargs", TOY, "--quiet"]
    command += ["--risk", "entropic:1", "--step-size", "0.1", "--eval-every", "3"]
    assert main([*command, "--updates", "20", "--out", str(tmp_path / "whole")]) == 0
    assert main([*command, "--updates", "10", "--out", str(tmp_path / "half")]) == 0
    again = [*command, "--updates", "20", "--out", str(tmp_path / "half"), "--resume"]
    assert main(again) == 0
    whole, half = read(tmp_path / "whole"), read(tmp_path / "half")
    assert (whole[2]["pi"] == half[2]["pi"]).all()
    last = [[line for line in run[1] if line["step"] == 20] for run in (whole, half)]
    one, other = ([line for line in lines if "time/" not in line["tag"]] for lines in last)
    assert one == other


@pytest.mark.parametrize(("first", "every"), [(10, 10), (10, 4), (7, 7), (0, 5)])
def test_a_longer_gradient_run_logs_each_evaluation_once(tmp_path, first, every):
    command = ["robust-pg", "--env-id", "rlentropy/Ring-v0", "--step-size", "1e-3", "--quiet"]
    command += ["--eval-every", str(every), "--out", str(tmp_path / "run")]
    assert main([*command, "--updates", str(first)]) == 0
    for updates in (first, 20):
        assert main([*command, "--updates", str(updates), "--resume"]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [row["step"] for row in map(json.loads, lines) if row["tag"] == "eval/gap"]
    assert steps == sorted({0, first, 20, *range(0, 21, every)})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"parametrisation": "linear"}, "parametrisation must be"),
        ({"step_size": 0.0}, "step_size must be > 0"),
        ({"updates": -1}, "updates must be >= 0"),
        ({"step": "adaptive"}, "step must be"),
        ({"step": "theory", "parametrisation": "softmax"}, "step theory must come with"),
    ],
)
def test_gradient_settings_are_checked(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        policy_gradient.Config(**settings)


def test_the_theory_step_refuses_other_risks():
    env = gymnasium.make("rlentropy/Ring-v0")
    config = policy_gradient.Config(risk="cvar:0.5", step="theory")
    with pytest.raises(ValueError, match="risk must be entropic or nominal"):
        policy_gradient.run(env, config, np.random.default_rng(0), Log(None))
