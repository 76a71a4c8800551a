import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The folder of the package. The tests run as build/test/test/*.js. */
export const PACKAGE = fileURLToPath(new URL("../../..", import.meta.url));
/** The folder of the repository. */
export const ROOT = path.join(PACKAGE, "../..");

/** Where the servers of tests/vector_server.py are, and which API keys there are. */
export interface RealServers {
  servers: Record<string, string>;
  http: Record<string, string>;
  keys: Record<string, string>;
  stop(): Promise<void>;
}

/** Starts real servers. */
export async function startServers(): Promise<RealServers> {
  const python = process.env.SHORTLIST_PYTHON ?? path.join(ROOT, ".venv/bin/python");
  const server = spawn(python, [path.join(ROOT, "tests/vector_server.py")], { stdio: ["pipe", "pipe", "ignore"] });
  for await (const line of createInterface({ input: server.stdout })) {
    return { ...JSON.parse(line), stop: () => stop(server) };
  }
  throw new Error("tests/vector_server.py said nothing: `make .venv/.installed`?");
}

/** It ends when its standard input does, however this process ends. */
async function stop(server: ChildProcess): Promise<void> {
  const ended = once(server, "exit");
  server.stdin?.end();
  await ended;
}
