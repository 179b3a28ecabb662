"""Which runs are one task and one algorithm, and what both are called."""

import pytest
from examples.runs import power_law, write_run

from rlentropy.errors import InputError
from rlentropy.runs.comparable import accepted, tasks_of
from rlentropy.runs.reading import read_runs


def tasks(folder, *metrics, force=False):
    runs, refused = accepted(read_runs([str(folder)]))
    assert not refused
    return tasks_of(runs, metrics, force)


def gap(folder, **changes):
    return write_run(folder, {"eval/gap": power_law(1.0)}, **changes)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"env_id": "Other-v0"}, "Other-v0"),
        ({"env_kwargs": '{"size": 3}'}, 'Chain-v0, {"size": 3}'),
        ({"objective": "TE"}, "Chain-v0, objective TE"),
        ({"temperature": 0.5}, "Chain-v0, temperature 0.5"),
        ({"horizon": 20}, "Chain-v0, horizon 20"),
        ({"risk": "cvar:0.1"}, "Chain-v0, risk cvar:0.1"),
        ({"updates": 3}, "Chain-v0, axis updates"),
    ],
)
def test_what_changes_the_quantity_is_a_task(tmp_path, change, name):
    gap(tmp_path / "a")
    gap(tmp_path / "b", **change)
    first, second = tasks(tmp_path)
    assert second.name == name
    assert first.name.startswith("Chain-v0")
    assert [a.name for t in (first, second) for a in t.algorithms] == ["entgame"] * 2


def test_a_name_has_nothing_that_a_task_lacks(tmp_path):
    gap(tmp_path / "a")
    returns = {"eval/return": power_law(1.0)}
    write_run(tmp_path / "b", returns, objective=None, horizon=None, updates=9, command="fqi")
    first, second = tasks(tmp_path)
    assert first.name == "Chain-v0, horizon 10, axis env_steps"
    assert second.name == "Chain-v0, axis updates"


def test_names_of_tasks_and_algorithms_are_distinct(tmp_path):
    gap(tmp_path / "a", env_id="x\n")
    gap(tmp_path / "b", env_id="x\t")
    assert [t.name for t in tasks(tmp_path)] == ["x?", "x? (2)"]


def test_returns_are_the_environments_own_whatever_was_learnt_for(tmp_path):
    for k, risk in enumerate(("nominal", "entropic:1", "entropic:2")):
        returns = {"eval/return": power_law(1.0)}
        write_run(
            *(tmp_path / str(k), returns), risk=risk, updates=9, objective=None,
            command="rfzi" if k else "fqi",
        )  # fmt: skip
    (task,) = tasks(tmp_path)
    names = [a.name for a in task.algorithms]
    assert names == ["fqi, nominal", "rfzi, entropic:1", "rfzi, entropic:2"]
    assert (task.costs, task.unit, task.falling) == (("updates",), "reward", False)


def test_gaps_of_other_risks_are_not_compared(tmp_path):
    for k, risk in enumerate(("nominal", "entropic:1")):
        gap(tmp_path / str(k), risk=risk, updates=9)
    assert [t.facts["risk"] for t in tasks(tmp_path)] == ["nominal", "entropic:1"]


def test_one_metric_for_all_algorithms_of_a_task(tmp_path):
    both = {"eval/mixture_gap": power_law(2.0), "eval/gap": power_law(1.0)}
    write_run(tmp_path / "a", both)
    (alone,) = tasks(tmp_path)
    assert alone.metrics == ("eval/mixture_gap",)
    gap(tmp_path / "b", command="ucbvi-ent")
    (task,) = tasks(tmp_path)
    assert task.metrics == ("eval/gap",)
    (asked,) = tasks(tmp_path, "eval/mixture_gap", "eval/gap")
    assert [a.metric for a in asked.algorithms] == ["eval/mixture_gap", "eval/gap"]
    with pytest.raises(InputError, match=r"metric must be logged by every run on Chain-v0 \(eval/"):
        tasks(tmp_path, "eval/mixture_gap")


def test_labels_of_preferences_are_compared_by_the_normalised_return(tmp_path):
    for seed in range(2):
        curves = {"eval/normalised_return": [0.1] * 7, "eval/return": [3.0] * 7}
        write_run(tmp_path / str(seed), curves, seed=seed, labels=64, objective=None)
    (task,) = tasks(tmp_path)
    assert (task.metrics, task.costs) == (("eval/normalised_return",), ("labels",))
    assert task.algorithms[0].seeds == (0, 1)


def test_runs_on_data_need_no_environment_steps(tmp_path):
    folder = gap(tmp_path / "a", updates=9)
    text = (folder / "summary.json").read_text()
    for key in ('"env_steps": 10000, ', '"episodes": 1000, '):
        assert key in text
        text = text.replace(key, "")
    (folder / "summary.json").write_text(text)
    (task,) = tasks(tmp_path)
    assert task.costs == ("updates",)


def test_force_makes_one_task_of_what_is_counted_alike(tmp_path):
    gap(tmp_path / "a")
    gap(tmp_path / "b", env_id="Other-v0")
    gap(tmp_path / "c", updates=3)
    names = [[a.name for a in t.algorithms] for t in tasks(tmp_path, force=True)]
    assert names == [["entgame, Chain-v0", "entgame, Other-v0"], ["entgame, Chain-v0"]]
