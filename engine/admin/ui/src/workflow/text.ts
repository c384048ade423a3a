// Text in SVG does not break or clip by itself: it is cut to a width here.
let pen: CanvasRenderingContext2D | null | undefined;
let family = "";
const widths = new Map<string, number>();

function width(text: string, size: number, weight: number): number {
  const key = `${size} ${weight} ${text}`;
  let w = widths.get(key);
  if (w === undefined) {
    if (pen === undefined) {
      pen = document.createElement("canvas").getContext("2d");
      family = getComputedStyle(document.body).fontFamily;
    }
    if (pen) {
      pen.font = `${weight} ${size}px ${family}`;
      w = pen.measureText(text).width;
    } else w = text.length * size * 0.56;
    if (widths.size > 5000) widths.clear();
    widths.set(key, w);
  }
  return w;
}

/** The text, or as much of it as fits, with an ellipsis. */
export function cut(text: string, room: number, size: number, weight = 400): string {
  if (width(text, size, weight) <= room) return text;
  let lo = 0;
  let hi = text.length;
  while (lo < hi) {
    const mid = (lo + hi + 1) >> 1;
    if (width(text.slice(0, mid).trimEnd() + "…", size, weight) <= room) lo = mid;
    else hi = mid - 1;
  }
  return text.slice(0, lo).trimEnd() + "…";
}

/** Width of a text as it is drawn. */
export function measure(text: string, size: number, weight = 400): number {
  return width(text, size, weight);
}
