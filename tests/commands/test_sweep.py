"""`sweep` from outside: what it runs, skips and resumes."""

import sys
from pathlib import Path

import pytest
from examples.runs import summary

from rlentropy.cli import main
from rlentropy.commands import board, plan, sweep
from rlentropy.errors import InputError

CHAIN = "rlentropy/DoubleChain-v0"
SMALL = ("--set", "episodes=20", "--set", "horizon=4", "--quiet")


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    ("given", "seeds"),
    [(3, [0, 1, 2]), ("3", [0, 1, 2]), ("2:5", [2, 3, 4]), ([4, 1], [4, 1]), (["7", "8"], [7, 8])],
)
def test_seeds(given, seeds):
    assert plan.parse_seeds(given) == seeds


@pytest.mark.parametrize("given", [0, "0", "5:5", [], [1, 1], [-1], "a:b", "1:2:3", None, {}])
def test_seeds_that_are_none(given):
    with pytest.raises(InputError, match="seeds must be"):
        plan.parse_seeds(given)


def jobs(config):
    file = plan.read_file(config.config)
    lines = plan.tables(file, config.commands, config.env_ids, config.seeds, config.set)
    return list(plan.plan(lines, Path("out")))


def test_plan_is_the_product_one_seed_after_another():
    config = sweep.Config(
        commands=("entgame", "random-policy"), env_ids=("A-v0", "N/B-v0"), seeds=("0:3",)
    )
    found = [(j.command, j.env_id, j.seed, str(j.folder)) for j in jobs(config)]
    assert len(found) == len(set(found)) == 12
    assert [seed for _, _, seed, _ in found] == [0] * 4 + [1] * 4 + [2] * 4
    assert found[1] == ("entgame", "N/B-v0", 0, "out/N-B-v0/entgame/seed0")


def test_plan_of_a_file(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(
        """
        [common]
        env_ids = ["A-v0", "B-v0"]
        seeds = [3, 5]
        episodes = 7

        [[runs]]
        command = "entgame"

        [[runs]]
        command = "entgame"
        label = "published"
        env_id = "C-v0"
        env_kwargs = { size = 4, name = "x y" }
        seeds = 1
        episodes = 9
        bonus = "code"
        """
    )
    found = jobs(sweep.Config(config=path))
    assert [(j.label, j.env_id, j.seed) for j in found] == [
        *(("entgame", env, 3) for env in ("A-v0", "B-v0")),
        ("published", "C-v0", 0),
        *(("entgame", env, 5) for env in ("A-v0", "B-v0")),
    ]
    assert str(found[2].folder) == "out/C-v0,size=4,name=x-y/published/seed0"
    settings = dict(zip(found[2].argv, found[2].argv[1:], strict=False))
    assert (settings["--episodes"], settings["--bonus"], settings["--label"]) == (
        *("9", "code"),
        "published",
    )
    # The command line wins over both tables.
    found = jobs(sweep.Config(config=path, seeds=("2",), env_ids=("D-v0",), set=("episodes=11",)))
    assert {(j.env_id, j.argv[j.argv.index("--episodes") + 1]) for j in found} == {("D-v0", "11")}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "commands must name at least one"),
        (("--commands", "entgame"), "env_ids must name at least one"),
        (("--commands", "entgam", "--env-ids", CHAIN), "did you mean entgame"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--set", "episode=3"), "entgame must suit"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--set", "episodes"), "set must be"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--set", "seed=3"), "left to the sweep"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--set", "label=a/b"), "label must be"),
        (("--commands", "entgame", "--env-ids", CHAIN, CHAIN), "label must tell"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--seeds", "x"), "seeds must be"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--workers", "-1"), "workers must be"),
        (("--retries", "-1"), "retries must be >= 0"),
        (("--cpus-per-run", "0"), "cpus_per_run must be >= 1"),
        (("--engine", "ray", "--gpus-per-run", "nan"), "gpus_per_run must be"),
        (("--engine", "slurm", "--gpus-per-run", "0.5"), "gpus_per_run must be whole for Slurm"),
        (("--engine", "rey"), "engine"),
        (("--ray-address", "auto"), "ray_address must come with --engine ray, got none"),
        (("--slurm", "time=3"), "slurm must come with --engine slurm"),
        (("--cpus-per-run", "2"), "cpus_per_run must come with --engine ray or slurm"),
        (("--trials", "2"), "trials must come with --search, got 2 without"),
        (("--search", "absent.toml"), "search must be a readable TOML"),
        (("--search", "absent.toml", "--seeds", "3"), "seeds must be left out with --search"),
        (("--config", "absent.toml"), "config must be a readable TOML"),
        (("--config", "odd.toml"), "config must hold out, workers, common, runs alone"),
        (("--config", "empty.toml"), r"config must hold \[\[runs\]\]"),
        (("--config", "good.toml", "--commands", "entgame"), "got both"),
        (("--config", "good.toml"), "env_kwargs must be a JSON object"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--set", "help=1"), "options alone"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--seeds", "999999999999"), "at most"),
        (("--commands", "entgame", "--env-ids", CHAIN, "--seeds", "5:99999999999"), "at most"),
        (("--commands", "entgame", "--env-ids", ""), "env_ids must be gymnasium ids"),
    ],
)
def test_wrong_input_runs_nothing(worlds, capsys, arguments, message):
    Path("odd.toml").write_text("seed = 3")
    Path("empty.toml").write_text("workers = 3")
    Path("good.toml").write_text(
        f'[[runs]]\ncommand = "entgame"\nenv_id = "{CHAIN}"\nenv_kwargs = "3"'
    )
    assert main(["sweep", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    with pytest.raises(InputError, match=message):
        raise InputError(line)
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("top", "line", "message"),
    [
        ("out = 5", "", "out must be str in config, got 5"),
        ("workers = true", "", "workers must be int in config, got True"),
        ("workers = 1.5", "", "workers must be int in config, got 1.5"),
        ("", "command = {a = 1}", "command must be one of"),
        ("", 'command = ["entgame"]', "command must be one of"),
        ("", "env_ids = [-1]", "env_ids must be gymnasium ids"),
        ("", "env_ids = [[]]", "env_ids must be gymnasium ids"),
        ("", "env_id = 5", "env_ids must be gymnasium ids"),
        ("", "seeds = [1.5]", "seeds must be"),
        ("", "seeds = true", "seeds must be"),
        ("", "seeds = 2.0", "seeds must be"),
        ("", "seeds = 1979-05-27", "seeds must be"),
        ("", "label = 3", "left to|label must be|options of entgame must suit"),
        ("", "horizon = [4]", "horizon must be a value of its option"),
        ("", '"env-kwargs" = "{}"\nenv_kwargs = "{}"', "env_kwargs must be given once"),
        ("", "env_kwargs = [1]", "env_kwargs must be a JSON object"),
        ("", "help = 0", "options alone"),
        ("", 'objective = "--help"', "objective"),
        ("common = 5", "", "must be a table"),
    ],
)
def test_tables_of_the_wrong_kind(worlds, capsys, top, line, message):
    usual = {"command": '"entgame"', "env_id": f'"{CHAIN}"', "seeds": "1", "episodes": "2"}
    lines = [f"{k} = {v}" for k, v in usual.items() if k != line.split(" = ")[0]]
    Path("s.toml").write_text(f"{top}\n[[runs]]\n" + "\n".join([*lines, line]))
    assert main(["sweep", "--config", "s.toml"]) == (0 if line == "label = 3" else 2)
    told = capsys.readouterr().err
    if line != "label = 3":  # as in a shell, where all is text
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        with pytest.raises(InputError, match=message):
            raise InputError(told)
        assert not Path("results").exists()


# ---------------------------------------------------------------- the runs


def test_runs_then_skips_then_extends(worlds, capfd):
    arguments = ["sweep", "--commands", "random-policy", "--env-ids", CHAIN, "--seeds", "2"]
    assert main([*arguments, *SMALL]) == 0
    assert capfd.readouterr() == ("", "")
    folder = Path("results/runs/rlentropy-DoubleChain-v0/random-policy")
    alone = ["random-policy", "--env-id", CHAIN, "--seed", "1", "--out", "alone", "--quiet"]
    assert main([*alone, "--episodes", "20", "--horizon", "4"]) == 0
    assert summary(folder / "seed1") == summary("alone")

    before = (folder / "seed0" / "summary.json").stat().st_mtime_ns
    assert main([*arguments, *SMALL[:-1]]) == 0
    assert "0 done, 2 skipped, 0 failed" in capfd.readouterr().out
    assert (folder / "seed0" / "summary.json").stat().st_mtime_ns == before
    assert main([*arguments, *SMALL, "--set", "episodes=30"]) == 0
    assert summary(folder / "seed0")["episodes"] == 30


def test_other_settings_in_the_folder_are_noticed(worlds, capsys):
    """Left-out options count: what is asked is the default, not what the folder happens to hold."""
    arguments = ["sweep", "--commands", "random-policy", "--env-ids", CHAIN, "--seeds", "1"]
    assert main([*arguments, *SMALL, "--set", "objective=AVE"]) == 0
    assert main([*arguments, *SMALL]) == 1
    assert "objective must be 'AVE' as when the run was started" in capsys.readouterr().err


def test_progress_is_a_live_line_on_a_terminal(monkeypatch, capsys):
    class Terminal:
        def __init__(self, stream):
            self.stream = stream

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))
    job = sweep.Job("entgame", "A-v0", "entgame", 3, Path("x"), ())
    table = board.Board(2, quiet=False)
    with table.showing():
        table.ended(sweep.Outcome(job, "failed", "no reason", "", 1.0))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "1/2" in shown.err
    assert "1 failed" in shown.err
