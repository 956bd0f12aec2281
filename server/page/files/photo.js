// Where a photo comes from: a file that is chosen or dropped, the clipboard, or the camera.

import { ask } from "./asking.js";

const byId = id => document.getElementById(id);

// Calls `take` with each: its bytes, its name, and whether it is a file of the user's.
export function watchPhotos(take, fail) {
  byId("file").addEventListener("change", event => {
    const [file] = event.target.files;
    if (file) take({ blob: file, name: file.name, isFile: true });
    event.target.value = ""; // the same file again is a change, too
  });
  const isOver = over => document.body.classList.toggle("over", over);
  addEventListener("dragover", event => { event.preventDefault(); isOver(true); });
  addEventListener("dragleave", event => { if (!event.relatedTarget) isOver(false); });
  addEventListener("drop", event => {
    event.preventDefault();
    isOver(false);
    const [file] = event.dataTransfer.files;
    if (file) take({ blob: file, name: file.name, isFile: true });
    else fail("What was dropped is no file. Save the picture, and drop its file.");
  });
  addEventListener("paste", event => {
    const [file] = event.clipboardData.files;
    if (file) take({ blob: file, name: file.name || "pasted.png", isFile: false });
  });
  watchCamera(take, fail);
}

// The picture of a photo, upright as its EXIF says; null where there is none. Browsers turn JPEGs;
// other formats some turn and some do not, so the server reads those.
export async function pictureOf(blob) {
  try {
    const [first, second] = new Uint8Array(await blob.slice(0, 2).arrayBuffer());
    const isJpeg = first === 0xff && second === 0xd8;
    return await createImageBitmap(isJpeg ? blob : await ask("/picture", { method: "POST", body: blob }, "blob"));
  } catch {
    return null;
  }
}

function watchCamera(take, fail) {
  const dialog = byId("viewfinder"), video = dialog.querySelector("video");
  byId("camera").hidden = !navigator.mediaDevices;
  byId("camera").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
      dialog.showModal();
    } catch (error) {
      fail(`The camera cannot be used: ${error.message}`);
    }
  });
  dialog.addEventListener("close", () => {
    for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.srcObject = null;
  });
  byId("take").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    canvas.toBlob(blob => take({ blob, name: "camera.png", isFile: false }));
  });
}
