// What stands around the map: colours, filters, the legend, the tip at the pointer, and the chosen clip.

const COLOURS = [
  "#3b82f6", "#f97316", "#16a34a", "#dc2626", "#a855f7", "#ca8a04", "#06b6d4", "#ec4899", "#84cc16", "#92400e",
  "#6366f1", "#0f766e",
];
const GREY = { several: "#64748b", none: "#94a3b8", unknown: "#a8a29e" };
const RAMP = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"]; // viridis
const NUMBERS = { pitch: "MIDI", loudness: "dB", seconds: "s" };
const theme = { ink: [0, 0, 0], ground: [255, 255, 255] };
const state = { colour: "family", filters: {}, text: "" };
const categories = {}; // of each level: what the legend and the filters list, by how many clips of the map have it
const usable = Object.keys(clips.levels).filter((level) => {
  const { names, codes } = clips.levels[level];
  return names.length && !(level === "sound" && codes.slice(0, numPoints).every((code) => code === codes[0]));
});
const numbersKnown = Object.keys(clips.numbers).filter((name) => clips.numbers[name].some((value) => value !== null));

const rgbOf = (hex) => [1, 3, 5].map((from) => parseInt(hex.slice(from, from + 2), 16));
const cssOf = ([red, green, blue]) => `rgb(${red}, ${green}, ${blue})`;

/** A colour for the place of a label in the order of how common it is; far down the list they differ little. */
function colourOf(place) {
  if (place < COLOURS.length) return rgbOf(COLOURS[place]);
  const hue = (place * 137.508) % 360;
  const light = 0.42 + 0.16 * (place % 3) / 2;
  const channel = (shift) => {
    const at = (shift + hue / 30) % 12;
    return Math.round(255 * (light - 0.6 * Math.min(light, 1 - light) * Math.max(-1, Math.min(at - 3, 9 - at, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

/** Under which entry of the legend a set of labels falls. */
function entryOf(level, code) {
  if (code < 0) return "unknown";
  const one = clips.levels[level].sets[code];
  if (one.length > 1) return "several";
  return one.length ? clips.levels[level].names[one[0]] : "none";
}

/** Labels of a level on the map, the most common first, then several, none and unknown: name, count, colour. */
function entriesOf(level) {
  if (categories[level]) return categories[level];
  const counts = new Map();
  for (let place = 0; place < numPoints; place++) {
    const entry = entryOf(level, clips.levels[level].codes[place]);
    counts.set(entry, (counts.get(entry) ?? 0) + 1);
  }
  const names = [...counts.keys()].filter((name) => !(name in GREY));
  names.sort((one, other) => counts.get(other) - counts.get(one) || one.localeCompare(other));
  const greys = Object.keys(GREY).filter((name) => counts.has(name));
  categories[level] = [
    ...names.map((name, place) => ({ name, count: counts.get(name), colour: colourOf(place) })),
    ...greys.map((name) => ({ name, count: counts.get(name), colour: rgbOf(GREY[name]) })),
  ];
  return categories[level];
}

/** The range of a number that colours span: without the outermost 2 %, so that one odd clip does not dull the rest. */
function rangeOf(name) {
  const known = clips.numbers[name].slice(0, numPoints).filter((value) => value !== null).sort((a, b) => a - b);
  if (!known.length) return [0, 1];
  const at = (share) => known[Math.round(share * (known.length - 1))];
  return [at(0.02), Math.max(at(0.98), at(0.02) + 1e-6)];
}

function rampAt(share) {
  const along = Math.min(0.9999, Math.max(0, share)) * (RAMP.length - 1);
  const [from, to] = [rgbOf(RAMP[Math.floor(along)]), rgbOf(RAMP[Math.floor(along) + 1])];
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * (along % 1)));
}

function applyColours() {
  const { colours } = clipMap;
  if (state.colour in clips.numbers) {
    const [low, high] = rangeOf(state.colour);
    clips.numbers[state.colour].slice(0, numPoints).forEach((value, place) => {
      const colour = value === null ? rgbOf(GREY.unknown) : rampAt((value - low) / (high - low));
      colours[place] = packed(colour);
    });
  } else {
    const byName = new Map(entriesOf(state.colour).map(({ name, colour }) => [name, packed(colour)]));
    const { sets, codes } = clips.levels[state.colour];
    const bySet = sets.map((_, code) => byName.get(entryOf(state.colour, code)));
    for (let place = 0; place < numPoints; place++) {
      colours[place] = codes[place] < 0 ? byName.get("unknown") : bySet[codes[place]];
    }
  }
  showLegend();
  clipMap.requestDraw();
}

/** Leaves only the clips that pass every filter; a clip with several labels passes for each of them. */
function applyFilters() {
  const tests = Object.entries(state.filters).map(([level, wanted]) => {
    const { sets, codes, names } = clips.levels[level];
    const passes = sets.map((one, code) => entryOf(level, code) === wanted || one.some((label) => names[label] === wanted));
    return (place) => (codes[place] < 0 ? wanted === "unknown" : passes[codes[place]]);
  });
  const text = state.text.trim().toLowerCase();
  if (text) tests.push((place) => clips.ids[place].toLowerCase().includes(text));
  let count = 0;
  for (let place = 0; place < numPoints; place++) {
    const passes = tests.every((test) => test(place));
    clipMap.isShown[place] = passes ? 1 : 0;
    count += passes ? 1 : 0;
  }
  const shown = document.getElementById("shown");
  shown.textContent = `${count.toLocaleString("en")} of ${counted(numPoints, "clip")}`;
  shown.classList.toggle("empty", !count);
  clipMap.requestDraw();
}

function setFilter(level, wanted) {
  if (wanted) state.filters[level] = wanted;
  else delete state.filters[level];
  document.getElementById(`filter-${level}`).value = wanted;
  applyFilters();
  showLegend();
}

function buildFilters() {
  const option = (value, text = words(value)) => el("option", { value }, text);
  const colour = el(
    "select",
    { id: "colour", change: (event) => { state.colour = event.target.value; applyColours(); } },
    [...usable, ...numbersKnown].map((name) => option(name)),
  );
  state.colour = usable.includes("family") ? "family" : usable[0];
  colour.value = state.colour;
  const selects = usable.map((level) =>
    el(
      "label",
      {},
      words(level),
      el(
        "select",
        { id: `filter-${level}`, change: (event) => setFilter(level, event.target.value) },
        option("", "any"),
        entriesOf(level).map(({ name, count }) => option(name, `${words(name)} (${count.toLocaleString("en")})`)),
      ),
    ),
  );
  const text = el("input", {
    type: "search", id: "filter-text", placeholder: "part of a clip's name",
    input: (event) => { state.text = event.target.value; applyFilters(); },
  });
  const reset = () => {
    text.value = state.text = "";
    for (const level of usable) setFilter(level, "");
  };
  document.getElementById("filters").append(
    el("label", {}, "colour by", colour),
    el("label", {}, "clip", text),
    el("button", { type: "button", id: "reset", click: reset }, "Clear filters"),
    el("output", { id: "shown", "aria-live": "polite" }),
    // Closed where it would push the map from the screen.
    el("details", { open: matchMedia("(min-width: 40rem)").matches }, el("summary", {}, "Filters"), el("div", { class: "tools" }, selects)),
  );
}

/** Entries of the legend are filters too. */
function showLegend() {
  const legend = document.getElementById("legend");
  if (state.colour in clips.numbers) {
    const [low, high] = rangeOf(state.colour);
    const ramp = el("span", { class: "ramp" });
    ramp.style.background = `linear-gradient(90deg, ${RAMP.join(", ")})`;
    const unit = NUMBERS[state.colour];
    legend.replaceChildren(el("span", {}, `${fixed(low, 1)} ${unit}`), ramp, el("span", {}, `${fixed(high, 1)} ${unit}`));
    return;
  }
  const level = state.colour;
  legend.replaceChildren(
    ...entriesOf(level).map(({ name, count, colour }) => {
      const isOn = state.filters[level] === name;
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = cssOf(colour);
      const press = () => {
        setFilter(level, isOn ? "" : name);
        [...legend.children].find((button) => button.dataset.name === name)?.focus();
      };
      return el(
        "button",
        { type: "button", "aria-pressed": String(isOn), "data-name": name, click: press },
        swatch, words(name), el("small", {}, count.toLocaleString("en")),
      );
    }),
  );
}

function showTip(place, x, y, width, height) {
  const tip = document.getElementById("map-tip");
  tip.hidden = place < 0;
  if (place < 0) return;
  const colour = state.colour in clips.numbers ? null : labelText(place, state.colour);
  tip.replaceChildren(
    el("b", {}, titleOf(place)),
    colour && !["instrument", "family"].includes(state.colour) ? el("span", {}, `${words(state.colour)}: ${colour}`) : "",
    el("span", {}, `${labelText(place, "split")}, ${labelText(place, "source")}`),
    el("span", { class: "id" }, clips.ids[place]),
    hasSound(clips.ids[place]) ? "" : el("span", { class: "id" }, "not to be heard in this page"),
  );
  tip.style.left = `${Math.max(0, Math.min(x + 14, width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > height ? Math.max(0, y - tip.offsetHeight - 10) : y + 18}px`;
}

/** The neighbours of a clip on the map: place and similarity. */
function nearestOf(place) {
  const from = place * clips.nearest;
  return Array.from({ length: place < numPoints ? clips.nearest : 0 }, (_, rank) => ({
    place: clips.neighbours[from + rank],
    similarity: clips.similarity[from + rank] / 1000,
  })).filter((neighbour) => neighbour.place >= 0);
}

/** Tells of the chosen clip, and plays it if asked to. */
function showChosen(place, isHeard) {
  const panel = document.getElementById("chosen");
  if (place < 0) return panel.replaceChildren(el("p", { class: "none" }, "Choose a clip on the map."));
  const name = clips.ids[place];
  const facts = [
    ...usable.filter((level) => level !== "sound").map((level) => [words(level), labelText(place, level)]),
    ...numbersKnown.filter((key) => clips.numbers[key][place] !== null)
      .map((key) => [key, `${fixed(clips.numbers[key][place], key === "pitch" ? 0 : 1)} ${NUMBERS[key]}`]),
  ].filter(([, text]) => text !== "unknown");
  const own = tile(name);
  const near = nearestOf(place).map(({ place: other, similarity }) => ({ clip: clips.ids[other], similarity }));
  panel.replaceChildren(
    own,
    hasSound(name) ? "" : unheard(place),
    el("p", { class: "id" }, name),
    el("dl", {}, facts.map(([key, text]) => [el("dt", {}, key), el("dd", {}, text)])),
    near.length ? el("h3", {}, "Neighbours") : "",
    strip(name, near),
  );
  panel.scrollTop = 0;
  if (isHeard) toggle(name, own);
  return undefined;
}

/** A page has no room for every sound of a large pack; the nearest that it has is the next best. */
function unheard(place) {
  const next = clipMap.near(...clipMap.at(place), Infinity, (other) => hasSound(clips.ids[other]));
  const press = () => clipMap.choose(next);
  return el(
    "p",
    {},
    "Its sound found no room in this page. ",
    next < 0 ? "" : el("button", { type: "button", click: press }, "Hear the nearest that did"),
  );
}

/** Colours that the canvas shares with the page. */
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  theme.ink = rgbOf(style.getPropertyValue("--ink").trim());
  theme.ground = rgbOf(style.getPropertyValue("--canvas").trim());
}
