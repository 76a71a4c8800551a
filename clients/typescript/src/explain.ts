import { type DescMethod, type Message, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import type { Call, Connection } from "./calls.js";
import {
  Cancelled,
  DeadlineExceeded,
  errorOf,
  type Failure,
  InvalidRequest,
  ShortlistError,
  statusCode,
} from "./errors.js";
import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "./gen/shortlist/v1/errors_pb.js";

const DOMAIN = "shortlist";

/** Returns what the error says that a transport ended a call with. */
export function explain(
  error: unknown,
  call: Call,
  method: DescMethod,
  request: Message,
  connection: Connection,
): ShortlistError {
  if (call.signal.reason instanceof ShortlistError) {
    return call.signal.reason;
  }
  if (error instanceof ShortlistError) {
    return error;
  }
  const failed = ConnectError.from(error);
  const info = failed.findDetails(ErrorInfoSchema).find((found) => found.domain === DOMAIN);
  const retryDelay = failed.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const failure: Failure = {
    code: statusCode(failed.code),
    reason: reasonOf(info?.reason ?? ""),
    message: failed.rawMessage,
    requestId: failed.metadata.get("x-request-id") ?? call.requestId,
    metadata: info?.metadata ?? {},
    retryDelayMs: retryDelay && durationMs(retryDelay),
    cause: failed,
  };
  return info ? errorOf(failure) : unexplained(failure, failed, call, method, request, connection);
}

/** Returns the error of a call whose signal was aborted for this reason. */
export function givenUp(requestId: string, reason: unknown): ShortlistError {
  const failure = { reason: ErrorReason.UNSPECIFIED, requestId, metadata: {}, cause: reason };
  // That of AbortSignal.timeout.
  if (reason instanceof DOMException && reason.name === "TimeoutError") {
    return new DeadlineExceeded({
      ...failure,
      code: "DEADLINE_EXCEEDED",
      message: "the signal of the call is out of time",
    });
  }
  return new Cancelled({ ...failure, code: "CANCELLED", message: "the call was cancelled by its signal" });
}

/** Returns what an error means that no Shortlist server wrote. */
function unexplained(
  failure: Failure,
  failed: ConnectError,
  call: Call,
  method: DescMethod,
  request: Message,
  connection: Connection,
): ShortlistError {
  const { target } = connection;
  if (failure.code === "UNKNOWN" && failed.cause instanceof TypeError) {
    // What fetch makes of every fault of the network; why, only Node says, in the cause.
    failure.code = "UNAVAILABLE";
    const { cause } = failed.cause;
    failure.message = cause instanceof Error ? `${failure.message}: ${cause.message}` : failure.message;
  }
  switch (failure.code) {
    case "DEADLINE_EXCEEDED":
      if (connection.isConnected()) {
        failure.message = `${target} gave no answer within ${call.timeoutMs} ms`;
      } else {
        // What a caller does about a server that is not there is not what he does about a slow one.
        failure.code = "UNAVAILABLE";
        failure.message = `${target} is not available: no connection to it within ${call.timeoutMs} ms`;
      }
      break;
    case "UNAVAILABLE":
      failure.message = `${target} is not available: ${failure.message}`;
      break;
    case "INTERNAL": {
      const problem = whyUnsendable(method, request);
      if (problem !== undefined) {
        return new InvalidRequest({ ...failure, code: "INVALID_ARGUMENT", message: problem });
      }
    }
  }
  return errorOf(failure);
}

/** Returns why a request cannot be sent: a field holds what is not of its type. Types say so before, in TypeScript alone. */
function whyUnsendable(method: DescMethod, request: Message): string | undefined {
  try {
    toBinary(method.input, request);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function reasonOf(name: string): ErrorReason {
  const reason = (ErrorReason as Record<string, unknown>)[name];
  return typeof reason === "number" ? reason : ErrorReason.UNSPECIFIED;
}
