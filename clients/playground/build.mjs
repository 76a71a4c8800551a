// Builds the page into the server's package: `make playground`.
import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const OUT = "../../server/shortlist_server/rpc/http/playground_page";
const GZIP_BYTES_MAX = 200_000;
const HERE = import.meta.dirname;

// The stubs stand in clients/typescript, whose own packages need not be installed: one copy of the runtime, ours.
const ours = {
  name: "ours",
  setup(build) {
    build.onResolve({ filter: /^@(bufbuild|connectrpc)\// }, (found) =>
      found.pluginData === "ours"
        ? undefined
        : build.resolve(found.path, { kind: found.kind, resolveDir: HERE, pluginData: "ours" }),
    );
  },
};

async function licences(inputs) {
  const found = new Map();
  const notices = new Set();
  for (const input of inputs.filter((each) => each.includes("node_modules/"))) {
    // Files that others wrote say so at their beginning.
    const head = /^(?:\s*\/\/.*\n)+/.exec(await readFile(input, "utf8"))?.[0] ?? "";
    if (/copyright/i.test(head)) notices.add(head.replaceAll(/^\s*\/\/ ?/gm, "").trim());
  }
  for (const input of inputs) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1];
    if (name === undefined || found.has(name)) continue;
    const described = JSON.parse(await readFile(`node_modules/${name}/package.json`, "utf8"));
    const file = (await readdir(`node_modules/${name}`)).find((each) => /^licen[cs]e/i.test(each));
    const text = file === undefined ? "" : await readFile(`node_modules/${name}/${file}`, "utf8");
    found.set(name, `${name} ${described.version}, ${described.license}\n\n${text}`);
  }
  const licence = await readFile("../../LICENSE", "utf8");
  return [
    `The page is made of these, and of Shortlist, which is under the licence below:\n`,
    ...found.values(),
    ...notices,
    licence,
  ].join("\n\n");
}

await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });
const result = await build({
  entryPoints: ["src/main.ts"],
  outfile: `${OUT}/playground.js`,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none",
  metafile: true,
  plugins: [ours],
});
await build({ entryPoints: ["src/style.css"], outfile: `${OUT}/playground.css`, bundle: true, minify: true });
await cp("src/icon.svg", `${OUT}/icon.svg`);
await cp("src/index.html", `${OUT}/index.html`);
await writeFile(`${OUT}/licences.txt`, await licences(Object.keys(result.metafile.inputs)));

let total = 0;
for (const name of (await readdir(OUT)).sort()) {
  const body = await readFile(`${OUT}/${name}`);
  const size = gzipSync(body).length;
  total += size;
  console.log(`${name}\t${size} bytes compressed\t${createHash("sha256").update(body).digest("hex").slice(0, 12)}`);
}
console.log(`${total} bytes compressed in all`);
if (total > GZIP_BYTES_MAX) {
  throw new Error(`expected at most ${GZIP_BYTES_MAX} bytes compressed, got ${total}`);
}
