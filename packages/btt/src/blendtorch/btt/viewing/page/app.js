// What is shown, and when. The page asks for what it has time for: a slow one skips samples, and nobody waits for it.

import { Stage } from "./stage.js";
import { element, showAbout, showLabels, showLost, showObjects, showSample, showStatus, showViews } from "./panels.js";

const THUMBNAIL = 101; // px in the strip
const USUAL = ["boxes2d_tight", "keypoints", "instance_ids", "xy", "points"];

const find = (id) => document.getElementById(id);
const stage = new Stage(find("canvas"), find("stage"));
const settings = new Map(); // of labels, by name
let status = { first: 0, end: 0 };
let sample = null;
let view = 0;
let following = true;
let wanted = null; // the number that is to be shown next
let busy = false;
let turn = Promise.resolve();
const inTurn = (work) => (turn = turn.then(work)); // what is drawn last is what was asked for last

async function show(number) {
  wanted = Math.max(status.first, Math.min(status.end - 1, number));
  if (busy) return; // the loop below comes to it, and leaves out those between
  busy = true;
  try {
    while (wanted !== null && wanted !== sample?.number) {
      const next = wanted;
      const response = await fetch(`samples/${next}`);
      if (response.status !== 200) {
        if (wanted === next) wanted = null; // it is not kept any more; the next status names others
        continue;
      }
      const came = await response.json();
      const chosen = Math.max(0, came.views.findIndex((each) => each.name === sample?.views[view]?.name));
      await inTurn(async () => {
        if (!(await render(came, chosen))) return;
        [sample, view] = [came, chosen];
        showSample(sample);
        showView();
      });
      if (wanted === next) wanted = null;
    }
  } finally {
    busy = false;
  }
  showPlace();
}

// Fetches what the settings ask for, then shows all of it at once.
async function render(of, chosen) {
  const shown = of.views[chosen];
  for (const each of [...shown.maps, ...shown.drawn]) {
    if (settings.has(each.name)) continue;
    const loose = each.name === "boxes2d_loose" && !shown.drawn.some((other) => other.name === "boxes2d_tight");
    settings.set(each.name, { on: USUAL.includes(each.name) || loose, opacity: each.over ? 0.45 : 0.85 });
  }
  const at = (name) => `samples/${of.number}/${chosen}/${encodeURIComponent(name)}`;
  const maps = shown.maps.filter((map) => settings.get(map.name).on);
  const [picture, ...images] = await Promise.all([
    shown.width ? stage.image(at("picture")) : null, ...maps.map((map) => stage.image(at(map.name)))]);
  if (shown.width && !picture) return false;
  stage.show({
    view: shown,
    picture,
    maps: maps.map((map, number) => ({ image: images[number], opacity: settings.get(map.name).opacity })).filter((map) => map.image),
    drawn: shown.drawn.filter((label) => settings.get(label.name).on && !label.missing),
  });
  find("empty").hidden = shown.width > 0;
  find("empty").textContent = shown.width ? "" : "This sample has no picture: see all fields.";
  if (!shown.width) find("all").open = true;
  Object.assign(find("canvas").dataset, { number: of.number, view: shown.name, shown: shownNames(shown) });
  return true;
}

const shownNames = (shown) => [...shown.maps, ...shown.drawn].map((each) => each.name).filter((name) => settings.get(name).on).join(" ");
const redraw = () => inTurn(() => render(sample, view));

function showView() {
  showViews(sample.views, view, (number) => {
    view = number;
    showView();
    redraw().then(showPlace);
  });
  showLabels(sample.views[view], settings, redraw);
  showObjects(sample.views[view].objects, (row) => stage.mark(row));
}

function showPlace() {
  const slider = find("slider");
  slider.min = status.first;
  slider.max = Math.max(status.first, status.end - 1);
  if (sample) slider.value = sample.number;
  find("place").textContent = sample ? `${sample.number} of ${status.first}–${status.end - 1}` : "";
  find("follow").textContent = following ? "following" : "follow";
  find("follow").className = following ? "on" : "";
  showStrip();
}

function showStrip() {
  const strip = find("strip");
  const room = Math.max(2, Math.floor(strip.clientWidth / THUMBNAIL));
  const last = following || !sample ? status.end : Math.min(status.end, sample.number + 1 + Math.floor(room / 2));
  const first = Math.max(status.first, last - room);
  const there = new Map([...strip.children].map((each) => [each.dataset.key, each]));
  const buttons = [];
  for (let number = Math.min(status.end, first + room) - 1; number >= first; number--) {
    const key = `${number}/${view}`;
    const button = there.get(key) ?? element("button", { title: `sample ${number}`, onclick: () => stay(number) },
      element("img", { src: `samples/${number}/${view}/thumbnail`, alt: "" }), element("span", { textContent: number }));
    button.dataset.key = key;
    button.className = number === sample?.number ? "on" : "";
    buttons.push(button);
  }
  strip.replaceChildren(...buttons);
}

function stay(number) {
  following = false;
  show(number).then(showPlace);
}

function follow(on) {
  following = on;
  if (on && status.end > status.first) show(status.end - 1);
  showPlace();
}

find("back").onclick = () => sample && stay(sample.number - 1);
find("forth").onclick = () => sample && stay(sample.number + 1);
find("follow").onclick = () => follow(!following);
find("slider").oninput = () => stay(Number(find("slider").value));
find("theme").onclick = () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
};
document.onkeydown = (event) => {
  if (event.target.matches("input")) return;
  const action = { ArrowLeft: find("back").onclick, ArrowRight: find("forth").onclick, " ": find("follow").onclick }[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
};

fetch("about").then((response) => response.json()).then(showAbout);
const events = new EventSource("events");
events.onerror = showLost;
events.onmessage = (event) => {
  status = JSON.parse(event.data);
  showStatus(status);
  if (status.end > status.first && (following || !sample)) show(status.end - 1);
  showPlace();
};
