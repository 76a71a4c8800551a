import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import { DeadlineExceeded, refused, type ShortlistError } from "./errors.js";
import { explain, givenUp } from "./explain.js";
import type { Settings } from "./settings.js";

/** Most times that a call is made. */
const ATTEMPTS_MAX = 4;
/** Longer ones would be over at once: it is the most that setTimeout takes. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** What can be told of one call. */
export interface CallOptions {
  /** Deadline, retries included, in place of the client's. */
  timeoutMs?: number;
  /** Ends the call, on the server too. */
  signal?: AbortSignal;
  /**
   * An id in place of one that is made for the call, of at most 128 printable ASCII characters: the server logs it, and
   * returns it in `AnswerInfo.requestId` and in errors.
   */
  requestId?: string;
  /** More metadata, as a `traceparent`: printable ASCII. */
  headers?: Readonly<Record<string, string>>;
}

/** What carries calls to a server. */
export interface Connection {
  readonly transport: Transport;
  /** Where the calls go, for messages. */
  readonly target: string;
  /** Whether the transport itself makes calls again that nobody answered. */
  readonly retriesUnavailable: boolean;
  /** Returns false where there is certainly no connection. */
  isConnected(): boolean;
  close(): void;
}

/** One call: its deadline, its id, and what ends it. */
export class Call {
  readonly #ending = new AbortController();
  readonly #signal: AbortSignal | undefined;
  readonly #deadline: number;
  readonly timeoutMs: number;
  readonly requestId: string;
  readonly headers: Headers;

  constructor(settings: Settings, timeoutMs: number, options: CallOptions) {
    this.timeoutMs = Math.min(options.timeoutMs ?? timeoutMs, TIMEOUT_MS_MAX);
    if (Number.isNaN(this.timeoutMs)) {
      throw refused("timeoutMs", "milliseconds", "NaN");
    }
    this.#deadline = performance.now() + this.timeoutMs;
    // Made here, not by the server, so that an error which never reached it has an id to look for as well.
    this.requestId = options.requestId ?? newRequestId();
    if (!/^[ -~]{1,128}$/.test(this.requestId)) {
      throw refused("requestId", "1..128 printable ASCII characters", JSON.stringify(this.requestId));
    }
    this.headers = headersOf({ ...options.headers, ...settings.headers, "x-request-id": this.requestId });
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#giveUp);
    if (this.#signal?.aborted) {
      this.#giveUp();
    }
  }

  /** Aborted where the call is to end: the caller gave up, or the client is closed. */
  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** The milliseconds that are left; 0 or less where the deadline is over. */
  get remainingMs(): number {
    return this.#deadline - performance.now();
  }

  readonly #giveUp = (): void => this.end(givenUp(this.requestId, this.#signal?.reason));

  /** Ends the call, if it has not ended. */
  end(why?: ShortlistError): void {
    this.#signal?.removeEventListener("abort", this.#giveUp);
    this.#ending.abort(why);
  }
}

/** Makes calls over a connection: with deadlines, ids and retries. */
export class Caller {
  readonly #connection: Connection;
  readonly #settings: Settings;
  readonly #running = new Set<Call>();
  #closed: ShortlistError | undefined;

  constructor(connection: Connection, settings: Settings) {
    this.#connection = connection;
    this.#settings = settings;
  }

  get settings(): Settings {
    return this.#settings;
  }

  /** Makes a call of one answer. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    options: CallOptions,
  ): Promise<MessageShape<O>> {
    const { transport } = this.#connection;
    const request = create(method.input, input);
    const call = this.#begin(this.#settings.timeoutMs, options);
    try {
      for (let attempt = 1; ; attempt++) {
        try {
          const timeoutMs = this.#timeLeft(call);
          return (await transport.unary<I, O>(method, call.signal, timeoutMs, call.headers, request)).message;
        } catch (error) {
          const failure = explain(error, call, method, request, this.#connection);
          if (!(await this.#waitAfter(failure, attempt, call, method.name))) {
            throw failure;
          }
        }
      }
    } finally {
      this.#end(call);
    }
  }

  /** Makes a call of many answers, each time that they are looped over. Leaving the loop ends it. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    input: MessageInitShape<I>,
    options: CallOptions,
    timeoutMs: number,
  ): AsyncIterable<MessageShape<O>> {
    const request = create(method.input, input);
    return { [Symbol.asyncIterator]: () => this.#answers(method, request, options, timeoutMs) };
  }

  /** Ends the calls that run, and refuses later ones. */
  close(closed: ShortlistError): void {
    this.#closed ??= closed;
    for (const call of this.#running) {
      call.end(closed);
    }
    this.#connection.close();
  }

  async *#answers<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    request: MessageShape<I>,
    options: CallOptions,
    timeoutMs: number,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const { transport } = this.#connection;
    const call = this.#begin(timeoutMs, options);
    try {
      for (let attempt = 1, begun = false; ; attempt++) {
        try {
          const left = this.#timeLeft(call);
          const sent = only(request as MessageInitShape<I>);
          const answer = await transport.stream<I, O>(method, call.signal, left, call.headers, sent);
          for await (const message of answer.message) {
            begun = true;
            yield message;
          }
          return;
        } catch (error) {
          const failure = explain(error, call, method, request, this.#connection);
          // What was yielded cannot be taken back.
          if (begun || !(await this.#waitAfter(failure, attempt, call, method.name))) {
            throw failure;
          }
        }
      }
    } finally {
      this.#end(call);
    }
  }

  #begin(timeoutMs: number, options: CallOptions): Call {
    if (this.#closed) {
      throw this.#closed;
    }
    const call = new Call(this.#settings, timeoutMs, options);
    this.#running.add(call);
    return call;
  }

  #end(call: Call): void {
    this.#running.delete(call);
    call.end();
  }

  /** Returns the time for one attempt, as Connect sends it: whole milliseconds. */
  #timeLeft(call: Call): number {
    call.signal.throwIfAborted();
    const left = Math.ceil(call.remainingMs);
    // A transport would take it for no deadline at all.
    if (left <= 0) {
      throw new DeadlineExceeded({
        code: "DEADLINE_EXCEEDED",
        reason: 0,
        message: "the deadline was over before the call began",
        requestId: call.requestId,
        metadata: {},
      });
    }
    return left;
  }

  /**
   * Waits until a call may be made again that failed. Returns false, at once, where it is not to be made again, or its time
   * would be over by then.
   */
  async #waitAfter(failure: ShortlistError, attempt: number, call: Call, method: string): Promise<boolean> {
    const delayMs = attempt < ATTEMPTS_MAX ? this.#delayMs(failure, attempt, method) : undefined;
    return delayMs !== undefined && call.remainingMs > delayMs && (await pause(delayMs, call.signal));
  }

  #delayMs(failure: ShortlistError, attempt: number, method: string): number | undefined {
    if (failure.code === "RESOURCE_EXHAUSTED" && failure.retryDelayMs) {
      // Up to a quarter later, so that not all come back at once.
      return failure.retryDelayMs * (1 + Math.random() / 4);
    }
    // A second RollBackBundle would roll back the first, if the answer was lost and not the call.
    if (failure.code === "UNAVAILABLE" && !this.#connection.retriesUnavailable && method !== "RollBackBundle") {
      return 30 * 3 ** (attempt - 1) * (0.8 + 0.4 * Math.random());
    }
    return undefined;
  }
}

function headersOf(fields: Readonly<Record<string, string>>): Headers {
  for (const [name, value] of Object.entries(fields)) {
    // What both gRPC and HTTP take as it is. Names in -bin are gRPC's for bytes.
    if (!/^[a-z0-9_.-]+$/i.test(name) || /-bin$/i.test(name) || !/^[ -~]*$/.test(value)) {
      throw refused("headers", "names and values of printable ASCII, no name in -bin", JSON.stringify(name));
    }
  }
  return new Headers(fields);
}

async function* only<T>(one: T): AsyncGenerator<T, void, undefined> {
  yield one;
}

function newRequestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Returns true after some milliseconds, and false as soon as the signal is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve(!signal.aborted);
    };
    const timer = setTimeout(end, Math.ceil(ms));
    signal.addEventListener("abort", end);
    if (signal.aborted) {
      end();
    }
  });
}
