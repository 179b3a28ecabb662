"""The server of the page: what it answers, whom it refuses, and what failures look like."""

import base64
import hashlib
import json
import re
import sqlite3
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from starlette.testclient import TestClient

from rlentropy.errors import OutputError
from rlentropy.page import bodies, server
from rlentropy.page.clips import Clip, Clips
from rlentropy.page.desk import Desk
from rlentropy.page.rendering import Rendering
from rlentropy.page.server import PAGE, application
from rlentropy.preferences.queue import Queue
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import Store

TOKEN = "t" * 32
HOST = "http://127.0.0.1:8765"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
WHO = {"window": "w", "labeller": "anna"}


def segments(rng, n):
    return Segments(
        rng.integers(16, size=(n, 4)), rng.integers(4, size=(n, 3)), np.zeros((n, 3)),
        np.full(n, 3), np.zeros(n, bool), np.zeros(n, int),
    )  # fmt: skip


def begun(folder):
    """A campaign of FrozenLake with a round of six questions."""
    rng = np.random.default_rng(5)
    with closing(Store(folder, {"env_id": "FrozenLake-v1", "env_kwargs": "{}"})) as store:
        store.ask(0, Pairs(segments(rng, 6), segments(rng, 6)))
    return folder


@pytest.fixture
def folder(tmp_path):
    return begun(tmp_path / "campaign")


class Clock:
    now = 1e9

    def __call__(self):
        return self.now


class Page:
    """A client, and the facts that the server is told."""

    def __init__(self, folder, draw=None, **options):
        self.folder, self.budget, self.trains, self.clock = folder, None, False, Clock()
        options = {"mirror": 0.0, "clock": self.clock, **options}

        def desk():
            self.store = Store(folder, must_exist=True)
            queue = Queue(self.store, **options)
            return Desk(self.store, queue, lambda: self.budget, lambda: self.trains)

        if draw is None:
            with closing(Store(folder)) as store:
                draw = Clips(store).of
        self.app = application(desk, draw, TOKEN)

    def __enter__(self):
        self.client = TestClient(self.app, base_url=HOST, raise_server_exceptions=False)
        self.client.__enter__()
        return self

    def __exit__(self, *error):
        self.client.__exit__(*error)

    def post(self, path, **body):
        return self.client.post(f"/api/{path}", json=body, headers=HEADERS)

    def next(self, **who):
        reply = self.post("next", **{**WHO, **who})
        assert reply.status_code == 200, reply.text
        self.reply = reply.json()
        return self.reply

    def body(self, side="left", **more):
        given = {**WHO, "campaign": self.reply["campaign"], "side": side, "seconds": 0.5}
        return {**given, **(self.reply["question"] or {}), **more}

    def answer(self, side="left", **more):
        reply = self.post("answer", **self.body(side, **more))
        assert reply.status_code == 200, reply.text
        self.reply = reply.json()
        return self.reply

    def undo(self, **who):
        self.reply = self.post("undo", campaign=self.reply["campaign"], **{**WHO, **who}).json()
        return self.reply

    def get(self, path, **headers):
        return self.client.get(path, headers={**HEADERS, **headers})

    def rows(self):
        with closing(Store(self.folder)) as store:
            return [row for row in store.records() if row["id"] is not None]


@pytest.fixture
def page(folder):
    with Page(folder) as found:
        yield found


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """A page that nothing was answered at."""
    with Page(begun(tmp_path_factory.mktemp("door") / "campaign")) as found:
        found.next()
        yield found
        assert not found.rows()


# ---------------------------------------------------------------- what is answered


def test_a_reply_has_what_the_page_needs(page):
    page.budget = 9
    reply = page.next()
    assert set(reply) == {
        *("campaign", "about", "state", "question", "ahead", "progress", "can_undo", "late")
    }
    assert reply["about"]["env_id"] == "FrozenLake-v1"
    assert reply["campaign"] == reply["about"]["campaign"]
    assert (reply["state"], reply["can_undo"], reply["late"]) == ("question", False, False)
    assert set(reply["question"]) == {"query", "round", "position", "asking", "left", "right"}
    progress = {"answered": 0, "budget": 9, "round": 0, "left_in_round": 6, "yours": 0}
    assert reply["progress"] == progress
    assert len(reply["ahead"]) == 6
    assert not {reply["question"]["left"], reply["question"]["right"]} & set(reply["ahead"])


def test_an_answer_is_written_as_it_was_seen(page):
    said = {}
    for side in ("left", "right", "equal", "skip"):
        question = page.next()["question"]
        page.answer(side, reason="  it holds the pole up " if side == "left" else None)
        said[question["position"]] = (side, question)
    for row in page.rows():
        side, question = said[row["position"]]
        a_left = row["segment_a"] == question["left"]
        assert row["query_id"] == question["query"]
        assert a_left == (row["shown_left"] == "a")
        word = {"equal": "tie", "skip": "skip", "left": "ba"[a_left], "right": "ab"[a_left]}[side]
        assert row["answer"] == word
        assert (row["labeller"], row["duration_ms"]) == ("anna", 500.0)
        assert row["reason"] == ("it holds the pole up" if side == "left" else None)
    assert page.reply["progress"]["answered"] == page.reply["progress"]["yours"] == 3


@pytest.mark.parametrize("text", ["weil\xa0es fällt", "👩\u200d💻", "می\u200cخ"])
def test_what_people_type_is_text(page, text):
    page.next(labeller=text)
    page.answer(labeller=text, reason=text)
    (row,) = page.rows()
    assert (row["labeller"], row["reason"]) == (text, text)


def test_states(page):
    page.budget = 6
    assert page.next()["state"] == "question"
    for _ in range(5):
        page.answer()
    assert page.next(window="v", labeller="bert")["state"] == "busy"
    page.next()
    assert page.answer("skip")["state"] == "stopped"  # one label is missing
    page.trains = True
    assert page.next()["state"] == "training"
    page.budget = 5
    assert page.next()["state"] == "done"
    assert page.reply["question"] is None
    page.budget = None
    assert page.next()["state"] == "training"


def test_undo_shows_the_question_again(page):
    first = page.next()["question"]
    assert page.answer()["can_undo"]
    assert page.undo()["question"] == first
    assert not page.reply["can_undo"]
    assert page.undo()["question"] == first  # there is nothing more
    page.answer("right")
    assert [row["answer"] for row in page.rows()].count("undo") == 1


def test_two_windows_are_shown_different_questions(page):
    one, other = page.next()["question"], page.next(window="v")["question"]
    assert (one["position"], other["position"]) == (0, 1)
    assert page.next()["question"] == one  # a reload


def test_a_question_that_nobody_answers_returns(page):
    one = page.next()["question"]
    page.clock.now += 119
    assert page.next(window="v")["question"] != one
    page.clock.now += 2
    assert page.next(window="u", labeller="bert")["question"] == one
    late = page.answer(window="u", labeller="bert")
    assert not late["late"]
    page.reply["question"] = one
    assert page.answer("right")["late"]
    assert len(page.rows()) == 1


def test_an_answer_that_is_sent_again_is_neither_late_nor_written_twice(page):
    page.next()
    body = page.body()
    first, again = (page.post("answer", **body).json() for _ in range(2))
    assert first == again
    assert not again["late"]
    assert len(page.rows()) == 1


def test_what_comes_again(folder):
    with Page(folder, mirror=1.0, second=1.0) as page:
        page.next()
        for _ in range(6):
            page.answer()
        again = page.reply["question"]
        assert again["asking"] == "mirror"
        for _ in range(6):
            page.answer("equal")
        assert page.reply["question"] is None
        second = page.next(window="v", labeller="bert")["question"]
        assert second["asking"] == "second"
        for _ in range(6):
            page.answer("skip", window="v", labeller="bert")
        asked = [row["asking"] for row in page.rows()]
        assert [asked.count(kind) for kind in ("label", "mirror", "second")] == [6, 6, 6]
        assert page.reply["progress"]["answered"] == 6


# ---------------------------------------------------------------- clips


def test_clips_are_of_segments_of_this_campaign(page):
    question = page.next()["question"]
    clip = page.get(f"/api/clip/{question['left']}").json()
    assert (clip["length"], clip["ended"]) == (3, False)
    odd = page.get(f"/api/clip/{'0' * 64}")
    assert (odd.status_code, odd.json()["error"]) == (
        404, "digest must be of a segment of this campaign, got another"
    )  # fmt: skip
    for name in ("..%2f..%2fanswers", "A" * 64, "0" * 63, "0" * 65, question["left"].upper()):
        assert page.get(f"/api/clip/{name}").status_code == 404
        assert page.get(f"/api/sprite/{name}").status_code == 404


def test_pictures_and_texts(folder):
    with closing(Store(folder)) as store:
        words = store.question(0, 0).pair.b.digests()[0]

    def draw(digest):
        if digest == words:
            return Clip({"kind": "text", "frames": ["x"], "fps": 4, "length": 0, "ended": True})
        return Clip({"kind": "image", "frames": 1}, b"\x89PNG" + digest.encode())

    with Page(folder, draw) as page:
        question = page.next()["question"]
        pictured = ({question["left"], question["right"]} - {words}).pop()
        picture = page.get(f"/api/sprite/{pictured}")
        assert picture.content == b"\x89PNG" + pictured.encode()
        assert picture.headers["content-type"] == "image/png"
        assert page.get(f"/api/clip/{pictured}").json() == {"kind": "image", "frames": 1}
        assert page.get(f"/api/clip/{words}").json()["frames"] == ["x"]
        refused = page.get(f"/api/sprite/{words}")
        assert (refused.status_code, error_of(refused)) == (
            404, "digest must be that of a clip with pictures, got one in words"
        )  # fmt: skip


def test_a_damaged_segment_is_a_line(page, folder):
    digest = page.next()["question"]["left"]
    (folder / "segments" / f"{digest}.npz").write_bytes(b"odd")
    page.client.app.app.state.rendering._clips.clear()
    clip = page.get(f"/api/clip/{digest}").json()
    assert clip["kind"] == "text"
    assert digest in clip["frames"][0]
    assert "\n" not in clip["frames"][0]
    assert not page.answer("skip")["late"]


def test_an_environment_that_fails_is_a_line(folder):
    def draw(digest):
        raise RuntimeError("no\ndisplay")

    with Page(folder, draw) as page:
        clip = page.get(f"/api/clip/{page.next()['question']['left']}").json()
        assert clip["frames"] == ["RuntimeError: no?display"]


def test_a_clip_that_takes_too_long(folder, monkeypatch):
    monkeypatch.setattr(server, "SLOWEST", 0.05)
    stop = threading.Event()

    def draw(digest):
        stop.wait()
        return Clip({"kind": "text", "frames": []})

    with Page(folder, draw) as page:
        digest = page.next()["question"]["left"]
        slow = page.get(f"/api/clip/{digest}")
        assert (slow.status_code, slow.json()["error"]) == (
            503, "a clip must be drawn within 0.05 s, got none yet"
        )  # fmt: skip
        assert not page.answer()["late"]  # meanwhile
        stop.set()
        assert page.get(f"/api/clip/{digest}").status_code == 200


def test_clips_are_drawn_ahead_in_one_thread(folder):
    drawn = []

    def draw(digest):
        drawn.append((digest, threading.current_thread().name))
        return Clip({"kind": "text", "frames": [digest]})

    with Page(folder, draw) as page:
        reply = page.next()
        wanted = [reply["question"]["left"], reply["question"]["right"], *reply["ahead"]]
        until(lambda: len(drawn) == 8)
        assert [digest for digest, _ in drawn] == wanted
        assert {name for _, name in drawn} == {"clips"}
        page.answer()
        until(lambda: len(drawn) == 10)  # each once


def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_somebody_waits_for_is_drawn_first():
    gate, drawn = threading.Event(), []

    def draw(digest):
        gate.wait()
        drawn.append(digest)
        return Clip({"kind": "text", "frames": []})

    rendering = Rendering(draw)
    rendering.ahead(["a"])
    until(lambda: rendering._waiting.empty())
    rendering.ahead(["b", "c", "d"])
    clip = rendering.ask("d")
    gate.set()
    clip.result(5)
    rendering.ask("b").result(5)
    rendering.ask("c").result(5)
    rendering.close()
    assert drawn == ["a", "d", "b", "c"]
    assert not rendering._thread.is_alive()


def test_few_clips_are_kept():
    count = []

    def draw(digest):
        count.append(digest)
        return Clip({"kind": "image"}, bytes(100))

    rendering = Rendering(draw, most=4)
    for k in range(20):
        rendering.ask(str(k % 10)).result(5)
        rendering.ask("0").result(5)  # used all the time
        assert len(rendering._clips) <= 4
    assert count.count("0") == 1
    assert len(count) == 1 + 2 * 9
    rendering.close()


def test_a_clip_that_somebody_waits_for_is_not_dropped():
    gate = threading.Event()

    def draw(digest):
        gate.wait()
        return Clip({"kind": "text", "frames": [digest]})

    rendering = Rendering(draw, most=2)
    clips = [rendering.ask(str(k)) for k in range(8)]
    gate.set()
    assert [clip.result(5).facts["frames"] for clip in clips] == [[str(k)] for k in range(8)]
    rendering.ask("9").result(5)
    assert len(rendering._clips) == 2
    rendering.close()


# ---------------------------------------------------------------- who is refused


EVERYTHING = [
    ("GET", "/"), ("POST", "/api/next"), ("POST", "/api/answer"), ("POST", "/api/undo"),
    ("GET", f"/api/clip/{'0' * 64}"), ("GET", f"/api/sprite/{'0' * 64}"), ("GET", "/nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer"},
     {"Authorization": f"Basic {TOKEN}"}, {"Authorization": b"Bearer \xff\xfe"},
     {"Authorization": f"Bearer {TOKEN}x"}],
)  # fmt: skip
def test_without_the_token(door, method, path, headers):
    for query in ("", "?token=", "?token=wrong", "?token=%ff%00"):
        reply = door.client.request(method, path + query, headers=headers)
        assert reply.status_code == 401
        assert reply.json() == {
            "error": "the token must be the one in the address that label printed"
        }
        assert reply.headers["referrer-policy"] == "no-referrer"


def test_the_token_in_the_address_is_for_the_page_alone(door):
    reply = door.client.post(f"/api/next?token={TOKEN}", json=WHO)
    assert reply.status_code == 401
    assert door.client.get("/", headers=HEADERS).status_code == 401


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
     {"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "127.0.0.1:8765"},
     {"Origin": "http://[", "Sec-Fetch-Site": "same-origin"}],
)  # fmt: skip
def test_from_another_site(door, method, path, headers):
    query = f"?token={TOKEN}" if path == "/" else ""
    reply = door.client.request(method, path + query, headers=HEADERS | headers)
    assert reply.status_code == 403
    assert reply.json() == {"error": "requests must come from the page itself"}


def test_from_the_page_itself(door):
    for headers in (
        {"Origin": HOST, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ):
        assert door.client.post("/api/next", json=WHO, headers=HEADERS | headers).is_success
    # a link to the page, in a chat or a notebook
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert door.client.get(f"/?token={TOKEN}", headers=followed).is_success
    assert door.get("/api/clip/x", **followed).status_code == 403


def test_foreign_campaigns_and_questions(door):
    for path in ("answer", "undo"):
        reply = door.post(path, **door.body(campaign="f" * 32))
        assert reply.status_code == 409
        assert re.fullmatch(f"campaign must be [0-9a-f]{{32}}, got {'f' * 32}", error_of(reply))
    for more, line in (
        ({"query": "0" * 32}, f"query must be .* at 0 of round 0, got {'0' * 32}"),
        ({"position": 1}, "query must be .* at 1 of round 0, got .*"),
        ({"position": 99}, "question must have been asked, got 99 of round 0"),
        ({"round": 7}, "question must have been asked, got 0 of round 7"),
    ):
        reply = door.post("answer", **door.body(**more))
        assert (reply.status_code, bool(re.fullmatch(line, error_of(reply)))) == (404, True)


def error_of(reply):
    body = reply.json()
    assert list(body) == ["error"]
    assert body["error"].isprintable()
    return body["error"]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"side": "up"}, "side must be one of left, right, equal, skip, got 'up'"),
        ({"side": None}, "side must be one of left, .*, got None"),
        ({"side": ["left"]}, "side must be one of .*"),
        ({"asking": "judge"}, "asking must be one of label, mirror, second, got 'judge'"),
        ({"round": -1}, "round must be >= 0, got -1"),
        ({"round": 10**30}, "round must be <= 2147483648, got 10{30}"),
        ({"round": True}, "round must be a whole number >= 0, got True"),
        ({"position": 0.5}, "position must be a whole number >= 0, got 0.5"),
        ({"position": None}, "position must be a whole number >= 0, got None"),
        ({"seconds": -1}, r"seconds must be in \[0, 1e\+06\], got -1"),
        ({"seconds": "1"}, "seconds must be a number, got '1'"),
        ({"window": ""}, "window must be text of at most 64 characters, got 0"),
        ({"window": "w" * 65}, "window must be text of at most 64 characters, got 65"),
        ({"window": None}, "window must be text of at most 64 characters, got NoneType"),
        ({"labeller": "  "}, "labeller must be text of at most 64 characters, got 2"),
        ({"labeller": "a\nb"}, r"labeller must be printable, got 'a\\nb'"),
        ({"labeller": "\ud800"}, r"labeller must be printable, got '\\ud800'"),
        ({"labeller": "\u202eadna"}, r"labeller must be printable, got '\\u202eadna'"),
        ({"reason": "a\u2028b"}, r"reason must be printable, got 'a\\u2028b'"),
        ({"labeller": {"a": 1}}, "labeller must be text .*, got dict"),
        ({"campaign": 3}, "campaign must be text .*, got int"),
        ({"query": None}, "query must be text .*, got NoneType"),
        ({"reason": 3}, "reason must be text of at most 2000 characters, got int"),
        ({"reason": "x" * 2001}, "reason must be text of at most 2000 characters, got 2001"),
    ],
)
def test_fields_that_are_no_answer(door, more, line):
    body = json.dumps(door.body(**more))
    reply = door.client.post(
        "/api/answer", content=body, headers=HEADERS | {"Content-Type": "application/json"}
    )
    assert reply.status_code == 400
    assert re.fullmatch(line, error_of(reply)), error_of(reply)


@pytest.mark.parametrize(
    ("content", "kind", "status", "line"),
    [
        (b"", "application/json", 400, "a body must be JSON, got something else"),
        (b"{", "application/json", 400, "a body must be JSON, .*"),
        (b'"x"', "application/json", 400, "a body must be a JSON object, got str"),
        (b'{"window": NaN}', "application/json", 400, "a body must be JSON, .*"),
        (b"\xff", "application/json", 400, "a body must be JSON, .*"),
        (b"[" * 60_000, "application/json", 400, "a body must be JSON, .*"),
        (b'{"window": "w", "labeller": "l"}', "text/plain", 415, "content-type must .* text/plain"),
        (b'{"window": "w", "labeller": "l"}', "", 415, "content-type must .*, got none"),
        (b" " * (bodies.LARGEST + 1), "application/json", 413, "a body .* 65536 bytes, got more"),
    ],
)
def test_bodies_that_are_none(door, content, kind, status, line):
    for path in ("next", "answer", "undo"):
        headers = HEADERS | ({"Content-Type": kind} if kind else {})
        reply = door.client.post(f"/api/{path}", content=content, headers=headers)
        assert reply.status_code == status
        assert re.fullmatch(line, error_of(reply))


def test_a_body_without_an_end_is_not_read_to_it(door):
    sent = []

    def parts():
        for _ in range(1000):
            sent.append(1)
            yield b" " * 2**14

    headers = HEADERS | {"Content-Type": "application/json"}
    assert door.client.post("/api/next", content=parts(), headers=headers).status_code == 413


def test_other_paths_and_methods(door):
    assert door.get("/nothing").json() == {"error": "Not Found"}
    assert door.get("/api/next").status_code == 405
    assert door.client.request("PUT", "/api/next", headers=HEADERS).status_code == 405
    assert door.get("/api/clip/..%2F..%2Fanswers.sqlite").status_code == 404
    assert door.get("/page.json").status_code == 404


# ---------------------------------------------------------------- the page and its headers


def test_headers(door):
    replies = [
        door.client.get(f"/?token={TOKEN}"), door.get("/nothing"), door.client.get("/"),
        door.post("next", **WHO), door.post("next"),
    ]  # fmt: skip
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in reply.headers


def test_the_policy_lets_the_pages_own_script_and_style_run(door):
    reply = door.client.get(f"/?token={TOKEN}&labeller=anna")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    text = PAGE.read_bytes()
    assert reply.content == text
    assert len(text) <= 60_000
    policy = reply.headers["content-security-policy"]
    for tag in (b"script", b"style"):
        assert text.count(b"<" + tag + b">") == text.count(b"<" + tag) == 1
        inside = text.split(b"<" + tag + b">")[1].split(b"</" + tag + b">")[0]
        digest = base64.b64encode(hashlib.sha256(inside).digest()).decode()
        assert f"{tag.decode()}-src 'sha256-{digest}'" in policy
    assert "connect-src 'self'" in policy
    assert "img-src blob: data:" in policy


# ---------------------------------------------------------------- what fails


@pytest.mark.parametrize("name", ["FULL", "READONLY", "IOERR_FSYNC", "BUSY"])
def test_a_disk_that_is_full(page, name):
    page.next()
    body = page.body()

    def fails(statement, rows):
        error = sqlite3.OperationalError(f"it is {name}")
        error.sqlite_errorname = f"SQLITE_{name}"
        raise error

    write, page.store.database.write = page.store.database.write, fails
    reply = page.post("answer", **body)
    assert reply.status_code == 507
    assert f"it is {name}" in error_of(reply)
    page.store.database.write = write
    assert not page.rows()
    assert not page.post("answer", **body).json()["late"]
    assert len(page.rows()) == 1


def test_a_store_that_is_damaged(page, folder, monkeypatch):
    page.next()

    def broken(*values, **named):
        raise OutputError("campaign must\nnot be locked")

    monkeypatch.setattr(page.store, "count", broken)
    reply = page.post("answer", **page.body())
    assert (reply.status_code, error_of(reply)) == (507, "campaign must not be locked")
    assert not page.rows()  # neither half


def test_mistakes_of_ours_are_not_told(page, monkeypatch):
    monkeypatch.setattr(page.store, "count", lambda: 1 / 0)
    reply = page.post("next", **WHO)
    assert reply.status_code == 500
    assert error_of(reply) == "the server made a mistake, which its terminal shows"
