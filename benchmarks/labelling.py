"""A hundred labels by keyboard in headless Chromium: how long the page lets a person wait.

python benchmarks/labelling.py [--labels 100] [--look 1.7] [--picture FILE] [--out FILE]

Runs `active-preference --oracle human` on CartPole-v1 with segments of 50 steps, and `label` beside
it. The scripted person looks at each pair for as many seconds as a clip lasts, then presses a key;
training goes on between the rounds. Needs playwright and chromium on the path.

Written are the server's time for an answer (durable, and the next question chosen, as the browser
waits for the first byte), the time from the key to the next pair on the screen within a round, the
share of these pairs whose clips had come before the key was pressed, and the page's size.
The file results/preferences/labelling.csv is its output with the defaults.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "preferences" / "labelling.csv"
KEYS = ("ArrowLeft", "ArrowRight", "ArrowDown")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ASKED = """() => performance.getEntriesByName("answer")
    .map(x => ({...x.detail, took: x.duration}))"""
SERVED = """() => performance.getEntriesByType("resource")
    .filter(x => x.name.endsWith("api/answer")).map(x => x.responseStart - x.requestStart)"""


def begin(*arguments: str, **options: int) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def answer_all(page: Page, labels: int, look: float, picture: Path | None) -> None:
    """Answer until all is answered; every wait is for the page, none for a fixed time."""
    for shown in range(1, labels + 1):
        page.wait_for_selector(f"body[data-state=question][data-pairs='{shown}']", timeout=120_000)
        if shown == 2 and picture is not None:
            page.wait_for_timeout(900)  # in the middle of the clips
            page.screenshot(path=picture)
        time.sleep(look)
        page.keyboard.press(KEYS[shown % len(KEYS)])
    page.wait_for_selector("body[data-state=done]", timeout=120_000)


def measure(folder: Path, labels: int, look: float, picture: Path | None) -> dict[str, float]:
    """Figures of a campaign, by name and unit."""
    options = ("--env-id", "CartPole-v1", "--oracle", "human", "--segment-length", "50", "--quiet")
    size = ("--labels", str(labels), "--batch-size", "25", "--seed", "0", "--out", str(folder))
    training = begin("active-preference", *options, *size)
    while not (folder / "campaign" / "answers.sqlite").exists():
        time.sleep(0.1)
    label = ("label", "--campaign", str(folder), "--no-train", "--mirror", "0", "--labeller", "ada")
    server = begin(*label, stdout=subprocess.PIPE)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    try:
        with sync_playwright() as playwright:
            path = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.add_init_script("performance.setResourceTimingBufferSize(10000)")
            page.goto(address)
            answer_all(page, labels, look, picture)
            asked, served = page.evaluate(ASKED), page.evaluate(SERVED)
            browser.close()
    finally:
        server.terminate()
        server.wait()
        training.wait()
    assert len(asked) == len(served) == labels
    within = [one for one in asked if one["next"]]  # not where a round ended
    waits = [one["took"] for one in within]
    return {
        "labels,labels": labels,
        "looked at each pair,s": look,
        "server time of an answer; median (target: at most 50),ms": float(np.median(served)),
        "server time of an answer; 95 %,ms": float(np.quantile(served, 0.95)),
        "from the key to the next pair; median,ms": float(np.median(waits)),
        "from the key to the next pair; 95 %,ms": float(np.quantile(waits, 0.95)),
        "next pairs whose clips had come before the key,share": float(
            np.mean([one["ready"] for one in within])
        ),
        "page (target: at most 60 000),bytes": (ROOT / "rlentropy/page/page.html").stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the labelling page lets people wait.")
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--look", type=float, default=1.7, help="seconds at each pair: one clip's")
    parser.add_argument("--picture", type=Path, help="where a picture of the page goes")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        found = measure(run, arguments.labels, arguments.look, arguments.picture)
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("what", "value", "unit"))
        for name, value in found.items():
            what, _, unit = name.rpartition(",")
            writer.writerow((what, f"{value:.3g}" if value < 1000 else value, unit))
            print(f"{what:66} {value:10.4g} {unit}")


if __name__ == "__main__":
    main()
