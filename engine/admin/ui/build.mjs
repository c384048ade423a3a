// Bundles the page into ../dist (or the folder given): the same sources and the
// same package-lock.json give the same bytes.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, rm } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const out = process.argv[2] ?? new URL("../dist", import.meta.url).pathname;
const budget = 100_000; // bytes, gzipped, of everything the page loads

await mkdir(out, { recursive: true });
for (const old of ["app.js", "app.css", "index.html"]) await rm(`${out}/${old}`, { force: true });
await build({
  absWorkingDir: new URL(".", import.meta.url).pathname,
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome123", "firefox121", "safari17.5"],
  charset: "utf8",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
});
await copyFile(new URL("src/index.html", import.meta.url), `${out}/index.html`);

let total = 0;
for (const name of ["app.js", "app.css", "index.html"]) {
  const bytes = await readFile(`${out}/${name}`);
  const packed = gzipSync(bytes, { level: 9 }).length;
  total += packed;
  console.log(`${name.padEnd(11)} ${bytes.length} bytes, ${packed} gzipped`);
}
if (total > budget) {
  console.error(`the page is ${total} bytes gzipped, more than ${budget}`);
  process.exit(1);
}
