"""The labelling page in a real browser: people answer, reload, lose the server, or cheat."""

import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import numpy as np
import pytest
from examples.labelling import (
    CALM,
    PAIR,
    SAME,
    as_given,
    begin,
    check_confirmed,
    chromium,
    missing,
    person,
    records,
    served,
    waiting,
)

from rlentropy.preferences.store import Store

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")
SIDES = ("left", "equal", "right", "skip")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A campaign of many questions, for people of different names."""
    folder = waiting(tmp_path_factory.mktemp("shared") / "run", 60)
    with served(folder) as page:
        yield page


# ---------------------------------------------------------------- campaigns


def test_a_person_labels_a_campaign_while_it_trains(browser, tmp_path):
    options = ("--env-id", "FrozenLake-v1", "--oracle", "human", "--labels", 6, "--batch-size", 3)
    training = begin("active-preference", *options, "--quiet", "--out", tmp_path / "run")
    try:
        store = tmp_path / "run" / "campaign" / "answers.sqlite"
        while not store.exists():
            assert training.poll() is None, training.stderr.read()
            time.sleep(0.1)
        with served(tmp_path / "run", "--no-train") as page, person(browser, page.url) as one:
            one.ready()
            for i in range(6):
                if i == 2:
                    before = one.text("#count")
                    one.page.reload()  # in the middle
                    one.ready()
                    assert one.text("#count") == before == "2 of 6 labels, 1 left in round 1"
                if i == 3:
                    assert one.state() == "training"
                    assert "Learning from your answers" in one.text("#panel")
                    one.page.wait_for_selector("body[data-state=question]")
                one.answer(("left", "equal", "right")[i % 3])
            one.page.wait_for_selector("body[data-state=done]")
            assert "All 6 labels of the budget are saved. You gave 6 answers." in one.text("#panel")
            assert "median of 6" in one.text("#spent")
            assert not one.page.get_by_role("button", name="Undo").is_visible()
            assert training.wait(30) == 0
        found = check_confirmed(tmp_path / "run", one)
        assert sorted(found) == [(k, i, "label") for k in range(2) for i in range(3)]
        assert len(set(one.shown)) == 6
    finally:
        training.kill()
        training.communicate()


def test_two_browsers_at_once_share_the_questions(browser, tmp_path):
    folder = waiting(tmp_path / "run", 8)
    with (
        served(folder) as page,
        person(browser, page.url, "ada") as ada,
        person(browser, page.url, "bob") as bob,
    ):
        for i in range(4):
            for one in (ada, bob):
                one.ready(max(1, one.pairs()))
            assert ada.shown[-1] != bob.shown[-1]
            ada.answer(SIDES[i % 3])
            if i < 3:
                bob.answer(SIDES[(i + 1) % 3])
        assert ada.state() == "busy"
        assert "Others have the rest" in ada.text("#panel")
        bob.answer("left")
        for one in (ada, bob):
            one.page.wait_for_selector("body[data-state=done]")
            assert one.text("#count") == "8 of 8 labels"
            assert "You gave 4 answers" in one.text("#panel")
        found = check_confirmed(folder, ada, bob)
    assert {r["labeller"] for r in found.values()} == {"ada", "bob"}
    assert not set(ada.shown) & set(bob.shown)


def test_what_comes_again_looks_like_any_other_question(browser, tmp_path):
    folder = waiting(tmp_path / "run", 2, labels=4)
    with served(folder, "--mirror", 1) as page, person(browser, page.url) as one:
        one.ready()
        said = []
        for side in ("left", "right", "right", "left"):
            said.append(one.page.locator("body").evaluate(SEEN))
            one.answer(side)
        assert len(set(said)) == 1
        one.page.wait_for_selector("body[data-state=stopped]")
        assert "The training has stopped" in one.text("#panel")
    rows = records(folder)
    assert sorted(r["asking"] for r in rows) == ["label", "label", "mirror", "mirror"]
    for mirror in (r for r in rows if r["asking"] == "mirror"):
        first = next(r for r in rows if r["asking"] == "label" and same_question(r, mirror))
        assert mirror["answer"] == first["answer"]  # the same segment, seen on the other side


SEEN = """() => {
  const seen = [...document.querySelectorAll("h1, figcaption, button")];
  return seen.map(x => x.textContent).join();
}"""


def same_question(one, other):
    return (one["round"], one["position"]) == (other["round"], other["position"])


# ---------------------------------------------------------------- what may be lost


def test_an_answer_outlives_the_server_and_a_reload(browser, tmp_path):
    folder = waiting(tmp_path / "run", 3)
    with served(folder) as page, person(browser, page.url) as one:
        one.ready()
        one.answer("left")
        one.ready(2)
        page.kill()
        one.press("equal")
        banner = one.page.get_by_role("alert")
        banner.wait_for()
        assert "Your answer (equal) is kept" in banner.inner_text()
        one.ready(2)
        for key in ("ArrowLeft", "z"):
            one.page.keyboard.press(key)  # nothing else can be said meanwhile
        page.start()
        one.page.get_by_role("button", name="Try now").click()
        one.until(lambda: len(one.confirmed) == 2)
        assert not banner.is_visible()
        one.ready(3)
        page.kill()
        one.press("right")
        banner.wait_for()
        page.start()
        one.page.reload()
        one.page.wait_for_selector("body[data-state=done]")
        one.until(lambda: len(one.confirmed) == 3)
    check_confirmed(folder, one)
    assert [as_given(r) for r in records(folder, standing=False)] == ["left", "equal", "right"]


def test_replies_that_are_lost_change_nothing(browser, shared):
    with person(browser, shared.url, "lost") as one:
        one.ready()

        failures = []

        def handle(route):
            if not failures:
                route.continue_()
            elif status := failures.pop():
                route.fulfill(status=status, json={"error": "the disk is full"})
            else:
                route.fetch()  # the server has done it, and nobody hears of that
                route.abort()

        one.page.route("**/api/*", handle)
        for side in ("left", "equal"):
            failures.append(None)
            one.answer(side)
        failures.append(507)
        one.ready(3)
        one.press("right")
        banner = one.page.get_by_role("alert")
        banner.wait_for()
        assert "The server can't go on: the disk is full." in banner.inner_text()
        one.until(lambda: len(one.confirmed) == 3)
        one.ready(4)
        failures.append(None)
        one.page.keyboard.press("z")  # takes one answer back, not two
        one.ready(5)
        assert one.shown[-1] == (one.confirmed[-1]["round"], one.confirmed[-1]["position"])
    said = [as_given(r) for r in records(shared.folder, "lost", standing=False)]
    assert said == ["left", "equal", "right", "undo"]


def test_the_first_answer_stands_and_the_second_is_told(browser, tmp_path):
    folder = waiting(tmp_path / "run", 2)
    with (
        served(folder, "--patience", 0.2) as page,
        person(browser, page.url, "ada") as ada,
        person(browser, page.url, "bob") as bob,
    ):
        ada.ready()
        bob.ready()
        assert ada.shown == bob.shown  # as ada's time was over
        ada.answer("left")
        bob.press("equal")
        bob.page.wait_for_selector(PAIR.format(2))
        assert not bob.confirmed
        assert "Somebody else had answered" in bob.text("#status")
    assert [r["labeller"] for r in records(folder)] == ["ada"]


def cut(browser, tmp_path, kills, n, seed):
    """Two people answer n questions while the server is killed at random instants."""
    rng = np.random.default_rng(seed)
    folder = waiting(tmp_path / "run", n)
    with (
        served(folder) as page,
        person(browser, page.url, "ada") as ada,
        person(browser, page.url, "bob") as bob,
    ):
        people, given = (ada, bob), dict.fromkeys((ada, bob), 0)
        while any(one.state() not in ("done", "busy") for one in people):
            for one in people:
                if one.state() == "question" and (pairs := one.pairs()) > given[one]:
                    one.ready(pairs)
                    one.press(SIDES[int(rng.integers(3))])
                    given[one] = pairs
                    if kills and rng.random() < 0.5:
                        one.page.wait_for_timeout(float(rng.uniform(0, 25)))  # milliseconds
                        page.kill()
                        kills -= 1
                        page.start()
                        for other in people:
                            other.page.evaluate("dispatchEvent(new Event('online'))")
            ada.page.wait_for_timeout(20)
        for one in people:
            one.page.wait_for_selector("body[data-state=done]")
        assert kills == 0
        found = check_confirmed(folder, ada, bob)
        assert sorted(found) == [(0, i, "label") for i in range(n)]
        assert len(records(folder, standing=False)) == n  # the budget, and nothing said twice
        assert len(ada.confirmed) + len(bob.confirmed) == n


def test_no_power_cut_loses_an_answer(browser, tmp_path):
    cut(browser, tmp_path, kills=3, n=10, seed=1)


@pytest.mark.slow
def test_twenty_power_cuts_lose_no_answer(browser, tmp_path):
    cut(browser, tmp_path, kills=20, n=64, seed=2)


# ---------------------------------------------------------------- who is refused


@contextmanager
def elsewhere():
    """Another site on this machine."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another</title>")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        thread = threading.Thread(target=site.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{site.server_address[1]}/"
        site.shutdown()


TRY = """async ([url, options]) => {
  try { const r = await fetch(url, options); return [r.status, await r.text()]; }
  catch (error) { return [0, String(error)]; }
}"""


def test_strangers_are_refused(browser, shared):
    page, folder = shared, shared.folder
    with (
        person(browser, page.url, "strangers") as one,
        elsewhere() as site,
        person(browser, site + "?", None) as stranger,
    ):
        one.ready()
        question, where = one.shown[-1], f"{page.origin}/api/answer"
        with closing(Store(folder / "campaign")) as store:
            query = store.identities(0)[0][question[1]]
            campaign = store.about["campaign"]
        body = {"campaign": campaign, "window": "w", "labeller": "eve", "query": query, "round": 0}
        body |= {"position": question[1], "asking": "label", "side": "left", "seconds": 1.0}
        token = {"Authorization": f"Bearer {page.token}", "Content-Type": "application/json"}
        post = one.context.request.post
        wrong = token | {"Authorization": f"Bearer {page.token[:-1]}x"}
        for headers, more, status in (
            ({"Content-Type": "application/json"}, {}, 401),
            (wrong, {}, 401),
            (token | {"Origin": site.rstrip("/")}, {}, 403),
            (token | {"Sec-Fetch-Site": "cross-site"}, {}, 403),
            (token, {"campaign": "0" * 32}, 409),
            (token, {"query": "f" * 32}, 404),
            (token, {"position": question[1] + 1}, 404),
            (token, {"round": 7}, 404),
        ):
            reply = post(where, headers=headers, data=body | more)
            assert reply.status == status, (headers, more, reply.text())
            assert "\n" not in reply.json()["error"]
        assert one.context.request.get(f"{page.origin}/").status == 401
        plain = {"method": "POST", "body": "{}"}
        for options in (
            {"method": "POST", "headers": token, "body": "{}"},  # the browser asks first, and stops
            plain | {"headers": {"Content-Type": "text/plain"}},  # sent, and not to be read
            plain | {"mode": "no-cors"},
            {"headers": {"Authorization": token["Authorization"]}},
        ):
            status, said = stranger.page.evaluate(TRY, [where, options])
            assert status == 0, said
            assert page.token not in said
        assert not records(folder, "eve", "strangers", standing=False)
        one.answer("left")
    assert len(records(folder, "strangers")) == 1


def test_a_wrong_address_says_what_to_do(browser, tmp_path):
    folder = waiting(tmp_path / "run", 2)
    with served(folder) as page, person(browser, page.url) as one:
        one.ready()
        one.page.evaluate("() => history.replaceState(null, '', location.pathname)")
        page.kill()
        (folder / "campaign" / "page.json").unlink()  # another token, at perhaps another port
        page.options = ("--port", page.origin.rpartition(":")[2])
        page.start()
        one.press("left")
        one.page.wait_for_selector("body[data-state=error]")
        assert "Open the address that the server printed" in one.text("#panel")
        one.page.goto(page.url)  # the answer was kept for it
        one.until(lambda: len(one.confirmed) == 1)
    check_confirmed(folder, one)


# ---------------------------------------------------------------- keys, clips and sizes


def test_everything_is_done_by_keyboard(browser, shared):
    with person(browser, shared.url, "keys") as one:
        one.ready()
        reached = []
        for _ in range(12):
            one.page.keyboard.press("Tab")
            reached.append(one.page.evaluate(FOCUS))
        names = {name for name, _ in reached}
        assert {"name", "why", "Left", "Equal", "Right", "Skip", "Pause", "Replay"} <= names
        assert all(width > 0 for name, width in reached if name), reached
        one.page.get_by_role("button", name="Equal").focus()
        one.page.keyboard.press("Tab")
        one.page.keyboard.press("Shift+Tab")
        time.sleep(SAME)
        one.page.keyboard.press(" ")  # presses the button that has the focus
        one.page.wait_for_selector(PAIR.format(2))
        assert one.confirmed[-1]["side"] == "equal"
        one.page.evaluate("document.activeElement.blur()")

        one.page.keyboard.press("w")
        one.page.keyboard.type("pole z p r ")  # none of these is a key now
        one.page.keyboard.press("ArrowLeft")
        one.page.keyboard.press("Enter")
        one.last = None
        one.answer("left")
        assert (len(one.confirmed), one.confirmed[-1]["side"]) == (2, "left")
        assert records(shared.folder, "keys")[-1]["reason"] == "pole z p r"
        assert one.page.input_value("#why") == ""

        one.page.keyboard.press("p")
        assert one.page.get_by_role("button", name="Play", exact=True).is_visible()
        stood = frames(one)
        one.page.wait_for_timeout(500)
        assert frames(one) == stood
        one.page.keyboard.press("r")
        assert one.page.get_by_role("button", name="Pause").is_visible()
        one.answer("skip")
        assert one.confirmed[-1]["side"] == "skip"
        for key in ("Control+z", "Alt+ArrowLeft", "Meta+ArrowRight"):
            one.page.keyboard.press(key)
        assert len(one.confirmed) == 3


FOCUS = """() => {
  const at = document.activeElement, words = at.cloneNode(true);
  words.querySelectorAll("kbd").forEach(x => x.remove());
  return [words.textContent.trim() || at.id, parseFloat(getComputedStyle(at).outlineWidth)];
}"""


def test_a_key_pressed_twice_or_held_answers_once(browser, shared):
    with person(browser, shared.url, "twice") as one:
        one.ready()
        for _ in range(2):
            one.page.keyboard.press("ArrowLeft")
        one.ready(2)
        one.page.evaluate(HASTE)
        one.ready(3)
        time.sleep(2 * CALM)
        assert len(one.confirmed) == 2
        one.page.keyboard.down("ArrowDown")
        one.page.wait_for_selector(PAIR.format(4))
        time.sleep(0.5)
        for _ in range(5):
            one.page.keyboard.down("ArrowDown")  # repeats
        one.page.keyboard.up("ArrowDown")
        one.page.wait_for_timeout(100)
        assert [answer["side"] for answer in one.confirmed] == ["left", "skip", "equal"]
        left = one.page.get_by_role("button", name="Left")
        left.dblclick()
        one.page.wait_for_selector(PAIR.format(5))
        one.page.wait_for_timeout(100)
        assert len(one.confirmed) == 4
        time.sleep(0.4)
        one.page.keyboard.press(" ")  # after the mouse it still means skip
        one.until(lambda: len(one.confirmed) == 5)
    assert [as_given(r) for r in records(shared.folder, "twice")] == [
        "left",
        "skip",
        "equal",
        "left",
        "skip",
    ]


HASTE = """async () => {
  const key = name => document.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: 1}));
  const before = document.body.dataset.pairs;
  key(" ");
  while (document.body.dataset.pairs === before) await new Promise(requestAnimationFrame);
  key("ArrowRight"); // too soon after the next pair
}"""


def test_an_answer_is_taken_back_and_given_again(browser, shared):
    with person(browser, shared.url, "undo") as one:
        one.ready()
        undo = one.page.get_by_role("button", name="Undo")
        assert undo.get_attribute("aria-disabled") == "true"
        first, before = one.shown[-1], one.text("#count")
        one.answer("left")
        assert "Saved: left" in one.text("#status")
        one.page.keyboard.press("z")
        one.page.wait_for_selector(PAIR.format(3))
        assert one.shown[-1] == first
        assert "Taken back" in one.text("#status")
        assert one.text("#count") == before
        one.last = None
        one.answer("right")
        one.answer("equal")
        undo.click()
        one.page.wait_for_selector(PAIR.format(6))
        one.answer("left")
        assert undo.get_attribute("aria-disabled") == "false"
    assert [as_given(r) for r in records(shared.folder, "undo")] == ["right", "left"]
    said = [as_given(r) for r in records(shared.folder, "undo", standing=False)]
    assert sorted(said) == ["equal", "left", "left", "right", "undo", "undo"]


def test_a_labeller_may_change_names(browser, shared):
    with person(browser, shared.url, None) as one:
        one.ready()
        drawn = one.page.input_value("#name")
        assert drawn.startswith("person-")
        one.answer("left")
        one.page.fill("#name", "  Grace Höpper ")
        one.page.keyboard.press("Enter")
        one.answer("right")
        one.page.reload()
        one.ready()
        assert one.page.input_value("#name") == "Grace Höpper"
        one.answer("equal")
        check_confirmed(shared.folder, one)
    assert [r["labeller"] for r in records(shared.folder, drawn, "Grace Höpper")] == [
        drawn,
        *["Grace Höpper"] * 2,
    ]


def test_a_long_name_in_the_address_is_cut_at_a_letter(browser, shared):
    with person(browser, shared.url, quote("a" + "😀" * 70)) as one:
        one.ready()
        assert one.page.input_value("#name") == "a" + "😀" * 63


def test_a_duplicated_tab_is_a_window_of_its_own(browser, shared):
    with person(browser, shared.url, "twin") as one:
        one.ready()
        with one.page.expect_popup() as opened:  # comes with a copy of the tab's storage
            one.page.evaluate("() => { open(location.href); }")
        opened.value.wait_for_selector(PAIR.format(1))
        windows = [p.evaluate("sessionStorage.window") for p in (one.page, opened.value)]
        assert windows[0] != windows[1]
        assert len(set(one.shown)) == 2
        one.page.bring_to_front()
        one.page.reload()
        one.ready()
        assert one.page.evaluate("sessionStorage.window") == windows[0]
        assert one.shown[-1] == one.shown[0]


def frames(one):
    return [int(one.page.get_attribute(f, "data-frame")) for f in ("#left", "#right")]


def test_both_clips_last_equally_long_and_begin_with_the_start(browser, shared):
    with person(browser, shared.url, "clips") as one:
        one.ready()
        while len(set(lengths := shown_lengths(shared.folder, one.shown[-1]))) == 1:
            one.answer("skip")
        seen = one.page.evaluate(WATCH)
        for name, length in zip(("#left", "#right"), lengths, strict=True):
            assert (f"ended at step {length}" in one.text(f"{name} .end")) == (length < 6)
    assert seen[0] == [0, 0]
    longest = [[min(i, length) for length in lengths] for i in range(max(lengths) + 1)]
    again = seen.index([0, 0], 1)  # both at once
    assert seen[:again] == [frames for frames in longest if frames in seen[:again]]  # in step
    assert seen[again - 1] == lengths  # the shorter one's last frame is held


def shown_lengths(folder, question):
    """Steps of the clips that a question shows left and right."""
    with closing(Store(folder / "campaign")) as store:
        found = store.question(*question)
    pair = found.pair if found.left else found.pair.swapped()
    return [int(pair.a.lengths[0]), int(pair.b.lengths[0])]


WATCH = """async () => {
  const at = () => ["left", "right"].map(id => +document.getElementById(id).dataset.frame);
  document.querySelector("#replay").click();
  const seen = [at()];
  for (let t = performance.now(); performance.now() < t + 5000 && seen.length < 400;) {
    await new Promise(requestAnimationFrame);
    const now = at();
    if (String(now) !== String(seen.at(-1))) seen.push(now);
  }
  return seen;
}"""


def test_a_telephone_shows_both_clips_and_every_button(browser, shared):
    size = {"width": 360, "height": 740}
    with person(browser, shared.url, "telephone", viewport=size) as one:
        one.ready()
        assert one.page.evaluate("document.documentElement.scrollWidth") == 360
        seen = one.page.locator("button, figure, input").all()
        for element in (x for x in seen if x.is_visible()):
            box = element.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= 740
        time.sleep(SAME)
        one.page.get_by_role("button", name="Right").click()
        one.until(lambda: len(one.confirmed) == 1)


def test_nothing_moves_by_itself_for_those_who_want_it_so(browser, shared):
    calm = {"reduced_motion": "reduce", "color_scheme": "dark", "forced_colors": "active"}
    with person(browser, shared.url, "calm", **calm) as one:
        one.ready()
        one.page.wait_for_timeout(600)
        assert frames(one) == [0, 0]
        one.page.keyboard.press("p")
        one.until(lambda: frames(one) != [0, 0])
