import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { ServerCredentials } from "@grpc/grpc-js";
import * as node from "../src/node.js";
import * as web from "../src/web.js";
import { connectFake, dial, type Fake, grpcFake, visit } from "./fakes.js";

const SOMEONE = { query: node.forUser("u1") };
const HOUR_MS = 3_600_000;

/** A server that answers, and how a client of it is made. */
type Begin = (context: TestContext) => Promise<[Fake, (options?: node.ClientOptions) => Client]>;
type Client = Pick<node.ShortlistClient, "recommend" | "close">;

const TRANSPORTS: Record<string, Begin> = {
  gRPC: async (context) => {
    const fake = await grpcFake(context, {});
    return [fake, (options) => dial(context, fake.target, options)];
  },
  Connect: async (context) => {
    const fake = await connectFake(context, {});
    return [fake, (options) => visit(context, fake.target, options)];
  },
};

for (const [transport, begin] of Object.entries(TRANSPORTS)) {
  test(`${transport}: the deadline of a call wins over the client's`, async (context) => {
    const [fake, client] = await begin(context);
    await client({ timeoutMs: HOUR_MS }).recommend(SOMEONE);
    assert(fake.leftMs > HOUR_MS / 2 && fake.leftMs <= HOUR_MS, String(fake.leftMs));
    for (const timeoutMs of [HOUR_MS / 3, HOUR_MS * 3]) {
      await client({ timeoutMs: HOUR_MS }).recommend(SOMEONE, { timeoutMs });
      assert(fake.leftMs > timeoutMs / 2 && fake.leftMs <= timeoutMs, String(fake.leftMs));
    }
    const late = client().recommend(SOMEONE, { timeoutMs: 0 });
    await assert.rejects(late, { name: "DeadlineExceeded", message: "the deadline was over before the call began" });
    assert.equal(fake.times.length, 3);
  });

  test(`${transport}: request ids are sent, and told of`, async (context) => {
    const [fake, begun] = await begin(context);
    const client = begun();
    const seen = new Set();
    for (const _ of [1, 2]) {
      await client.recommend(SOMEONE);
      assert.match(fake.sent["x-request-id"] ?? "", /^[0-9a-f]{32}$/);
      seen.add(fake.sent["x-request-id"]);
    }
    assert.equal(seen.size, 2);
    await client.recommend(SOMEONE, { requestId: "mine", headers: { traceparent: "00-1" } });
    assert.deepEqual([fake.sent["x-request-id"], fake.sent.traceparent], ["mine", "00-1"]);
    for (const requestId of ["", "ü", "line\nbreak", "x".repeat(129)]) {
      await assert.rejects(client.recommend(SOMEONE, { requestId }), { name: "InvalidRequest", field: "requestId" });
    }
    for (const headers of [{ "x y": "1" }, { x: "ü" }, { "x-bin": "1" }, { x: "line\nbreak" }] as Record<
      string,
      string
    >[]) {
      await assert.rejects(client.recommend(SOMEONE, { headers }), { name: "InvalidRequest", field: "headers" });
    }
  });

  test(`${transport}: the API key is sent with every call`, async (context) => {
    const [fake, client] = await begin(context);
    await client({ apiKey: "sl_secret" }).recommend(SOMEONE);
    assert.equal(fake.sent.authorization, "Bearer sl_secret");
  });

  test(`${transport}: a closed client makes no calls`, async (context) => {
    const [fake, begun] = await begin(context);
    const client = begun();
    client.close();
    client.close();
    await assert.rejects(client.recommend(SOMEONE), node.ClientClosed);
    assert.equal(fake.times.length, 0);
  });
}

test("deadlines unless told otherwise", async (context) => {
  const fake = await grpcFake(context, {});
  const client = new node.ShortlistClient(fake.target);
  context.after(() => client.close());
  // Whatever became of the call on a slow machine: it did not have more time.
  await client.recommend(SOMEONE).catch(() => {});
  assert(fake.leftMs <= node.DEFAULT_TIMEOUT_MS || fake.times.length === 0);
  for (const options of [{ timeoutMs: 0 }, { turnTimeoutMs: -1 }, { timeoutMs: Number.NaN }]) {
    const field = Object.keys(options)[0];
    assert.throws(() => new node.ShortlistClient(fake.target, options), { name: "InvalidRequest", field });
    assert.throws(() => new web.ShortlistClient("/", { ...options }), node.InvalidRequest);
  }
});

test("turns of conversations have a deadline of their own", async (context) => {
  const fake = await grpcFake(context, {});
  const client = dial(context, fake.target, { timeoutMs: 1e-6, turnTimeoutMs: 60_000 });
  const turn = client.converse({ text: "Films" })[Symbol.asyncIterator]();
  await assert.rejects(turn.next(), { code: "UNIMPLEMENTED" });
});

test("the API key is not sent in plain text to other machines", () => {
  const apiKey = "sl_secret";
  const refusedPlain = (error: Error) => error instanceof node.InvalidRequest && !error.message.includes(apiKey);
  for (const target of ["shop.example:8500", "dns:///10.0.0.1:8500", "[2001:db8::1]:8500", "localhost.example:1"]) {
    assert.throws(() => new node.ShortlistClient(target, { apiKey }), refusedPlain);
    new node.ShortlistClient(target, { apiKey, plaintextKey: true }).close();
    new node.ShortlistClient(target, { apiKey, tls: {} }).close();
  }
  for (const target of ["127.0.0.1:8500", "dns:///localhost:8500", "localhost", "[::1]:8500", "unix:/tmp/a"]) {
    new node.ShortlistClient(target, { apiKey }).close();
  }
  assert.throws(() => new web.ShortlistClient("http://shop.example", { apiKey }), refusedPlain);
  new web.ShortlistClient("http://shop.example", { apiKey, plaintextKey: true });
  for (const address of ["https://shop.example", "http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"]) {
    new web.ShortlistClient(address, { apiKey });
  }
  for (const unsendable of ["", "two words", "line\nbreak", "umläut"]) {
    const shown = (error: Error) => error instanceof node.InvalidRequest && error.field === "apiKey";
    assert.throws(() => new node.ShortlistClient("127.0.0.1:8500", { apiKey: unsendable }), shown);
  }
});

test("what is no target is refused", () => {
  assert.throws(() => new node.ShortlistClient(""), { name: "InvalidRequest", field: "target" });
  for (const address of ["127.0.0.1:8500", "ftp://shop.example", ""]) {
    assert.throws(() => new web.ShortlistClient(address), { name: "InvalidRequest", field: "baseUrl" });
  }
});

test("calls go in turn to all addresses of the target", async (context) => {
  const fakes = [await grpcFake(context, {}), await grpcFake(context, {})];
  const target = `ipv4:${fakes.map((fake) => fake.target).join(",")}`;
  const client = dial(context, target, { apiKey: "sl_secret" });
  // Both connections are there after some calls.
  while (fakes.some((fake) => fake.times.length === 0)) {
    await client.recommend(SOMEONE);
  }
  const before = fakes.map((fake) => fake.times.length);
  for (let call = 0; call < 10; call++) {
    await client.recommend(SOMEONE);
  }
  const after = fakes.map((fake, place) => fake.times.length - (before[place] as number));
  assert.deepEqual(after, [5, 5]);
});

test("closing ends the calls that wait", async (context) => {
  const closing = () => {
    setImmediate(() => client.close());
    return "hang" as const;
  };
  const client = dial(context, (await grpcFake(context, { recommend: closing })).target);
  await assert.rejects(client.recommend(SOMEONE), node.ClientClosed);
});

test("TLS, with authorities and certificates of one's own", async (context) => {
  const { ca, key, cert } = certificates(context);
  const credentials = ServerCredentials.createSsl(ca, [{ private_key: key, cert_chain: cert }], true);
  const fake = await grpcFake(context, { credentials });
  const target = fake.target.replace("127.0.0.1", "localhost");
  await dial(context, target, { tls: { ca, cert: cert.toString(), key } }).recommend(SOMEONE);
  assert.equal(fake.times.length, 1);
  for (const tls of [{}, { ca }]) {
    await assert.rejects(dial(context, target, { tls, timeoutMs: 3_000 }).recommend(SOMEONE), node.Unavailable);
  }
  for (const tls of [{ key }, { cert }, { ca: "no PEM", cert: "no PEM", key: "no PEM" }]) {
    assert.throws(() => new node.ShortlistClient(target, { tls }), { name: "InvalidRequest", field: "tls" });
  }
});

test("who is not there is told by its address", async () => {
  const closed = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => closed.once("listening", resolve));
  const { port } = closed.address() as { port: number };
  await new Promise((resolve) => closed.close(resolve));
  const client = new node.ShortlistClient(`127.0.0.1:${port}`, { timeoutMs: 20_000 });
  const page = new web.ShortlistClient(`http://127.0.0.1:${port}`, { timeoutMs: 20_000 });
  for (const nobody of [client, page]) {
    await assert.rejects(nobody.recommend(SOMEONE, { requestId: "mine" }), (error: Error) => {
      assert(error instanceof node.Unavailable, String(error));
      assert.equal(error.requestId, "mine");
      assert.match(error.message, new RegExp(`127.0.0.1:${port} is not available: .*ECONNREFUSED`));
      return true;
    });
    nobody.close();
  }
});

/** An authority of its own, which signs itself for localhost. */
function certificates(context: TestContext): { ca: Buffer; key: Buffer; cert: Buffer } {
  const folder = mkdtempSync(path.join(tmpdir(), "shortlist-tls-"));
  context.after(() => rmSync(folder, { recursive: true }));
  const [key, cert] = [path.join(folder, "key.pem"), path.join(folder, "cert.pem")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
  execFileSync("openssl", ["req", "-x509", ...kind, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { ca: readFileSync(cert), key: readFileSync(key), cert: readFileSync(cert) };
}
