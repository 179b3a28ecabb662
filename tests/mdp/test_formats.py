"""Models as others write them: CSV files, action-major arrays, arrays of any kind."""

import bz2
import gzip
import lzma
import resource
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from oracles import models

from rlentropy import FiniteMDP, planning
from rlentropy.errors import InputError

seeds = st.integers(0, 2**32 - 1)


# ---------------------------------------------------------------- csv


HEADER = "idstatefrom,idaction,idstateto,probability,reward"


def write(path, *lines, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_csv(tmp_path) -> None:
    lines = ["0,0,1,0.25,4", "0,0,2,0.75,0", "0,1,0,1,-1", "1,0,0,1,2", "1,1,2,1,0.5"]
    mdp = FiniteMDP.from_csv(write(tmp_path / "m.csv", *lines))
    P = np.zeros((3, 2, 3))
    P[0, 0], P[0, 1], P[1, 0], P[1, 1], P[2] = np.array(
        [[0, 0.25, 0.75], [1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]]
    )
    np.testing.assert_array_equal(models.dense(mdp), P)
    np.testing.assert_array_equal(mdp.r, [[1.0, -1.0], [2.0, 0.5], [0.0, 0.0]])
    assert mdp.terminal.tolist() == [False, False, True]
    np.testing.assert_allclose(mdp.mu, 1 / 3)
    start = FiniteMDP.from_csv(tmp_path / "m.csv", mu=[1.0, 0.0, 0.0])
    assert start.mu.tolist() == [1.0, 0.0, 0.0]


def test_csv_round_trip(tmp_path, rng) -> None:
    m = models.random_mdp(rng, S=6, A=3)
    P, terminal = m.P.copy(), np.zeros(6, bool)
    P[2], terminal[2] = np.eye(6)[2], True
    r = rng.normal(size=(6, 3, 6)) * ~terminal[:, None, None]
    mdp = FiniteMDP(P, r, m.mu, terminal=terminal)
    mdp.to_csv(tmp_path / "m.csv")
    again = FiniteMDP.from_csv(tmp_path / "m.csv", mu=m.mu)
    np.testing.assert_array_equal(models.dense(again), P)
    np.testing.assert_allclose(again.r, mdp.r, atol=1e-12)
    np.testing.assert_array_equal(again.terminal, terminal)


def test_csv_of_expected_rewards(tmp_path) -> None:
    P, r, mu = models.two_states()
    FiniteMDP(P, r, mu).to_csv(tmp_path / "m.csv")
    np.testing.assert_array_equal(FiniteMDP.from_csv(tmp_path / "m.csv").r, r)


def test_csv_accepts_a_line_of_probability_zero(tmp_path) -> None:
    mdp = FiniteMDP.from_csv(write(tmp_path / "m.csv", "0,0,0,1,0", "0,0,1,0,0", "1,0,0,1,0"))
    np.testing.assert_array_equal(models.dense(mdp)[:, 0], [[1, 0], [1, 0]])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "five numbers"),
        (("0,0,0,1",), "five numbers"),
        (("0,0,0,1,x",), "five numbers"),
        (("0,0,0,1,0", "0,0,0,1"), "five numbers"),
        (("0,0,0.5,1,0",), r"ids must be whole numbers >= 0.*0\.5"),
        (("0,-1,0,1,0",), r"ids must be whole numbers >= 0.*-1"),
        (("0,0,0,0.5,0", "0,0,0,0.5,0"), r"duplicate entry at \(s, a\) = \(0, 0\), s' = 0"),
        (("0,0,1,1,0", "1,0,1,0.5,0"), r"must be a distribution.*sum 0\.5.*\(1, 0\)"),
        (("0,0,1,1,0", "1,1,1,1,0", "1,0,1,1,0"), r"must be a distribution.*sum 0.*\(0, 1\)"),
        (("0,0,0,1.5,0", "0,0,1,-0.5,0"), r"-0\.5.*\(0, 0\)"),
        (("0,0,0,nan,0",), r"nan.*\(0, 0\)"),
        (("0,0,0,1,nan",), r"r must be finite.*\(0, 0\)"),
        (("0,0,0,1,inf",), r"r must be finite.*\(0, 0\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_csv_refusals(tmp_path, lines, message) -> None:
    with pytest.raises(ValueError, match=message):
        FiniteMDP.from_csv(write(tmp_path / "m.csv", *lines))


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_csv_refuses_a_missing_id_without_a_warning(tmp_path) -> None:
    with pytest.raises(ValueError, match="ids must be whole numbers"):
        FiniteMDP.from_csv(write(tmp_path / "m.csv", "nan,0,0,1,0"))


def test_csv_header(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"header must be idstatefrom.*'from'"):
        FiniteMDP.from_csv(write(tmp_path / "m.csv", "0,0,0,1,0", header="from,action,to,p,r"))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"header must be .*got \[\]"):
        FiniteMDP.from_csv(tmp_path / "empty.csv")


# ---------------------------------------------------------------- csv: ids

GAP = ("1,0,1,0.5,1", "1,0,2,0.5,0", "1,1,2,1,2", "2,0,1,1,0", "2,1,2,1,0.5")


def test_ids_that_occur_are_the_states(tmp_path) -> None:
    mdp = FiniteMDP.from_csv(write(tmp_path / "m.csv", *GAP))
    assert repr(mdp) == "FiniteMDP(states=2, actions=2, transitions=5, state_ids=[1, 2])"
    assert mdp.state_ids.tolist() == [1, 2]
    assert mdp.action_ids.tolist() == [0, 1]
    assert mdp.mu.tolist() == [0.5, 0.5]
    assert not mdp.terminal.any()
    np.testing.assert_array_equal(models.dense(mdp), [[[0.5, 0.5], [0, 1]], [[1, 0], [0, 1]]])
    with pytest.raises(AttributeError, match="immutable"):
        mdp.state_ids = mdp.state_ids
    with pytest.raises(ValueError, match="read-only"):
        mdp.state_ids[0] = 3


def test_huge_ids_take_no_memory(tmp_path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = ("2000000000,7,5,1,1", "5,7,2000000000,0.5,0", "5,7,9007199254740991,0.5,3")
    mdp = FiniteMDP.from_csv(write(tmp_path / "m.csv", *lines))
    assert mdp.state_ids.tolist() == [5, 2_000_000_000, 2**53 - 1]
    assert mdp.action_ids.tolist() == [7]
    assert mdp.terminal.tolist() == [False, False, True]
    mdp.to_csv(tmp_path / "again.csv")
    same_model(FiniteMDP.from_csv(tmp_path / "again.csv", mu=mdp.mu), mdp)
    with pytest.raises(InputError, match=r"m\.csv: ids must be whole numbers >= 0 and < 2\*\*53"):
        FiniteMDP.from_csv(write(tmp_path / "m.csv", "9007199254740992,0,0,1,0"))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000, "kB at the peak"


def test_messages_use_the_ids_of_the_file(tmp_path) -> None:
    for lines, message in (
        (("10,5,20,1,1", "20,5,10,.5,1"), r"m\.csv: .*got sum 0\.5 at \(s, a\) = \(20, 5\)"),
        (("10,5,20,1,1", "20,5,10,1,1", "20,6,10,1,0"), r"got sum 0 at \(s, a\) = \(10, 6\)"),
        (("10,5,20,1,nan",), r"m\.csv: r must be finite, got nan at \(s, a\) = \(10, 5\)"),
        (("10,5,20,.5,1", "10,5,20,.5,1"), r"duplicate entry at \(s, a\) = \(10, 5\), s' = 20"),
    ):
        with pytest.raises(InputError, match=message):
            FiniteMDP.from_csv(write(tmp_path / "m.csv", *lines))


def test_tables_that_cannot_fit_are_refused_before_memory_is_taken(tmp_path) -> None:
    lines = [f"0,{a},{a + 1},1,0" for a in range(60_000)]  # one state with lines, 60 000 without
    with pytest.raises(InputError, match=r"must fit in memory, got 60001 x 60000, .* GiB"):
        FiniteMDP.from_csv(write(tmp_path / "m.csv", *lines))
    lines = [f"{a},{a},{a + 1},1,0" for a in range(60_000)]
    with pytest.raises(InputError, match=r"each of the 60000 actions .* \(s, a\) = \(0, 1\)"):
        FiniteMDP.from_csv(write(tmp_path / "m.csv", *lines))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    far = sp.coo_array(([1.0], ([0], [0])), shape=(4 * 10**9, 2 * 10**9))
    with pytest.raises(InputError, match=r"sum 0\.0 at \(s, a\) = \(0, 1\)"):
        FiniteMDP(far, np.zeros((1, 1)), [1.0])
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000, "kB at the peak"


# ---------------------------------------------------------------- csv: round trips


def same_model(one, two) -> None:
    """Equal to the last bit; mu is no part of the format."""
    for name in ("r", "terminal", "state_ids", "action_ids"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name in ("P", "support"):
        A, B = getattr(one, name), getattr(two, name)
        assert (A is None) == (B is None)
        if A is not None:
            np.testing.assert_array_equal(A.toarray(), B.toarray())
    assert (one.r_successor is None) == (two.r_successor is None)
    if one.r_successor is not None:
        np.testing.assert_array_equal(one.r_successor, two.r_successor)
    rewards = [m.supported_rows[1] for m in (one, two)]
    assert (rewards[0] is None) == (rewards[1] is None)
    if rewards[0] is not None:
        np.testing.assert_array_equal(*rewards)


@given(seed=seeds, paid=st.booleans(), listed=st.booleans(), ids=st.booleans())
def test_csv_round_trips_are_exact(tmp_path_factory, seed, paid, listed, ids) -> None:
    rng = np.random.default_rng(seed)
    S, A = int(rng.integers(1, 7)), int(rng.integers(1, 4))
    P = rng.dirichlet(np.ones(S), (S, A))
    P[rng.random((S, A, S)) < 0.4] = 0.0
    P[:, :, -1] += 1e-9
    P /= P.sum(2, keepdims=True)
    terminal = rng.random(S) < 0.3
    P[terminal] = np.eye(S)[terminal][:, None]
    r = rng.normal(size=(S, A, S) if paid else (S, A)) * 10.0 ** rng.integers(-9, 9)
    r[terminal] = 0.0
    options = {}
    if listed:
        options["support"] = rng.random((S, A, S)) < 0.3
    if ids:
        options["state_ids"] = np.sort(rng.choice(2**40, S, replace=False))
        options["action_ids"] = np.sort(rng.choice(99, A, replace=False))
    mdp = FiniteMDP(P, r, np.full(S, 1.0 / S), terminal=terminal, **options)
    path = tmp_path_factory.mktemp("csv") / "m.csv"
    mdp.to_csv(path)
    again = FiniteMDP.from_csv(path)
    same_model(again, mdp)
    np.testing.assert_allclose(again.mu, 1.0 / S)


def test_rewards_of_state_and_action_stay_that(tmp_path, rng) -> None:
    for _ in range(50):
        P = rng.dirichlet(np.ones(5), (5, 2))
        mdp = FiniteMDP(P, rng.normal(size=(5, 2)), np.full(5, 0.2))
        mdp.to_csv(tmp_path / "x.csv")
        again = FiniteMDP.from_csv(tmp_path / "x.csv")
        assert again.r_successor is None
        np.testing.assert_array_equal(again.r, mdp.r)
        table = {
            s: {a: [(P[s, a, k], k, mdp.r[s, a], False) for k in [*range(5)]] for a in range(2)}
            for s in range(5)
        }
        split = {s: {a: [(p / 3, k, r, d) for p, k, r, d in row] * 3 for a, row in rows.items()}
                 for s, rows in table.items()}  # fmt: skip
        for given_table in (table, split):
            assert FiniteMDP.from_table(given_table, mdp.mu).r_successor is None


def test_means_that_agree_within_rounding_are_one_reward(rng) -> None:
    """Averages of the same reward, taken in different numbers of terms, differ in the last bits."""
    P, r = np.full((4, 2, 4), 0.25), rng.normal(size=(4, 2))
    noise = 1.0 + 1e-15 * rng.integers(-9, 9, (4, 2, 4))
    mdp = FiniteMDP(P, r[:, :, None] * noise, np.full(4, 0.25))
    assert mdp.r_successor is None
    np.testing.assert_allclose(mdp.r, r, rtol=1e-14)
    far = r[:, :, None] * (1.0 + 1e-9 * rng.integers(-9, 9, (4, 2, 4)))
    assert FiniteMDP(P, far, np.full(4, 0.25)).r_successor is not None


def test_lines_of_probability_zero_are_kept(tmp_path) -> None:
    lines = ("0,0,0,1,0", "0,0,1,0,-7", "1,0,0,1,0", "1,0,2,0,0")
    mdp = FiniteMDP.from_csv(write(tmp_path / "m.csv", *lines))
    assert mdp.terminal.tolist() == [False, False, True]
    assert mdp.support.toarray().tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert mdp.r_successor is None
    assert mdp.supported_rows[1].tolist() == [0.0, -7.0, 0.0, 0.0, 0.0]


def test_terminal_states_that_nothing_enters(tmp_path) -> None:
    mdp = FiniteMDP(np.eye(2)[:, None].repeat(3, 1), np.zeros((2, 3)), [1.0, 0.0],
                    terminal=[False, True])  # fmt: skip
    mdp.to_csv(tmp_path / "m.csv")
    assert "1,2,1,0.0,0.0" in (tmp_path / "m.csv").read_text()
    same_model(FiniteMDP.from_csv(tmp_path / "m.csv"), mdp)


# ---------------------------------------------------------------- csv: text

TEXT = "\n".join([HEADER, *GAP]) + "\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.csv", ("\ufeff" + TEXT).encode()),
        ("m.csv", TEXT.encode("utf-16")),
        ("m.csv", b"\xfe\xff" + TEXT.encode("utf-16-be")),
        ("m.csv", TEXT.replace("\n", "\r\n").encode()),
        ("m.csv", TEXT.replace("\n", "\r").encode()),
        ("m.csv", TEXT.replace(",", ";").encode()),
        ("m.csv", TEXT.replace(",", "\t").encode()),
        ("m.csv", TEXT.replace(",", " , ").encode()),
        ("m.csv", (TEXT + "\n\n").encode()),
        ("m.csv.xz", lzma.compress(TEXT.encode())),
        ("m.csv.gz", gzip.compress(TEXT.encode(), mtime=0)),
        ("m.csv.bz2", bz2.compress(("\ufeff" + TEXT.replace(",", ";")).encode())),
    ],
)
def test_text_in_any_dress(tmp_path, name, data) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "plain.csv").write_text(TEXT)
    same_model(FiniteMDP.from_csv(tmp_path / name), FiniteMDP.from_csv(tmp_path / "plain.csv"))


def test_columns_go_by_name(tmp_path, rng) -> None:
    names, rows = HEADER.split(","), [line.split(",") for line in GAP]
    (tmp_path / "plain.csv").write_text(TEXT)
    plain = FiniteMDP.from_csv(tmp_path / "plain.csv")
    for _ in range(20):
        order = rng.permutation(5)
        text = "\n".join(",".join(row[k] for k in order) for row in [names, *rows])
        (tmp_path / "m.csv").write_text(text)
        same_model(FiniteMDP.from_csv(tmp_path / "m.csv"), plain)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(range(256)), "must be CSV text .* got bytes 00 01"),
        (b"\x80\x81,\xff", "must be CSV text"),
        (TEXT.encode("utf-16-le"), "must be CSV text in UTF-8, or UTF-16 with its mark"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-9], "must be a readable CSV file"),
        (lzma.compress(TEXT.encode())[:-9], "must be a readable CSV file"),
        (b"BZhello", "must be a readable CSV file"),
        (TEXT.replace(",", ";").replace(".", ",").encode(), "five numbers: could not convert"),
        (HEADER.encode(), "every line must hold five numbers, got no lines"),
        ((HEADER + ",idoutcome\n0,0,0,1,0,0\n").encode(), "header must be .* got .*idoutcome"),
        ((HEADER + ",reward\n0,0,0,1,0,0\n").encode(), "header must be"),
        (b"\n\n" + TEXT.encode(), r"header must be .* got \[\]"),
    ],
)
def test_files_that_are_no_such_text(tmp_path, data, message) -> None:
    (tmp_path / "odd.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"odd\.csv: .*{message}"):
        FiniteMDP.from_csv(tmp_path / "odd.csv")


def test_a_file_that_unpacks_to_too_much(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rlentropy.mdp.formats.UNPACKED", 1000)
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        (tmp_path / "m.csv").write_bytes(compress(b" " * 10**6))
        with pytest.raises(InputError, match=r"m\.csv: must unpack to at most"):
            FiniteMDP.from_csv(tmp_path / "m.csv")


def test_files_that_cannot_be_opened(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InputError, match=f"{path.name}: must be a readable CSV file"):
            FiniteMDP.from_csv(path)


# ---------------------------------------------------------------- action-major arrays


def forest(S=3, r1=4.0, r2=2.0, p=0.1):
    """pymdptoolbox's example: wait or cut a forest that burns with probability p."""
    P = np.zeros((2, S, S))
    P[0, :, 0] = p
    for s in range(S):
        P[0, s, min(s + 1, S - 1)] += 1.0 - p
    P[1, :, 0] = 1.0
    R = np.zeros((S, 2))
    R[-1, 0], R[1:, 1], R[-1, 1] = r1, 1.0, r2
    return P, R


def test_the_forest_of_pymdptoolbox() -> None:
    """Its documentation: policy (0, 0, 0) and V = (26.244, 29.484, 33.484) at discount 0.9."""
    P, R = forest()
    sparse = [sp.csr_array(part) for part in P]
    by_successor = np.repeat(R.T[:, :, None], 3, axis=2)  # (A, S, S)
    for kernel in (P, P.tolist(), list(P), sparse, tuple(sparse), sp.vstack(sparse)):
        for reward in (R, by_successor, [sp.csr_array(part) for part in by_successor]):
            mdp = FiniteMDP.from_mdptoolbox(kernel, reward)
            best = planning.optimum(mdp, 0.9)
            np.testing.assert_allclose(best.V, [26.244, 29.484, 33.484], atol=1e-6)
            assert best.pi.argmax(1).tolist() == [0, 0, 0]
            np.testing.assert_allclose(mdp.mu, 1 / 3)
    start = FiniteMDP.from_mdptoolbox(P, R, mu=[1.0, 0.0, 0.0], state_ids=[4, 5, 6])
    assert (start.mu.tolist(), start.state_ids.tolist()) == ([1.0, 0.0, 0.0], [4, 5, 6])


def test_rewards_of_states_and_stored_zeros() -> None:
    P, _ = forest()
    mdp = FiniteMDP.from_mdptoolbox(P, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(mdp.r, [[0, 0], [1, 1], [2, 2]])
    stored = sp.csr_array(([1.0, 0.0, 1.0, 1.0], [0, 2, 1, 2], [0, 2, 3, 4]), shape=(3, 3))
    listed = FiniteMDP.from_mdptoolbox([sp.eye_array(3).tocsr(), stored], np.zeros((3, 2)))
    assert np.argwhere(listed.support.toarray()).tolist() == [[1, 2]]


def test_where_the_two_look_alike_the_constructor_decides(rng) -> None:
    P = rng.dirichlet(np.ones(3), (3, 3))
    r = rng.normal(size=(3, 3))
    state_major, action_major = FiniteMDP(P, r, [1, 0, 0]), FiniteMDP.from_mdptoolbox(P, r)
    np.testing.assert_array_equal(models.dense(state_major), P)
    np.testing.assert_array_equal(models.dense(action_major), P.transpose(1, 0, 2))
    np.testing.assert_array_equal(action_major.r, r)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: FiniteMDP(forest()[0], np.zeros((3, 2)), np.ones(3) / 3),
            r"P must be \(S, A, S\).*got \(2, 3, 3\); FiniteMDP\.from_mdptoolbox\(P, R\) takes",
        ),
        (
            lambda: FiniteMDP([sp.eye_array(3)] * 2, np.zeros((3, 2)), np.ones(3) / 3),
            r"P must be .*got a list of 2 sparse arrays; FiniteMDP\.from_mdptoolbox",
        ),
        (
            lambda: FiniteMDP(np.full((3, 2, 3), 1 / 3), [sp.eye_array(3)] * 2, np.ones(3) / 3),
            r"r must be .*got a list of sparse arrays; FiniteMDP\.from_mdptoolbox",
        ),
        (
            lambda: FiniteMDP(np.full((3, 2, 3), 1 / 3), np.zeros((2, 3, 3)), np.ones(3) / 3),
            r"r must be .*got \(2, 3, 3\); FiniteMDP\.from_mdptoolbox",
        ),
        (
            lambda: FiniteMDP.from_mdptoolbox(np.full((3, 2, 3), 1 / 3), np.zeros((3, 2))),
            r"P must be \(A, S, S\).*got \(3, 2, 3\); FiniteMDP\(P, r, mu\) takes \(S, A, S\)",
        ),
        (lambda: FiniteMDP.from_mdptoolbox(forest()[0], np.zeros((2, 3))), r"R must be .*\(2, 3\)"),
        (lambda: FiniteMDP.from_mdptoolbox(forest()[0], [sp.eye_array(3)]), r"each of 2 actions"),
        (
            lambda: FiniteMDP.from_mdptoolbox([sp.eye_array(3), sp.eye_array(2)], np.zeros((3, 2))),
            r"P\[1\] must be \(S, S\) = \(3, 3\) like the others, got \(2, 2\)",
        ),
        (lambda: FiniteMDP.from_mdptoolbox({}, [0.0]), "P must be numbers .* got dict"),
        (lambda: FiniteMDP.from_mdptoolbox(sp.eye_array(3, 2), [0.0]), r"\(A\*S, S\)"),
        (lambda: FiniteMDP.from_mdptoolbox(forest()[0] * 2.0, forest()[1]), "sum 2.0"),
    ],
)
def test_the_other_shape_is_told_of(call, message) -> None:
    with pytest.raises(InputError, match=message):
        call()


# ---------------------------------------------------------------- numbers of any kind


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_narrow_floats_are_widened_and_sum_to_one(kind) -> None:
    P, mu = np.full((3, 2, 3), 1 / 3, kind), np.full(3, 1 / 3, kind)
    assert abs(float(P[0, 0].astype(float).sum()) - 1.0) > 1e-8
    for kernel in (P, sp.csr_array(P.reshape(6, 3))) if kind == np.float32 else (P,):
        mdp = FiniteMDP(kernel, np.ones((3, 2), kind), mu)
        np.testing.assert_allclose(models.dense(mdp).sum(2), 1.0, rtol=0, atol=1e-15)
        assert mdp.mu.sum() == pytest.approx(1.0, abs=1e-15)
        assert mdp.r.dtype == np.float64
    with pytest.raises(InputError, match=r"sum 1 within"):
        FiniteMDP(P * kind(1.1), np.ones((3, 2)), mu)
    with pytest.raises(InputError, match="mu must be a distribution"):
        FiniteMDP(P, np.ones((3, 2)), mu * kind(1.1))


def test_doubles_keep_their_strictness_and_their_bits() -> None:
    P, r, mu = models.two_states()
    P[0, 0] = [0.5, 0.5 + 5e-9]
    np.testing.assert_array_equal(models.dense(FiniteMDP(P, r, mu)), P)
    P[0, 0] = [0.5, 0.5 + 5e-8]
    with pytest.raises(InputError, match="sum 1 within 1e-08"):
        FiniteMDP(P, r, mu)


def test_normalise() -> None:
    P, r, mu = models.two_states()
    mdp = FiniteMDP(P * [[[3.0], [0.1]], [[7.0], [1e-200]]], r, mu * 12.0, normalise=True)
    np.testing.assert_allclose(models.dense(mdp), P, rtol=1e-15)
    np.testing.assert_allclose(mdp.mu, mu, rtol=1e-15)
    scaled = FiniteMDP(sp.csr_array(P.reshape(4, 2) * 5), r, mu, normalise=True)
    np.testing.assert_allclose(models.dense(scaled), P, rtol=1e-15)
    for wrong, message in ((P * 0.0, "sum 0"), (P - 0.3, "entry -0.3"), (P + np.inf, "inf")):
        with pytest.raises(InputError, match=rf"P\[s, a\] must be a distribution.*({message})"):
            FiniteMDP(wrong, r, mu, normalise=True)
    with pytest.raises(InputError, match="mu must be a distribution"):
        FiniteMDP(P, r, mu * 0.0, normalise=True)


def test_kinds_of_numbers_that_are_numbers() -> None:
    P, r = np.eye(2)[[[1, 0], [0, 1]]], np.array([[1.0, 2.0], [3.0, 4.0]])
    mu = [1.0, 0.0]
    for kernel in (P.astype(int), P.astype(bool), P.astype(np.uint8), P.astype(object).tolist(),
                   np.ma.array(P), sp.csr_array(P.reshape(4, 2).astype(bool))):  # fmt: skip
        np.testing.assert_array_equal(models.dense(FiniteMDP(kernel, r, mu)), P)
    half = Fraction(1, 2)
    fractions = [[[half, half], [1, 0]], [[Fraction(0), Fraction(1)], [half, half]]]
    assert models.dense(FiniteMDP(fractions, r, mu))[0, 0].tolist() == [0.5, 0.5]
    for reward in (r.astype(int), np.ma.array(r), r.astype(np.float32)):
        np.testing.assert_array_equal(FiniteMDP(P, reward, mu).r, r)
    assert FiniteMDP(P, r, [True, False]).mu.tolist() == [1.0, 0.0]


def test_tensors_of_torch_are_arrays() -> None:
    torch = pytest.importorskip("torch")
    P, mu = torch.full((3, 2, 3), 1 / 3), torch.full((3,), 1 / 3)
    for mdp in (
        FiniteMDP(P, torch.ones(3, 2), mu),
        FiniteMDP.from_mdptoolbox(P.permute(1, 0, 2), torch.ones(3, 2), mu),
    ):
        np.testing.assert_allclose(models.dense(mdp), 1 / 3, rtol=1e-15)
    with pytest.raises(InputError, match=r"P must be numbers .* other Tensor"):
        FiniteMDP(P.requires_grad_(), np.ones((3, 2)), mu)


def test_subnormal_probabilities_are_kept() -> None:
    mdp = FiniteMDP([[[1.0, 5e-324]], [[0.0, 1.0]]], np.zeros((2, 1)), [1.0, 0.0])
    assert mdp.P.toarray()[0, 1] == 5e-324
    np.testing.assert_allclose(mdp.transition_entropy, 0.0, rtol=0, atol=1e-300)


HIDDEN = np.ma.masked_less(np.full((2, 2, 2), 0.5), 0.6)
NONSENSE = {
    "dict": {},
    "text": "abc",
    "bytes": b"abc",
    "None": None,
    "ragged": [[[1, 0], [1]], [[1]]],
    "numbers as text": np.full((2, 2, 2), "0.5"),
    "text in objects": np.full((2, 2, 2), "0.5", object),
    "complex": np.full((2, 2, 2), 0.5 + 0j),
    "missing": [[[None, 1.0]] * 2] * 2,
    "dates": np.zeros((2, 2, 2), "datetime64[s]"),
    "records": np.zeros((2, 2), [("a", float), ("b", float)]),
    "masked": HIDDEN,
    "a function": len,
    "a set": {1.0},
    "a scalar": 1.0,
    "complex sparse": sp.csr_array(np.full((4, 2), 0.5 + 0j)),
}


@pytest.mark.parametrize("given_", NONSENSE.values(), ids=list(NONSENSE))
def test_nonsense_is_one_line_that_names_the_argument(given_) -> None:
    P, r, mu = models.two_states()
    for name, call in (
        ("P", lambda: FiniteMDP(given_, r, mu)),
        ("r", lambda: FiniteMDP(P, given_, mu)),
        ("mu", lambda: FiniteMDP(P, r, given_)),
    ):
        with pytest.raises(InputError, match=rf"^(sparse )?{name}\b.* must (be|hold)") as caught:
            call()
        assert "\n" not in str(caught.value)


def damaged(kind, part, value):
    P = kind(models.two_states()[0].reshape(4, 2))
    array = getattr(P, part).copy()
    if value is None:
        array = array[:-1]
    else:
        array[1] = value
    setattr(P, part, array)
    return P


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (damaged(sp.csr_array, "indptr", None), r"P\.indptr must be 5 numbers"),
        (damaged(sp.csr_array, "indptr", 100), r"P\.indptr must be 5 numbers"),
        (damaged(sp.csr_array, "indptr", -1), r"P\.indptr must be 5 numbers"),
        (damaged(sp.csr_array, "data", None), r"P\.indptr must be 5 numbers .* for 5 entries"),
        (damaged(sp.csc_array, "indptr", 100), "P must be a valid csc array"),
        (damaged(sp.csc_array, "indices", 100), "P must be a valid csc array"),
        (damaged(sp.bsr_array, "indptr", 100), "P must be a valid bsr array"),
        (damaged(sp.coo_array, "row", 100), r"P: rows must be in 0\.\.3, got 100"),
        (damaged(sp.coo_array, "col", -1), r"P: successors must be in 0\.\.1, got -1"),
    ],
)
def test_damaged_sparse_arrays(P, message) -> None:
    _, r, mu = models.two_states()
    with pytest.raises(InputError, match=message):
        FiniteMDP(P, r, mu)


def test_ids() -> None:
    P, r, mu = models.two_states()
    for wrong in ([1], [2, 1], [1, 1], [0.5, 1.5], [[1, 2]], [1, np.nan], [0, 2**60]):
        with pytest.raises(InputError, match="state_ids must be 2 whole numbers that rise"):
            FiniteMDP(P, r, mu, state_ids=wrong)
        with pytest.raises(InputError, match="action_ids must be 2 whole numbers that rise"):
            FiniteMDP(P, r, mu, action_ids=wrong)
    with pytest.raises(InputError, match=r"state_ids must be numbers \(2,\), got str"):
        FiniteMDP(P, r, mu, state_ids="ab")


# ---------------------------------------------------------------- damage of any kind

P3 = np.full((3, 2, 3), 1 / 3)
ODD = [
    None, {}, [], (), "x", b"x", 0, 1.5, True, np.nan, 1j, object(), len, {1}, [[]], [[[]]], [None],
    ["a"], np.zeros(0), np.zeros((0, 0)), np.zeros((3, 0, 3)), np.zeros((3, 2, 3)), P3 * np.nan,
    P3 * np.inf, P3 * 1e308, -P3, P3 * 1e-320, P3.astype(np.float16), P3.astype(complex),
    P3.astype(str), np.ma.masked_less(P3, 0.5), sp.csr_array((6, 3)), sp.csr_array((3, 3)),
    sp.coo_array(P3.reshape(6, 3) * 1j), sp.dok_array((6, 3)), sp.dia_array((6, 3)),
    [sp.eye_array(3), 3], np.array([sp.eye_array(3)] * 2, object), P3[0], P3[0, 0], 10**400,
    [10**400] * 3, [[10**400] * 2] * 3, range(3), iter([1]), np.datetime64("2020-01-01"),
    np.array([2**63, 0, 1], np.uint64), np.ones((3, 2, 3), np.longdouble) / 3, bytearray(b"abc"),
]  # fmt: skip


def outcome(call) -> str:
    """What a call was refused with; nothing if it was accepted."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", ODD, ids=[f"{k}-{type(x).__name__}" for k, x in enumerate(ODD)])
def test_any_argument_may_be_anything(odd) -> None:
    """Accepted, or one line; nothing else."""
    good = {"P": P3, "r": np.ones((3, 2)), "mu": np.full(3, 1 / 3)}
    names = [*good, "terminal", "support", "normalise", "state_ids", "action_ids"]
    calls = [lambda n=name: FiniteMDP(**(good | {n: odd})) for name in names]
    calls += [
        lambda: FiniteMDP(**(good | {"P": odd}), normalise=True),
        lambda: FiniteMDP.from_mdptoolbox(odd, good["r"]),
        lambda: FiniteMDP.from_mdptoolbox(P3.transpose(1, 0, 2), odd),
        lambda: FiniteMDP.from_table(odd, good["mu"]),
        lambda: FiniteMDP.from_table({0: {0: [(1.0, 0, odd, False)]}}, [1.0]),
        lambda: FiniteMDP.from_table({0: {0: [(odd, 0, 0.0, False)]}}, [1.0]),
        lambda: FiniteMDP.from_table({0: {0: [(1.0, odd, 0.0, False)]}}, [1.0]),
        lambda: FiniteMDP.from_table({0: {0: [(1.0, 0, 0.0, odd)]}}, [1.0]),
        lambda: FiniteMDP.from_table({0: {0: odd}}, [1.0]),
    ]
    assert not [said for call in calls if "\n" in (said := outcome(call))]


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, rng) -> None:
    lines = [f"{s},{a},{(s + a) % 3},1,{s}" for s in range(3) for a in range(2)]
    whole = "\n".join([HEADER, *lines, ""]).encode()
    extra = [b"\n", b",", b'"', b"nan", b"1e999", b"-", b"9" * 20, b"#", b"\x00", b"inf", b";"]
    path, read = tmp_path / "m.csv", 0
    for _ in range(400):
        text = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            i, kind = int(rng.integers(len(text))), rng.integers(3)
            if kind == 0:
                text[i] = rng.integers(256)
            elif kind == 1:
                del text[i : i + int(rng.integers(1, 9))]
            else:
                text[i:i] = extra[rng.integers(len(extra))]
        path.write_bytes(text)
        said = outcome(lambda: FiniteMDP.from_csv(path))
        read += not said
        assert said.startswith(f"{path}: ") or not said
        assert "\n" not in said
    assert 0 < read < 400
