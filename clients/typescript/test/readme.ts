import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { PACKAGE, type RealServers } from "./servers.js";

/** Inside of the package, so that its own name is found, by its `exports`. */
const FOLDER = path.join(PACKAGE, "build/readme");
const TSC = path.join(PACKAGE, "node_modules/.bin/tsc");

/** Runs the programs of the README as their reader would, and looks at what they print. */
export function checkReadme({ servers, http }: RealServers): void {
  const readme = readFileSync(path.join(PACKAGE, "README.md"), "utf-8");
  const programs = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, program]) =>
    (program as string)
      .replaceAll("127.0.0.1:8500", servers.faulty as string)
      .replaceAll("127.0.0.1:8501", http.faulty as string),
  );
  const [quickStart, page, errors] = run(programs);
  const lines = (quickStart as string).split("\n");
  assert.equal(lines.length, 7, quickStart);
  for (const line of lines.slice(0, 5)) {
    assert.match(line, /^i\d+ Film \d+ é \S+$/);
  }
  assert.deepEqual(lines.slice(5), ["'': 5 items, last: false", "'diversity': 5 items, last: true"]);
  assert.equal(page, "5");
  assert.equal(errors, "InvalidRequest INVALID_ARGUMENT limit");
}

/** Compiles programs with the package as it is published, and runs each; returns what they printed. */
function run(programs: string[]): string[] {
  rmSync(FOLDER, { recursive: true, force: true });
  mkdirSync(FOLDER, { recursive: true });
  const names = programs.map((_, place) => `program${place}`);
  for (const [place, program] of programs.entries()) {
    writeFileSync(path.join(FOLDER, `${names[place]}.ts`), program);
  }
  const compilerOptions = { strict: true, target: "es2022", module: "nodenext", types: ["node"] };
  writeFileSync(path.join(FOLDER, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
  execFileSync(TSC, { cwd: PACKAGE, stdio: "inherit" });
  execFileSync(TSC, ["-p", FOLDER], { stdio: "inherit" });
  return names.map((name) => execFileSync("node", [`${name}.js`], { cwd: FOLDER, encoding: "utf-8" }).trim());
}
