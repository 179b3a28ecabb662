"""What a finished run takes on disk, and what it keeps for a larger budget."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from examples.command_line import SMALL, check_refusal

from rlentropy import cli
from rlentropy.errors import InputError
from rlentropy.log import checkpoints

GRID = ("entgame", "--env-id", "rlentropy/GridWorld-v0", "--quiet")  # 441 states
RUN = ("entgame", *SMALL, "--quiet")


def taken(folder):
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def arrays(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "json"}


def run(*options, out):
    return cli.main([*map(str, options), "--out", str(out)])


def same(one, two):
    for name in ("policy.npz", "mixture.npz", "checkpoint/state.npz"):
        first, second = arrays(one / name), arrays(two / name)
        assert first.keys() == second.keys()
        for key, array in first.items():
            np.testing.assert_array_equal(array, second[key])


def test_a_run_on_a_large_grid_takes_little(tmp_path):
    assert run(*GRID, "--episodes", 1000, out=tmp_path / "kept") == 0
    assert 150_000 < taken(tmp_path / "kept") < 800_000


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--horizon", 50)])
@pytest.mark.parametrize("command", ["reg-entgame", "maxent", "rf-ucrl", "ucbvi-ent"])
def test_whatever_is_run_there(command, options, tmp_path):
    line = (command, *GRID[1:], *options, "--episodes", 1000)
    assert run(*line, out=tmp_path / "kept") == 0
    assert taken(tmp_path / "kept") < (5_000_000 if options else 1_500_000)


def test_the_mixture_is_kept_once_and_looked_up_where_it_is(tmp_path, capsys):
    more = ("reg-entgame", *SMALL, "--quiet")
    assert run(*more, "--episodes", 60, out=tmp_path / "whole") == 0
    assert run(*more, "--episodes", 40, out=tmp_path / "parts") == 0
    name = "state/agent/learner/mixture"
    assert name not in arrays(tmp_path / "parts/checkpoint/state.npz")
    mixture = arrays(tmp_path / "parts/mixture.npz")["pi"]
    np.testing.assert_array_equal(mixture.sum(-1), 1.0)  # exactly
    np.testing.assert_array_equal(mixture * 4096, np.round(mixture * 4096))
    stored = checkpoints.read_checkpoint(tmp_path / "parts").state["agent"]["learner"]["mixture"]
    np.testing.assert_array_equal(stored, mixture)
    shutil.copytree(tmp_path / "parts", tmp_path / "lost")
    shutil.copytree(tmp_path / "parts", tmp_path / "swapped")
    assert run(*more, "--episodes", 60, "--resume", out=tmp_path / "parts") == 0
    same(tmp_path / "whole", tmp_path / "parts")

    (tmp_path / "lost/mixture.npz").unlink()
    capsys.readouterr()
    code = run(*more, "--episodes", 60, "--resume", out=tmp_path / "lost")
    check_refusal(code, capsys.readouterr().err, "mixture.npz must be there to go on from")
    np.savez(tmp_path / "swapped/mixture.npz", pi=mixture[:, ::-1])
    code = run(*more, "--episodes", 60, "--resume", out=tmp_path / "swapped")
    check_refusal(code, capsys.readouterr().err, "its checksum differs")


def test_a_checkpoint_names_files_beside_it_alone(tmp_path):
    assert run(*RUN, "--episodes", 20, out=tmp_path) == 0
    state = tmp_path / "checkpoint" / "state.npz"
    with np.load(state) as file:
        content = {name: file[name] for name in file.files}
    header = json.loads(str(content["json"]))
    assert header["_elsewhere"]
    header["_elsewhere"] = {"state/agent/learner/mixture": ["../mixture.npz", "pi"]}
    np.savez(state, **content | {"json": np.array(json.dumps(header))})
    with pytest.raises(InputError, match="names files of other folders"):
        checkpoints.read_checkpoint(tmp_path)


def test_a_kept_checkpoint_is_extended_to_the_same_bits(tmp_path):
    """Also after it was packed twice, and with an uncompressed one of an older version."""
    assert run(*RUN, "--episodes", 60, out=tmp_path / "whole") == 0
    for budget in (20, 40, 60):
        assert run(*RUN, "--episodes", budget, "--resume", out=tmp_path / "parts") == 0
    same(tmp_path / "whole", tmp_path / "parts")
    assert run(*RUN, "--episodes", 20, "--keep-checkpoint", out=tmp_path / "old") == 0
    state = tmp_path / "old" / "checkpoint" / "state.npz"
    with np.load(state) as file:
        content = {name: file[name] for name in file.files}
    before = state.stat().st_size
    np.savez(state, **content)
    assert state.stat().st_size > before
    assert run(*RUN, "--episodes", 60, "--resume", out=tmp_path / "old") == 0
    same(tmp_path / "whole", tmp_path / "old")


def test_without_it_the_run_is_finished_and_refuses_more(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(*RUN, "--episodes", 20, "--no-keep-checkpoint", out=folder) == 0
    assert not (folder / "checkpoint").exists()
    before = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    capsys.readouterr()
    assert run("entgame", "--resume", out=folder) == 0
    assert "already finished with this budget" in capsys.readouterr().out
    code = run("entgame", "--resume", "--episodes", 30, "--keep-checkpoint", out=folder)
    said = capsys.readouterr().err
    check_refusal(code, said, "episodes must be 20, .* no checkpoint .*, got 30", "--overwrite")
    assert {file: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
    assert run(*RUN, "--episodes", 30, "--overwrite", out=folder) == 0
    assert json.loads((folder / "summary.json").read_text())["episodes"] == 30


def test_a_deleted_checkpoint_is_one_that_was_not_kept(tmp_path, capsys):
    assert run(*RUN, "--episodes", 20, out=tmp_path) == 0
    shutil.rmtree(tmp_path / "checkpoint")
    assert run("entgame", "--resume", "--quiet", out=tmp_path) == 0
    check_refusal(
        run("entgame", "--resume", "--episodes", 30, out=tmp_path),
        capsys.readouterr().err,
        "episodes must be 20",
    )
    (tmp_path / "summary.json").unlink()  # unfinished: it begins again
    assert run("entgame", "--resume", "--episodes", 30, "--quiet", out=tmp_path) == 0


def test_whether_it_is_kept_may_change(tmp_path):
    assert run(*RUN, "--episodes", 20, out=tmp_path) == 0
    more = ("--resume", "--episodes", 30, "--no-keep-checkpoint")
    assert run(*RUN, *more, out=tmp_path) == 0
    assert not (tmp_path / "checkpoint").exists()


def test_a_planner_without_a_checkpoint_is_finished(tmp_path):
    plan = ("optimal-exploration", *SMALL, "--quiet", "--no-keep-checkpoint")
    for _ in range(2):
        assert run(*plan, "--resume", out=tmp_path) == 0


def test_a_large_checkpoint_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "COMPRESSIBLE", 100)
    assert run(*RUN, "--episodes", 20, out=tmp_path) == 0
    state = tmp_path / "checkpoint" / "state.npz"
    before = state.read_bytes()
    monkeypatch.undo()
    checkpoints.compress_checkpoint(tmp_path)
    assert len(state.read_bytes()) < len(before)
    checkpoints.compress_checkpoint(tmp_path / "none")  # nothing to do
    assert run(*RUN, "--resume", "--episodes", 30, out=tmp_path) == 0
