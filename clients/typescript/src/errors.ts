import { ErrorReason } from "./gen/shortlist/v1/errors_pb.js";
import type { RowError } from "./gen/shortlist/v1/recommendation_pb.js";

/** A status of gRPC, by its name. */
export type StatusCode = (typeof STATUS_CODES)[number];

/** In the order of their numbers. */
const STATUS_CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** What is known of a call that failed. */
export interface Failure {
  code: StatusCode;
  reason: ErrorReason;
  message: string;
  requestId: string;
  metadata: Record<string, string>;
  retryDelayMs?: number | undefined;
  cause?: unknown;
}

/**
 * How a call failed. Its subclasses are what callers tell apart, by `instanceof` or by `name`; `reason` says it exactly:
 *
 *     ShortlistError
 *       InvalidRequest     the request cannot be answered because of what it says: field, expected, got
 *         MessageTooLarge  the request, or its answer, is larger than a message may be
 *       Unauthenticated    the API key is missing or not the server's
 *       PermissionDenied   the API key does not open the call
 *       NotFound           no item, or conversation, of that id is known
 *       DeadlineExceeded   the time was gone before the answer came
 *       Overloaded         too busy: come back after retryDelayMs
 *         RateLimited      this API key is used more often than it may be
 *       Unavailable        nobody answers, after the client's own retries
 *       BundleRefused      a bundle cannot be switched to
 *       Internal           a fault of the server; requestId leads to its log
 *       Cancelled          the caller's signal was aborted
 *       ClientClosed       the client is closed
 *
 * A reason or a status that this version does not know becomes the nearest class, at worst this one.
 */
export class ShortlistError extends Error {
  // Not the class's own name, which minifiers shorten.
  override readonly name: string = "ShortlistError";
  /** The gRPC status. */
  readonly code: StatusCode;
  /**
   * What the server says is wrong. UNSPECIFIED where it does not: then the client, gRPC, HTTP, or something in between made
   * the error; or where this version does not know it.
   */
  readonly reason: ErrorReason;
  /** The id of the call, as the server logs it. */
  readonly requestId: string;
  /** What the server says of the reason: field, expected, got, stage, scope, ... */
  readonly metadata: Readonly<Record<string, string>>;
  /** The time after which the server asks to be called again; undefined where it does not say. */
  readonly retryDelayMs: number | undefined;

  constructor(failure: Failure) {
    super(failure.message, failure.cause === undefined ? undefined : { cause: failure.cause });
    this.code = failure.code;
    this.reason = failure.reason;
    this.requestId = failure.requestId;
    this.metadata = failure.metadata;
    this.retryDelayMs = failure.retryDelayMs;
  }
}

/** The request cannot be answered because of what it says; a retry gives the same error. */
export class InvalidRequest extends ShortlistError {
  override readonly name: string = "InvalidRequest";

  /** The path of the field: `query.user.features["age"]`. Empty where unknown, as the next two. */
  get field(): string {
    return this.metadata.field ?? "";
  }

  /** What the field takes. */
  get expected(): string {
    return this.metadata.expected ?? "";
  }

  /** What the field holds. */
  get got(): string {
    return this.metadata.got ?? "";
  }
}

/** The request, or its answer, is larger than a message may be. It has no reason. */
export class MessageTooLarge extends InvalidRequest {
  override readonly name = "MessageTooLarge";
}

/** The server does not know who calls; a retry gives the same error. */
export class Unauthenticated extends ShortlistError {
  override readonly name = "Unauthenticated";
}

/** The caller may not make this call; a retry gives the same error. */
export class PermissionDenied extends ShortlistError {
  override readonly name = "PermissionDenied";

  /** The scope that the API key lacks; several, of which one is enough, are joined by " or ". */
  get scope(): string {
    return this.metadata.scope ?? "";
  }
}

/** What a query needs is not known to the server. */
export class NotFound extends ShortlistError {
  override readonly name = "NotFound";
}

/** The time was gone before the answer came. */
export class DeadlineExceeded extends ShortlistError {
  override readonly name = "DeadlineExceeded";

  /** The stage that had no time left; empty where the server did not say. */
  get stage(): string {
    return this.metadata.stage ?? "";
  }
}

/** The server is too busy, after the client's own retries. Come back after `retryDelayMs`. */
export class Overloaded extends ShortlistError {
  override readonly name: string = "Overloaded";
}

/** This API key is used more often than it may be. */
export class RateLimited extends Overloaded {
  override readonly name = "RateLimited";
}

/** Nobody answers, after the client's own retries. */
export class Unavailable extends ShortlistError {
  override readonly name = "Unavailable";
}

/** A bundle cannot be switched to; what serves is as it was. */
export class BundleRefused extends ShortlistError {
  override readonly name = "BundleRefused";
}

/** A fault of the server. Its log has the cause under `requestId`. */
export class Internal extends ShortlistError {
  override readonly name = "Internal";
}

/** The caller gave up: the signal of the call was aborted, with the reason that is the cause. */
export class Cancelled extends ShortlistError {
  override readonly name = "Cancelled";
}

/** The client is closed. */
export class ClientClosed extends ShortlistError {
  override readonly name = "ClientClosed";
}

/** Makes of a failure the error of its class. */
export function errorOf(failure: Failure): ShortlistError {
  const kind = isTooLarge(failure) ? MessageTooLarge : (BY_REASON[failure.reason] ?? BY_CODE[failure.code]);
  return new (kind ?? ShortlistError)(failure);
}

/**
 * Returns the error of one row of a batch, or of one item that was not written: what the row alone would have ended with.
 * Returns undefined for undefined.
 */
export function rowError(row: RowError): ShortlistError;
export function rowError(row: RowError | undefined): ShortlistError | undefined;
export function rowError(row: RowError | undefined): ShortlistError | undefined {
  return (
    row &&
    errorOf({
      code: statusCode(row.code),
      reason: row.reason in ErrorReason ? row.reason : ErrorReason.UNSPECIFIED,
      message: row.message,
      requestId: row.metadata.request_id ?? "",
      metadata: row.metadata,
    })
  );
}

/** Returns how the client refuses a field, just as the server would. */
export function refused(field: string, expected: string, got: string): InvalidRequest {
  return new InvalidRequest({
    code: "INVALID_ARGUMENT",
    reason: ErrorReason.INVALID_VALUE,
    message: `${field}: expected ${expected}, got ${got}`,
    requestId: "",
    metadata: { field, expected, got },
  });
}

/** Returns the name of a status. */
export function statusCode(number: number): StatusCode {
  return STATUS_CODES[number] ?? "UNKNOWN";
}

type Kind = new (failure: Failure) => ShortlistError;

const BY_REASON: { [reason in ErrorReason]?: Kind } = {
  [ErrorReason.RATE_LIMITED]: RateLimited,
  [ErrorReason.BUNDLE_MISSING]: BundleRefused,
  [ErrorReason.BUNDLE_CORRUPT]: BundleRefused,
  [ErrorReason.BUNDLE_UNSUPPORTED]: BundleRefused,
  [ErrorReason.PARITY]: BundleRefused,
  [ErrorReason.MODEL_SIGNATURE_MISMATCH]: BundleRefused,
};

const BY_CODE: { [code in StatusCode]?: Kind } = {
  INVALID_ARGUMENT: InvalidRequest,
  UNAUTHENTICATED: Unauthenticated,
  PERMISSION_DENIED: PermissionDenied,
  NOT_FOUND: NotFound,
  DEADLINE_EXCEEDED: DeadlineExceeded,
  RESOURCE_EXHAUSTED: Overloaded,
  UNAVAILABLE: Unavailable,
  INTERNAL: Internal,
  DATA_LOSS: Internal,
  // What a Python server answers when a handler raises something that nobody caught.
  UNKNOWN: Internal,
};

/**
 * gRPC has one status for "too busy" and "too large", and only its words tell them apart. It matters: the one is worth a
 * retry, the other never is.
 */
function isTooLarge(failure: Failure): boolean {
  const unexplained = failure.code === "RESOURCE_EXHAUSTED" && failure.reason === ErrorReason.UNSPECIFIED;
  return unexplained && /larger than/.test(failure.message);
}
