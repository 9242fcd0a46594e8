// Clips as small pictures that play when they are pressed, and rows of them.

const STEP = 10; // rows of a list that are shown at first, and again with every press of "more"
const [pictureWidth, pictureHeight] = data.picture;

/** Pictures are set when they are about to be seen: a page has thousands. */
const pictures = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      const file = isIntersecting && fileOf(target.dataset.name, "picture");
      if (!file) continue;
      target.src = file;
      pictures.unobserve(target);
    }
  },
  { rootMargin: "600px" },
);

/** A clip or file as a button that plays it. `sign` is a short word beside its title, as its similarity. */
function tile(name, sign = "", agreement = null) {
  const place = placeOf.get(name);
  const title = place === undefined ? "file" : titleOf(place);
  const said = [`Play ${title}`, sign, agreement === false ? "other label" : "", name].filter(Boolean).join(", ");
  const image = el("img", { width: pictureWidth, height: pictureHeight, alt: "", "data-name": name });
  const button = el(
    "button",
    { type: "button", class: "clip", "aria-label": said, "aria-pressed": "false", title: name, "data-name": name },
    el("span", { class: "picture" }, image),
    el(
      "span",
      { class: "words" },
      el("b", {}, title),
      agreement === null ? null : el("i", { class: agreement ? "same" : "other" }, agreement ? "=" : "≠"),
      el("span", {}, sign),
    ),
    el("span", { class: "id" }, name.split("/").slice(-2).join("/")),
  );
  if (hasSound(name)) pictures.observe(image);
  else button.classList.add("mute");
  button.addEventListener("click", () => {
    toggle(name, button);
    if (place !== undefined) clipMap.choose(place, false);
  });
  return button;
}

/** A row of a clip's neighbours, each with its similarity and whether it shares a label at a level. */
function strip(name, neighbours, level = "family") {
  const place = placeOf.get(name);
  return el(
    "div",
    { class: "strip", role: "group", "aria-label": `Neighbours of ${name}` },
    neighbours.map(({ clip, similarity }) => {
      const agreement = place === undefined ? null : agree(place, placeOf.get(clip), level);
      return tile(clip, fixed(similarity), agreement);
    }),
  );
}

/** A list that shows its first rows, and more on demand; what is not shown is not built. */
function list(rows, build, nothing) {
  if (!rows.length) return el("p", { class: "none" }, nothing);
  const items = el("ol", { class: "rows" });
  const more = el("button", { type: "button", class: "more" });
  const box = el("div", {}, items, more);
  const show = () => {
    const from = items.children.length;
    items.append(...rows.slice(from, from + STEP).map((row, place) => el("li", {}, build(row, from + place))));
    const left = rows.length - items.children.length;
    more.hidden = !left;
    more.textContent = `Show ${Math.min(STEP, left)} more of ${left}`;
    return items.children[from];
  };
  more.addEventListener("click", () => show().querySelector("button")?.focus());
  show();
  return box;
}
