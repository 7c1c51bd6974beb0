
// --- the live page -------------------------------------------------------------------------------

const live = document.getElementById("live"), zooms = new Map();
let news = null, source = null, isLoading = false, isDragging = false;

const titleOf = (section) => section.querySelector("h2").textContent;
document.addEventListener("zoom", (event) => {
  zooms.set(titleOf(event.target), event.detail);
}, true);

// What the tables show, by currency: they are made anew with the page.
function tablesOf(root) {
  return new Map([...root.querySelectorAll("section.currency")].map((section) => [titleOf(section), section.querySelector(".trips")]));
}

function viewOf(holder) {
  const input = holder.querySelector("input");
  const head = holder.querySelector("th:is([aria-sort=ascending], [aria-sort=descending])");
  const first = Number(holder.querySelector("output").textContent.replaceAll(",", "").match(/^\d+/)?.[0] ?? 1);
  return {
    search: input.value, focus: document.activeElement === input ? input.selectionStart : null,
    column: head.textContent, order: head.getAttribute("aria-sort"), page: (first - 1) / ROWS,
  };
}

function restore(holder, view) {
  const input = holder.querySelector("input");
  const head = [...holder.querySelectorAll("th[aria-sort]")].find((cell) => cell.textContent === view.column);
  for (let n = 0; head && n < 2 && head.getAttribute("aria-sort") !== view.order; n++) head.querySelector("button").click();
  input.value = view.search;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  if (view.focus !== null) {
    input.focus({ preventScroll: true });
    input.setSelectionRange(view.focus, view.focus);
  }
  const next = holder.querySelector("button[name=next]");
  for (let n = 0; n < view.page && !next.disabled; n++) next.click();
}

// What is at the top of the window stays there, whatever grows above it.
function keepingPlace(change) {
  const heads = () => [...document.querySelectorAll("main :is(h2, h3, caption, figcaption)")];
  const top = scrollY > 0 && heads().findLast((head) => head.getBoundingClientRect().top <= innerHeight / 3);
  const place = top && [top.textContent, titleOf(top.closest("section")), top.getBoundingClientRect().top];
  change();
  if (place) {
    const head = heads().find((each) => each.textContent === place[0] && titleOf(each.closest("section")) === place[1]);
    if (head) scrollBy(0, head.getBoundingClientRect().top - place[2]);
  }
}

const parsed = (text) => new DOMParser().parseFromString(text, "text/html");
const take = (name, page) => document.querySelector(name).replaceWith(document.adoptNode(page.querySelector(name)));

function replacePage(text) {
  const page = parsed(text);
  const views = new Map([...tablesOf(document)].filter(([, holder]) => holder).map(([title, holder]) => [title, viewOf(holder)]));
  const ranges = [...zooms];
  tip.hidden = true;
  for (const name of ["header", "main", "#data"]) take(name, page);
  document.title = page.title;
  live.dataset.version = page.getElementById("live").dataset.version;
  start();
  const sections = new Map([...document.querySelectorAll("section.currency")].map((section) => [titleOf(section), section]));
  for (const [title, range] of ranges) {
    if (range) sections.get(title)?.dispatchEvent(new CustomEvent("show", { detail: range }));
  }
  for (const [title, holder] of tablesOf(document)) {
    if (holder && views.has(title)) restore(holder, views.get(title));
  }
}

async function fetched(address, show) {
  const response = await fetch(address);
  const text = response.ok && await response.text();
  if (text && !isDragging) keepingPlace(() => show(text));
}

// What was recorded last is taken at once, and all of the page when its charts are new.
async function load() {
  if (isLoading || isDragging || news === null) return;
  isLoading = true;
  try {
    const before = news;
    if (news.version !== live.dataset.version) await fetched(location.pathname, replacePage);
    else if (news.latest !== document.getElementById("latest").dataset.version) await fetched("latest", (text) => take("#latest", parsed(text)));
    if (news !== before) setTimeout(load); // what came meanwhile
  } catch {
    // the stream of events ends, too, and begins again
  } finally {
    isLoading = false;
  }
}

const clock = (time) => time ? `${time.slice(0, 10)} ${time.slice(11, 19)} UTC` : "before";

function say() {
  const at = clock(news?.read_at), charts = clock(news?.charts_read_at);
  const of = `of ${at}${charts === at ? "" : `, the charts and results of ${charts}`}`;
  live.classList.toggle("down", Boolean(source?.readyState !== 1 || news?.error));
  live.textContent = source?.readyState !== 1 ? `Not connected: the latest trades ${of}.`
    : news?.error ? `The latest trades ${of}: ${news.error}` : `Live: the latest trades ${of}.`;
}

// A tab that is not looked at has no stream: a browser opens only a few for each server.
function connect() {
  source?.close();
  source = null;
  if (document.hidden) return;
  source = new EventSource("events");
  source.onmessage = (event) => {
    news = JSON.parse(event.data);
    say();
    load();
  };
  source.onerror = () => {
    say();
    if (source.readyState === 2) setTimeout(() => { if (source?.readyState === 2) connect(); }, 2000);
  };
}

addEventListener("pointerdown", () => { isDragging = true; });
for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(name, () => { isDragging = false; setTimeout(load); });
}
document.addEventListener("visibilitychange", connect);
connect();
