// Puts the page together.

const notes = findings.notes.map((note) => el("li", {}, note));
const sections = [
  ...(findings.queries.length ? [["queries", "Queries", buildQueries]] : []),
  ["scores", "Scores", buildScores],
  ["confusion", "Families", buildConfusion],
  ["suspects", "Suspect labels", buildSuspects],
  ["duplicates", "Duplicates and leaks", buildDuplicates],
  ["places", "Hubs and outliers", buildPlaces],
  ["shortcuts", "Shortcuts", buildShortcuts],
  ...(before ? [["comparison", "Comparison", buildComparison]] : []),
];
if (data.leftOut) {
  notes.push(el("li", {}, `${counted(data.leftOut, "clip")} named above cannot be heard: the page had no room for more sound.`));
}
if (notes.length) sections.push(["notes", "Notes", () => [el("ul", {}, notes)]]);

buildAbout();
buildHeadlines();
readTheme();
const clipMap = new ClipMap(document.getElementById("map-canvas"), showChosen);
const main = document.getElementById("main");
for (const [id, title, build] of sections) {
  const heading = el("h2", { id: `${id}-title` }, title);
  main.append(el("section", { id, "aria-labelledby": `${id}-title` }, heading, build().flat(Infinity)));
}
document.getElementById("sections").append(
  ...[["map", "Map"], ...sections].map(([id, title]) => el("a", { href: `#${id}` }, title)),
);
buildFilters();
applyFilters();
applyColours();
showChosen(-1, false);
document.getElementById("zoom-in").addEventListener("click", () => clipMap.zoomBy(1.5));
document.getElementById("zoom-out").addEventListener("click", () => clipMap.zoomBy(1 / 1.5));
document.getElementById("zoom-all").addEventListener("click", () => clipMap.showAll());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readTheme();
  clipMap.requestDraw();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
// Pictures in view were asked for before their files had arrived behind this script.
document.addEventListener("DOMContentLoaded", () => {
  for (const image of document.querySelectorAll("img:not([src])")) {
    pictures.unobserve(image);
    if (hasSound(image.dataset.name)) pictures.observe(image);
  }
});
document.body.classList.remove("unbuilt");
clipMap.draw();
performance.mark("drawn");
