"""What can be asked of any of our pages: how it looks, and what it is kept from."""

CONTRAST_MIN = 4.5  # WCAG 2.2, 1.4.3

# Texts that cannot be read against their ground, by their colours as computed: the page's, or in a chart that of the area
# which was drawn below them.
CONTRAST = """
(() => {
  const parts = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = colour => {
    const [r, g, b] = parts(colour).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const areas = new Map();
  const below = text => {
    const svg = text.closest("svg");
    if (!areas.has(svg)) areas.set(svg, [...svg.querySelectorAll("rect[class^=f-]")].map(r => [r, r.getBoundingClientRect()]));
    const box = text.getBoundingClientRect(), x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
    const under = areas.get(svg).filter(([area, its]) =>
      its.left <= x && x <= its.right && its.top <= y && y <= its.bottom && !area.hasAttribute("opacity")
      && area.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING);
    return under.length ? light(getComputedStyle(under.at(-1)[0]).fill) : page;
  };
  const faint = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
    if (!words || !element.checkVisibility() || element.closest("style, title, desc, defs")) continue;
    const style = getComputedStyle(element);
    const isDrawn = !!element.closest("svg");
    const ink = light(isDrawn ? style.fill : style.color), ground = isDrawn ? below(element) : page;
    const contrast = (Math.max(ink, ground) + .05) / (Math.min(ink, ground) + .05);
    if (contrast < %s) faint.add(`${element.textContent.trim().slice(0, 40)} (${contrast.toFixed(1)})`);
  }
  return [...faint];
})()
""" % CONTRAST_MIN

# What the page's Content-Security-Policy lets through, of what it must stop.
TRESPASS = """
(async () => {
  const stopped = [];
  document.addEventListener("securitypolicyviolation", event => stopped.push(event.effectiveDirective));
  const script = document.createElement("script");
  script.textContent = "window.trespassed = true";
  document.body.append(script);
  const image = new Image();
  image.src = "http://127.0.0.1:9/pixel";
  const frame = document.createElement("iframe");
  frame.src = "http://127.0.0.1:9/frame";
  document.body.append(image, frame);
  await fetch("http://127.0.0.1:9/data").catch(() => null);
  const wanted = ["script-src-elem", "img-src", "frame-src", "connect-src"];
  const missing = () => wanted.filter(directive => !stopped.includes(directive));
  // The browser tells of a frame when it gets round to it.
  const until = performance.now() + 5000;
  while (missing().length && performance.now() < until) await new Promise(done => setTimeout(done, 50));
  [script, image, frame].forEach(element => element.remove());
  return [...missing(), ...window.trespassed ? ["an inline script ran"] : []];
})()
"""

# Whether something becomes true in time: a jump within the page takes a moment, an answer longer.
SETTLED = """
new Promise(done => {
  const until = performance.now() + %d;
  const look = () => %s ? done(true) : performance.now() > until ? done(false) : setTimeout(look, 10);
  look();
})
"""


def faint(page):
    """Texts that are hard to read."""
    return page.evaluate(CONTRAST)


def settles(page, condition, within_ms=2000):
    """Whether a JavaScript condition comes to hold in time."""
    return page.evaluate(SETTLED % (within_ms, condition))


def policy(page):
    """The Content-Security-Policy stops scripts, images, frames and connections. Ask it last: it makes noise in the console."""
    yield from (f"the CSP does not stop: {what}" for what in page.evaluate(TRESPASS))


def media(page, kind="screen", scheme="light"):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", media=kind, features=features)


def size(page, width, height=900):
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
