"""The page of a comparison: one file, nothing loaded, no script, whatever is in the runs."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from examples.labelling import chromium, missing
from examples.runs import power_law, write_run

from rlentropy.cli import main
from rlentropy.commands import report

GIF = b"GIF89a" + bytes(40)
ONE_PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==")


class Page(HTMLParser):
    """Elements of a page, with the attributes of each, and that every one is closed."""

    VOID = ("meta", "link", "img", "br", "hr")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder, *options):
    out = folder / "out"
    assert main(["compare", str(folder / "runs"), "--out", str(out), "--html", *options]) == 0
    text = (out / "report.html").read_text()
    return text, Page(text)


@pytest.fixture
def runs(tmp_path):
    for env_id in ("A-v0", "B-v0"):
        for name, scale in (("entgame", 1.0), ("<b>&\"'</script>", 3.0)):
            for seed in range(2):
                folder = tmp_path / "runs" / env_id / str(scale) / str(seed)
                label = {"label": name} | {"env_id": env_id, "seed": seed}
                write_run(folder, {"eval/gap": power_law(scale + seed)}, **label)
    return tmp_path


def test_the_page_is_whole_and_loads_nothing(runs):
    text, page = written(runs)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base", "b"}
    for tag, attributes in page.elements:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes)
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "&lt;b&gt;&amp;&quot;&#x27;&lt;/script&gt;" in text


@pytest.mark.usefixtures("undrawn")
def test_its_policy_lets_its_own_style_in_and_nothing_else(runs):
    text, page = written(runs)
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data:; media-src data:; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_it_has_what_a_reader_needs(runs):
    text, page = written(runs)
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("title")
    assert "<title>2 algorithms on 2 tasks</title>" in text
    assert [a["href"] for a in page.all("a")] == ["#s0", "#s1", "#s2"]
    assert [s["id"] for s in page.all("section")] == ["s0", "s1", "s2"]
    pictures = page.all("img")
    assert all(p["alt"] and p["src"].startswith("data:image/png;base64,") for p in pictures)
    assert len(pictures) == 3 + 2 * 3
    assert len(page.all("table")) == 2 + 2 * 4
    regions = [d for d in page.all("div") if d.get("role") == "region"]
    assert all(d["tabindex"] == "0" and d["aria-label"] for d in regions)
    assert "<p>Command: <code>rlentropy" in text
    assert re.search(r"Versions: <code>.*numpy \d", text)
    assert "95 % percentile bootstrap" in text
    assert str(runs / "runs" / "A-v0" / "1.0" / "0") in text


@pytest.mark.usefixtures("undrawn")
def test_it_goes_when_a_comparison_has_none(runs):
    written(runs)
    out = runs / "out"
    assert main(["compare", str(runs / "runs"), "--out", str(out), "--quiet"]) == 0
    assert not (out / "report.html").exists()


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_from_disk_as_narrow_as_a_phone(runs, scheme):
    film(runs, "figures/visits.gif", ONE_PIXEL)
    written(runs)
    said = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: said.append(request.url[:40]))
        page.goto((runs / "out" / "report.html").as_uri())
        wide = "[document.documentElement.scrollWidth, innerWidth]"
        assert len(set(page.evaluate(wide))) == 1
        shown = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
        page.locator("summary").first.click()
        page.wait_for_function(shown)
        ink, paper = page.evaluate(
            "['color', 'backgroundColor'].map(n => getComputedStyle(document.body)[n])"
        )
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (bright[0] > bright[1]) == (scheme == "dark")  # its style was let in
    assert all(line.startswith(("file:", "data:")) for line in said), said


# ---------------------------------------------------------------- films


def film(runs, name, content, seed=0):
    path = runs / "runs" / "A-v0" / "1.0" / str(seed) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.usefixtures("undrawn")
def test_films_of_the_first_seed_are_inside(runs):
    film(runs, "figures/visits.gif", GIF)
    film(runs, "video.mp4", b"\0\0\0\x18ftypisom" + bytes(30))
    film(runs, "video.gif", GIF, seed=1)
    _, page = written(runs)
    (moving,) = (i for i in page.all("img") if i["src"].startswith("data:image/gif"))
    assert moving["alt"] == "entgame, seed 0: visits"
    assert base64.b64decode(moving["src"].partition(",")[2]) == GIF
    (video,) = page.all("video")
    assert video["src"].startswith("data:video/mp4;base64,")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("content", [b"", b"<svg onload=alert(1)>", b"GIF89a" + bytes(2_000_000)])
def test_what_is_no_film_or_too_large_stays_out(runs, content):
    film(runs, "figures/visits.gif", content)
    (runs / "runs" / "A-v0" / "1.0" / "0" / "video.gif").mkdir()
    _, page = written(runs)
    assert not page.all("details")[:-1]


@pytest.mark.usefixtures("undrawn")
def test_all_films_together_are_bounded(runs, monkeypatch):
    monkeypatch.setattr(report, "LARGEST_FILMS", len(GIF) + 10)
    film(runs, "figures/visits.gif", GIF)
    film(runs, "video.gif", GIF)
    _, page = written(runs)
    assert len([i for i in page.all("img") if "gif" in i["src"][:20]]) == 1


# ---------------------------------------------------------------- other files


def test_pictures_in_other_formats(runs):
    out = runs / "out"
    arguments = ["compare", str(runs / "runs"), "--out", str(out), "--quiet"]
    assert main([*arguments, "--format", "pdf", "svg"]) == 0
    kinds = {"pdf": b"%PDF", "svg": b"<?xml"}
    for stem in ("scores", "profiles", "improvement", "A-v0/curves", "B-v0/reach"):
        for kind, first in kinds.items():
            assert (out / f"{stem}.{kind}").read_bytes().startswith(first)
        assert not (out / f"{stem}.png").exists()
    assert main(arguments) == 0
    assert not list(out.rglob("*.pdf"))
    assert main([*arguments, "--format", "gif"]) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_record_removes_nothing_outside_of_its_folder(runs):
    out = runs / "out"
    out.mkdir()
    keep = [runs / "mine.csv", out / "mine.txt", out / "sub" / "deep" / "x.png"]
    for path in keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (out / "old.csv").write_text("")
    (out / "comparison.json").write_text(
        '{"files": ["../mine.csv", "mine.txt", "/etc/x.csv", "old.csv", 5, null]}'
    )
    assert main(["compare", str(runs / "runs"), "--out", str(out), "--quiet"]) == 0
    assert all(path.exists() for path in keep)
    assert not (out / "old.csv").exists()
    for odd in ("[]", '{"files": 3}', "{", "\0"):
        (out / "comparison.json").write_text(odd)
        assert main(["compare", str(runs / "runs"), "--out", str(out), "--quiet"]) == 0


def test_task_folders_go_when_there_is_a_single_task_left(runs):
    out = runs / "out"
    assert main(["compare", str(runs / "runs"), "--out", str(out), "--quiet"]) == 0
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"A-v0", "B-v0", "aggregate"}
    assert {p.name for p in (out / "aggregate").iterdir()} == {"A-v0", "B-v0"}
    assert main(["compare", str(runs / "runs" / "A-v0"), "--out", str(out), "--quiet"]) == 0
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"aggregate"}
    assert "entgame" in {p.name for p in (out / "aggregate").iterdir()}
    assert not (out / "scores.csv").exists()
    assert (out / "curves.png").exists()
