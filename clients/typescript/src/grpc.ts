import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { ConnectError, type StreamResponse, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { type CallOptions, type Client, Metadata, type ServiceError } from "@grpc/grpc-js";
import { StatusSchema } from "./gen/google/rpc/error_details_pb.js";

/** Carries calls over a channel of gRPC, as Connect's transports do over fetch. */
export class GrpcTransport implements Transport {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: MessageInitShape<I>,
  ): Promise<UnaryResponse<I, O>> {
    return new Promise((resolve, reject) => {
      const answer = responseOf(method);
      const call = this.#client.makeUnaryRequest(
        ...methodOf(method),
        create(method.input, input),
        metadataOf(header),
        optionsOf(timeoutMs),
        (error, message) => {
          release();
          if (error) {
            reject(connectError(error));
          } else {
            // There is always one of both.
            resolve({ ...answer, stream: false, method, message: message as MessageShape<O> });
          }
        },
      );
      call.on("metadata", (received) => copy(received, answer.header));
      call.on("status", (status) => copy(status.metadata, answer.trailer));
      const release = cancelBy(signal, call);
    });
  }

  async stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit | undefined,
    input: AsyncIterable<MessageInitShape<I>>,
  ): Promise<StreamResponse<I, O>> {
    const first = await input[Symbol.asyncIterator]().next();
    if (method.methodKind !== "server_streaming" || first.done) {
      throw new TypeError(`${method.name}: expected a method of one request and many answers`);
    }
    const answer = responseOf(method);
    const call = this.#client.makeServerStreamRequest(
      ...methodOf(method),
      create(method.input, first.value),
      metadataOf(header),
      optionsOf(timeoutMs),
    );
    call.on("metadata", (received) => copy(received, answer.header));
    call.on("status", (status) => copy(status.metadata, answer.trailer));
    const release = cancelBy(signal, call);
    async function* messages(): AsyncGenerator<MessageShape<O>, void, undefined> {
      try {
        yield* call as AsyncIterable<MessageShape<O>>;
      } catch (error) {
        throw connectError(error as ServiceError);
      } finally {
        release();
        call.cancel();
      }
    }
    return { ...answer, stream: true, method, message: messages() };
  }
}

type Method<I extends DescMessage, O extends DescMessage> = DescMethodUnary<I, O> | DescMethodStreaming<I, O>;

function methodOf<I extends DescMessage, O extends DescMessage>(
  method: Method<I, O>,
): [string, (request: MessageShape<I>) => Buffer, (bytes: Buffer) => MessageShape<O>] {
  return [
    `/${method.parent.typeName}/${method.name}`,
    (request) => Buffer.from(toBinary(method.input, request)),
    (bytes) => fromBinary(method.output, bytes),
  ];
}

function responseOf<I extends DescMessage, O extends DescMessage>(method: Method<I, O>) {
  return { service: method.parent, header: new Headers(), trailer: new Headers() };
}

function optionsOf(timeoutMs: number | undefined): CallOptions {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

function metadataOf(header: HeadersInit | undefined): Metadata {
  const metadata = new Metadata();
  new Headers(header).forEach((value, name) => {
    metadata.set(name, value);
  });
  return metadata;
}

/** Cancels a call when the signal is aborted; returns what ends that. */
function cancelBy(signal: AbortSignal | undefined, call: { cancel(): void }): () => void {
  const cancel = () => call.cancel();
  signal?.addEventListener("abort", cancel);
  if (signal?.aborted) {
    cancel();
  }
  return () => signal?.removeEventListener("abort", cancel);
}

function copy(metadata: Metadata, target: Headers): void {
  for (const [name, value] of Object.entries(metadata.getMap())) {
    if (typeof value === "string") {
      target.set(name, value);
    }
  }
}

/** Returns what gRPC's error says, with the details of its status. */
function connectError(error: ServiceError): ConnectError {
  const headers = new Headers();
  copy(error.metadata, headers);
  const made = new ConnectError(error.details, error.code as number, headers, undefined, error);
  const [status] = error.metadata.get("grpc-status-details-bin");
  if (status instanceof Buffer) {
    made.details = detailsOf(status);
  }
  return made;
}

function detailsOf(status: Buffer): ConnectError["details"] {
  try {
    return fromBinary(StatusSchema, status).details.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf("/") + 1),
      value,
    }));
  } catch {
    // Details that cannot be read must not hide the error itself.
    return [];
  }
}
