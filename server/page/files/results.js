// What came, as it is shown: the view, the threshold and the classes choose among the items, and
// one of them is lit. Nothing here asks the server.

import { itemAt } from "./found.js";
import { paint } from "./painting.js";

const byId = id => document.getElementById(id);
const canvas = byId("canvas"), threshold = byId("threshold");
const MOST_LISTED = 300;
const hidden = new Set(); // names of classes
let views = [], view = null, picture = null, shown = [], lit = null, frame = 0;

export function showResults(found, onto) {
  [views, picture] = [found, onto];
  byId("views").replaceChildren(byId("views").firstElementChild, ...views.map(choice));
  byId("views").hidden = views.length < 2;
  choose(views.find(each => each.name === view?.name) ?? views[0]);
}

// `own` is the threshold of the archive; what is below it never comes.
export function setLeast(own) {
  threshold.min = own;
  if (!threshold.dataset.moved) threshold.value = Math.max(own, 0.5);
  byId("least").textContent = own > 0 ? `This archive leaves out scores of ${own} and below itself. To see them, `
    + "export it with a lower SCORE_THRESH_TEST." : "";
  show();
}

function choice(each) {
  const label = labelled({ type: "radio", name: "view", value: each.name }, each.name, () => choose(each));
  label.firstChild.checked = each.name === (view?.name ?? views[0].name);
  return label;
}

function choose(chosen) {
  view = chosen;
  showClasses();
  show();
}

function showClasses() {
  const counts = new Map();
  for (const { name } of view?.items ?? []) counts.set(name, (counts.get(name) ?? 0) + 1);
  byId("classes").replaceChildren(...[...counts].sort().map(([name, count]) => {
    const turned = ({ target }) => { hidden[target.checked ? "delete" : "add"](name); show(); };
    return labelled({ type: "checkbox", value: name, checked: !hidden.has(name) }, `${name} (${count})`, turned);
  }));
}

function labelled(properties, text, changed) {
  const label = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, properties).addEventListener("change", changed);
  label.append(input, ` ${text}`);
  return label;
}

function show() {
  const least = Number(threshold.value), items = view?.items ?? [];
  const kept = items.filter(each => !(each.score < least) && !hidden.has(each.name));
  const cut = kept.length > (view?.most ?? Infinity) ? `, the best ${view.most}` : "";
  shown = kept.slice(0, view?.most);
  byId("threshold-shown").value = least.toFixed(2);
  byId("threshold-label").hidden = items.every(each => each.score === undefined);
  byId("count").textContent = `${kept.length}${cut} of ${items.length}`;
  canvas.ariaLabel = `The photo, with ${shown.length} things found in it, which the list names`;
  byId("found").replaceChildren(...shown.slice(0, MOST_LISTED).map(row));
  lit = null;
  draw();
}

function row(item) {
  const line = document.createElement("li");
  for (const text of [item.name, item.score?.toFixed(3) ?? `${item.area} px`]) {
    line.appendChild(document.createElement("span")).textContent = text;
  }
  line.tabIndex = 0;
  line.style.borderColor = `rgb(${item.colour})`;
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

function draw() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => picture && paint(canvas, picture, shown, view?.map, lit));
}

canvas.addEventListener("mousemove", event => {
  const box = canvas.getBoundingClientRect(), { width = 0, height = 0 } = picture ?? {};
  const x = Math.floor((event.clientX - box.left) * width / box.width);
  const y = Math.floor((event.clientY - box.top) * height / box.height);
  highlight(itemAt(x, y, shown, view?.map) ?? null);
});
canvas.addEventListener("mouseleave", () => highlight(null));
threshold.addEventListener("input", () => { threshold.dataset.moved = "yes"; show(); });
byId("every-class").addEventListener("click", () => {
  const names = new Set(view?.items.map(each => each.name));
  const turn = [...names].some(name => !hidden.has(name)) ? "add" : "delete";
  for (const name of names) hidden[turn](name);
  showClasses();
  show();
});
new ResizeObserver(draw).observe(canvas);
