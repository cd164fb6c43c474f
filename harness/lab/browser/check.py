"""Uses the lab as a person at the keyboard does: check.py KEYQUAKE PICTURES

Each check is a function over the page of a running lab and yields a sentence for everything that is wrong.
"""

import base64
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

from devtools import Chromium
from looks import faint, media, policy, settles, size

WIDE, NARROW = 1280, 360  # CSS pixels
TABS_MAX = 80
ANSWER_MS = 15_000  # for a simulation on a busy machine

KEYS = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}

# The controls that are shown and can be reached.
SHOWN = """[...document.querySelectorAll("#controls input, #controls select")].filter(input => input.checkVisibility())"""

FOCUSED = """
(() => {
  const element = document.activeElement, box = (element.closest(".button") ?? element).getBoundingClientRect();
  return {
    tag: element.tagName, id: element.id, skip: element.matches(".skip"),
    onScreen: box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight,
    outlined: getComputedStyle(element.closest(".button") ?? element).outlineStyle !== "none",
  };
})()
"""

# What the page says now, to see later whether it has changed.
SAID = """
(() => ({
  numbers: document.querySelector("#numbers tbody").innerText,
  curve: document.querySelector("#jwks path.jwks")?.getAttribute("d"),
  ttl: document.querySelector("#ttl").ariaValueText,
}))()
"""


class Lab:
    """A lab that runs, and its page."""

    def __init__(self, keyquake, browser, *arguments):
        self.keyquake = keyquake
        self.process = subprocess.Popen(
            [keyquake, "lab", "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.url = self.process.stdout.readline().strip()
        self.page = browser

    def open(self):
        self.page.open(self.url)
        size(self.page, WIDE)
        media(self.page)
        assert settles(self.page, "document.querySelectorAll('#numbers td').length", ANSWER_MS), "the page shows no numbers"

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)


def press(page, key, times=1):
    for _ in range(times):
        page.press(key, KEYS[key], "\r" if key == "Enter" else None)


def focus(page, identity):
    page.evaluate(f"document.getElementById('{identity}').focus()")


def push(page, identity):
    """A button, by keyboard."""
    focus(page, identity)
    press(page, "Enter")


def choose(page, identity, value):
    """A choice, as if by its list."""
    focus(page, identity)
    page.evaluate(
        f"(select => {{ select.value = {json.dumps(value)}; select.dispatchEvent(new Event('change')); }})(document.activeElement)"
    )


def text(page, selector):
    return page.evaluate(f"document.querySelector('{selector}').innerText")


def answered(page):
    """Whether the answer to the latest settings comes to be shown."""
    return settles(page, "document.querySelector('main').ariaBusy === 'false'", ANSWER_MS)


def changes(page, before):
    """Whether the answer to the latest settings comes to be shown, and is another one."""
    if not answered(page):
        return False
    now = page.evaluate(SAID)
    return now["numbers"] != before["numbers"] and now["curve"] != before["curve"]


def labels(lab):
    """Every control has a name, a slider says its value with a unit, and every picture has a title and words."""
    yield from lab.page.evaluate(
        f"""{SHOWN}.filter(input => !input.labels[0]?.innerText.trim()).map(input => `${{input.id}} has no label`)"""
    )
    yield from lab.page.evaluate(
        f"""{SHOWN}.filter(input => input.type === "range")
              .filter(({{ariaValueText, parentElement}}) => ariaValueText !== parentElement.querySelector("output").innerText)
              .map(input => `${{input.id}} says “${{input.ariaValueText}}”`)"""
    )
    for identity in ("ttl", "rate"):
        value = lab.page.evaluate(f"document.getElementById('{identity}').ariaValueText ?? ''")
        if not any(unit in value for unit in ("min", "per second")):
            yield f"{identity} has no unit: {value}"
    yield from lab.page.evaluate(
        """[...document.querySelectorAll("svg")].map(svg => svg.getAttribute("aria-labelledby"))
             .filter(ids => ids.split(" ").some(id => !document.getElementById(id)?.innerText.trim()))
             .map(ids => `a picture without words: ${ids}`)"""
    )
    for node in lab.page.call("Accessibility.getFullAXTree")["nodes"]:
        role, name = (node.get(part, {}).get("value") for part in ("role", "name"))
        if role in ("slider", "combobox", "button", "image") and not name:
            yield f"a screen reader meets a nameless {role}"


def focus_order(lab):
    """Tab leads from the skip link over every control to the end of the page and out, and where it is can be seen."""
    press(lab.page, "Tab")
    first = lab.page.evaluate(FOCUSED)
    if not (first["skip"] and first["onScreen"]):
        yield f"the first Tab shows no skip link: {first}"
    met = []
    for _ in range(TABS_MAX):
        press(lab.page, "Tab")
        focused = lab.page.evaluate(FOCUSED)
        if focused["tag"] == "BODY":
            break
        met.append(focused["id"])
        if not (focused["onScreen"] and focused["outlined"]):
            yield f"the focus is not to be seen: {focused}"
    else:
        yield f"{TABS_MAX} times Tab do not lead through the page: it ends at {met[-1]}"
    controls = lab.page.evaluate(SHOWN + ".map(input => input.id)")
    if [identity for identity in met if identity in controls] != controls:
        yield f"Tab meets {met}, and not all of {controls} in order"


def a_slider_by_keyboard(lab):
    """An arrow key moves the TTL, and numbers and curves follow; what was moved is marked, and can be undone."""
    before = lab.page.evaluate(SAID)
    focus(lab.page, "ttl")
    press(lab.page, "ArrowLeft", 8)
    after = lab.page.evaluate(SAID)
    if after["ttl"] == before["ttl"]:
        yield f"the arrow key leaves the TTL at {after['ttl']}"
    if not changes(lab.page, before):
        yield f"the numbers do not follow the slider to {after['ttl']}"
    # Of movements that follow each other the last one counts, whatever is asked meanwhile.
    answer = text(lab.page, "#numbers tbody")
    press(lab.page, "ArrowRight")
    press(lab.page, "ArrowLeft")
    if not answered(lab.page) or text(lab.page, "#numbers tbody") != answer:
        yield "the numbers are not those of where the slider stands"
    if lab.page.evaluate("document.activeElement.id") != "ttl":
        yield "the slider loses the focus"
    if not settles(lab.page, "document.getElementById('spoken').innerText.includes('Time to recover')"):
        yield "a screen reader hears nothing of it"
    took = text(lab.page, "#took")
    if not took.startswith("answered in "):
        yield f"how long an answer took is not shown: {took}"
    if not lab.page.evaluate("document.getElementById('ttl').parentElement.matches('.moved')"):
        yield "the slider is not marked as moved"
    push(lab.page, "reset")
    if not answered(lab.page) or text(lab.page, "#numbers tbody") != before["numbers"]:
        yield f"undoing does not lead back to {before['numbers']}, but to {text(lab.page, '#numbers tbody')}"


def pins(lab):
    """Two settings stand side by side, and words say how they differ; either can be gone back to."""
    page = lab.page
    focus(page, "ttl")
    press(page, "ArrowLeft")
    answered(page)
    before = page.evaluate(SAID)
    push(page, "pin-a")
    choose(page, "unknown", "reject")
    if not changes(page, before):
        yield "a choice changes nothing"
    push(page, "pin-b")
    answered(page)
    head = page.evaluate("[...document.querySelectorAll('#numbers thead th')].map(cell => cell.innerText.trim()[0])")
    if head[1:] != ["n", "A", "B"]:
        yield f"A and B are not columns: {head}"
    words = text(page, "#differences")
    wanted = ["How B differs from A", "An unknown key: “is refused” instead of “makes it fetch again”", "Time to recover"]
    if not all(part in words for part in wanted):
        yield f"the difference is not told: {words}"
    for side in ("a", "b"):
        drawn = page.evaluate(f"document.querySelectorAll('svg path.line.{side}').length")
        if drawn != 3 or not page.evaluate(f"document.querySelector('.key.{side}').checkVisibility()"):
            yield f"{side} is not drawn in every panel, with its key"
    push(page, "back-a")
    same = "[...document.querySelectorAll('#numbers tbody tr')].every(row => row.cells[1].innerText === row.cells[2].innerText)"
    if not answered(page) or page.evaluate("document.getElementById('unknown').value") != "refetch" or not page.evaluate(same):
        yield "there is no way back to A"
    if page.evaluate("document.getElementById('ttl').ariaValueText") != before["ttl"]:
        yield "back at A, the TTL is another"
    push(page, "reset")
    answered(page)
    push(page, "unpin-b")
    push(page, "unpin-a")
    shown = "document.querySelector('svg path.line.a, svg path.line.b') || document.getElementById('differences').checkVisibility()"
    if page.evaluate(shown):
        yield "what was unpinned is still shown"


def a_crossing(lab):
    """Values that cross are refused beside the control that was moved, and moving it back cures it."""
    page = lab.page
    focus(page, "ahead")
    press(page, "End")
    shown = "document.getElementById('ahead-error').checkVisibility()"
    if not settles(page, shown, ANSWER_MS):
        yield "nothing is said of refreshing ahead of more than the TTL"
    complaint = text(page, "#ahead-error")
    if "`refresh_ahead` must be shorter than `ttl`" not in complaint:
        yield f"the complaint is another one: {complaint}"
    marked = "document.getElementById('ahead').ariaInvalid === 'true' && document.querySelector('main').matches('.stale')"
    if not page.evaluate(marked):
        yield "what is wrong is not marked"
    press(page, "Home")
    if not settles(page, f"!{shown} && !document.querySelector('main').matches('.stale')", ANSWER_MS):
        yield "the complaint stays when its cause is gone"


def rotations(lab):
    """Every kind of rotation and outage can be chosen, lead and retention move, and settings come and go with them."""
    page = lab.page
    for identity in ("kind", "fault"):
        for value in page.evaluate(f"[...document.getElementById('{identity}').options].map(option => option.value)"):
            choose(page, identity, value)
            if not answered(page) or page.evaluate("document.querySelector('main').matches('.stale')"):
                yield f"{identity} = {value} is refused: {text(page, f'#{identity}-error')}"
        push(page, "reset")
    for identity, key in [("lead", "Home"), ("lead", "End"), ("retention", "Home"), ("retention", "End"), ("lifetime", "Home")]:
        focus(page, identity)
        press(page, key)
        answered(page)
        error = page.evaluate(f"(error => error.checkVisibility() && error.innerText)(document.getElementById('{identity}-error'))")
        if error:
            yield f"{identity} at its {key} is refused: {error}"
    push(page, "reset")
    answered(page)


def saving(lab):
    """What is saved opens again with the same settings, here and on the command line."""
    page = lab.page
    with tempfile.TemporaryDirectory(prefix="keyquake-lab-") as folder:
        page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=folder)
        for identity in ("ttl", "lead", "for", "replicas"):
            focus(page, identity)
            press(page, "ArrowRight")
        focus(page, "retention")
        press(page, "ArrowLeft")
        answered(page)
        values = page.evaluate(SHOWN + ".map(input => input.ariaValueText ?? input.value)")
        push(page, "save")
        path = pathlib.Path(folder) / "lab.toml"
        until = time.monotonic() + 10
        while not (path.exists() and path.stat().st_size) and time.monotonic() < until:
            time.sleep(0.05)
        if not path.exists():
            yield "nothing is saved"
            return
        written = path.read_text()
        if tomllib.loads(written)["fleet"]["policy"]["ttl"] != "7m" or "# key-2 was stolen" not in written:
            yield f"what is saved is not what was set: {written}"
        simulated = subprocess.run([lab.keyquake, "simulate", path, "--out", folder], capture_output=True, text=True)
        if simulated.returncode != 0:
            yield f"`keyquake simulate` ends with {simulated.returncode}: {simulated.stderr}"
        push(page, "reset")
        root = page.call("DOM.getDocument")["root"]["nodeId"]
        chooser = page.call("DOM.querySelector", nodeId=root, selector="#open")["nodeId"]
        page.call("DOM.setFileInputFiles", files=[str(path)], nodeId=chooser)
        again = f"JSON.stringify({SHOWN}.map(input => input.ariaValueText ?? input.value)) === JSON.stringify({values!r})"
        if not settles(page, again + " && !document.querySelector('.moved')", ANSWER_MS):
            yield "what was saved opens with other settings"
        broken = pathlib.Path(folder) / "broken.toml"
        broken.write_text(written.replace("limiter =", "limitre ="))
        page.call("DOM.setFileInputFiles", files=[str(broken)], nodeId=chooser)
        if not settles(page, "document.getElementById('open-error').innerText.includes('did you mean `limiter`?')", ANSWER_MS):
            yield "a broken file is not refused with its place"
        press(page, "Tab")
        page.call("DOM.setFileInputFiles", files=[str(path)], nodeId=chooser)
        settles(page, "!document.getElementById('open-error').checkVisibility()", ANSWER_MS)


def the_twin(lab):
    """The curves are a table, too, that the keyboard opens."""
    lab.page.evaluate("document.querySelector('#twin summary').focus()")
    press(lab.page, "Enter")
    if not settles(lab.page, "document.querySelectorAll('#twin tbody tr').length > 20"):
        yield "the table of the curves stays empty"


def colours(lab):
    """Dark is dark, all text can be read in both, and nothing moves for those who do not like it."""
    page, grounds = lab.page, []
    for scheme in ("light", "dark"):
        media(page, scheme=scheme)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        yield from (f"faint on {scheme}: {words}" for words in faint(page))
    media(page)
    if grounds[0] == grounds[1]:
        yield f"dark mode is {grounds[1]}"
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.call("Emulation.setEmulatedMedia", media="screen", features=still)
    if page.evaluate("[...document.querySelectorAll('*')].some(element => getComputedStyle(element).transitionDuration !== '0s')"):
        yield "things move though motion is to be reduced"
    media(page)


def fits(lab):
    """No screen scrolls sideways, and on a narrow one the curve is in sight while a slider is moved."""
    for width in (WIDE, NARROW):
        size(lab.page, width)
        wide = lab.page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            yield f"is {wide} px wide on a screen of {width} px"
    focus(lab.page, "ttl")
    box = lab.page.evaluate("document.querySelector('#denied svg').getBoundingClientRect().toJSON()")
    if not (0 < box["bottom"] and box["top"] < lab.page.evaluate("innerHeight") - 100):
        yield "on a narrow screen the curve is out of sight"
    covered = "(box => document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) !== document.activeElement)"
    for _ in lab.page.evaluate(SHOWN + ".slice(1).map(input => input.id)"):
        press(lab.page, "Tab")
        if lab.page.evaluate(covered + "(document.activeElement.getBoundingClientRect())"):
            yield f"the curve covers what has the focus: {lab.page.evaluate('document.activeElement.id')}"
    size(lab.page, WIDE)


def quiet(lab):
    """Nothing is fetched from elsewhere, logged or thrown; only what was refused shows in the console."""
    for request in lab.page.seen("Network.requestWillBeSent"):
        url = request["params"]["request"]["url"]
        if not url.startswith((lab.url, "data:", "blob:" + lab.url)):
            yield f"fetches {url}"
    for event in lab.page.seen("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded"):
        if "status of 422" not in str(event["params"]):
            yield f"the console says {str(event['params'])[:300]}"


def guarded(lab):
    """The page's policy holds. It is last: it makes the noise that `quiet` forbids."""
    yield from policy(lab.page)


def take_pictures(lab, folder):
    """Light and dark with two pins, and narrow."""
    page = lab.page
    push(page, "pin-a")
    before = page.evaluate(SAID)
    focus(page, "interval")
    press(page, "ArrowLeft", 6)
    changes(page, before)
    push(page, "pin-b")
    pictures = [("light", WIDE, 1000, "light"), ("dark", WIDE, 1000, "dark"), ("narrow", 400, 800, "light")]
    for name, width, height, scheme in pictures:
        size(page, width, height)
        media(page, scheme=scheme)
        page.evaluate("scrollTo(0, 0)")
        time.sleep(0.3)
        png = page.call("Page.captureScreenshot", captureBeyondViewport=name != "narrow")["data"]
        (folder / f"{name}.png").write_bytes(base64.b64decode(png))
def works(lab, pictures):
    """Whether nothing is wrong with a lab's page."""
    lab.open()
    take_pictures(lab, pictures)
    lab.open()
    works = True
    # Each check leaves the settings as it found them.
    checks = (labels, focus_order, a_slider_by_keyboard, pins, a_crossing, rotations, saving, the_twin, colours, fits)
    for check in (*checks, quiet, guarded):
        sentences = list(check(lab))
        works &= not sentences
        print(f"{'WRONG' if sentences else 'ok':5}  {check.__name__.replace('_', ' ')}")
        for sentence in sentences:
            print(f"       {sentence}")
    return works


def main():
    keyquake, pictures = sys.argv[1], pathlib.Path(sys.argv[2])
    browser = Chromium(os.environ["CHROMIUM"])
    lab = Lab(keyquake, browser)
    try:
        held = works(lab, pictures)
        browser.close()
    finally:
        code = lab.end()
    if code != 0:
        print(f"WRONG  Ctrl-C ends the lab with {code}")
    print(f"pictures: {pictures}")
    sys.exit(0 if held and code == 0 else 1)


if __name__ == "__main__":
    main()
