// What a reply holds, as views: each a list of items that can be drawn, listed and filtered.
// An item has a name, a colour, a score if there is one, and of corners, keypoints, a mask and a
// label in the view's map those that the model answers. A quiet one is named only when it is lit.

import { labelMap } from "./label_maps.js";
import { isIn, maskOf } from "./masks.js";

export async function viewsOf(reply) {
  const views = [], instances = reply.instances?.map(instance);
  if (reply.panoptic_seg) {
    const items = reply.panoptic_seg.segments_info.map(each => segment(each, instances));
    views.push({ name: "panoptic", items, map: await labelMap(reply.panoptic_seg.png) });
  }
  if (instances) views.push({ name: "instances", items: instances });
  if (reply.sem_seg) {
    const items = reply.sem_seg.classes.map(each => region(each, each.category_id, true));
    views.push({ name: "semantic", items, map: await labelMap(reply.sem_seg.png) });
  }
  // As many as the server draws with `draw`: with all thousand the picture is all boxes.
  if (reply.proposals) views.push({ name: "proposals", items: reply.proposals.map(proposal), most: 30 });
  return views;
}

// The item at a pixel: a mask or region before a box, the best or smallest of several.
export function itemAt(x, y, items, map) {
  const label = map ? map.labels[y * map.width + x] : undefined;
  const exact = items.find(each => (each.mask ? isIn(each.mask, x, y) : label !== undefined && each.label === label));
  const around = () => items.filter(each => !each.mask && each.label === undefined && isWithin(each.corners, x, y));
  return exact ?? around().sort((one, other) => one.area - other.area)[0];
}

// As in the pictures that the server draws: hues a golden ratio of a turn apart.
export function colourOf(number, stuff = false) {
  const hue = (0.58 + number * 0.618033988749895) % 1, saturation = stuff ? 0.45 : 0.85, value = stuff ? 0.75 : 0.85;
  return [5, 3, 1].map(n => {
    const k = (n + hue * 6) % 6;
    return Math.round(255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  });
}

function named(each, stuff) {
  const name = each.category_name ?? `#${each.category_id}`;
  return { name, colour: colourOf(each.category_id, stuff), score: each.score };
}

function instance(each) {
  const mask = each.segmentation && maskOf(each.segmentation);
  return { ...named(each, false), ...box(each), keypoints: each.keypoints, mask };
}

function region(each, label, stuff) {
  return { ...named(each, stuff), label, area: each.area };
}

function segment(each, instances) {
  const of = instances?.[each.instance_id];
  return { ...region(each, each.id, !each.isthing), corners: of?.corners, keypoints: of?.keypoints };
}

function proposal(each) {
  const score = 1 / (1 + Math.exp(-each.objectness_logit));
  return { name: "proposal", colour: [255, 200, 0], score, isQuiet: true, ...box(each) };
}

function box({ bbox, bbox_mode: mode }) {
  if (mode === "XYXY_ABS") {
    const [x0, y0, x1, y1] = bbox;
    return { corners: [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], area: (x1 - x0) * (y1 - y0) };
  }
  const [x, y, width, height, angle] = bbox, turn = angle * Math.PI / 180;
  const cos = Math.cos(turn), sin = Math.sin(turn); // counter-clockwise, and y points down
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([across, down]) => {
    const a = across * width / 2, b = down * height / 2;
    return [x + cos * a + sin * b, y - sin * a + cos * b];
  });
  return { corners, area: width * height };
}

function isWithin(corners, x, y) {
  const sides = corners?.map(([x0, y0], i) => {
    const [x1, y1] = corners[(i + 1) % 4];
    return (x1 - x0) * (y + 0.5 - y0) - (y1 - y0) * (x + 0.5 - x0) >= 0;
  });
  return sides !== undefined && sides.every(side => side === sides[0]);
}
