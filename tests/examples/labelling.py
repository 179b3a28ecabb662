"""A campaign that waits for people, its page in a process of its own, and a person who answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from examples.command_line import ROOT

from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import Store

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
KEYS = {"left": "ArrowLeft", "right": "ArrowRight", "equal": "ArrowDown", "skip": " "}
CALM, SAME = 0.16, 0.36  # seconds after which the page takes a key, and the same key again
PAIR = "body[data-state=question][data-pairs='{}']"


def missing():
    """Why there is no browser to test in; None where there is one, or must be."""
    if os.environ.get("RLENTROPY_BROWSER") == "1":
        return None
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "needs playwright (pip install playwright)"
    return None if shutil.which("chromium") else "needs chromium on the path"


@contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


def lake(rng, n, T=6):
    """Walks over any states of FrozenLake, of which some end early."""
    lengths = rng.integers(1, T + 1, n)
    return Segments(
        *(rng.integers(16, size=(n, T + 1)), rng.integers(4, size=(n, T)), np.zeros((n, T))),
        *(lengths, lengths < T, rng.integers(16, size=n)),
    )


def waiting(folder, n=4, labels=None, seed=0, rounds=1):
    """A run folder whose campaign has asked n questions in each round."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    settings = {"labels": labels or n * rounds, "env_id": "FrozenLake-v1"}
    config = {"command": "active-preference", "settings": settings}
    (folder / "config.json").write_text(json.dumps(config))
    about = {"env_id": "FrozenLake-v1", "env_kwargs": "{}", "oracle": "human"}
    with closing(Store(folder / "campaign", about)) as store:
        for round in range(rounds):
            store.ask(round, Pairs(lake(rng, n), lake(rng, n)))
            if round < rounds - 1:
                store.answer_all(round, 0, np.zeros(n))
    return folder


def begin(*arguments):
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


class Served:
    """`label` of a campaign, which can be killed and started again."""

    def __init__(self, folder, *options):
        self.folder, self.options = Path(folder), options
        self.start()

    def start(self):
        self.process = begin("label", "--campaign", self.folder, "--mirror", 0, *self.options)
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.process.stderr.read()

    def kill(self):
        """As a power cut does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    @property
    def origin(self):
        return self.url.partition("/?")[0]

    @property
    def token(self):
        return self.url.partition("token=")[2].partition("&")[0]


@contextmanager
def served(folder, *options):
    page = Served(folder, *options)
    try:
        yield page
    finally:
        page.kill()


class Person:
    """A window of a browser, and someone who answers in it by keyboard."""

    def __init__(self, browser, url, name, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self.context.set_default_timeout(20_000)
        self.confirmed, self.shown, self.errors, self.last = [], [], [], None
        self.context.expose_binding("saw", lambda _, path, *both: self._saw(path, *both))
        self.context.add_init_script(LISTEN)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}&labeller={name}" if name else url)

    def _saw(self, path, sent, reply):
        if path == "answer" and not reply["late"]:
            self.confirmed.append(sent)
        if reply["question"]:
            self.shown.append((reply["question"]["round"], reply["question"]["position"]))

    def state(self):
        return self.page.get_attribute("body", "data-state")

    def pairs(self):
        """How many were shown since the page was loaded."""
        return int(self.page.get_attribute("body", "data-pairs") or 0)

    def ready(self, pairs=1):
        """Wait for a pair, until a key counts."""
        self.page.wait_for_selector(PAIR.format(pairs))
        time.sleep(CALM)

    def press(self, side):
        if side == self.last:
            time.sleep(SAME - CALM)
        self.last = side
        self.page.keyboard.press(KEYS[side])

    def answer(self, side):
        """Answer the pair that is shown, and wait until that is confirmed."""
        before, pairs = len(self.confirmed), max(1, self.pairs())
        self.ready(pairs)
        self.press(side)
        self.until(lambda: len(self.confirmed) > before)
        self.page.wait_for_selector(f"body:not([data-state=question]), {PAIR.format(pairs + 1)}")

    def until(self, true, seconds=20.0):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, (self.state(), self.text("#panel"), self.errors)
            self.page.wait_for_timeout(20)

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def close(self):
        self.context.close()
        assert not self.errors


LISTEN = """
const plain = window.fetch;
window.fetch = async (path, options) => {
  const response = await plain(path, options);
  if (options?.method === "POST" && response.ok) {
    const reply = await response.clone().json();
    window.saw(path.replace("api/", ""), JSON.parse(options.body), reply);
  }
  return response;
};
"""


@contextmanager
def person(browser, url, name="ada", **options):
    one = Person(browser, url, name, **options)
    try:
        yield one
    except BaseException:
        one.context.close()
        raise
    one.close()


def records(folder, *labellers, standing=True):
    """Answers in the store of a run, in the order they were given: those that stand, or all."""
    with closing(Store(Path(folder) / "campaign", must_exist=True)) as store:
        rows = [row for row in store.records() if row["answer"] is not None]
    rows = [row for row in rows if not labellers or row["labeller"] in labellers]
    rows = [row for row in rows if row["superseded_by"] is None] if standing else rows
    return sorted(rows, key=lambda row: row["id"])


def as_given(record):
    """The side of an answer, as the labeller saw it."""
    a_left = (record["shown_left"] == "a") != (record["asking"] == "mirror")
    sides = {"a": "left" if a_left else "right", "b": "right" if a_left else "left"}
    return sides.get(record["answer"], {"tie": "equal"}.get(record["answer"], record["answer"]))


def check_confirmed(folder, *people):
    """What browsers saw confirmed is in the store as it was given, once."""
    found = {(r["round"], r["position"], r["asking"]): r for r in records(folder)}
    sent = [answer for one in people for answer in one.confirmed]
    keys = [(a["round"], a["position"], a["asking"]) for a in sent]
    assert len(set(keys)) == len(keys), "asked twice"
    for key, answer in zip(keys, sent, strict=True):
        record = found[key]
        assert (as_given(record), record["labeller"]) == (answer["side"], answer["labeller"])
        assert record["duration_ms"] == pytest.approx(1e3 * answer["seconds"])
        assert record["query_id"] == answer["query"]
    return found
