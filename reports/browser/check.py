"""Checks report pages as a reader meets them: check.py PICTURES PAGE.html...

Each check is a function over the loaded page and yields a sentence for everything that is wrong.
"""

import base64
import os
import pathlib
import sys

from devtools import Chromium
from looks import faint, media, policy, settles, size

WIDE, NARROW, PAPER = 1100, 360, 718  # CSS pixels; the last is A4 between margins of 1 cm
TABS_MAX = 200
SENTENCES_MAX = 8  # of each check

# Texts of a chart that lie over each other, or outside of it.
COLLISIONS = """
(() => {
  const found = [];
  for (const svg of document.querySelectorAll("figure svg")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
    texts.forEach(([words, box], index) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2)
        found.push(`"${words}" is cut off`);
      for (const [other, its] of texts.slice(index + 1)) {
        const across = Math.min(box.right, its.right) - Math.max(box.left, its.left);
        const down = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
        if (across > 1 && down > 4) found.push(`"${words}" lies over "${other}"`);
      }
    });
  }
  return found;
})()
"""

FOCUSED = """
(() => {
  const element = document.activeElement, box = element.getBoundingClientRect();
  return {
    tag: element.tagName,
    skip: element.matches(".skip"),
    inMain: !!element.closest("main"),
    figure: [...document.querySelectorAll("figure")].indexOf(element.closest("figure")),
    onScreen: box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight,
    outlined: getComputedStyle(element).outlineStyle !== "none",
  };
})()
"""


def quiet(page):
    """Nothing is fetched, logged or thrown."""
    for request in page.seen("Network.requestWillBeSent"):
        if request["params"]["type"] != "Document":
            yield f"fetches {request['params']['request']['url']}"
    for event in page.seen("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded"):
        yield f"the console says {str(event['params'])[:300]}"


def charts_have_twins(page):
    """Every chart is named and described, and has a table; none of its texts lies over another."""
    yield from page.evaluate(
        """[...document.querySelectorAll("figure")].flatMap(figure => {
             const wanted = ["svg[role=img] > title", "svg[role=img] > desc", "figcaption", "details > summary", "details td"];
             return wanted.filter(part => !figure.querySelector(part))
               .map(part => `a figure without ${part}: ${figure.querySelector("figcaption")?.textContent}`);
           })"""
    )
    yield from page.evaluate(COLLISIONS)


def keyboard(page):
    """Tab reaches the skip link first, then all that can be opened; Enter opens it; what has the focus is seen."""
    page.press("Tab", 9)
    first = page.evaluate(FOCUSED)
    if not (first["skip"] and first["onScreen"]):
        yield f"the first Tab shows no skip link: {first}"
    page.press("Enter", 13, "\r")
    if not settles(page, "document.activeElement.matches('main')"):
        yield "the skip link does not lead to the results"
    opened = set()
    for _ in range(TABS_MAX):
        page.press("Tab", 9)
        focused = page.evaluate(FOCUSED)
        if focused["tag"] == "BODY":
            break
        if not focused["inMain"]:
            yield f"after the skip link Tab leaves the results: {focused}"
        if not (focused["onScreen"] and focused["outlined"]):
            yield f"the focus is not to be seen: {focused}"
        if focused["tag"] == "SUMMARY":
            page.press("Enter", 13, "\r")
            opened.add(focused["figure"])
    else:
        yield f"{TABS_MAX} times Tab do not lead through the page"
    closed = page.evaluate("[...document.querySelectorAll('details:not([open]) > summary')].map(s => s.textContent)")
    yield from (f"the keyboard does not open “{summary}”" for summary in closed)
    missed = set(range(page.evaluate("document.querySelectorAll('figure').length"))) - opened
    yield from (f"the table of figure {figure + 1} is out of reach" for figure in missed)


def looks(page):
    """The ground, the text and the first line of a chart."""
    return page.evaluate(
        """[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
            ...[...document.querySelectorAll("svg .s-denied")].slice(0, 1).map(line => getComputedStyle(line).stroke)]"""
    )


def colours(page):
    """Dark is dark in every role, and all text can be read in both."""
    light = looks(page)
    yield from (f"faint on light: {text}" for text in faint(page))
    media(page, scheme="dark")
    dark = looks(page)
    if len(light) != len(dark) or any(a == b for a, b in zip(light, dark)):
        yield f"dark mode changes too little: {light} to {dark}"
    yield from (f"faint on dark: {text}" for text in faint(page))
    media(page)


def fits(page):
    """No page scrolls sideways, and what is wider scrolls in a box of its own that the keyboard reaches."""
    for width in (WIDE, NARROW):
        size(page, width)
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            yield f"is {wide} px wide on a screen of {width} px"
        yield from page.evaluate(
            """[...document.querySelectorAll(".wide")]
                 .filter(box => box.scrollWidth > box.clientWidth + 1 && (box.tabIndex < 0 || getComputedStyle(box).overflowX !== "auto"))
                 .map(box => `cannot be scrolled: ${box.ariaLabel}`)"""
        )
    size(page, WIDE)


def paper(page):
    """On paper the ground is white, closed tables are open, and nothing runs over the edge."""
    media(page, kind="print", scheme="dark")
    size(page, PAPER)
    ground = looks(page)[0]
    if ground != "rgb(255, 255, 255)":
        yield f"prints on {ground}"
    yield from page.evaluate(
        """[...document.querySelectorAll("details table")]
             .filter(table => !table.checkVisibility({contentVisibilityAuto: true}) || table.getBoundingClientRect().height < 10)
             .map(table => `is not printed: ${table.caption.textContent}`)"""
    )
    yield from page.evaluate(
        """[...document.querySelectorAll("body *")]
             .filter(element => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 1)
             .map(element => `runs over the edge of the paper: ${element.tagName} ${element.textContent.trim().slice(0, 40)}`)
             .slice(0, 5)"""
    )
    media(page)
    size(page, WIDE)


def take_pictures(page, path, folder):
    """A picture in light, dark and narrow, and the page as it prints."""
    name = path.parent.name
    for picture, width, scheme in [("light", WIDE, "light"), ("dark", WIDE, "dark"), ("narrow", 400, "light")]:
        size(page, width)
        media(page, scheme=scheme)
        png = page.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        (folder / f"{name}-{picture}.png").write_bytes(base64.b64decode(png))
    media(page, kind="")
    size(page, WIDE)
    pdf = page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"]
    (folder / f"{name}.pdf").write_bytes(base64.b64decode(pdf))
    media(page)


def check(page, path, pictures):
    page.open(path.resolve().as_uri())
    size(page, WIDE)
    media(page)
    take_pictures(page, path, pictures)
    wrong = []
    for part in (charts_have_twins, keyboard, colours, fits, paper, quiet, policy):
        sentences = [f"{part.__name__}: {sentence}" for sentence in part(page)]
        more = [f"{part.__name__}: and {len(sentences) - SENTENCES_MAX} more"] if len(sentences) > SENTENCES_MAX else []
        wrong += sentences[:SENTENCES_MAX] + more
    return wrong


def main():
    pictures, *paths = map(pathlib.Path, sys.argv[1:])
    page = Chromium(os.environ["CHROMIUM"])
    failed = False
    for path in paths:
        wrong = check(page, path, pictures)
        failed |= bool(wrong)
        print(f"{'WRONG' if wrong else 'ok':5}  {path.parent.name}")
        for sentence in wrong:
            print(f"       {sentence}")
    page.close()
    print(f"pictures: {pictures}")
    sys.exit(1 if failed or not paths else 0)


if __name__ == "__main__":
    main()
