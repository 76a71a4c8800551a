import { createServer, type Server as HttpServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { ErrorInfoSchema, RetryInfoSchema, StatusSchema } from "../src/gen/google/rpc/error_details_pb.js";
import * as node from "../src/node.js";
import * as web from "../src/web.js";

/** What a server of a test says in place of an answer. */
export interface Refusal {
  code: number;
  reason?: string;
  delayMs?: number;
  message?: string;
  metadata?: Record<string, string>;
}

export const OVERLOADED = 8;
export const UNAVAILABLE = 14;
const CONNECT_CODES: Record<number, [string, number]> = {
  3: ["invalid_argument", 400],
  8: ["resource_exhausted", 429],
  13: ["internal", 500],
  14: ["unavailable", 503],
};

/** A server of which a test says what it does. It keeps what came with its calls. */
export interface Fake {
  target: string;
  /** When each call came, by performance.now. */
  times: number[];
  /** Metadata of the last call. */
  sent: Record<string, string>;
  /** Milliseconds that the last call had. */
  leftMs: number;
}

/** What a fake server does with its nth call. */
export interface Behaviour {
  recommend?: (call: number) => Refusal | undefined | "hang";
  stream?: (call: number, stream: ServerWritableStream<unknown, unknown>) => void;
  rollBack?: (call: number) => Refusal;
  largeAnswer?: boolean;
  credentials?: ServerCredentials;
}

/** Starts a server of gRPC, which ends with the test. */
export async function grpcFake(context: TestContext, behaviour: Behaviour): Promise<Fake> {
  const server = new Server();
  const fake: Fake = { target: "", times: [], sent: {}, leftMs: Number.POSITIVE_INFINITY };
  const began = (call: { metadata: Metadata; getDeadline(): Date | number }): number => {
    fake.sent = call.metadata.getMap() as Record<string, string>;
    fake.leftMs = Number(call.getDeadline()) - Date.now();
    return fake.times.push(performance.now());
  };
  const { recommend, streamRecommend } = node.RecommendationService.method;
  const { rollBackBundle } = node.BundleService.method;
  server.addService(definitionOf([recommend, streamRecommend, rollBackBundle]), {
    Recommend: (call: ServerUnaryCall<unknown, unknown>, answer: (error: unknown, message?: unknown) => void) => {
      const count = began(call);
      const refusal = behaviour.recommend?.(count);
      if (refusal === "hang") {
        return;
      }
      const items = behaviour.largeAnswer ? [{ id: "i".repeat(17 * 2 ** 20) }] : [];
      answer(refusal ? errorOf(refusal) : null, answerOf(count, items));
    },
    StreamRecommend: (call: ServerWritableStream<unknown, unknown>) => behaviour.stream?.(began(call), call),
    RollBackBundle: (call: ServerUnaryCall<unknown, unknown>, answer: (error: unknown) => void) =>
      answer(errorOf(behaviour.rollBack?.(began(call)) as Refusal)),
  } as unknown as UntypedServiceImplementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", behaviour.credentials ?? ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  fake.target = `127.0.0.1:${port}`;
  context.after(() => server.forceShutdown());
  return fake;
}

/** Starts a server of Connect that answers calls of one answer, which ends with the test. */
export async function connectFake(context: TestContext, behaviour: Behaviour): Promise<Fake> {
  const fake: Fake = { target: "", times: [], sent: {}, leftMs: Number.POSITIVE_INFINITY };
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      fake.sent = headersOf(request.headers);
      fake.leftMs = Number(request.headers["connect-timeout-ms"]);
      const count = fake.times.push(performance.now());
      const isRollBack = request.url?.endsWith("/RollBackBundle");
      const refusal = isRollBack ? behaviour.rollBack?.(count) : behaviour.recommend?.(count);
      if (refusal === "hang") {
        return;
      }
      if (refusal) {
        const [code, status] = CONNECT_CODES[refusal.code] as [string, number];
        const details = statusOf(refusal).details.map(({ typeUrl, value }) => ({
          type: typeUrl.split("/")[1],
          value: Buffer.from(value).toString("base64"),
        }));
        response.writeHead(status, { "content-type": "application/json" });
        response.end(JSON.stringify({ code, message: refusal.message ?? "what is wrong", details }));
        return;
      }
      response.writeHead(200, { "content-type": "application/proto" });
      response.end(toBinary(node.RecommendResponseSchema, answerOf(count)));
    });
  });
  fake.target = `http://127.0.0.1:${await listen(context, server)}`;
  return fake;
}

/** Starts an HTTP server, which ends with the test; returns its port. */
export async function listen(context: TestContext, server: HttpServer): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Returns a client over gRPC, which is closed with the test. */
export function dial(context: TestContext, target: string, options: node.GrpcClientOptions = {}): node.ShortlistClient {
  // Machines of CI are slow: no test waits for the default to be over.
  const client = new node.ShortlistClient(target, { timeoutMs: 30_000, ...options });
  context.after(() => client.close());
  return client;
}

/** Returns a client over Connect, which is closed with the test. */
export function visit(context: TestContext, target: string, options: web.WebClientOptions = {}): web.ShortlistClient {
  const client = new web.ShortlistClient(target, { timeoutMs: 30_000, ...options });
  context.after(() => client.close());
  return client;
}

/** An answer that says which call it is of. */
export function answerOf(call: number, items: MessageInitShape<typeof node.ScoredItemSchema>[] = []) {
  return create(node.RecommendResponseSchema, { info: { catalogRevision: BigInt(call) }, items });
}

/** A list of a stream that says which call it is of. */
export function listOf(call: number) {
  return create(node.StreamRecommendResponseSchema, { response: answerOf(call), last: true });
}

/** Returns a refusal as gRPC sends it. */
export function errorOf(refusal: Refusal) {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(refusal.metadata ?? {})) {
    metadata.set(name, value);
  }
  metadata.set("grpc-status-details-bin", Buffer.from(toBinary(StatusSchema, statusOf(refusal))));
  return { code: refusal.code, details: refusal.message ?? "what is wrong", metadata };
}

function statusOf({ code, reason, delayMs }: Refusal) {
  const details = [];
  if (reason) {
    details.push(
      anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: "shortlist", metadata: { got: "9" } })),
    );
  }
  if (delayMs) {
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(delayMs) })));
  }
  return create(StatusSchema, { code, message: "what is wrong", details });
}

function definitionOf(methods: DescMethod[]) {
  const codec = (message: DescMessage) => ({
    serialize: (value: unknown) => Buffer.from(toBinary(message, value as never)),
    deserialize: (bytes: Buffer) => fromBinary(message, bytes),
  });
  const definitions = methods.map((method) => {
    const [input, output] = [codec(method.input), codec(method.output)];
    const definition = {
      path: `/${method.parent.typeName}/${method.name}`,
      requestStream: false,
      responseStream: method.methodKind === "server_streaming",
      requestSerialize: input.serialize,
      requestDeserialize: input.deserialize,
      responseSerialize: output.serialize,
      responseDeserialize: output.deserialize,
    };
    return [method.name, definition] as const;
  });
  return Object.fromEntries(definitions);
}

function headersOf(headers: IncomingHttpHeaders): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}
