import { refused } from "./errors.js";

/** Deadline of a call unless it, or the client, has another. */
export const DEFAULT_TIMEOUT_MS = 1_000;
/** That of a turn of a conversation: a language model takes seconds. */
export const DEFAULT_TURN_TIMEOUT_MS = 30_000;

/** What every client can be told, whatever carries its calls. */
export interface ClientOptions {
  /**
   * Deadline of calls that have none of their own, retries included; turns of conversations have another. The server plans
   * with it: it is the budget of the whole funnel. 1 s unless set.
   */
  timeoutMs?: number;
  /** Deadline of turns of conversations that have none of their own. 30 s unless set. */
  turnTimeoutMs?: number;
  /** A key, sl_..., sent with every call: in plain text only to this machine. */
  apiKey?: string;
  /** Whether the key is sent in plain text to other machines, too: where something else encrypts. */
  plaintextKey?: boolean;
}

/** The options as they hold. */
export interface Settings {
  timeoutMs: number;
  turnTimeoutMs: number;
  headers: Readonly<Record<string, string>>;
}

/**
 * Checks options and fills in what is not set.
 *
 * @param plaintextTo the machine, where calls go to another one in plain text.
 * @throws InvalidRequest where an option cannot be, or would send the key in plain text to another machine.
 */
export function settingsOf(options: ClientOptions, plaintextTo: string | undefined): Settings {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, turnTimeoutMs = DEFAULT_TURN_TIMEOUT_MS, apiKey } = options;
  for (const [field, value] of Object.entries({ timeoutMs, turnTimeoutMs })) {
    if (!(value > 0)) {
      throw refused(field, "milliseconds, more than 0", String(value));
    }
  }
  if (apiKey === undefined) {
    return { timeoutMs, turnTimeoutMs, headers: {} };
  }
  // No message shows the key.
  if (!/^[!-~]+$/.test(apiKey)) {
    throw refused("apiKey", "printable ASCII without spaces, as sl_... is", "something else");
  }
  if (plaintextTo !== undefined && !options.plaintextKey) {
    throw refused(
      "apiKey",
      `TLS to ${plaintextTo}, which is no address of this machine, or plaintextKey`,
      "plain text",
    );
  }
  return { timeoutMs, turnTimeoutMs, headers: { authorization: `Bearer ${apiKey}` } };
}

/** Returns whether a host is this machine by its name alone: nothing is looked up. */
export function isThisMachine(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
