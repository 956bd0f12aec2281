// The page: a photo is asked about when it comes or when another model is chosen; all else, the
// threshold, classes and what is highlighted, only draws again what has come.

import { ask } from "./asking.js";
import { curlFor } from "./command.js";
import { itemAt, viewsOf } from "./found.js";
import { chosen, watchModels } from "./models.js";
import { paint, prepare } from "./painting.js";
import { watchPhotos } from "./photo.js";

const byId = id => document.getElementById(id);
const canvas = byId("canvas"), threshold = byId("threshold");
const MOST_LISTED = 300;
const hidden = new Set(); // names of classes
let photo = null, answer = "", views = [], view = null, shown = [], lit = null, picture = null, asking = null;

async function predict() {
  const asked = chosen();
  if (!photo || !asked) return;
  asking?.abort();
  const mine = asking = new AbortController();
  fail(null);
  showCommand();
  if (photo.blob.size > asked.served.most_bytes) {
    return fail(`${photo.name} has ${photo.blob.size} bytes, and a request ${asked.served.most_bytes} at most.`);
  }
  say(`Asking ${asked.model} ${asked.answers} about ${photo.name} …`);
  document.body.setAttribute("aria-busy", "true");
  const query = new URLSearchParams({ model: asked.model, ...(asked.version && { version: asked.version }) });
  const begun = performance.now();
  try {
    const bitmap = createImageBitmap(photo.blob).catch(() => null); // upright, by its EXIF
    const options = { method: "POST", body: photo.blob, headers: { "Content-Type": "application/octet-stream" }, signal: mine.signal };
    const text = await ask(`/predict?${query}`, options);
    const took = Math.round(performance.now() - begun);
    await showReply(text, await bitmap);
    const converted = JSON.parse(text).image.converted;
    say(`${photo.name}: answered by ${asked.model} ${JSON.parse(text).version} in ${took} ms, at ${new Date().toLocaleTimeString()}.`
      + (converted ? ` The server made ${converted} of it.` : ""));
  } catch (error) {
    if (error.name === "AbortError" || mine !== asking) return;
    await showReply("", await createImageBitmap(photo.blob).catch(() => null));
    say(`${photo.name} was not answered.`);
    fail(error.message);
    look(); // the model may have gone
  } finally {
    if (mine === asking) document.body.removeAttribute("aria-busy");
  }
}

async function showReply(text, bitmap) {
  const reply = text ? JSON.parse(text) : null;
  const size = reply?.image ?? bitmap ?? { width: 640, height: 420 };
  const isUpright = bitmap && bitmap.width === size.width && bitmap.height === size.height;
  answer = text;
  views = reply ? await viewsOf(reply) : [];
  picture = prepare(canvas, isUpright ? bitmap : null, size);
  if (!isUpright) fail("This browser cannot show the picture; what was found in it is drawn without.");
  view = views.find(each => each.name === view?.name) ?? views[0] ?? null;
  byId("views").replaceChildren(byId("views").firstElementChild, ...views.map(choice));
  byId("views").hidden = views.length < 2;
  byId("json").open = false;
  showClasses();
  show();
}

function choice(each) {
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "view", value: each.name, checked: each === view });
  input.addEventListener("change", () => { view = each; showClasses(); show(); });
  return labelled(input, each.name);
}

function labelled(input, text) {
  const label = document.createElement("label");
  label.append(input, ` ${text}`);
  return label;
}

function showClasses() {
  const counts = new Map();
  for (const { name } of view?.items ?? []) counts.set(name, (counts.get(name) ?? 0) + 1);
  byId("classes").replaceChildren(...[...counts].sort().map(([name, count]) => {
    const input = Object.assign(document.createElement("input"), { type: "checkbox", value: name, checked: !hidden.has(name) });
    input.addEventListener("change", () => { hidden[input.checked ? "delete" : "add"](name); show(); });
    return labelled(input, `${name} (${count})`);
  }));
}

function show() {
  const least = Number(threshold.value), items = view?.items ?? [];
  const kept = items.filter(each => (each.score === undefined || each.score >= least) && !hidden.has(each.name));
  shown = kept.slice(0, view?.most);
  lit = shown.includes(lit) ? lit : null;
  byId("threshold-shown").value = least.toFixed(2);
  byId("threshold-label").hidden = !items.some(each => each.score !== undefined);
  byId("count").textContent = kept.length + (shown.length < kept.length ? `, the best ${shown.length}` : "") + ` of ${items.length}`;
  byId("found").replaceChildren(...shown.slice(0, MOST_LISTED).map(row));
  draw();
}

function row(item) {
  const line = document.createElement("li");
  const texts = [item.name, item.score === undefined ? `${item.area} px` : item.score.toFixed(3)];
  line.tabIndex = 0;
  line.style.borderColor = `rgb(${item.colour})`;
  line.append(...texts.map(text => Object.assign(document.createElement("span"), { textContent: text })));
  for (const event of ["mouseenter", "focus"]) line.addEventListener(event, () => highlight(item));
  for (const event of ["mouseleave", "blur"]) line.addEventListener(event, () => highlight(null));
  return line;
}

function highlight(item) {
  if (item === lit) return;
  lit = item;
  [...byId("found").children].forEach((line, i) => line.classList.toggle("lit", shown[i] === lit));
  draw();
}

let frame = 0;
function draw() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => picture && paint(canvas, picture, shown, view?.map, lit));
}

function showCommand() {
  const asked = chosen();
  byId("curl").textContent = asked && photo ? curlFor(asked, photo.name) : "";
  byId("save").hidden = !photo || photo.isFile;
  if (photo && !photo.isFile) Object.assign(byId("save"), { href: URL.createObjectURL(photo.blob), download: photo.name });
}

function say(text) { byId("status").textContent = text; }

function fail(text) {
  byId("error").hidden = !text;
  byId("error").textContent = text ?? "";
}

function copy(button, text) {
  byId(button).addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    say("Copied.");
  });
}

async function showAbout() {
  const asked = chosen();
  if (!asked) return;
  const said = JSON.parse(await ask(`/about?${new URLSearchParams({ model: asked.model, version: asked.answers })}`).catch(() => "{}"));
  if (chosen()?.answers !== asked.answers) return;
  const own = said.score_thresh ?? 0;
  byId("about").textContent = said.family ?? "";
  threshold.min = own;
  if (!threshold.dataset.moved) threshold.value = Math.max(own, 0.5);
  byId("least").textContent = own > 0
    ? `This archive leaves out scores of ${own} and below itself. To see them, export it with a lower SCORE_THRESH_TEST.` : "";
  show();
}

canvas.addEventListener("mousemove", event => {
  const box = canvas.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) * (picture?.width ?? 0) / box.width);
  const y = Math.floor((event.clientY - box.top) * (picture?.height ?? 0) / box.height);
  highlight(itemAt(x, y, shown, view?.map) ?? null);
});
canvas.addEventListener("mouseleave", () => highlight(null));
threshold.addEventListener("input", () => { threshold.dataset.moved = "yes"; show(); });
byId("every-class").addEventListener("click", () => {
  const names = new Set(view?.items.map(each => each.name)), some = [...names].some(name => !hidden.has(name));
  for (const name of names) hidden[some ? "add" : "delete"](name);
  showClasses();
  show();
});
byId("json").addEventListener("toggle", () => {
  byId("json").querySelector("pre").textContent = byId("json").open && answer ? JSON.stringify(JSON.parse(answer), null, 1) : "";
});
byId("theme").addEventListener("click", () => {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
});
copy("copy-json", () => answer);
copy("copy-curl", () => byId("curl").textContent);
new ResizeObserver(draw).observe(canvas);
watchPhotos(taken => { photo = taken; predict(); }, fail);
const look = watchModels((before, now) => {
  showAbout();
  showCommand();
  // Chosen by the user: asked again. Upgraded by an operator: said, and asked with the next photo.
  if (!before || before.model !== now?.model || before.version !== now?.version) predict();
  else if (photo) say(`${now.model} is answered by version ${now.answers} from now on. Choose the photo again to ask it.`);
}, text => { if (text) fail(text); });
