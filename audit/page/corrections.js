// What a person says of suspect labels, saved as the table that data.relabel reads.

const corrections = new Map(); // of a suspect, what was typed

const labelNames = (level) => [...(clips.levels[level]?.names ?? []), "none", "unknown"];

/** Where a correction is typed or the suggestion is taken over. */
function correctionField(suspect) {
  const set = (text) => {
    if (text.trim()) corrections.set(suspect, text.trim());
    else corrections.delete(suspect);
    showSaving();
  };
  const field = el("input", {
    type: "text", list: `names-${suspect.level}`, placeholder: "correction", spellcheck: "false",
    "aria-label": `Correction of the ${suspect.level} of ${suspect.clip}`,
    input: () => set(field.value),
  });
  const take = () => {
    field.value = suspect.suggested;
    set(field.value);
  };
  return el(
    "div",
    { class: "correction" },
    field,
    el("button", { type: "button", title: `Correct to ${words(suspect.suggested)}`, click: take }, "Take suggestion"),
  );
}

/** Names that a field proposes, a list a level, and the button that saves. */
function correctionTools() {
  const levels = [...new Set(findings.suspects.map((suspect) => suspect.level))];
  return el(
    "div",
    { class: "saving" },
    levels.map((level) =>
      el("datalist", { id: `names-${level}` }, labelNames(level).map((name) => el("option", { value: name })))),
    el("button", { type: "button", id: "save-corrections", disabled: true, click: saveCorrections }, "Save corrections.csv"),
    el("output", { id: "corrected", "aria-live": "polite" }, "No correction yet."),
  );
}

function showSaving() {
  document.getElementById("save-corrections").disabled = !corrections.size;
  document.getElementById("corrected").textContent = corrections.size ? counted(corrections.size, "correction") : "No correction yet.";
}

function saveCorrections() {
  const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
  const lines = [...corrections].map(([suspect, correction]) =>
    data.correctionColumns.map((column) => quoted(column === "correction" ? correction : suspect[column])).join(","));
  const text = [data.correctionColumns.join(","), ...lines, ""].join("\n");
  const link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "corrections.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
}
