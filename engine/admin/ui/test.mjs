// Bundles src/**/*.test.ts for node and runs them with its own test runner.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const here = new URL(".", import.meta.url).pathname;
const out = mkdtempSync(join(tmpdir(), "heddle-ui-test-"));
const found = readdirSync(join(here, "src"), { recursive: true }).filter((f) => f.endsWith(".test.ts")).map((f) => `src/${f}`);
let status = 1;
try {
  await build({
    absWorkingDir: here,
    entryPoints: found,
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    jsx: "automatic",
    jsxImportSource: "preact",
    loader: { ".css": "empty" },
    logLevel: "warning",
  });
  const files = readdirSync(out, { recursive: true }).filter((f) => f.endsWith(".mjs")).map((f) => join(out, f));
  status = spawnSync(process.execPath, ["--test", ...files], { stdio: "inherit" }).status ?? 1;
} finally {
  rmSync(out, { recursive: true });
}
process.exit(status);
