// What both entries of the package have.
export type { CallOptions } from "./calls.js";
export {
  BundleRefused,
  Cancelled,
  ClientClosed,
  DeadlineExceeded,
  Internal,
  InvalidRequest,
  MessageTooLarge,
  NotFound,
  Overloaded,
  PermissionDenied,
  RateLimited,
  rowError,
  ShortlistError,
  type StatusCode,
  Unauthenticated,
  Unavailable,
} from "./errors.js";
export * from "./messages.js";
export { type ClientOptions, DEFAULT_TIMEOUT_MS, DEFAULT_TURN_TIMEOUT_MS } from "./settings.js";
export * from "./values.js";
