import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { type DescMethod, fromJson, type JsonValue, type Message, toJson } from "@bufbuild/protobuf";
import * as node from "../src/node.js";
import * as web from "../src/web.js";
import { differences, type Rules } from "./comparison.js";
import { checkReadme } from "./readme.js";
import { type RealServers, ROOT, startServers } from "./servers.js";

/** A request, and what must come of it; see tests/data/requests/README.md. */
interface Vector {
  method: string;
  request: JsonValue;
  server?: string;
  key?: string;
  expected: Record<string, unknown>;
}

const FOLDER = path.join(ROOT, "tests/data/requests");
const RULES: Rules = read("comparison.json");
const VECTORS = readdirSync(FOLDER)
  .filter((name) => /^[0-9].*\.json$/.test(name))
  .sort();
const SERVICES = [
  node.RecommendationService,
  node.ConversationService,
  node.BundleService,
  node.CatalogService,
  node.Health,
];
/** Machines of CI are slow: no test waits for the default to be over. */
const TIMEOUT = { timeoutMs: 60_000, turnTimeoutMs: 60_000 };
/** A connection of its own for each call, as the vectors want it. */
const fetchAlone: typeof fetch = (input, init) => {
  const headers = new Headers(init?.headers);
  headers.set("connection", "close");
  return fetch(input, { ...init, headers });
};

/** What carries the calls, each to servers of its own: some vectors change items and bundles. */
const TRANSPORTS: Record<string, (servers: RealServers, server: string, key: Key) => Client> = {
  gRPC: ({ servers }, server, key) =>
    new node.ShortlistClient(servers[server] as string, {
      ...TIMEOUT,
      ...key,
      channelOptions: { "grpc.use_local_subchannel_pool": 1 },
    }),
  Connect: ({ http }, server, key) =>
    new web.ShortlistClient(`http://${http[server]}`, { ...TIMEOUT, ...key, fetch: fetchAlone }),
};
type Key = { apiKey?: string };
type Client = node.ShortlistClient | web.ShortlistClient;

const answered = new Map<string, Set<string>>(VECTORS.map((name) => [name, new Set()]));

describe("real servers", { concurrency: true }, () => {
  const running = Object.entries(TRANSPORTS).map(([name, begin]) => ({ name, begin, started: startServers() }));
  const any = Promise.race(running.map(({ started }) => started));

  after(async () => {
    await Promise.all(running.map(async ({ started }) => (await started).stop()));
    report();
  });

  for (const { name: transport, begin, started } of running) {
    test(`every vector is answered as expected over ${transport}`, async (context) => {
      const servers = await started;
      // They are sent in order: one that fails does not keep the later ones from it.
      for (const name of VECTORS) {
        await context.test(name, async () => {
          const vector: Vector = read(name);
          const { server = "main", key = "all" } = vector;
          const client = begin(servers, server, key === "none" ? {} : { apiKey: servers.keys[key] ?? "" });
          const got = await send(client, vector).finally(() => client.close());
          assert.deepEqual(differences(RULES, vector.method, vector.expected, got), []);
          answered.get(name)?.add(transport);
        });
      }
    });
  }

  test("gRPC-Web is answered as well", async () => {
    const { http } = await any;
    const client = new web.ShortlistClient(`http://${http.faulty}`, { ...TIMEOUT, protocol: "grpc-web" });
    const query = node.forUser("u1");
    assert.equal((await client.recommend({ query, limit: 2 })).items.length, 2);
    const late = client.recommend({ query, limit: 501 });
    await assert.rejects(late, { name: "InvalidRequest", code: "INVALID_ARGUMENT", field: "limit" });
    const lists = [];
    for await (const list of client.streamRecommend({ request: { query } })) {
      lists.push(list.last);
    }
    assert.deepEqual(lists, [true]);
    client.close();
  });

  test("the programs of the README run", async () => checkReadme(await any));
});

test("answers are compared by the rules", () => {
  const rules = { volatile: ["requestId"], tolerance: 1e-5, unordered: { Batch: "index" } };
  const list = (...responses: unknown[]) => ({ responses });
  for (const [method, expected, got, where] of [
    ["", { a: 1 }, { a: 1.000001 }, undefined],
    ["", { a: 1 }, { a: 1.001 }, "a"],
    ["", { a: 1000 }, { a: 1000.001 }, undefined],
    ["", { a: "1" }, { a: 1 }, "a"],
    ["", { a: 1 }, { a: "1" }, "a"],
    ["", { a: true }, { a: 1 }, "a"],
    ["", { a: [1] }, { a: [1, 2] }, "a"],
    ["", { a: { b: 1 } }, { a: {} }, "a.b"],
    ["", {}, { b: "" }, "b"],
    ["", { requestId: "1" }, { requestId: "2" }, undefined],
    ["Batch", list({ x: "a" }, { index: 1 }), list({ index: 1 }, { x: "a" }), undefined],
    ["", list({ index: 2 }, { index: 1 }), list({ index: 1 }, { index: 2 }), "responses[0].index"],
  ] as const) {
    assert.equal(differences(rules, method, expected, got)[0]?.split(":")[0], where, JSON.stringify([expected, got]));
  }
});

function read<Kind>(name: string): Kind {
  return JSON.parse(readFileSync(path.join(FOLDER, name), "utf-8"));
}

/** Makes the call by the client's method of the same name; returns what came, as `expected` has it. */
async function send(client: Client, vector: Vector): Promise<Record<string, unknown>> {
  const method = methodOf(vector.method);
  const request = fromJson(method.input, vector.request);
  type Called = (request: Message) => Promise<Message> | AsyncIterable<Message>;
  const call = (client as unknown as Record<string, Called>)[method.localName];
  assert(call, `the client has no method ${method.localName}`);
  const responses: Message[] = [];
  try {
    const answer = call.call(client, request);
    if (Symbol.asyncIterator in answer) {
      for await (const response of answer) {
        responses.push(response);
      }
    } else {
      responses.push(await answer);
    }
  } catch (error) {
    return { error: told(error) };
  }
  return { responses: responses.map((response) => toJson(method.output, response)) };
}

function methodOf(name: string): DescMethod {
  const [service, method] = name.split("/");
  const found = SERVICES.find(({ typeName }) => typeName === service)?.methods.find((one) => one.name === method);
  assert(found, name);
  return found;
}

/** Takes an error apart, and checks that it is of the class that its reason and its code say. */
function told(error: unknown): Record<string, unknown> {
  assert(error instanceof node.ShortlistError, String(error));
  assert(error instanceof classOf(error), `${error.name} for ${error.code}, ${node.ErrorReason[error.reason]}`);
  assert(error.message && error.requestId);
  return {
    code: error.code,
    reason: node.ErrorReason[error.reason],
    metadata: error.metadata,
    has_retry_delay: (error.retryDelayMs ?? 0) > 0,
  };
}

/** The error table, as a caller of the package has it. */
function classOf(error: node.ShortlistError): new (...arguments_: never[]) => node.ShortlistError {
  const reason = node.ErrorReason[error.reason] ?? "";
  if (/^(BUNDLE_|PARITY|MODEL_SIGNATURE_MISMATCH)/.test(reason)) {
    return node.BundleRefused;
  }
  if (reason === "RATE_LIMITED") {
    return node.RateLimited;
  }
  switch (error.code) {
    case "INVALID_ARGUMENT":
      return node.InvalidRequest;
    case "UNAUTHENTICATED":
      return node.Unauthenticated;
    case "PERMISSION_DENIED":
      return node.PermissionDenied;
    case "NOT_FOUND":
      return node.NotFound;
    case "DEADLINE_EXCEEDED":
      return node.DeadlineExceeded;
    case "RESOURCE_EXHAUSTED":
      return node.Overloaded;
    case "UNAVAILABLE":
      return node.Unavailable;
    case "INTERNAL":
      return node.Internal;
    default:
      return node.ShortlistError;
  }
}

/** Tells `make test-clients` how many vectors of each method every transport answered as expected. */
function report(): void {
  const file = process.env.SHORTLIST_VECTORS_REPORT;
  if (!file) {
    return;
  }
  const counts: Record<string, number> = {};
  for (const [name, transports] of answered) {
    const { method } = read<Vector>(name);
    counts[method] = (counts[method] ?? 0) + Number(transports.size === Object.keys(TRANSPORTS).length);
  }
  writeFileSync(file, JSON.stringify(counts));
}
