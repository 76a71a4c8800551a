import assert from "node:assert/strict";
import { createServer } from "node:http";
import { type TestContext, test } from "node:test";
import { toBinary } from "@bufbuild/protobuf";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import type { ServerWritableStream } from "@grpc/grpc-js";
import * as node from "../src/node.js";
import {
  connectFake,
  dial,
  errorOf,
  type Fake,
  grpcFake,
  listen,
  listOf,
  OVERLOADED,
  type Refusal,
  UNAVAILABLE,
  visit,
} from "./fakes.js";

const SOMEONE = { query: node.forUser("u1") };
const STOPPING = { code: UNAVAILABLE, reason: "SHUTTING_DOWN" };
const BUSY = { code: OVERLOADED, reason: "OVERLOADED", delayMs: 60 };

/** A server that fails so often, and then answers, and a client of it. */
type FailsFirst = (context: TestContext, times: number, refusal: Refusal) => Promise<[Fake, Client]>;
type Client = Pick<node.ShortlistClient, "recommend" | "rollBackBundle">;

const TRANSPORTS: Record<string, FailsFirst> = {
  gRPC: async (context, times, refusal) => {
    const fake = await grpcFake(context, failsFirst(times, refusal));
    return [fake, dial(context, fake.target)];
  },
  Connect: async (context, times, refusal) => {
    const fake = await connectFake(context, failsFirst(times, refusal));
    return [fake, visit(context, fake.target)];
  },
};

function failsFirst(times: number, refusal: Refusal) {
  return {
    recommend: (call: number) => (call <= times ? refusal : undefined),
    rollBack: () => refusal,
    stream: (call: number, stream: ServerWritableStream<unknown, unknown>) => {
      if (call <= times) {
        stream.emit("error", errorOf(refusal));
      } else {
        stream.write(listOf(call));
        stream.end();
      }
    },
  };
}

for (const [transport, begin] of Object.entries(TRANSPORTS)) {
  test(`${transport}: calls that nobody answered are made again`, async (context) => {
    const [, client] = await begin(context, 3, STOPPING);
    const answer = await client.recommend(SOMEONE);
    assert.equal(answer.info?.catalogRevision, 4n);
    const [fake, other] = await begin(context, 9, STOPPING);
    await assert.rejects(other.recommend(SOMEONE), { name: "Unavailable", reason: node.ErrorReason.SHUTTING_DOWN });
    assert.equal(fake.times.length, 4);
  });

  test(`${transport}: a roll back is never made again`, async (context) => {
    const [fake, client] = await begin(context, 9, STOPPING);
    await assert.rejects(client.rollBackBundle(), node.Unavailable);
    assert.equal(fake.times.length, 1);
  });

  test(`${transport}: a busy server is asked again when it says`, async (context) => {
    const [fake, client] = await begin(context, 2, BUSY);
    const answer = await client.recommend(SOMEONE);
    assert.equal(answer.info?.catalogRevision, 3n);
    assertGaps(fake);
    const [busy, other] = await begin(context, 9, BUSY);
    await assert.rejects(other.recommend(SOMEONE), node.Overloaded);
    assert.equal(busy.times.length, 4);
  });

  for (const [why, refusal] of Object.entries({
    "its delay is unknown": { code: OVERLOADED, reason: "OVERLOADED" },
    "its delay is longer than the timeout": { code: OVERLOADED, reason: "RATE_LIMITED", delayMs: 3_600_000 },
    "it failed otherwise": { code: 13, reason: "INTERNAL", delayMs: 1 },
  })) {
    test(`${transport}: a server is not asked again where ${why}`, async (context) => {
      const [fake, client] = await begin(context, 9, refusal);
      await assert.rejects(client.recommend(SOMEONE), { reason: node.ErrorReason[refusal.reason as "INTERNAL"] });
      assert.equal(fake.times.length, 1);
    });
  }
}

/** No call came sooner than the delay after the one before; a timer may be early by a millisecond. */
function assertGaps(fake: Fake): void {
  for (const [call, time] of fake.times.slice(1).entries()) {
    assert(time - (fake.times[call] as number) >= BUSY.delayMs - 1, String(fake.times));
  }
}

test("a stream that has not begun is made again as well", async (context) => {
  const fake = await grpcFake(context, failsFirst(2, BUSY));
  const revisions = [];
  for await (const list of dial(context, fake.target).streamRecommend({ request: SOMEONE })) {
    revisions.push(list.response?.info?.catalogRevision);
  }
  assert.deepEqual(revisions, [3n]);
  assertGaps(fake);
});

test("a stream that has begun is not made again", async (context) => {
  const fake = await grpcFake(context, {
    stream: (call, stream) => {
      stream.write(listOf(call));
      stream.emit("error", errorOf(BUSY));
    },
  });
  let lists = 0;
  const loop = async () => {
    for await (const _ of dial(context, fake.target).streamRecommend({ request: SOMEONE })) {
      lists++;
    }
  };
  await assert.rejects(loop(), node.Overloaded);
  assert.deepEqual([lists, fake.times.length], [1, 1]);
});

test("a loop that is left ends the call on the server, and the next is a call of its own", async (context) => {
  let ended = () => {};
  const left = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const fake = await grpcFake(context, {
    stream: (call, stream) => {
      stream.on("cancelled", ended);
      stream.write(listOf(call));
    },
  });
  const lists = dial(context, fake.target).streamRecommend({ request: SOMEONE });
  assert.equal(fake.times.length, 0);
  for (const expected of [1n, 2n]) {
    for await (const list of lists) {
      assert.equal(list.response?.info?.catalogRevision, expected);
      break;
    }
  }
  await left;
});

test("a loop over fetch that is left ends the call on the server", async (context) => {
  let ended = () => {};
  const left = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const server = createServer((_, response) => {
    response.on("close", ended).writeHead(200, { "content-type": "application/connect+proto" });
    response.write(encodeEnvelope(0, toBinary(node.StreamRecommendResponseSchema, listOf(1))));
  });
  const client = visit(context, `http://127.0.0.1:${await listen(context, server)}`);
  for await (const list of client.streamRecommend({ request: SOMEONE })) {
    assert.equal(list.response?.info?.catalogRevision, 1n);
    break;
  }
  await left;
});

test("a caller who gives up while the client waits is told so", async (context) => {
  const giving = new AbortController();
  const fake = await grpcFake(context, {
    recommend: () => {
      setImmediate(() => giving.abort());
      return { ...BUSY, delayMs: 20_000 };
    },
  });
  const call = dial(context, fake.target).recommend(SOMEONE, { signal: giving.signal });
  await assert.rejects(call, node.ShortlistError);
  assert.equal(fake.times.length, 1);
});
