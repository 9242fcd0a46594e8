// Playing sounds, and the pictures of them. All files stand in one long text behind the script; `data.media` says from
// where to where each reaches: [sound from, to, picture from, to].

const player = new Audio();
let allMedia = "";
let playing = null; // the button whose sound is heard

/** A part of the files as a URL, or null if there is none (yet: the text arrives after this script has run). */
function fileOf(name, kind) {
  const place = data.media[name];
  if (!place) return null;
  const [from, to] = kind === "sound" ? place.slice(0, 2) : place.slice(2);
  if (!allMedia && document.readyState !== "loading") {
    const element = document.getElementById("media");
    allMedia = element.textContent;
    element.remove(); // its text is kept once, not twice
  }
  if (!allMedia || from === to) return null;
  return `data:${kind === "sound" ? "audio/ogg" : "image/png"};base64,${allMedia.slice(from, to)}`;
}

const hasSound = (name) => name in data.media;

function stop() {
  player.pause();
  if (playing) {
    playing.setAttribute("aria-pressed", "false");
    playing.style.removeProperty("--at");
  }
  playing = null;
}

/** Plays the sound of a clip or file; the button shows how far it has come. Pressed again, it stops. */
function toggle(name, button) {
  const wasPlaying = playing === button && !player.paused;
  stop();
  const file = wasPlaying ? null : fileOf(name, "sound");
  if (!file) return;
  player.src = file;
  playing = button;
  button.setAttribute("aria-pressed", "true");
  player.play().catch((error) => {
    if (error.name === "AbortError") return; // another sound was started meanwhile
    stop();
    button.title = "This browser cannot play Ogg Vorbis.";
    button.classList.add("mute");
  });
  requestAnimationFrame(showProgress);
}

function showProgress() {
  if (!playing || player.ended) return stop();
  playing.style.setProperty("--at", player.duration ? player.currentTime / player.duration : 0);
  requestAnimationFrame(showProgress);
}
