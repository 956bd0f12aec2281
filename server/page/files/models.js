// Which model and version is asked. The lists follow the server: what is registered or upgraded
// meanwhile appears, and what is gone gives way to what answers in its place.

import { ask } from "./asking.js";

const EVERY = 4000; // milliseconds between two looks, while the page is seen
const [model, version] = ["model", "version"].map(id => document.getElementById(id));
let served = { models: {}, curl: null, most_bytes: Infinity };

// Of the version that answers: the default one where none is chosen.
export function chosen() {
  const versions = served.models[model.value] ?? [];
  const found = versions.find(each => (version.value ? each.version === version.value : each.is_default));
  return found && { model: model.value, version: version.value || null, answers: found.version, served };
}

// Calls `changed` when something else is to be asked, and `told` with what the user should know:
// null while all is well.
export function watchModels(changed, told) {
  const look = async () => {
    const before = chosen();
    try {
      served = JSON.parse(await ask("/models"));
    } catch (error) {
      return told(error.message);
    }
    const names = Object.keys(served.models);
    fill(model, names.map(name => [name, name]));
    fillVersions();
    const now = chosen();
    if (!names.length) return told("No model is registered.");
    told(now && !served.models[now.model].find(each => each.version === now.answers).is_ready
      ? `${now.model} ${now.answers} has no worker that is ready.` : null);
    if (before?.model !== now?.model || before?.version !== now?.version || before?.answers !== now?.answers) {
      changed(before, now);
    }
  };
  model.addEventListener("change", () => { version.value = ""; fillVersions(); changed(null, chosen()); });
  version.addEventListener("change", () => changed(null, chosen()));
  addEventListener("hashchange", look);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  setInterval(() => document.hidden || look(), EVERY);
  look();
  return look;
}

function fillVersions() {
  const versions = served.models[model.value] ?? [];
  const standard = versions.find(each => each.is_default)?.version ?? "none";
  fill(version, [["", `default (${standard})`], ...versions.map(each => [each.version, each.version])]);
}

// Keeps what is selected, if it is still there; changes nothing where nothing changed.
function fill(select, options) {
  const same = options.length === select.length
    && options.every(([value, text], i) => select[i].value === value && select[i].text === text);
  if (same) return;
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = options.some(([value]) => value === before) ? before : options[0]?.[0] ?? "";
}
