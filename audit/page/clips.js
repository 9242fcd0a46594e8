// What the page knows of clips, and how numbers and elements are made. A clip is its place in `clips.ids`; those on the
// map come first.

const data = JSON.parse(document.getElementById("data").textContent);
const { findings, clips } = data;
const numPoints = clips.x.length;
const placeOf = new Map(clips.ids.map((id, place) => [id, place]));

/** Whether a clip's sound is in the page is a level like any other: it can be filtered by and coloured. */
clips.levels.sound = {
  names: ["in this page"],
  sets: [[], [0]],
  codes: clips.ids.map((id) => (id in data.media ? 1 : 0)),
};

/** The labels of a clip at a level; empty if it is known to have none, null if nobody knows. */
function labelsOf(place, level) {
  const { names, sets, codes } = clips.levels[level];
  return codes[place] < 0 ? null : sets[codes[place]].map((one) => names[one]);
}

function labelText(place, level) {
  const labels = labelsOf(place, level);
  if (!labels) return "unknown";
  return labels.join(" + ") || "none";
}

/** The most that is known of what sounds in a clip. */
function titleOf(place) {
  for (const level of ["instrument", "family"]) {
    const labels = labelsOf(place, level);
    if (labels && labels.length) return words(labels.join(" + "));
  }
  return labelsOf(place, "family") ? "no instrument" : "unlabelled";
}

/** Whether two clips share a label: true, false, or null where it is not known of one of them. */
function agree(one, other, level) {
  const [first, second] = [labelsOf(one, level), labelsOf(other, level)];
  if (!first || !second || !(first.length + second.length)) return null;
  return first.some((label) => second.includes(label));
}

const KNOWN_AS = { map_at_r: "mAP@R", knn: "kNN", v_measure: "v-measure", r2: "R²" };
const words = (name) => KNOWN_AS[name] ?? name.replaceAll("_", " ");
const counted = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)} %`);

/** An element. Attributes that are functions listen to events; children are elements or text, never markup. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** A table within a box that scrolls sideways where it is too wide. */
function table(caption, header, rows, className = "") {
  const head = el("tr", {}, header.map((name) => el("th", { scope: "col" }, name)));
  return el(
    "div",
    { class: "wide", tabindex: 0, role: "region", "aria-label": caption },
    el("table", { class: className }, el("thead", {}, head), el("tbody", {}, rows)),
  );
}
