"""The report says in plain words what was measured, and reads well on a phone and on a desktop."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from kinrec.cli import main
from kinrec.engine.store import find_bundle, read_manifest
from kinrec.trainer.errors import OutputError
from kinrec.trainer.evaluation import evaluate
from kinrec.trainer.measuring import Difference
from kinrec.trainer.report import describe_split, render, verdict, write_report

CHROMIUM = shutil.which("chromium")
HEADINGS = [
    "What went in",
    "What cleaning removed",
    "How the model learned",
    "How it was measured",
    "Results",
    "How far ahead",
    "For whom, and with how much of the catalogue",
    "What the words mean",
    "Settings of the methods",
]


@pytest.fixture(scope="module")
def bundle(bundle_store, tmp_path_factory):
    """A copy of the trained bundle, to write the results into."""
    source = find_bundle(bundle_store)
    return shutil.copytree(source, tmp_path_factory.mktemp("reported") / source.name)


@pytest.fixture(scope="module")
def page(bundle, tmp_path_factory):
    """The page that the command writes."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert main(["evaluate", str(bundle), "--report", str(path)]) == 0
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def evaluation(bundle):
    """The evaluation that the page shows."""
    return evaluate(bundle, None, lambda *_: None)


class _Elements(HTMLParser):
    """Notes every element with its attributes."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_stands_alone(page):
    """It loads nothing: no script, no style sheet, no image, no font; and no method is missing."""
    parser = _Elements()
    parser.feed(page)
    tags = {tag for tag, _ in parser.found}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed"}
    for _, attributes in parser.found:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_the_page_shows_all_that_was_measured(page, evaluation, bundle):
    """The verdict, the headings, what went in, each method with its numbers, and the charts."""
    assert html.escape(verdict(evaluation)) in page
    assert re.findall(r"<h2>(.*?)</h2>", page) == HEADINGS
    assert f"<dd>{evaluation.log.events:,}</dd>" in page
    for result in evaluation.results:
        assert f'<th scope="row">{result.method}</th>' in page
        assert f"{result.measures['NDCG@10']:.4f}" in page
    assert page.count("<svg") == 6
    for step in read_manifest(bundle).cleaning:
        assert f"<td>{step.removed:,}</td><td>{step.left:,}</td>" in page


def test_the_page_is_the_same_every_time(page, evaluation, bundle):
    """No time, no random name of a chart's part: two pages of one evaluation are one."""
    assert render(evaluation, read_manifest(bundle)) == page


def test_names_cannot_break_the_page(evaluation, bundle):
    """What stands in a name is text, whatever it looks like."""
    manifest = read_manifest(bundle)
    manifest.name = "<script>alert(1)</script>"
    assert "<script" not in render(evaluation, manifest)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.01, 0.03), ("better here than every method", "more than chance")),
        ((-0.03, -0.01), ("better here than kinrec", "more than chance")),
        ((-0.01, 0.03), ("cannot be told apart here", "may be chance")),
    ],
)
def test_the_verdict_follows_the_interval(evaluation, interval, words):
    """Ahead, behind or neither is said by the interval of the paired difference to the best."""
    best = max(evaluation.results[1:], key=lambda one: one.measures["HR@10"])
    sure = Difference(0.2, (0.1, 0.3))

    def told(ndcg):
        results = [
            dataclasses.replace(
                one,
                differences={
                    "HR@10": Difference(0.01, interval) if one is best else sure,
                    "NDCG@10": Difference(0.01, ndcg),
                },
            )
            for one in evaluation.results[1:]
        ]
        return verdict(dataclasses.replace(evaluation, results=(evaluation.results[0], *results)))

    text = told((0.1, 0.3))
    assert all(word in text for word in words)
    assert f"with {best.method} {evaluation.people * best.measures['HR@10']:.0f}" in text
    assert text.count(". ") == 0
    assert "higher in the list" not in text
    assert "higher in the list" in told((-0.3, -0.1))
    if interval[0] > 0:
        assert "recommends better" in text
        unsure = told((-0.1, 0.1))
        assert "kinrec finds more here than every method" in unsure
        assert "where in the list it cannot be told from" in unsure


def test_the_split_is_told_with_those_left_out(evaluation):
    """Both splits say what was held out and how many could not be asked about, and why."""
    text = describe_split(evaluation)
    assert text.startswith("leave-one-out: trained without everyone's last two events")
    assert f"{evaluation.too_short:,} not asked about as they have fewer than three" in text
    text = describe_split(
        dataclasses.replace(evaluation, include_seen=True, targets=200, known=100)
    )
    assert "seen are recommended too, by all methods: 50% of the items to find are such" in text
    temporal = dataclasses.replace(
        evaluation, split="temporal", validation_start=0.0, test_start=86_400.0, too_short=7
    )
    text = describe_split(temporal)
    assert "trained on all before 1970-01-01 00:00" in text
    assert "validated on what came until 1970-01-02 00:00" in text
    assert "7 not asked about as they had done nothing before that" in text
    known = dataclasses.replace(temporal, include_seen=True, targets=200, known=2)
    assert "1% of the items to find are such, each counted once" in describe_split(known)


def test_a_page_that_cannot_be_written_is_found_out_before_the_work(bundle, tmp_path, capsys):
    """One line that names the path, at once and with exit code 2."""
    path = tmp_path / "missing" / "report.html"
    assert main(["evaluate", str(bundle), "--report", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        f"kinrec evaluate: {path}: cannot be written: No such file or directory\n"
    )
    assert captured.out == ""
    assert main(["evaluate", str(bundle), "--report", str(tmp_path)]) == 2
    assert "it is a directory" in capsys.readouterr().err


def test_a_page_is_written_whole_or_not_at_all(evaluation, bundle, tmp_path):
    """Where it cannot be put in place nothing is left behind."""
    path = tmp_path / "report.html"
    path.mkdir()
    (path / "in the way").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(path, evaluation, read_manifest(bundle))
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


MEASURE = """
<script>
addEventListener("load", () => {
  const rects = [...document.querySelectorAll("h1, h2, h3, p, td, th, dd, dt, svg")].map(
    (one) => [one.tagName, one.getBoundingClientRect()]);
  const out = document.createElement("pre");
  out.id = "measured";
  out.textContent = JSON.stringify({
    width: innerWidth,
    content: document.documentElement.scrollWidth,
    inside: [...document.querySelectorAll("*")].filter(
      (one) => !one.closest("svg") && one.scrollWidth > one.clientWidth + 1
        && getComputedStyle(one).display !== "inline").map((one) => one.outerHTML.slice(0, 80)),
    outside: rects.filter(([_, box]) => box.right > innerWidth + 1 || box.left < -1).map(
      ([name, _]) => name),
    headings: [...document.querySelectorAll("h2")].map((one) => one.innerText),
    methods: [...document.querySelectorAll(".cards tbody th")].map((one) => one.innerText),
  });
  document.body.append(out);
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_a_desktop(page, evaluation, tmp_path, width):
    """A real browser scrolls it in no direction but down, and shows all headings and methods."""
    path = tmp_path / "report.html"
    # A window of a browser is never as narrow as a phone; a frame in it is.
    path.with_name("inner.html").write_text(page.replace("</body>", MEASURE + "</body>"), "utf-8")
    path.write_text(
        f'<iframe src="inner.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>addEventListener('load', () => setTimeout(() => { document.title = 'done';"
        "const inner = document.querySelector('iframe').contentDocument;"
        "document.body.append(inner.getElementById('measured')); }, 100));</script>",
        "utf-8",
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [
        "--virtual-time-budget=5000",
        "--window-size=1400,1000",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    measured = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert measured["width"] == width
    assert measured["content"] <= width
    assert measured["inside"] == []
    assert measured["outside"] == []
    assert measured["headings"] == HEADINGS
    assert measured["methods"] == [result.method for result in evaluation.results]
