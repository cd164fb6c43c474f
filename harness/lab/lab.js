// The lab's page: controls that become settings, one request at a time to this machine, and pictures of the answers.

/**
 * @typedef {{id: string, label: string, path: string, shows?: () => boolean}} Named
 * @typedef {Named & {choices: [string, string][]}} Choice  Values and what they are called.
 * @typedef {Named & {stops: string[], plain?: boolean}} Slider  Its values in order; plain ones are numbers without a unit.
 * @typedef {Record<string, string>} Values  The value of each control, by its id.
 * @typedef {{name: string, text: string, values: Values}} Opened
 * @typedef {{width_s: number, first_s: number} & Record<string, number[]>} Curves
 * @typedef {{
 *   name: string, question: ?string, settings: Record<string, ?string>, warnings: string[],
 *   numbers: Record<string, ?{value: number, text: string}>,
 *   exposures: {stream: string, alone: boolean, lasted: string}[],
 *   moments: {at_s: number, what: string}[], faults: {from_s: number, to_s: ?number, what: string}[], curves: Curves,
 * }} Answer
 * @typedef {{opened: Opened, values: Values, answer: Answer}} Shown  An answer, and to what.
 */

// ---- Quantities, as scenarios write them and as people read them

/** In scenarios, for people, in seconds. @type {[string, string, number][]} */
const UNITS = [["d", "d", 86400], ["h", "h", 3600], ["m", "min", 60], ["s", "s", 1], ["ms", "ms", .001]];

/** Seconds of a span like `1m30s`, `-3s` or `inf`. */
const seconds = text => {
  if (text === "inf") return Infinity;
  let total = 0;
  for (const [, number, unit] of text.matchAll(/([\d.]+)([a-z]+)/g))
    total += +number * (UNITS.find(([name]) => name === unit)?.[2] ?? 0);
  return text.startsWith("-") ? -total : total;
};

/** So many seconds with their units, of the first or the second kind, down to milliseconds. */
const spell = (secs, kind, gap) => {
  const words = [];
  let rest = Math.round(Math.abs(secs) * 1000);
  for (const unit of UNITS) {
    const size = unit[2] * 1000;
    if (rest >= size) words.push(Math.floor(rest / size) + gap + unit[kind]);
    rest %= size;
  }
  return (secs < 0 ? "-" : "") + (words.join(gap) || "0" + gap + "s");
};
const span = secs => secs === Infinity ? "inf" : spell(secs, 0, "");
const spoken = secs => secs === Infinity ? "for ever" : spell(secs, 1, "\u00a0");

/** A share as the reports print it, in short. */
const percent = share =>
  share > 0 && share < .0001 ? "< 0.01 %" : `${+(share * 100).toFixed(share < .1 ? 2 : 1)} %`;
const count = number => number.toLocaleString("en");

// ---- Controls

const spans = text => text.split(" ").map(stop => span(seconds(stop)));
// A slider moves from one of its stops to the next; that they lie ever further apart makes it logarithmic.
const LENGTHS = spans("1s 2s 3s 4s 5s 7s 10s 15s 20s 30s 45s 1m 90s 2m 3m 4m 5m 7m 10m 15m 20m 30m 45m " +
  "1h 90m 2h 3h 4h 6h 8h 12h 18h 1d 2d 3d 7d");
const LEADS = spans("-1h -30m -10m -5m -2m -1m -30s -10s -5s -3s -1s 0s");
const upTo = most => {
  const stops = [];
  for (let decade = 1; decade <= most; decade *= 10)
    stops.push(...[1, 1.5, 2, 3, 4, 5, 7].map(step => step * decade));
  return stops.filter(stop => Number.isInteger(stop) && stop <= most).map(String);
};
const AS_LONG = "tokens' lifetime";
const IN_FILE = "as in the file";
const is = (id, value) => values[id] === value;
const isPlanned = () => is("kind", "planned");
const isBroken = () => !is("fault", "none");
const refetches = /** @type {[string, string][]} */ ([["refetch", "makes it fetch again"], ["reject", "is refused"]]);

/** @type {[string, (Choice | Slider)[]][]} */
const GROUPS = [
  ["How each replica caches", [
    { id: "ttl", label: "Keys live for (TTL)", path: "fleet.policy.ttl", stops: [...LENGTHS, "inf"] },
    { id: "ahead", label: "Refreshed ahead of expiry by", path: "fleet.policy.refresh_ahead", stops: ["0s", ...LENGTHS] },
    { id: "unknown", label: "An unknown key", path: "fleet.policy.on_unknown_kid", choices: refetches },
    { id: "bad", label: "A bad signature", path: "fleet.policy.on_bad_signature", choices: refetches,
      shows: () => is("kind", "rekey") },
    { id: "limiter", label: "Such fetches are limited by", path: "fleet.policy.limiter",
      choices: [["none", "nothing"], ["cooldown", "a cooldown"], ["window", "a number in a window"]] },
    { id: "interval", label: "Cooldown or window of", path: "fleet.policy.limiter_interval", stops: LENGTHS,
      shows: () => !is("limiter", "none") },
    { id: "burst", label: "Fetches in a window", path: "fleet.policy.limiter_burst", stops: upTo(100), plain: true,
      shows: () => is("limiter", "window") },
    { id: "failing", label: "When fetching fails, expired keys", path: "fleet.policy.on_fetch_error",
      choices: [["stale", "serve on for a while"], ["fail", "serve no more"]] },
    { id: "stale", label: "They serve on for", path: "fleet.policy.stale_for", stops: ["0s", ...LENGTHS, "inf"],
      shows: () => is("failing", "stale") },
    { id: "backoff", label: "Pause after a failed fetch", path: "fleet.policy.failure_backoff",
      stops: ["0s", "100ms", "200ms", "500ms", ...LENGTHS.filter(stop => seconds(stop) <= 3600)] },
  ]],
  // The first rotation and the first fault of the scenario.
  ["How the IdP rotates", [
    { id: "kind", label: "Rotation", path: "rotation[0].style",
      choices: [["planned", "planned, by lead and retention"], ["revoke", "emergency: the old key is revoked"],
        ["rekey", "a new key under the old name"], ["none", "none"]] },
    { id: "lead", label: "New key ahead by (lead)", path: "rotation[0].lead", stops: [...LEADS, ...LENGTHS],
      shows: isPlanned },
    { id: "retention", label: "Old key kept (retention)", path: "rotation[0].retention",
      stops: ["0s", ...LENGTHS, AS_LONG], shows: isPlanned },
    { id: "lifetime", label: "Tokens live for", path: "idp.token_lifetime",
      stops: LENGTHS.filter(stop => seconds(stop) >= 10) },
  ]],
  ["Outage of the JWKS", [
    { id: "fault", label: "What happens", path: "fault[0].jwks",
      choices: [["none", "no outage"], ["{ status = 503 }", "503"], ["{ hang = true }", "no answer"],
        ["{ body = \"empty_set\" }", "an empty set"], ["{ keys = \"wrong_set\" }", "another tenant's keys"]] },
    { id: "from", label: "Starts at", path: "fault[0].from", stops: [], shows: isBroken },
    { id: "for", label: "Lasts for", path: "fault[0].for", stops: LENGTHS, shows: isBroken },
  ]],
  ["Fleet and traffic", [
    { id: "replicas", label: "Replicas", path: "fleet.replicas", stops: upTo(1000), plain: true },
    { id: "caches", label: "Caches at the start", path: "fleet.cache",
      choices: [["staggered", "of all ages"], ["cold", "empty"]] },
    { id: "rate", label: "Requests of sessions", path: "traffic.rate", stops: upTo(1000000).map(rate => rate + "/s") },
    { id: "sessions", label: "Sessions", path: "traffic.sessions", stops: upTo(100000), plain: true },
  ]],
];
const CONTROLS = GROUPS.flatMap(([, controls]) => controls);

const isNumber = text => /^[\d.]+(\/s)?$/.test(text);

/** Where a stop stands among others. */
const size = stop => stop === AS_LONG ? Infinity : isNumber(stop) ? parseFloat(stop) : seconds(stop);

/** A choice that only a file can make. */
const inFile = value => {
  const [, age] = value.match(/^\{ age = "(.*)" \}$/) ?? [];
  return age ? `all ${spoken(seconds(age))} old` : value;
};

/** A value as people read it. */
function words(control, value) {
  if (control.choices) return control.choices.find(([choice]) => choice === value)?.[1] ?? inFile(value);
  if (value === AS_LONG) return value;
  if (isNumber(value)) return count(parseFloat(value)) + (value.endsWith("/s") ? " per second" : "");
  return spoken(seconds(value));
}

// ---- What is open, and what was moved

/** The scenario as opened, with the values that its controls had then. @type {Opened} */
let opened = { name: "", text: "", values: {} };
/** The value of each control now. @type {Values} */
let values = {};
/** The latest answer. @type {?Shown} */
let shown = null;
/** The answers that are pinned, as `a` and `b`. @type {Record<string, Shown>} */
const pins = {};
/** The control that was moved last: what is wrong now is wrong because of it. */
let moved = "";

/** How long the run lasts, in seconds. */
const lasting = () => seconds(shown?.answer.settings.duration ?? "0s");

/** The values of controls that an answer's settings come to. @returns {Values} */
function valuesOf(settings, duration) {
  const found = {};
  for (const { id, path } of CONTROLS) found[id] = settings[path] ?? "";
  const style = settings["rotation[0].style"], isSudden = style === "revoke" || style === "rekey";
  found.kind = "rotation[0].at" in settings ? (isSudden ? style : "planned") : "none";
  found.lead ||= "0s";
  if (isSudden) found.retention = "";
  found.retention ||= AS_LONG;
  found.fault = "fault[0].for" in settings ? found.fault || IN_FILE : "none";
  found.from ||= span(Math.round(duration * .4));
  found.for ||= span(Math.round(duration * .1));
  return found;
}

/** What must be written into the opened scenario for these values; `null` takes away. */
function settingsFor(values, opened) {
  const differs = (...ids) => ids.some(id => values[id] !== opened.values[id]);
  const settings = {};
  for (const control of CONTROLS)
    if (differs(control.id) && !control.path.includes("[")) settings[control.path] = written(control, values[control.id]);
  if (differs("kind", "lead", "retention")) Object.assign(settings, rotationFor(values, opened));
  if (differs("fault", "from", "for")) Object.assign(settings, faultFor(values, opened));
  return settings;
}

/** A value as TOML. */
const written = (control, value) => control.plain || value.startsWith("{") ? value : JSON.stringify(value);

/** Style, lead and retention go together. */
function rotationFor({ kind, lead, retention }, opened) {
  if (kind === "none") return { "rotation[0]": null };
  const isPlanned = kind === "planned", ahead = seconds(lead);
  const sudden = retention === "0s" ? "no-overlap" : "just-in-time";
  const style = !isPlanned ? kind : ahead < 0 ? "late" : ahead > 0 ? "overlap" : sudden;
  const isKept = isPlanned && retention !== AS_LONG && style !== "no-overlap";
  return {
    "rotation[0].style": JSON.stringify(style),
    "rotation[0].lead": isPlanned && ahead ? JSON.stringify(lead) : null,
    "rotation[0].retention": isKept ? JSON.stringify(retention) : null,
    ...opened.values.kind === "none" && { "rotation[0].at": JSON.stringify(span(Math.round(lasting() / 4))) },
  };
}

function faultFor(values, opened) {
  if (values.fault === "none") return { "fault[0]": null };
  return {
    ...values.fault !== IN_FILE && { "fault[0].jwks": values.fault },
    "fault[0].from": JSON.stringify(values.from),
    "fault[0].for": JSON.stringify(values.for),
  };
}

// ---- Asking: one request at a time, and after each the newest settings; those in between are never sent

let wanted = false;
/** @type {?Promise<void>} */
let asking = null;

/** Asks until the answer is one to the settings as they are. */
function ask() {
  wanted = true;
  asking ??= (async () => {
    busy(true);
    while (wanted) {
      wanted = false;
      await askOnce();
    }
    asking = null;
    busy(false);
  })();
  return asking;
}

async function askOnce() {
  const asked = { opened, values: { ...values } };
  const began = performance.now();
  const { status, body } = await post("/simulate", asked);
  if (status === 200) {
    shown = { ...asked, answer: JSON.parse(body) };
    complain("");
    showAnswer();
    element("took").textContent = `answered in ${Math.round(performance.now() - began)} ms`;
  } else if (status === 503) {
    await new Promise(done => setTimeout(done, 100));
    wanted = true;
  } else if (!wanted) complain(body);
}

/** What the server says of these values; status 0 if it is not there. */
async function post(path, { opened, values }) {
  const body = JSON.stringify({ name: opened.name, text: opened.text, settings: settingsFor(values, opened) });
  try {
    const response = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body });
    return { status: response.status, body: await response.text() };
  } catch {
    return { status: 0, body: "error: the lab does not answer; has `keyquake lab` ended?" };
  }
}

const busy = isBusy => document.querySelector("main")?.setAttribute("aria-busy", String(isBusy));

/** Shows what is wrong beside the control that was moved last, and that the curves are not those of the settings. */
function complain(text) {
  for (const { id } of CONTROLS) {
    const input = element(id), place = element(`${id}-error`), isHere = !!text && id === moved;
    if (!input) continue; // nothing is open yet
    place.hidden = !isHere;
    place.textContent = isHere ? inShort(text) : "";
    isHere ? input.setAttribute("aria-invalid", "true") : input.removeAttribute("aria-invalid");
  }
  element("open-error").hidden = !text || !!moved;
  element("open-error").textContent = moved ? "" : text;
  document.querySelector("main")?.classList.toggle("stale", !!text);
}

/** A complaint without the place in the file, which a slider is not. */
const inShort = text => {
  const lines = text.split("\n").filter(line => /^(error|hint): /.test(line));
  return lines.map(line => line.replace(/^error: /, "")).join("\n") || text;
};

// ---- Opening and saving

/** Opens a scenario, if it can be simulated. */
async function open({ name, text }) {
  await asking;
  const asked = { opened: { name, text, values: {} }, values: {} };
  busy(true);
  const { status, body } = await post("/simulate", asked);
  busy(false);
  moved = "";
  if (status !== 200) return complain(status === 503 ? "error: the lab is busy; open it once more" : body);
  shown = { ...asked, answer: /** @type {Answer} */ (JSON.parse(body)) };
  values = valuesOf(shown.answer.settings, lasting());
  opened = shown.opened = { name, text, values: { ...values } };
  shown.values = opened.values;
  complain("");
  buildControls();
  showAnswer();
}

async function save() {
  const { status, body } = await post("/save", { opened, values });
  if (status !== 200) return complain(body);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([body], { type: "application/toml" }));
  link.download = `${shown?.answer.name}.toml`;
  link.click();
  URL.revokeObjectURL(link.href);
  say(`saved as ${link.download}`);
}

/** Goes back to other settings, of this scenario or of another. */
function goBack(to) {
  ({ opened } = to);
  values = { ...to.values };
  moved = "";
  buildControls();
  ask();
}

/** Pins the settings as they are, once they are answered; where they cannot be, those of the curves. */
async function pin(side) {
  await asking;
  if (shown) pins[side] = shown;
  showAnswer();
}

// ---- Drawing the controls

/** @returns {any} */
const element = id => document.getElementById(id);

const SVG = ["svg", "defs", "pattern", "path", "rect", "line", "text"];

/** An element with attributes and children. @returns {any} */
function make(name, attributes = {}, ...children) {
  const isSvg = SVG.includes(name);
  const made = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

function buildControls() {
  const focused = document.activeElement?.id ?? "";
  const groups = GROUPS.map(([name, controls]) =>
    make("fieldset", {}, make("legend", {}, name), ...controls.map(buildControl)));
  element("controls").replaceChildren(...groups);
  if (CONTROLS.some(({ id }) => id === focused)) element(focused).focus();
  showControls();
}

function buildControl(control) {
  const { id, label } = control;
  const name = make("label", { for: id }, label);
  const error = make("p", { class: "error", id: `${id}-error`, role: "alert" });
  error.hidden = true;
  const own = [opened.values[id], values[id]];
  if (control.choices) return make("div", { class: "control" }, name, buildChoice(control, own), error);
  return make("div", { class: "control" }, name, make("output", { for: id }), buildSlider(control, own), error);
}

function buildChoice({ id, choices }, own) {
  const others = own.filter(value => !choices.some(([choice]) => choice === value));
  const all = [...choices, ...[...new Set(others)].map(value => [value, inFile(value)])];
  const options = all.map(([value, text]) => make("option", { value }, text));
  const select = make("select", { id, "aria-describedby": `${id}-error` }, ...options);
  select.value = values[id];
  select.addEventListener("change", () => move(id, select.value));
  return select;
}

function buildSlider(control, own) {
  const { id } = control;
  // Moments of the run lie evenly in it.
  const even = () => Array.from({ length: 40 }, (_, n) => span(Math.round(lasting() * n / 40)));
  const stops = [...new Set([...id === "from" ? even() : control.stops, ...own])];
  stops.sort((a, b) => size(a) === size(b) ? (a === AS_LONG ? 1 : -1) : size(a) - size(b));
  const slider = make("input", { id, type: "range", max: stops.length - 1, "aria-describedby": `${id}-error` });
  slider.value = stops.indexOf(values[id]);
  slider.addEventListener("input", () => move(id, stops[+slider.value]));
  return slider;
}

function move(id, value) {
  values[id] = value;
  moved = id;
  showControls();
  ask();
}

/** What the controls say, which of them matter now, and which were moved. */
function showControls() {
  for (const control of CONTROLS) {
    const input = element(control.id), row = input.parentElement;
    row.hidden = control.shows ? !control.shows() : false;
    row.classList.toggle("moved", values[control.id] !== opened.values[control.id]);
    if ("choices" in control) continue;
    const text = words(control, values[control.id]);
    row.querySelector("output").textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
}

// ---- Drawing the answer

const LABELS = {
  time_to_recover: "Time to recover",
  denied_share: "Denied share",
  peak_denied_share: "Denied share, worst second",
  false_rejects: "Refused (401, 403)",
  failures: "Failed (5xx, time-outs)",
  jwks_requests: "JWKS requests",
  jwks_peak_per_second: "JWKS requests, worst second",
  revocation_exposure: "Revoked key still accepted",
  outage_survival: "Outage survived",
  login_storm: "Renewals forced by rejections",
};

const number = (answer, metric) => answer.numbers[metric]?.text ?? "no data";

function showAnswer() {
  if (!shown) return;
  const { answer } = shown;
  element("file").textContent = `· ${opened.name}`;
  element("question").textContent = answer.question ?? answer.name;
  document.title = `${answer.name} · keyquake lab`;
  drawCurves();
  showNumbers(answer);
  showDifferences(answer);
  showTwin();
  element("warnings").hidden = !answer.warnings.length;
  element("warnings").replaceChildren(...answer.warnings.map(warning => make("li", {}, warning)));
  for (const side of ["a", "b"]) element(`key-${side}`).hidden = !pins[side];
  const headline = ["time_to_recover", "denied_share", "jwks_requests"];
  say(headline.map(metric => `${LABELS[metric]}: ${number(answer, metric)}`).join(", "));
}

let speaking = 0;

/** Says something to a screen reader, once nothing moves any more. */
function say(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => { element("spoken").textContent = text; }, 700);
}

/** Shares; a window or two without requests are like those before them. */
function over(part, whole) {
  let share = 0, empty = 0;
  return part.map((number, index) => {
    empty = whole[index] ? 0 : empty + 1;
    if (whole[index]) share = number / whole[index];
    return empty < 3 ? share : 0;
  });
}
const sum = (one, other) => one.map((number, index) => number + other[index]);
const total = column => column.reduce((a, b) => a + b, 0);
const perSecond = name => curves => curves[name].map(number => number / curves.width_s);
const rate = perSecond => `${+perSecond.toPrecision(2)}/s`;
const deniedShare = c => over(sum(c.cohort_false_rejects, c.cohort_failures), c.cohort_must_pass);

/**
 * What the panels draw: areas one upon the other, perhaps a line, and of a pinned answer one line.
 * The axis reaches at least to `least`.
 */
const PANELS = [
  {
    id: "denied", unit: percent, least: .02, pinned: deniedShare, hasMarks: true,
    areas: {
      rejects: c => over(c.cohort_false_rejects, c.cohort_must_pass),
      failures: c => over(c.cohort_failures, c.cohort_must_pass),
    },
    line: c => over(sum(c.false_rejects, c.failures), c.must_pass),
  },
  ...[["jwks", "jwks_requests"], ["exposure", "false_accepts"]].map(([id, column]) => (
    { id, unit: rate, least: .1, pinned: perSecond(column), hasMarks: false, areas: { [id]: perSecond(column) }, line: null }
  )),
];

function drawCurves() {
  if (!shown) return;
  const { answer } = shown, { curves } = answer;
  // All are measured before the first is drawn: to measure after drawing, the browser would lay out the page again.
  const svgs = PANELS.map(({ id }) => element(id).querySelector("svg"));
  const boxes = svgs.map(svg => svg.getBoundingClientRect());
  PANELS.forEach((panel, index) => drawPanel(panel, answer, svgs[index], boxes[index]));
  const share = deniedShare(curves), worst = Math.max(...share);
  const when = spoken(Math.round(curves.first_s + share.indexOf(worst) * curves.width_s));
  element("denied-text").textContent = worst ? `At most ${percent(worst)}, at ${when}.` : "Nothing is denied.";
  const most = Math.max(...curves.jwks_requests);
  element("jwks-text").textContent = `${count(total(curves.jwks_requests))} in all, at most ${most} in ${spoken(curves.width_s)}.`;
  element("exposure-text").textContent = exposures(answer);
}

function exposures({ exposures }) {
  const texts = exposures.map(({ stream, alone, lasted }) => `${stream}${alone ? " (alone)" : ""} ${lasted}`);
  return texts.length ? `Accepted for, by stream: ${texts.join(", ")}.`
    : "No token of a revoked key was sent: it takes a rotation that revokes, and a stream with its tokens (token = \"key:key-1\").";
}

const LEFT = 52, RIGHT = 8, BOTTOM = 20, ROW = 14;

function drawPanel(panel, { curves, moments, faults }, svg, { width, height }) {
  if (!width) return; // nobody looks
  const end = curves.first_s + curves.width_s * curves.must_pass.length;
  const x = at => LEFT + (width - LEFT - RIGHT) * Math.min(Math.max(at / end, 0), 1);
  const marks = placeMarks(moments, faults, x, width);
  const rows = panel.hasMarks ? Math.max(0, ...marks.map(({ row }) => row + 1)) : 0;
  const top = 6 + ROW * rows;
  const areas = Object.entries(panel.areas).map(([kind, column]) => [kind, column(curves)]);
  const lines = Object.entries(pins).map(([side, { answer: { curves } }]) => [side, panel.pinned(curves), curves]);
  if (panel.line) lines.unshift(["all", panel.line(curves), curves]);
  const stacked = areas.map(([, column]) => column).reduce(sum);
  const highest = Math.max(panel.least, ...stacked, ...lines.flatMap(([, column]) => column));
  const axis = ticks(highest, panel.unit === percent ? 1 : Infinity);
  const y = value => height - BOTTOM - (height - BOTTOM - top) * value / axis.most;
  const frame = { x, y, width, height, top, end };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    ...faults.map(({ from_s, to_s }) => drawFault(x(from_s), x(to_s ?? end), frame)),
    ...drawAxes(axis, panel.unit, frame),
    ...drawAreas(areas, curves, frame),
    ...lines.map(([kind, column, its]) => make("path", { class: `line ${kind}`, d: steps(column, its, frame) })),
    ...marks.flatMap(mark => drawMark(mark, panel.hasMarks, frame)));
}

/** Round steps, at least three of them, up to the highest value. */
function ticks(highest, bound) {
  const rough = highest / 3, decade = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 2.5, 5].find(nice => nice * decade >= rough) ?? 10) * decade;
  return { step, most: Math.min(Math.ceil(highest / step - 1e-9) * step, bound) };
}

const MOMENTS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
  1209600, 2592000];

function drawAxes({ step, most }, unit, { x, y, width, height, end }) {
  const drawn = [];
  for (let value = 0; value <= most * 1.0001; value += step) {
    const at = y(value);
    drawn.push(make("line", { class: value ? "grid" : "axis", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
    drawn.push(make("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, unit(+value.toPrecision(3))));
  }
  const gap = MOMENTS.find(length => end / length * 75 <= width - LEFT) ?? end;
  for (let moment = 0; moment <= end; moment += gap) {
    const at = x(moment), anchor = at > width - 30 ? "end" : "middle";
    drawn.push(make("line", { class: "axis", x1: at, x2: at, y1: height - BOTTOM, y2: height - BOTTOM + 4 }));
    drawn.push(make("text", { x: at, y: height - 3, "text-anchor": anchor }, spoken(moment)));
  }
  return drawn;
}

const drawFault = (from, to, { top, height }) =>
  make("rect", { class: "fault", x: from, y: top, width: to - from, height: height - BOTTOM - top });

/** Areas, each upon those before it. */
function drawAreas(areas, curves, frame) {
  const stripes = make("path", { class: "hatch", d: "M0 0V6" });
  const turned = { patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" };
  const drawn = [make("defs", {}, make("pattern", { id: "hatch", width: 6, height: 6, ...turned }, stripes))];
  let below = areas[0][1].map(() => 0);
  for (const [kind, column] of areas) {
    const above = sum(below, column);
    const fill = kind === "failures" ? { fill: "url(#hatch)" } : {};
    if (total(column) > 0) drawn.push(make("path", { class: kind, d: area(below, above, curves, frame), ...fill }));
    below = above;
  }
  return drawn;
}

/** The corners of a column's steps: each value holds for its whole window, and on through equal ones. */
function corners(column, { first_s, width_s }, { x, y }) {
  const at = (edge, value) => `${x(first_s + edge * width_s).toFixed(1)} ${y(value).toFixed(1)}`;
  return column.flatMap((value, index) => [
    ...value === column[index - 1] ? [] : [at(index, value)],
    ...value === column[index + 1] ? [] : [at(index + 1, value)],
  ]);
}

const steps = (column, curves, frame) => `M${corners(column, curves, frame).join("L")}`;

const area = (below, above, curves, frame) =>
  `${steps(above, curves, frame)}L${corners(below, curves, frame).reverse().join("L")}Z`;

/** Where the labels of moments stand: each in the first row where none is in its way. */
function placeMarks(moments, faults, x, width) {
  const whats = new Map();
  const begun = faults.map(({ from_s, what }) => ({ at_s: from_s, what }));
  for (const { at_s, what } of [...moments, ...begun]) whats.set(at_s, [...whats.get(at_s) ?? [], what]);
  const taken = [];
  return [...whats].sort(([a], [b]) => a - b).map(([at_s, whats]) => {
    const at = x(at_s), text = brief(whats), length = text.length * 6.1 + 10;
    const anchor = at + length < width ? "start" : "end";
    const from = anchor === "start" ? at : at - length;
    const isFree = row => taken.every(other => other.row !== row || other.to < from || from + length < other.from);
    const row = [0, 1, 2, 3, 4].find(isFree) ?? 5;
    taken.push({ row, from, to: from + length });
    return { at, row, text, anchor };
  });
}

function drawMark({ at, row, text, anchor }, hasText, { top, height }) {
  const line = make("line", { class: "event", x1: at, x2: at, y1: hasText ? row * ROW + 4 : top, y2: height - BOTTOM });
  const beside = at + (anchor === "start" ? 4 : -4);
  return hasText ? [line, make("text", { class: "mark", x: beside, y: row * ROW + 12, "text-anchor": anchor }, text)] : [line];
}

/** What happens at one moment, with the name of each key once: `key-3 published, signs; key-2 revoked`. */
function brief(whats) {
  const verbs = new Map();
  for (const what of whats) {
    const [, name, verb] = what.match(/^(.*) (published|signs|removed|revoked)$/) ?? [null, what, ""];
    verbs.set(name, [...verbs.get(name) ?? [], verb]);
  }
  // What is revoked is removed, too.
  const said = verbs => verbs.includes("revoked") ? "revoked" : verbs.join(", ");
  return [...verbs].map(([name, verbs]) => `${name} ${said(verbs)}`.trim()).join("; ");
}

// ---- Numbers and words

/** The numbers as a table: now, and where they were pinned. */
function showNumbers(answer) {
  const focused = document.activeElement?.id ?? "";
  const columns = [["now", answer], ...Object.entries(pins).sort().map(([side, { answer }]) => [side, answer])];
  const names = columns.map(([side]) => make("th", { scope: "col" }, ...side === "now" ? ["now"] : pinned(side)));
  const rows = Object.entries(LABELS).map(([metric, label]) => make("tr", {}, make("th", { scope: "row" }, label),
    ...columns.map(([side, its]) => make("td", { class: side }, number(its, metric)))));
  element("numbers").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "in the worst episode"), ...names)),
    make("tbody", {}, ...rows));
  if (/^(back|unpin)-/.test(focused)) (element(focused) ?? element("pin-a")).focus();
}

/** The name of a pinned column, and what can be done with it. */
function pinned(side) {
  const name = side.toUpperCase(), type = "button";
  const back = make("button", { type, id: `back-${side}`, "aria-label": `Back to the settings of ${name}` }, "back");
  const unpin = make("button", { type, id: `unpin-${side}`, "aria-label": `Unpin ${name}` }, "×");
  back.addEventListener("click", () => goBack(pins[side]));
  unpin.addEventListener("click", () => {
    delete pins[side];
    showAnswer();
  });
  return [name, back, unpin];
}

/** How B differs from A, or what is now from the one that is pinned: the settings, and what comes of them. */
function showDifferences(answer) {
  const { a, b } = pins, place = element("differences");
  place.hidden = !a && !b;
  if (place.hidden) return;
  const [first, from] = a ? ["A", a.answer] : ["B", b.answer];
  const [second, to] = a && b ? ["B", b.answer] : ["now", answer];
  const paths = [...new Set([...Object.keys(from.settings), ...Object.keys(to.settings)])];
  const settings = paths.filter(path => from.settings[path] !== to.settings[path]).map(path => {
    const control = path === "rotation[0].style" ? undefined : CONTROLS.find(control => control.path === path);
    const label = control?.label ?? path.replace("rotation[0].style", "Style of the rotation");
    return `${label}: ${setting(control, to.settings[path])} instead of ${setting(control, from.settings[path])}`;
  });
  const metrics = Object.keys(LABELS).filter(metric => number(from, metric) !== number(to, metric));
  const changes = metrics.map(metric => `${LABELS[metric]}: ${number(to, metric)} instead of ${number(from, metric)}`);
  const list = items => make("ul", {}, ...items.map(item => make("li", {}, item)));
  const title = settings.length ? `How ${second} differs from ${first}` : `${first} and ${second} have the same settings`;
  place.replaceChildren(
    make("p", {}, title), list(settings),
    ...changes.length ? [make("p", {}, "What comes of it"), list(changes)] : []);
}

/** A setting as a control would show it. */
function setting(control, value) {
  if (!control) return value ?? "none";
  if (control.id === "retention") return words(control, value ?? AS_LONG);
  return value == null ? "none" : control.choices ? `“${words(control, value)}”` : words(control, value);
}

const TWIN_ROWS = 48;

/** The curves as a table, in fewer and longer windows. */
function showTwin() {
  if (!shown || !element("twin").open) return;
  const { curves } = shown.answer, all = curves.must_pass.length, together = Math.ceil(all / TWIN_ROWS);
  const at = index => spoken(Math.round(curves.first_s + Math.min(index, all) * curves.width_s));
  const row = from => {
    const of = name => total(curves[name].slice(from, from + together));
    const share = (part, whole) => whole ? percent(part / whole) : "no data";
    const cells = [
      share(of("cohort_false_rejects"), of("cohort_must_pass")), share(of("cohort_failures"), of("cohort_must_pass")),
      share(of("false_rejects") + of("failures"), of("must_pass")), count(of("jwks_requests")), count(of("false_accepts")),
    ];
    const time = make("th", { scope: "row" }, `${at(from)} to ${at(from + together)}`);
    return make("tr", {}, time, ...cells.map(cell => make("td", {}, cell)));
  };
  const names = ["time", "refused", "failed", "denied of all traffic", "JWKS requests", "accepted though revoked"];
  const rows = Array.from({ length: Math.ceil(all / together) }, (_, number) => row(number * together));
  element("twin").querySelector("table").replaceChildren(
    make("caption", {}, `In windows of ${spoken(curves.width_s * together)}`),
    make("thead", {}, make("tr", {}, ...names.map(name => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows));
}

// ---- Start

element("controls").addEventListener("submit", event => event.preventDefault());
element("open").addEventListener("change", async () => {
  const [file] = element("open").files;
  if (file) await open({ name: file.name, text: await file.text() });
  element("open").value = "";
});
element("save").addEventListener("click", save);
element("reset").addEventListener("click", () => goBack({ opened, values: opened.values }));
for (const side of ["a", "b"]) element(`pin-${side}`).addEventListener("click", () => pin(side));
element("twin").addEventListener("toggle", showTwin);
new ResizeObserver(drawCurves).observe(element("denied"));
open(await (await fetch("/scenario")).json());
