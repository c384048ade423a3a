/** A new UUIDv7: its time orders it, and a repeated call with it changes nothing. */
export function uuidv7(now: number): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 5, t = now; i >= 0; i--, t = Math.floor(t / 256)) b[i] = t % 256;
  b[6] = (b[6]! & 0x0f) | 0x70;
  b[8] = (b[8]! & 0x3f) | 0x80;
  const hex = [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The time in a UUIDv7, in milliseconds since 1970. */
export function uuidTime(id: string): number {
  return parseInt(id.replaceAll("-", "").slice(0, 12), 16);
}
