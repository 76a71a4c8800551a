// The server that this page comes from: its services, the key that calls carry, and what went wrong with a call.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "../../typescript/src/gen/google/rpc/error_details_pb.js";
import { BundleService } from "../../typescript/src/gen/shortlist/v1/bundle_pb.js";
import { ConversationService } from "../../typescript/src/gen/shortlist/v1/conversation_pb.js";
import { RecommendationService } from "../../typescript/src/gen/shortlist/v1/recommendation_pb.js";

const KEY = "shortlist-api-key";

let apiKey = sessionStorage.getItem(KEY) ?? "";

/** Takes the key that calls carry from now on; kept in this tab alone, and only where it is asked for. */
export function useKey(key: string, remember: boolean): void {
  apiKey = key;
  if (remember && key !== "") sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export function hasKey(): boolean {
  return apiKey !== "";
}

const withKey: Interceptor = (next) => (request) => {
  if (apiKey !== "") request.header.set("authorization", `Bearer ${apiKey}`);
  return next(request);
};

const transport = createConnectTransport({
  // This page's own origin, under whatever path a proxy has put it.
  baseUrl: new URL("..", location.href.replace(/#.*/, "")).href.replace(/\/$/, ""),
  interceptors: [withKey],
  fetch: (input, init) => fetch(input, { ...init, credentials: "omit" }),
});

export const recommendation = createClient(RecommendationService, transport);
export const bundles = createClient(BundleService, transport);
export const conversations = createClient(ConversationService, transport);

/** Where the same services answer gRPC. */
export function grpcTarget(): string {
  const port = document.querySelector<HTMLMetaElement>("meta[name=grpc-port]")?.content ?? "8500";
  return `${location.hostname}:${port}`;
}

/** What went wrong with a call. */
export interface Failure {
  kind: "field" | "key" | "scope" | "rate" | "late" | "dead" | "stopped" | "other";
  /** For people. */
  message: string;
  /** The field of the request that the server names; empty where it names none. */
  field: string;
  expected: string;
  got: string;
  reason: string;
  requestId: string;
}

const KINDS: Partial<Record<string, Failure["kind"]>> = {
  API_KEY_MISSING: "key",
  API_KEY_INVALID: "key",
  SCOPE_MISSING: "scope",
  RATE_LIMITED: "rate",
};

export function failureOf(cause: unknown): Failure {
  const error = ConnectError.from(cause);
  const info = error.findDetails(ErrorInfoSchema)[0];
  const metadata = info?.metadata ?? {};
  const reason = info?.reason ?? "";
  const field = metadata.field ?? "";
  return {
    kind: KINDS[reason] ?? (field !== "" ? "field" : kindOf(error, reason)),
    message: error.rawMessage,
    field,
    expected: metadata.expected ?? "",
    got: metadata.got ?? "",
    reason,
    requestId: error.metadata.get("x-request-id") ?? metadata.request_id ?? "",
  };
}

function kindOf(error: ConnectError, reason: string): Failure["kind"] {
  if (error.code === Code.Canceled) return "stopped";
  if (error.code === Code.DeadlineExceeded) return "late";
  if (error.code === Code.Unauthenticated) return "key";
  // What has no reason of the server's was not said by it: nobody is there.
  const dead = error.code === Code.Unavailable || error.code === Code.Unknown || error.cause instanceof TypeError;
  return dead && reason === "" ? "dead" : "other";
}

/** Says what went wrong, and what to do about it. */
export function adviceOf(failure: Failure): string {
  switch (failure.kind) {
    case "dead":
      return "The server does not answer. Is it running? Your settings are still here: try again.";
    case "key":
      return hasKey()
        ? "The server does not know this API key. Type another one."
        : "This server asks for an API key. It is sent with your calls, and kept in this tab alone.";
    case "scope":
      return `${failure.message}. The scope playground opens all that this page does; rerank lets it ask a language model.`;
    case "rate":
      return "This key has been used as often as it may be for now. Wait a moment, and try again.";
    case "late":
      return `${failure.message || "Out of time"}. Give the call a longer deadline, or ask for less.`;
    case "stopped":
      return "Stopped by you.";
    default:
      return failure.message;
  }
}
