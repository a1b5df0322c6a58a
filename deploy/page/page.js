"use strict";
// The live page: polls /page/state each second, draws its points, and shows one user's list and events.
// All that comes from outside is set as text, never as HTML.

const MOST_POINTS = 720, LIST_LENGTH = 10, EVENTS_SHOWN = 12;
const POLL_MS = 1000, ANSWER_MS = 10_000, APPLIED_MS = 20_000, LEARNED_MS = 90_000;

const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let token = "", state = null, points = [], started = 0;
let user = "", shown = [], before = null, asked = 0, drawn = 0;

async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const options = body ? { method: "POST", body: JSON.stringify(body), headers } : { headers };
  const answer = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(content.error || `status ${answer.status}`), { status: answer.status });
  return content;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const rate = (value) => (value == null ? "–" : value.toFixed(3));
const seconds = (value) => (value == null ? "–" : `${value.toFixed(1)} s`);
const count = (value) => (value == null ? "–" : value.toLocaleString("en"));
const clock = (_, times) => times.map((time) => new Date(time * 1000).toLocaleTimeString("en-GB"));
const short = (version) => version.slice(version.lastIndexOf("/") + 1);

// -- plots

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const whole = [...Array(10).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

// A line of one point would not be seen, nor would its hour on an axis of days.
const alone = (made) => made.data[0].length === 1;
const around = (made, min, max) => (alone(made) ? [made.data[0][0] - 30, made.data[0][0] + 30] : [min, max]);

function plot(id, x, lines, options = {}) {
  const axis = { stroke: () => color("--faint"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false } };
  const made = new uPlot({
    width: $(id).clientWidth, height: 180, scales: { x: { time: x.time, ...(x.range ? { range: x.range } : {}) }, y: { range: (_, __, max) => [0, max * 1.1 || 1] } },
    series: [{ label: x.label, value: x.value }, ...lines.map(([label, ink, value]) =>
      ({ label, stroke: () => color(ink), width: 2, value: (_, y) => value(y), points: { show: alone } }))],
    axes: [{ ...axis, size: 32, space: 80, ...(x.time ? { values: clock } : { incrs: whole }) }, { ...axis, size: 52, ...options }], cursor: { y: false },
  }, [[], ...lines.map(() => [])], $(id));
  new ResizeObserver(() => made.setSize({ width: $(id).clientWidth, height: 180 })).observe($(id));
  return made;
}

const byEvents = { label: "events", time: false, value: (_, x) => count(x) };
const byTime = { label: "time", time: true, range: around, value: (_, x) => (x == null ? "–" : clock(_, [x])[0]) };
let plots = null;

function makePlots() {
  plots = {
    quality: plot("quality", byEvents, [["lately", "--one", rate], ["all so far", "--two", rate], ["popularity", "--three", rate]]),
    freshness: plot("freshness", byTime, [["p50", "--one", seconds], ["p95", "--two", seconds]]),
    rows: plot("rows", byEvents, [["items", "--one", count]], { size: 60 }),
  };
}

function draw() {
  const column = (name) => points.map((point) => point[name]);
  const events = column("events");
  plots.quality.setData([events, column("window_hit_rate"), column("hit_rate"), column("popularity_hit_rate")]);
  plots.freshness.setData([points.map((point) => point.loaded_ms / 1000), column("p50_seconds"), column("p95_seconds")]);
  plots.rows.setData([events, column("rows")]);
}

// -- what the server says of itself

function showState() {
  const last = points[points.length - 1], weights = state.event_to_weights;
  $("now-hit").textContent = rate(last?.window_hit_rate);
  $("now-popular").textContent = rate(last?.popularity_hit_rate);
  $("now-weights").textContent = `${seconds(weights.p50_seconds)} / ${seconds(weights.p95_seconds)}`;
  $("now-rows").textContent = count(last?.rows);
  $("now-events").textContent = count(last?.events);
  $("now-lag").textContent = `${count(state.waiting)} / ${count(state.unlearned)}`;
  const pinned = state.pinned ? `, alias ${state.alias} is pinned` : "";
  const answers = `${state.model_version} answers, cut ${seconds(state.model_age_seconds)} ago${pinned}`;
  tell(state.model_version ? answers + (state.problem ? `; ${state.problem}` : "") : `waiting: ${state.problem}`, state.model_version && state.problem);
  $("versions").replaceChildren(...points.slice(-12).reverse().map((point) => {
    const row = element("tr"), age = (Date.now() - point.created_ms) / 1000;
    const cells = [short(point.version), point.kind, count(Math.round(point.size_bytes / 1024)), count(point.events),
      rate(point.window_hit_rate), `${Math.max(0, age).toFixed(0)} s`];
    row.append(...cells.map((text, place) => element("td", text, place > 1 ? "number" : "")));
    return row;
  }));
  showUsers();
  for (const each of document.querySelectorAll(".click-only")) each.hidden = !state.clicks;
  if ($("action").options.length !== state.actions.length) {
    $("action").replaceChildren(...state.actions.map((name) => element("option", name)));
    if (state.actions.includes("like")) $("action").value = "like";
  }
}

function showUsers() {
  const now = [...$("users").children].map((each) => each.textContent);
  // What a pointer is on must not change under it.
  if (user || $("users").matches(":hover, :focus-within") || state.users.join("\n") === now.join("\n")) return;
  $("users").replaceChildren(...state.users.map((name) => {
    const button = element("button", name);
    button.type = "button";
    button.title = `Show user ${name}`;
    button.addEventListener("click", () => choose(name));
    return button;
  }));
}

function tell(text, bad) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

async function poll() {
  const known = points.length ? points[points.length - 1].number : 0;
  let next = await ask(`/page/state?since=${known}`);
  const anew = next.started_ms !== started;
  if (anew) {
    [started, points] = [next.started_ms, []];
    if (known) next = await ask("/page/state?since=0");
  }
  state = next;
  points = points.concat(next.points).slice(-MOST_POINTS);
  if (anew || next.points.length) draw();
  showState();
  $("token-form").hidden = true;
  if (next.points.length && user) await showUser();
}

async function run() {
  makePlots();
  for (;;) {
    try {
      await poll();
    } catch (error) {
      $("token-form").hidden = error.status !== 401;
      tell(error.status ? error.message : "the server does not answer; trying again", true);
    }
    await sleep(POLL_MS);
  }
}

// -- one user

async function choose(name) {
  [user, shown, before] = [name, [], null];
  $("user").value = name;
  $("told").textContent = "";
  await showUser();
}

async function showUser() {
  const number = ++asked, name = user, of = encodeURIComponent(name);
  if (!state?.model_version) return;
  try {
    const [list, sequence] = await Promise.all([
      ask(`/recommend?user_id=${of}&k=${LIST_LENGTH}`), ask(`/users/${of}/sequence?last=${EVENTS_SHOWN}`)]);
    // Of two that are under way at once, the later asked one stays.
    if (name !== user || number < drawn) return;
    drawn = number;
    showList(list, sequence);
  } catch (error) {
    $("told").textContent = error.message;
  }
}

function showList(list, sequence) {
  const rows = [...$("list").children], focused = rows.findIndex((row) => row.contains(document.activeElement));
  shown = list.items;
  $("list-title").textContent = `Recommended by ${short(list.model_version)}`;
  $("list").replaceChildren(...list.items.map((item, place) => {
    const row = element("li"), button = element("button", item.title || item.item_id), name = element("div");
    button.disabled = !state.clicks;
    button.title = state.clicks ? `Send ${$("action").value} of this item` : "serve.page_clicks is off";
    button.addEventListener("click", () => click(item));
    name.append(button, element("div", item.categories.join(", "), "what"));
    row.append(element("span", place + 1, "place"), name, moved(item, place), element("span", item.score.toFixed(2), "score"));
    return row;
  }));
  // A list that is drawn anew while somebody goes through it by keyboard leaves them where they were.
  $("list").children[focused]?.querySelector("button").focus();
  $("events").replaceChildren(...[...sequence.events].reverse().map((event) => {
    const row = element("li");
    row.append(element("span", event.title || event.item_id, "name"), element("span", event.actions.join(", ") || "shown", "what"));
    return row;
  }));
  if (!sequence.events.length) $("events").append(element("li", "no events yet: what anybody new is given", "what"));
}

function moved(item, place) {
  if (!before) return element("span");
  const was = before.indexOf(item.item_id);
  if (was < 0) return element("span", "new", "moved fresh");
  if (was === place) return element("span", "", "moved");
  return element("span", was > place ? `▲ ${was - place}` : `▼ ${place - was}`, `moved ${was > place ? "up" : "down"}`);
}

const changes = (former) => shown.filter((item, place) => former[place] !== item.item_id).length;

async function click(item) {
  const of = user, action = $("action").value, name = item.title || item.item_id, began = performance.now();
  const told = [`${action} of ${name} sent`];
  const say = (text) => { if (user === of) $("told").textContent = (told.push(text), told.join("; ")); };
  const former = before = shown.map((each) => each.item_id);
  $("told").textContent = told[0];
  try {
    const sent = await ask("/page/click", { user_id: of, item_id: item.item_id, action });
    await until(APPLIED_MS, async () => (await ask(`/users/${encodeURIComponent(of)}/sequence?last=1`)).applied >= sent.offset, 30);
    say(`in the sequence after ${Math.round(performance.now() - began)} ms`);
    await showUser();
    say(`${changes(former)} of ${shown.length} places changed at once`);
    await until(LEARNED_MS, () => state.learned[sent.partition] >= sent.offset, 200);
    const version = short(state.model_version);
    await showUser();
    say(`${version} has learned it, ${((performance.now() - began) / 1000).toFixed(1)} s after the click: ${changes(former)} places changed`);
  } catch (error) {
    say(error.message);
  }
}

async function until(limit, holds, pause) {
  const end = performance.now() + limit;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not yet after ${limit / 1000} s`);
    await sleep(pause);
  }
}

$("user-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("user").value) choose($("user").value);
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
});
run();
