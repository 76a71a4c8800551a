import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { PACKAGE } from "./servers.js";

test("what pages load needs nothing of Node", () => {
  const source = path.join(PACKAGE, "build/test/src");
  const [needed, seen] = [new Set<string>(), new Set<string>()];
  const visitFile = (file: string): void => {
    if (seen.has(file)) {
      return;
    }
    seen.add(file);
    const text = readFileSync(file, "utf-8");
    assert.doesNotMatch(text, /\b(Buffer|process)\./, file);
    for (const [, name] of text.matchAll(/\bfrom "([^"]+)"/g)) {
      if (name?.startsWith(".")) {
        visitFile(path.resolve(path.dirname(file), name));
      } else {
        needed.add(name as string);
      }
    }
  };
  visitFile(path.join(source, "web.js"));
  assert(seen.has(path.join(source, "calls.js")));
  assert.deepEqual(
    [...needed].filter((name) => !/^@(bufbuild\/protobuf|connectrpc\/connect(-web)?)(\/|$)/.test(name)),
    [],
  );
});
