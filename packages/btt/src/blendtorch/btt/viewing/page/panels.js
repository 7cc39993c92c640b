// What stands beside the picture. Text is text: nothing of a sample is read as HTML.

const find = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function table(id, heads, rows) {
  const head = element("tr", {}, ...heads.map(([text, number]) => element("th", { textContent: text, className: number ? "number" : "" })));
  const body = element("tbody", {}, ...rows);
  find(id).replaceChildren(...(rows.length ? [element("thead", {}, head), body] : [element("tbody", {}, element("tr", {}, cell("none")))]));
}

function cell(content, number = false) {
  const made = element("td", { className: number ? "number" : "" });
  made.append(content);
  return made;
}

const rate = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

export function showStatus(status) {
  find("state").textContent = status.state;
  find("state").className = `badge ${status.state}`;
  find("rate").textContent = `${status.total} samples${status.per_s > 0 ? `, ${rate(status.per_s)} per second` : ""}`;
  find("problem").hidden = !status.problem;
  find("problem").textContent = status.problem;
  find("bottleneck").textContent = status.bottleneck;
  const rows = status.instances.flatMap((each) => [
    element("tr", {}, cell(String(each.number)), cell(each.state), cell(String(each.samples), true),
      cell(each.per_s > 0 ? rate(each.per_s) : "–", true), cell(String(each.restarts), true)),
    ...(each.device ? [element("tr", {}, element("td"), element("td", { colSpan: 4, className: "quiet", textContent: `on ${each.device}` }))] : []),
  ]);
  table("instances", [["no."], ["state"], ["samples", true], ["per s", true], ["restarts", true]], rows);
}

export function showLost() {
  find("state").textContent = "the viewer has ended";
  find("state").className = "badge lost";
}

export function showAbout({ title, notice }) {
  find("title").textContent = title;
  document.title = `${title} – blendtorch`;
  find("notice").textContent = notice;
  find("notice").hidden = !notice;
}

export function showSample(sample) {
  const entries = [["sample", String(sample.number)], ...Object.entries(sample.meta)];
  find("meta").replaceChildren(...entries.map(([name, value]) =>
    element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }))));
  find("drawn").replaceChildren(...tree(sample.drawn));
  find("versions").replaceChildren(...tree(sample.versions));
  table("fields", [["field"], ["type"], ["value"]], sample.fields.map((row) => element("tr", {}, ...row.map((text) => cell(text)))));
}

export function showObjects(objects, mark) {
  const rows = objects.map((each) => {
    const swatch = element("i", { className: "swatch" });
    swatch.style.background = each.color;
    const name = cell(swatch);
    name.append(each.category || "–");
    const box = each.box ? each.box.map((value) => value.toFixed(0)).join(" ") : "–";
    const seen = each.visibility === null ? "–" : `${Math.round(100 * each.visibility)} %`;
    const row = element("tr", {}, cell(String(each.id), true), name, cell(seen, true), cell(box));
    row.onmouseenter = () => mark(each.row);
    row.onmouseleave = () => mark(-1);
    return row;
  });
  table("objects", [["id", true], ["category"], ["visible", true], ["box"]], rows);
}

export function showViews(views, chosen, choose) {
  find("views").replaceChildren(...(views.length < 2 ? [] : views.map((view, number) => {
    const button = element("button", { textContent: view.name || "first", onclick: () => choose(number) });
    button.setAttribute("role", "tab");
    button.setAttribute("aria-selected", String(number === chosen));
    return button;
  })));
}

// `settings` has { on, opacity } by name, and lives as long as the page.
export function showLabels(view, settings, changed) {
  const rows = [...view.maps.map((map) => [map.name, "", true]), ...view.drawn.map((label) => [label.name, label.missing, false])];
  const known = [...find("labels").children].map((row) => row.dataset.key).join("\n");
  const keys = rows.map(([name, missing, isMap]) => [name, missing, isMap].join("\t"));
  if (known === keys.join("\n") && keys.length) return; // stays under the pointer
  find("labels").replaceChildren(...rows.map(([name, missing, isMap], number) => {
    const setting = settings.get(name);
    const box = element("input", { type: "checkbox", checked: setting.on && !missing, disabled: Boolean(missing), name });
    box.onchange = () => { setting.on = box.checked; changed(); };
    const row = element("label", { title: missing, className: missing ? "off" : "" }, box, missing ? `${name}: ${missing}` : name);
    row.dataset.key = keys[number];
    if (isMap) {
      const slider = element("input", { type: "range", min: 0.05, max: 1, step: 0.05, value: setting.opacity, title: "opacity" });
      slider.oninput = () => { setting.opacity = Number(slider.value); changed(); };
      row.append(slider);
    }
    return row;
  }));
  if (!rows.length) find("labels").replaceChildren(element("span", { className: "quiet", textContent: "none that can be drawn" }));
}

function tree(value) {
  if (value === null || value === undefined || (typeof value === "object" && !Object.keys(value).length)) {
    return [element("span", { className: "quiet", textContent: "nothing" })];
  }
  if (typeof value !== "object") return [element("span", { textContent: short(value) })];
  return Object.entries(value).map(([name, each]) => {
    if (each === null || typeof each !== "object" || flat(each)) {
      return element("div", {}, element("b", { textContent: `${name}: ` }), short(each));
    }
    const inner = element("div", {}, ...tree(each));
    return element("details", { open: true }, element("summary", { textContent: name }), inner);
  });
}

const flat = (value) => Array.isArray(value) && value.length <= 16 && value.every((each) => typeof each !== "object");

function short(value) {
  if (Array.isArray(value)) return `[${value.map(short).join(", ")}]`;
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(5)));
  return String(value);
}
