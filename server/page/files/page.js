// The page: a photo is asked about when it comes, and when the user chooses another model.

import { ask } from "./asking.js";
import { curlFor } from "./command.js";
import { viewsOf } from "./found.js";
import { chosen, watchModels } from "./models.js";
import { prepare } from "./painting.js";
import { pictureOf, watchPhotos } from "./photo.js";
import { setLeast, showResults } from "./results.js";

const byId = id => document.getElementById(id);
let photo = null, answer = "", asking = null;

async function take({ blob, name, isFile }) {
  try {
    // Read now: a file that changes later cannot be sent.
    photo = { blob: new Blob([await blob.arrayBuffer()]), name, isFile };
  } catch (error) {
    return fail(`${name} cannot be read: ${error.message}`);
  }
  predict();
}

async function predict() {
  const asked = chosen();
  if (!photo || !asked) return;
  asking?.abort();
  const { signal } = asking = new AbortController(), { blob, name } = photo;
  fail("");
  showCommand();
  say(`Asking ${asked.model} ${asked.answers} about ${name} …`);
  const most = asked.served.most_bytes;
  if (blob.size > most) {
    say(`${name} was not answered.`);
    return fail(`${name} has ${blob.size} bytes, and a request ${most} at most.`);
  }
  const bitmap = pictureOf(blob);
  try {
    const query = new URLSearchParams({ model: asked.model, ...(asked.version && { version: asked.version }) });
    const begun = performance.now();
    const text = await ask(`/predict?${query}`, { method: "POST", body: blob, signal });
    const took = Math.round(performance.now() - begun), reply = JSON.parse(text);
    const views = await viewsOf(reply);
    showAll(text, views, await bitmap, reply.image, signal);
    say(`${name}: answered by ${asked.model} ${reply.version} in ${took} ms, at ${new Date().toLocaleTimeString()}.`
      + (reply.image?.converted ? ` Its values: ${reply.image.converted}.` : ""));
  } catch (error) {
    if (signal.aborted) return;
    showAll("", [], await bitmap, null, signal);
    say(`${name} was not answered.`);
    fail(error.message);
    look(); // the model may have gone
  }
}

function showAll(text, views, bitmap, size, signal) {
  signal.throwIfAborted(); // another photo has come meanwhile
  const fits = bitmap && (!size || (bitmap.width === size.width && bitmap.height === size.height));
  if (!fits) fail("The picture cannot be shown; what was found in it is drawn without.");
  answer = text;
  byId("json").open = false;
  showResults(views, prepare(byId("canvas"), fits ? bitmap : null, size ?? bitmap ?? { width: 640, height: 420 }));
}

function showCommand() {
  const asked = chosen(), save = byId("save");
  byId("curl").textContent = asked && photo ? curlFor(asked, photo.name) : "";
  save.hidden = !photo || photo.isFile;
  if (!save.hidden) Object.assign(save, { href: URL.createObjectURL(photo.blob), download: photo.name });
}

async function showAbout() {
  const asked = chosen();
  if (!asked) return;
  const query = new URLSearchParams({ model: asked.model, version: asked.answers });
  const said = JSON.parse(await ask(`/about?${query}`).catch(() => "{}")); // a busy model says nothing
  if (chosen()?.answers !== asked.answers || chosen()?.model !== asked.model) return;
  byId("about").textContent = said.family ?? "";
  setLeast(said.score_thresh ?? 0);
}

function say(text) { byId("status").textContent = text; }

function fail(text, where = "error") {
  byId(where).hidden = !text;
  byId(where).textContent = text;
}

function copies(button, text) {
  byId(button).addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    say("Copied.");
  });
}

copies("copy-json", () => answer);
copies("copy-curl", () => byId("curl").textContent);
byId("json").addEventListener("toggle", () => {
  const written = byId("json").open && answer ? JSON.stringify(JSON.parse(answer), null, 1) : "";
  byId("json").querySelector("pre").textContent = written;
});
byId("theme").addEventListener("click", () => {
  const { dataset } = document.documentElement;
  const now = dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  dataset.theme = now === "dark" ? "light" : "dark";
});
watchPhotos(take, fail);
const look = watchModels((before, now) => {
  showAbout();
  showCommand();
  // What the user chooses is asked at once. What an operator upgrades is said, and asked later.
  if (!before || before.model !== now?.model || before.version !== now?.version) predict();
  else if (photo) say(`Version ${now.answers} of ${now.model} answers from now on. Choose the photo again to ask it.`);
}, text => fail(text ?? "", "trouble"));
