"use strict";
let data;  // of the element with this id
const MAX_MARKS = 150, MAX_STEPS = 3000, PARTS = 120, ROWS = 25, DAY = 86400;

const format = (value, places) => (places > 12 || Math.abs(value) >= 1e15 ? value.toPrecision(3) : value.toLocaleString("en-US", {
  minimumFractionDigits: places, maximumFractionDigits: places, signDisplay: "negative" }));
const plain = (value, digits = 10) => value.toLocaleString("en-US", {
  maximumSignificantDigits: Math.min(21, Math.max(digits, Math.trunc(Math.abs(value)).toFixed().length)) });
const amount = (value, sign = "") => (value === null ? "not known" : (value > 0 ? sign : "") + (Math.abs(value) >= 0.1 || value === 0
  ? format(value, 2) : value.toLocaleString("en-US", { maximumSignificantDigits: 3 })));
const time = (seconds, end) => new Date(seconds * 1000).toISOString().slice(0, end).replace("T", " ");

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// --- the tip -------------------------------------------------------------------------------------

const tip = document.getElementById("tip");

function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(room, event.clientX + 12)) + scrollX}px`;
  tip.style.top = `${event.clientY + 16 + scrollY}px`;
}

// a finger does not move before it points
for (const name of ["pointermove", "pointerdown"]) {
  document.addEventListener(name, (event) => {
    const pointed = event.target.closest?.("[data-tip]");
    if (pointed) showTip(event, pointed.dataset.tip);
    else if (!event.target.closest?.(".plot")) tip.hidden = true;
  });
}

// --- charts over time ----------------------------------------------------------------------------

// The points of a path "M x y H x V y ...", in seconds and values.
function pointsOf(path) {
  const times = [], values = [];
  let x = 0;
  for (const [, command, number] of path.getAttribute("d").matchAll(/([HV])(-?[\d.e+-]+)/g)) {
    if (command === "H") x = Number(number);
    else { times.push(x); values.push(0 - Number(number)); }
  }
  return { times, values, name: path.dataset.name };
}

// The number of ascending times that are not above one.
function countUpTo(times, limit) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= limit) low = middle + 1; else high = middle;
  }
  return low;
}

function ticks(low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = [1, 2, 5, 10].map((n) => power * n).find((s) => (high - low) / s <= 5);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let n = Math.ceil(low / step); n <= Math.floor(high / step); n++) {
    found.push([100 * (n * step - low) / (high - low), format(n * step, places)]);
  }
  return found;
}

class TimePlot {
  constructor(plot, start, span) {
    Object.assign(this, { plot, start, span, places: Number(plot.dataset.places) });
    this.svg = plot.querySelector("svg");
    const paths = [...plot.querySelectorAll("path[data-name]:not(.density)")];
    this.lines = paths.map(pointsOf);
    this.whole = this.svg.getAttribute("viewBox").split(" ").map(Number);
    this.ticksWhole = [plot.querySelector(".y").innerHTML, plot.querySelector(".x").innerHTML];
    this.fills = null;
    if (plot.dataset.fills !== undefined) {
      const columns = data.fills[plot.dataset.fills];
      let last = 0;
      this.fills = { ...columns, times: columns.t.map((difference) => (last += difference)) };
      this.price = plot.querySelector("path.line");
      this.priceWhole = this.price.getAttribute("d");
      this.marksWhole = plot.querySelector(".marks").innerHTML;
      this.densities = [...plot.querySelectorAll("path.density")];
      this.densitiesWhole = this.densities.map((path) => path.getAttribute("d"));
    }
  }

  // Show the seconds from `low` to `high`, and the values between them.
  zoom(low, high) {
    const isWhole = low <= 0 && high >= this.span;
    let [, top, , height] = this.whole;
    if (!isWhole && !this.plot.dataset.unit) {
      let least = this.fills ? Infinity : 0, most = this.fills ? -Infinity : 0;
      for (const { times, values } of this.fills ? [{ times: this.fills.times, values: this.fills.p }] : this.lines) {
        const last = countUpTo(times, high);
        for (let n = Math.max(0, countUpTo(times, low) - 1); n < last; n++) {
          least = Math.min(least, values[n]);
          most = Math.max(most, values[n]);
        }
      }
      if (most > least) {
        const margin = (most - least) * 0.04;
        const foot = this.isDense(low, high) ? 0.3 * (most - least) : 0;  // for the counts
        [top, height] = [-most - margin, most - least + 2 * margin + foot];
      }
    }
    this.svg.setAttribute("viewBox", `${low} ${top} ${high - low} ${height}`);
    this.view = { low, high, bottom: -top - height, height };
    const [y, x] = ["y", "x"].map((name) => this.plot.querySelector(`.${name}`));
    if (isWhole) {
      [y.innerHTML, x.innerHTML] = this.ticksWhole;
    } else {
      const foot = this.isDense(low, high) ? 20 : 0;
      y.replaceChildren(...ticks(-top - height, -top).filter(([position]) => position >= foot).map(([position, label]) => {
        const line = element("span", { style: `bottom:${position}%` });
        line.append(element("span", {}, label + this.plot.dataset.unit));
        return line;
      }));
      x.replaceChildren(...[0, 1, 2, 3].map((n) => {
        const text = new Date((this.start + low + (high - low) * n / 3) * 1000).toISOString();
        const label = high - low > 4 * DAY ? text.slice(0, 10) : text.slice(5, 16).replace("T", " ");
        return element("span", { style: `left:${100 * n / 3}%` }, label);
      }));
    }
    if (this.fills) this.drawFills(isWhole);
  }

  isDense(low, high) {
    if (!this.fills) return false;
    return countUpTo(this.fills.times, high) - countUpTo(this.fills.times, low - 1e-9) > MAX_MARKS;
  }

  drawFills(isWhole) {
    const marks = this.plot.querySelector(".marks");
    if (isWhole) {
      marks.innerHTML = this.marksWhole;
      this.price.setAttribute("d", this.priceWhole);
      this.densities.forEach((path, n) => path.setAttribute("d", this.densitiesWhole[n]));
      return;
    }
    const { low, high, bottom, height } = this.view, { times, p, q, notes } = this.fills;
    const first = countUpTo(times, low - 1e-9), last = countUpTo(times, high);
    const before = Math.max(0, first - 1);
    if (last - before <= MAX_STEPS && last > before) {
      let d = `M${times[before]} ${-p[before]}`;
      for (let n = before; n < last; n++) d += `H${times[n]}V${-p[n]}`;
      this.price.setAttribute("d", d);
    } else this.price.setAttribute("d", this.priceWhole);
    const isFew = !this.isDense(low, high);
    marks.replaceChildren();
    for (let n = first; isFew && n < last; n++) {
      const isBuy = q[n] > 0;
      const text = notes.length ? notes[n] : `${isBuy ? "buy" : "sell"} ${plain(Math.abs(q[n]))} at ${plain(p[n])}\n${time(this.start + times[n], 19)} UTC`;
      marks.append(element("i", {
        class: isBuy ? "up" : "down", "data-tip": text,
        style: `left:${100 * (times[n] - low) / (high - low)}%;bottom:${100 * (p[n] - bottom) / height}%`,
      }, isBuy ? "▲" : "▼"));
    }
    const counts = [0, 1].map(() => new Array(PARTS).fill(0)), width = (high - low) / PARTS;
    for (let n = first; !isFew && n < last; n++) {
      counts[q[n] > 0 ? 0 : 1][Math.min(PARTS - 1, Math.floor((times[n] - low) / width))]++;
    }
    const most = Math.max(1, ...counts[0], ...counts[1]);
    this.densities.forEach((path, side) => path.setAttribute("d", counts[side].map((number, part) =>
      number ? `M${low + width * (part + (side ? 0.5 : 0.1))} ${-bottom}v${-0.2 * height * number / most}h${0.4 * width}V${-bottom}Z` : "").join("")));
  }

  words(seconds) {
    const rows = [time(this.start + seconds, 16)];
    for (const { times, values, name } of this.fills ? [{ times: this.fills.times, values: this.fills.p, name: "last price" }] : this.lines) {
      const n = countUpTo(times, seconds) - 1;
      if (n >= 0) rows.push(`${name}: ${this.fills ? plain(values[n]) : format(values[n], this.places)}${this.plot.dataset.unit}`);
    }
    return rows.join("\n");
  }
}

function linkZoom(section) {
  const start = Number(section.dataset.start), span = Math.max(1, Number(section.dataset.end) - start);
  const plots = [...section.querySelectorAll(".plot.time, .plot.price")].map((plot) => new TimePlot(plot, start, span));
  const form = section.querySelector("form.zoom");
  if (!form) return;
  const inputs = [form.elements.from, form.elements.to];
  const bounds = [start, start + span].map((seconds) => time(seconds, 10));
  let range = [0, span];
  form.hidden = false;

  function zoom(low, high) {
    range = [Math.max(0, low), Math.min(span, high)];
    if (range[1] - range[0] < 60) range = [0, span];
    plots.forEach((plot) => plot.zoom(...range));
    const isWhole = range[0] === 0 && range[1] === span;
    // the last day is included, and midnight belongs to the next
    inputs.forEach((input, n) => { input.value = time(start + range[n] - (isWhole ? 0 : n), 10); });
    section.dispatchEvent(new CustomEvent("zoom", { detail: isWhole ? null : range.map((seconds) => start + seconds) }));
  }

  for (const input of inputs) [input.min, input.max] = bounds;
  form.addEventListener("change", () => {
    const [low, high] = inputs.map((input) => Date.parse(input.value) / 1000 - start);
    if (high + DAY > low) zoom(low, high + DAY);
  });
  form.addEventListener("reset", (event) => { event.preventDefault(); zoom(0, span); });
  form.addEventListener("submit", (event) => event.preventDefault());

  const cursors = plots.map(({ plot }) => {
    const line = element("div", { class: "cursor", hidden: "" });
    plot.append(line);
    return line;
  });
  plots.forEach(({ plot, svg }, place) => {
    const brush = element("div", { class: "brush", hidden: "" });
    plot.append(brush);
    let from = null;
    const part = (event) => {
      const box = svg.getBoundingClientRect();
      return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    };
    const seconds = (at) => range[0] + at * (range[1] - range[0]);
    plot.addEventListener("pointermove", (event) => {
      const at = part(event);
      if (!event.target.closest("[data-tip]")) showTip(event, plots[place].words(seconds(at)));
      for (const line of cursors) { line.hidden = false; line.style.left = `${100 * at}%`; }
      if (from !== null) {
        brush.hidden = false;
        brush.style.left = `${100 * Math.min(from, at)}%`;
        brush.style.width = `${100 * Math.abs(at - from)}%`;
      }
    });
    plot.addEventListener("pointerleave", () => { for (const line of cursors) line.hidden = true; tip.hidden = true; });
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      from = part(event);
      svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    svg.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [low, high] = [from, part(event)].sort((a, b) => a - b).map(seconds);
      from = null;
      brush.hidden = true;
      if (high - low > (range[1] - range[0]) / 100) zoom(low, high);
    });
    svg.addEventListener("dblclick", () => zoom(0, span));
  });
  section.addEventListener("show", (event) => zoom(...event.detail.map((seconds) => seconds - start)));
  zoom(0, span);
}

// --- the table of round trips --------------------------------------------------------------------

const held = (seconds) => {
  const [days, hours, minutes] = [Math.floor(seconds / DAY), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${seconds} s`;
};

function tripTable(section, holder) {
  const of = data.trips[holder.dataset.trips];
  let last = 0;
  const closed = of.t.map((difference) => (last += difference));
  const direction = (row) => (of.h[row] ? "long" : "short");
  const symbol = (row) => of.symbols[of.s[row]], strategy = (row) => of.strategies[of.g[row]], tags = (row) => of.tags[of.k[row]];
  const columns = [
    { name: "closed", value: (row) => closed[row], text: (row) => time(closed[row], 16), look: () => "time" },
    { name: "held", value: (row) => of.d[row], text: (row) => held(of.d[row]), isNumber: true },
    { name: "symbol", value: symbol, text: symbol, isHead: true },
    { name: "strategy", value: strategy, text: (row) => strategy(row) || "none", isLong: true },
    { name: "direction", value: direction, text: direction },
    { name: "quantity", value: (row) => of.q[row], text: (row) => plain(of.q[row], 7), isNumber: true },
    { name: "entry", value: (row) => of.e[row], text: (row) => plain(of.e[row], 7), isNumber: true },
    { name: "exit", value: (row) => of.x[row], text: (row) => (of.x[row] === null ? "none" : plain(of.x[row], 7)), isNumber: true },
    { name: "fees", value: (row) => of.f[row], text: (row) => amount(of.f[row]), isNumber: true },
    { name: "net PnL", value: (row) => of.n[row], text: (row) => amount(of.n[row], "+"), isNumber: true,
      look: (row) => (of.n[row] > 0 ? "up" : of.n[row] < 0 ? "down" : "") },
  ];
  if (of.tags.some(Boolean)) columns.push({ name: "tags", value: tags, text: (row) => tags(row) || "none" });
  const words = closed.map((seconds, row) => [symbol(row), strategy(row), direction(row), tags(row), time(seconds, 10)].join(" ").toLowerCase());
  const table = holder.querySelector("table"), body = table.tBodies[0], output = holder.querySelector("output");
  const [before, next] = holder.querySelectorAll("nav button"), form = holder.querySelector("form");
  let rows = [], sorted = columns[0], sign = -1, page = 0, range = null;

  table.classList.add("sortable");
  const head = element("tr", { role: "row" });
  for (const column of columns) {
    const cell = element("th", { role: "columnheader", scope: "col", ...(column.isNumber ? { class: "number" } : {}) });
    const button = element("button", { type: "button" }, column.name);
    button.addEventListener("click", () => {
      sign = sorted === column ? -sign : column.isNumber || column === columns[0] ? -1 : 1;
      sorted = column;
      arrange();
    });
    cell.append(button);
    head.append(cell);
    column.cell = cell;
  }
  table.tHead.append(head);

  function arrange() {
    const wanted = form.elements.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows = closed.map((_, row) => row).filter((row) => wanted.every((word) => words[row].includes(word))
      && (range === null || (closed[row] >= range[0] && closed[row] <= range[1])));
    const { value } = sorted;
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return x < y ? -sign : x > y ? sign : a - b;
    });
    for (const column of columns) column.cell.setAttribute("aria-sort", column !== sorted ? "none" : sign > 0 ? "ascending" : "descending");
    page = 0;
    show();
  }

  function show() {
    const shown = rows.slice(page * ROWS, (page + 1) * ROWS);
    body.replaceChildren(...shown.map((row) => {
      const line = element("tr", { role: "row" });
      for (const column of columns) {
        const look = [column.isNumber ? "number" : "", column.look?.(row) ?? ""].join(" ").trim();
        const attributes = { "data-label": column.name, ...(look ? { class: look } : {}) };
        const cell = column.isHead ? element("th", { role: "rowheader", scope: "row", ...attributes }, column.text(row))
          : element("td", { role: "cell", ...attributes }, column.text(row));
        if (column.isLong) cell.replaceChildren(...column.text(row).split(/(?<=_)/).flatMap((part) => [part, element("wbr")]));
        line.append(cell);
      }
      return line;
    }));
    const first = page * ROWS + 1;
    output.textContent = rows.length ? `${plain(first)} to ${plain(first + shown.length - 1)} of ${plain(rows.length)}` : "none found";
    before.disabled = page === 0;
    next.disabled = (page + 1) * ROWS >= rows.length;
  }

  before.addEventListener("click", () => { page--; show(); });
  next.addEventListener("click", () => { page++; show(); });
  form.addEventListener("input", arrange);
  form.addEventListener("submit", (event) => event.preventDefault());
  section.addEventListener("zoom", (event) => { range = event.detail; arrange(); });
  holder.hidden = false;
  arrange();
}

function start() {
  data = JSON.parse(document.getElementById("data").textContent);
  for (const section of document.querySelectorAll("section.currency")) {
    section.querySelectorAll(".trips").forEach((holder) => tripTable(section, holder));
    linkZoom(section);
  }
}

start();
