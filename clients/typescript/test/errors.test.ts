import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createMute, type Socket } from "node:net";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import * as node from "../src/node.js";
import { connectFake, dial, grpcFake, listen, visit } from "./fakes.js";

const SOMEONE = { query: node.forUser("u1") };

test("an error says what the server says", async (context) => {
  const fake = await grpcFake(context, {
    recommend: () => ({ code: 3, reason: "OUT_OF_RANGE", metadata: { "x-request-id": "the server's" } }),
  });
  await assert.rejects(dial(context, fake.target).recommend(SOMEONE), {
    name: "InvalidRequest",
    code: "INVALID_ARGUMENT",
    reason: node.ErrorReason.OUT_OF_RANGE,
    message: "what is wrong",
    got: "9",
    expected: "",
    requestId: "the server's",
    retryDelayMs: undefined,
  });
});

test("errors that no server of ours wrote are of the class of their status", async (context) => {
  const classes = {
    3: node.InvalidRequest,
    16: node.Unauthenticated,
    7: node.PermissionDenied,
    5: node.NotFound,
    4: node.DeadlineExceeded,
    8: node.Overloaded,
    14: node.Unavailable,
    13: node.Internal,
    15: node.Internal,
    2: node.Internal,
    10: node.ShortlistError,
  };
  for (const [code, kind] of Object.entries(classes)) {
    const fake = await grpcFake(context, { recommend: () => ({ code: Number(code), message: "from a proxy" }) });
    await assert.rejects(dial(context, fake.target).recommend(SOMEONE), (error: Error) => {
      assert.equal(error.constructor, kind);
      return true;
    });
  }
});

test("a reason that this version does not know is none", async (context) => {
  const fake = await grpcFake(context, { recommend: () => ({ code: 5, reason: "LATER" }) });
  const unknown = { name: "NotFound", reason: node.ErrorReason.UNSPECIFIED };
  await assert.rejects(dial(context, fake.target).recommend(SOMEONE), unknown);
  const error = node.rowError(create(node.RowErrorSchema, { code: 5, reason: 9_999 as node.ErrorReason }));
  assert.deepEqual({ name: error.name, reason: error.reason }, unknown);
});

test("the error of a row is what the row alone would have ended with", () => {
  assert.equal(node.rowError(undefined), undefined);
  const row = create(node.RowErrorSchema, {
    code: 3,
    message: "limit: expected 1..500, got 501",
    reason: node.ErrorReason.OUT_OF_RANGE,
    metadata: { field: "limit", expected: "1..500", got: "501", request_id: "a/1" },
  });
  const error = node.rowError(row);
  assert(error instanceof node.InvalidRequest);
  assert.deepEqual([error.field, error.expected, error.got, error.requestId], ["limit", "1..500", "501", "a/1"]);
});

test("messages that are too large are no overload", async (context) => {
  const fake = await grpcFake(context, { largeAnswer: true });
  const client = dial(context, fake.target);
  await assert.rejects(client.recommend(SOMEONE), node.MessageTooLarge);
  await assert.rejects(client.recommend({ query: node.forUser("u".repeat(5 * 2 ** 20)) }), node.MessageTooLarge);
  // The request was not sent.
  assert.equal(fake.times.length, 1);
});

test("a caller who gives up is told so", async (context) => {
  let giving: AbortController;
  const hang = () => {
    setImmediate(() => giving.abort("enough"));
    return "hang" as const;
  };
  const grpc = dial(context, (await grpcFake(context, { recommend: hang })).target);
  const connect = visit(context, (await connectFake(context, { recommend: hang })).target);
  for (const client of [grpc, connect]) {
    giving = new AbortController();
    const gaveUp = { name: "Cancelled", code: "CANCELLED", cause: "enough" };
    await assert.rejects(client.recommend(SOMEONE, { signal: giving.signal }), gaveUp);
    // Before it began.
    await assert.rejects(client.recommend(SOMEONE, { signal: giving.signal }), gaveUp);
    giving = new AbortController();
    const late = client.recommend(SOMEONE, { signal: AbortSignal.timeout(1) });
    await assert.rejects(late, node.DeadlineExceeded);
  }
});

test("a server that is slow is told from one that is not there", async (context) => {
  const fake = await grpcFake(context, { recommend: (call) => (call === 1 ? undefined : "hang") });
  const client = dial(context, fake.target);
  await client.recommend(SOMEONE);
  await assert.rejects(client.recommend(SOMEONE, { timeoutMs: 50 }), {
    name: "DeadlineExceeded",
    message: `${fake.target} gave no answer within 50 ms`,
  });
  // It accepts connections, and never says a word.
  const sockets: Socket[] = [];
  const mute = createMute((socket) => sockets.push(socket)).listen(0, "127.0.0.1");
  await once(mute, "listening");
  context.after(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    mute.close();
  });
  const target = `127.0.0.1:${(mute.address() as AddressInfo).port}`;
  await assert.rejects(dial(context, target).recommend(SOMEONE, { timeoutMs: 50 }), {
    name: "Unavailable",
    message: `${target} is not available: no connection to it within 50 ms`,
  });
  const slow = await connectFake(context, { recommend: () => "hang" });
  const late = visit(context, slow.target).recommend(SOMEONE, { timeoutMs: 50 });
  await assert.rejects(late, { name: "DeadlineExceeded", message: `${slow.target} gave no answer within 50 ms` });
});

test("a request whose field is of another type is the caller's fault", async (context) => {
  const wrong = { ...SOMEONE, limit: "many" as unknown as number };
  const grpc = dial(context, (await grpcFake(context, {})).target);
  const connect = visit(context, (await connectFake(context, {})).target);
  for (const client of [grpc, connect]) {
    await assert.rejects(client.recommend(wrong), { name: "InvalidRequest", message: /RecommendRequest.limit/ });
  }
});

test("what a server that is none answers is told", async (context) => {
  const server = createServer((_, response) => response.writeHead(502, { "content-type": "text/html" }).end("<p>"));
  const client = visit(context, `http://127.0.0.1:${await listen(context, server)}`, { timeoutMs: 5_000 });
  await assert.rejects(client.recommend(SOMEONE), { name: "Unavailable", message: /is not available: HTTP 502/ });
  const broken = createServer((_, response) => {
    response.writeHead(200, { "content-type": "application/proto" });
    response.write("a", () => response.destroy());
  });
  const cut = visit(context, `http://127.0.0.1:${await listen(context, broken)}`, { timeoutMs: 5_000 });
  await assert.rejects(cut.recommend(SOMEONE), node.Unavailable);
});
