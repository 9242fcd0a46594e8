// Lists of clips: suspects, duplicates and leaks, hubs and outliers, queries, and what another run sees otherwise.

/** A label that is doubted, with the clip and its neighbours. */
function suspectRow(suspect, place) {
  const numbers = [
    ["rank", fixed(suspect.rank)],
    ["probability of the given label", fixed(suspect.self_confidence)],
    ["neighbours that bear it", percent(suspect.neighbour_share)],
  ];
  return el(
    "article",
    { class: "row" },
    el(
      "div",
      { class: "subject" },
      el("p", { class: "verdict" },
        el("small", {}, `${place + 1}. ${suspect.level}`), " ",
        el("s", {}, words(suspect.given)), " → ", el("b", {}, words(suspect.suggested))),
      tile(suspect.clip),
      el("dl", {}, numbers.map(([key, text]) => [el("dt", {}, key), el("dd", {}, text)])),
    ),
    el("div", { class: "both" }, strip(suspect.clip, suspect.neighbours, suspect.level), correctionField(suspect)),
  );
}

function buildSuspects() {
  return [
    el("p", { class: "lead" },
      "Labels that a probe, trained on other clips, and the neighbours both doubt. Listen, type what sounds where they are wrong, save the table, and apply it with ",
      el("code", {}, "python -m data.relabel PACK corrections.csv"), "."),
    findings.suspects.length ? correctionTools() : null,
    list(findings.suspects, suspectRow, "No label looks wrong."),
  ];
}

function pairRow(pair) {
  const differ = pair.splits[0] !== pair.splits[1];
  return el(
    "article",
    { class: "row pair" },
    el(
      "div",
      { class: "subject" },
      el("p", { class: "verdict" },
        el("b", {}, fixed(pair.correlation, 3)), " ",
        el("span", { class: pair.is_exact ? "badge strong" : "badge" }, pair.is_exact ? "equal sound" : "alike"), " ",
        el("span", { class: differ ? "badge strong" : "badge" }, differ ? pair.splits.join(" ↔ ") : pair.splits[0])),
      el("dl", {}, el("dt", {}, "similarity"), el("dd", {}, fixed(pair.similarity, 3)), pair.groups.map((group, place) => [el("dt", {}, `group ${place + 1}`), el("dd", { class: "id", title: group }, group)])),
    ),
    el("div", { class: "strip" }, tile(pair.first), tile(pair.second)),
  );
}

function buildDuplicates() {
  const kinds = [
    ["Leaks across splits", twins.leaks, twins.num_leaks, "No clip of one split sounds like a clip of another."],
    ["Groups that should not touch", twins.touching, twins.num_touching, "No two groups of one split share a sound."],
    ["Near-duplicates within a group", twins.pairs, twins.num_pairs, "No two clips of one group are too near to be two."],
  ];
  return [
    el("p", { class: "lead" }, `${counted(allPairs, "pair")} whose waveforms, aligned, correlate at ${fixed(twins.threshold, 3)} or more. ${twins.reason}`),
    kinds.map(([title, pairs, count, nothing]) => [
      el("h3", {}, title, el("small", {}, count > pairs.length ? `the nearest ${pairs.length} of ${count.toLocaleString("en")}` : count.toLocaleString("en"))),
      list(pairs, pairRow, nothing),
    ]),
  ];
}

function placeRow(name) {
  return (place) =>
    el(
      "article",
      { class: "row" },
      el("div", { class: "subject" }, el("p", { class: "verdict" }, name(place.value)), tile(place.clip)),
      strip(place.clip, place.neighbours),
    );
}

function buildPlaces() {
  const amongNearest = (value) => [el("b", {}, Math.round(value).toLocaleString("en")), " clips have it among their nearest"];
  const alone = (value) => ["mean similarity ", el("b", {}, fixed(value)), " to its nearest"];
  return [
    el("p", { class: "lead" },
      `Hubs are near to many clips, outliers to none. How often clips are among the nearest of others has a skewness of ${fixed(findings.hubness)}; 0 is even, above 1 there are hubs.`),
    el("h3", {}, "Hubs"),
    list(findings.hubs, placeRow(amongNearest), "No clip is a hub."),
    el("h3", {}, "Outliers"),
    list(findings.outliers, placeRow(alone), "No clip lies apart."),
  ];
}

function queryRow(query) {
  return el(
    "article",
    { class: "row" },
    el("div", { class: "subject" }, el("p", { class: "verdict" }, query.clip === null ? "file" : "clip"), tile(query.clip ?? query.name)),
    strip(query.clip ?? query.name, query.neighbours),
  );
}

const buildQueries = () => [
  el("p", { class: "lead" }, "What was asked for, and its neighbours."),
  list(findings.queries, queryRow),
];

function changeRow(change) {
  return el(
    "article",
    { class: "row" },
    el("div", { class: "subject" },
      el("p", { class: "verdict" }, el("b", {}, percent(change.overlap)), " of its neighbours in common"), tile(change.clip)),
    el("div", { class: "both" },
      el("small", {}, "other run"), strip(change.clip, change.before),
      el("small", {}, "this run"), strip(change.clip, change.after)),
  );
}

const buildComparison = () => [
  el("p", { class: "lead" },
    `The other run is ${before.run}: both have ${percent(before.overlap)} of the neighbours in common. What improved stands beside the scores; below are the clips whose neighbours changed most.`),
  list(before.changes, changeRow, "Both runs see the same neighbours."),
];
