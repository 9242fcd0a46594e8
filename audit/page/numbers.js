// The head of the page, and tables of numbers: scores, confusion, shortcuts.

const twins = findings.duplicates;
const allPairs = twins.num_pairs + twins.num_leaks + twins.num_touching;
const before = findings.comparison;

function buildAbout() {
  const text = (value) => (typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 2 }) : String(value));
  const facts = Object.entries(findings.about).filter(([, value]) => value !== null);
  document.getElementById("about").append(
    ...facts.map(([key, value]) => el("div", {}, el("dt", {}, words(key)), el("dd", {}, text(value)))),
  );
}

/** A handful of numbers that lead to their sections. */
function buildHeadlines() {
  const scored = ["purity", "map_at_r"].map((start) => {
    const found = findings.scores.filter((score) => score.measure.startsWith(start));
    return found.find((score) => score.level === "family") ?? found[0];
  });
  const tiles = scored.filter(Boolean).map((score) => [
    "scores", percent(score.value), `${words(score.measure)} by ${score.level}`,
    score.chance === null ? "" : `chance ${percent(score.chance)}`,
  ]);
  tiles.push(
    ["duplicates", twins.num_leaks.toLocaleString("en"), "leaks across splits", counted(allPairs, "near-duplicate pair")],
    ["suspects", findings.suspects.length.toLocaleString("en"), "suspect labels", "most suspect first"],
    ["places", fixed(findings.hubness, 1), "hubness", findings.hubness > 1 ? "a few clips are near to many" : "few hubs"],
  );
  document.getElementById("headlines").append(
    ...tiles.map(([section, value, name, more]) =>
      el("li", {}, el("a", { href: `#${section}` }, el("b", {}, value), el("span", {}, name), el("small", {}, more)))),
  );
}

/** A share as a bar with its confidence interval and, as a tick, what chance would give. */
function bar({ value, low, high, chance }) {
  const part = (className, from, width) => {
    const made = el("span", { class: className });
    made.style.left = `${100 * Math.min(1, Math.max(0, from ?? 0))}%`;
    if (width !== undefined) made.style.width = `${100 * Math.min(1, Math.max(0, width))}%`;
    return made;
  };
  const has = (number) => number !== null && number !== undefined;
  return el(
    "span",
    { class: "bar", "aria-hidden": "true" },
    part("fill", 0, value ?? 0),
    has(low) && has(high) ? part("interval", low, high - low) : null,
    has(chance) ? part("chance", chance) : null,
  );
}

/** What another run had, and whether the difference is beyond both intervals. */
function changeCells(score) {
  if (!before) return [];
  const old = before.scores.find((one) => one.level === score.level && one.measure === score.measure);
  if (!old || old.value === null || score.value === null) return [el("td", {}, "–"), el("td", {}, "–")];
  const by = score.value - old.value;
  const isSure = score.low > old.high || score.high < old.low;
  const sign = by >= 0 ? "+" : "−";
  const className = isSure ? (by > 0 ? "better" : "worse") : "unsure";
  return [
    el("td", {}, fixed(old.value, 3)),
    el("td", { class: className }, `${sign}${Math.abs(by).toFixed(3)}`, el("small", {}, isSure ? "" : "intervals overlap")),
  ];
}

function buildScores() {
  const rows = findings.scores.map((score, place) => {
    const isFirst = !place || findings.scores[place - 1].level !== score.level;
    return el(
      "tr",
      { class: isFirst ? "first" : "" },
      el("th", { scope: "row" }, el("span", { class: "level" }, words(score.level)), words(score.measure)),
      el("td", { class: "graph" }, bar(score)),
      el("td", {}, el("b", {}, fixed(score.value, 3)), el("small", {}, `${fixed(score.low, 3)} to ${fixed(score.high, 3)}`)),
      el("td", {}, fixed(score.chance, 3)),
      changeCells(score),
      el("td", {}, score.clips.toLocaleString("en")),
    );
  });
  const header = ["", "", "value, 95 % interval", "chance", ...(before ? ["other run", "change"] : []), "clips"];
  const depths = Object.entries(findings.tree_distance);
  return [
    el("p", { class: "lead" },
      "How often neighbours share a label. Bars show the value with its interval; the tick is what neighbours drawn at random would reach.",
      before ? ` The other run is ${before.run}.` : ""),
    rows.length ? table("Scores", header, rows, "scores") : el("p", { class: "none" }, "No level has enough labels to be scored."),
    depths.length
      ? el("p", {}, "Mean depth of the label tree at which clips part from their neighbours (0 same timbre, 4 no instrument): ",
          depths.map(([name, value], place) => [place ? ", " : "", el("b", {}, fixed(value)), ` ${words(name)}`]), ".")
      : null,
  ];
}

function buildConfusion() {
  const { confusion } = findings;
  if (!confusion) return [el("p", { class: "none" }, "Too few clips are known to be of one family.")];
  const rows = confusion.names.map((name, row) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, words(name), el("small", {}, confusion.clips[row].toLocaleString("en"))),
      confusion.share[row].map((share, column) => {
        const said = `${percent(share)} of the neighbours of ${words(name)} are ${words(confusion.names[column])}`;
        const cell = el("td", { class: share > 0.55 ? "heavy" : "", title: said }, share >= 0.005 ? String(Math.round(100 * share)) : "");
        cell.style.setProperty("--share", `${100 * Math.sqrt(share ?? 0)}%`); // a root: small shares are what matters
        if (row === column) cell.classList.add("own");
        return cell;
      }),
    ),
  );
  const header = ["", ...confusion.names.map((name) => el("span", {}, words(name)))];
  return [
    el("p", { class: "lead" }, "Of whose family the neighbours are, in percent: a row is the clip asked, a column its neighbours."),
    table("Families of neighbours", header, rows, "confusion"),
  ];
}

function buildShortcuts() {
  if (!findings.shortcuts.length) return [el("p", { class: "none" }, "Nothing besides instruments could be asked of this pack.")];
  const rows = findings.shortcuts.map((shortcut) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, words(shortcut.name)),
      el("td", { class: "graph" }, bar(shortcut)),
      el("td", {}, el("b", {}, fixed(shortcut.value)), el("small", {}, words(shortcut.measure))),
      el("td", {}, fixed(shortcut.chance)),
      el("td", {}, shortcut.clips.toLocaleString("en")),
      el("td", { class: "text" }, shortcut.explanation),
    ),
  );
  return [
    el("p", { class: "lead" }, "What else can be read from the embedding. What lies far above chance may be what neighbours are near by, in place of the instrument."),
    table("Shortcuts", ["", "", "value", "chance", "clips", "meaning"], rows, "scores"),
  ];
}
