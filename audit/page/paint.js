// Twenty thousand discs within a frame: they are written into pixels, which costs the same with and without a graphics
// card, and less than as many calls of a canvas.

/** How much of each pixel a disc covers, 0 to 256, in a square of `size` pixels around its centre. */
function stampOf(radius) {
  const reach = Math.ceil(radius);
  const size = 2 * reach + 1;
  const cover = new Uint16Array(size * size);
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const inside = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y)));
      cover[(y + reach) * size + x + reach] = Math.round(256 * inside);
    }
  }
  return { reach, size, cover };
}

/** A colour as a canvas holds it in memory: alpha, blue, green, red from the highest byte to the lowest. */
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/**
 * Paints a disc over what is there. Red and blue are mixed in one multiplication, green in another.
 * @param {Uint32Array} pixels of `width` x `height`
 * @param {number} strength 0 to 1: of the disc against what is beneath
 */
function paintDisc(pixels, width, height, centreX, centreY, { reach, size, cover }, colour, strength) {
  const [left, top] = [Math.round(centreX) - reach, Math.round(centreY) - reach];
  const [fromX, toX] = [Math.max(0, -left), Math.min(size, width - left)];
  const [fromY, toY] = [Math.max(0, -top), Math.min(size, height - top)];
  for (let y = fromY; y < toY; y++) {
    let at = (top + y) * width + left + fromX;
    for (let x = fromX; x < toX; x++, at++) {
      const share = (cover[y * size + x] * strength) | 0;
      if (share === 0) continue;
      if (share === 256) {
        pixels[at] = colour;
        continue;
      }
      const [under, rest] = [pixels[at], 256 - share];
      const redBlue = (((colour & 0xff00ff) * share + (under & 0xff00ff) * rest) >>> 8) & 0xff00ff;
      const green = (((colour & 0xff00) * share + (under & 0xff00) * rest) >>> 8) & 0xff00;
      pixels[at] = (0xff000000 | redBlue | green) >>> 0;
    }
  }
}
