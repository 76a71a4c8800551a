import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { Client } from "./client.js";
import { refused } from "./errors.js";
import { type ClientOptions, isThisMachine, settingsOf } from "./settings.js";

export * from "./index.js";

/** What a client over HTTP can be told. */
export interface WebClientOptions extends ClientOptions {
  /** Connect, which the server speaks, or gRPC-Web, which proxies translate to gRPC as well. `connect` unless set. */
  protocol?: "connect" | "grpc-web";
  /** Called in place of the platform's own fetch: for credentials, for tests. */
  fetch?: typeof globalThis.fetch;
}

/**
 * Calls a Shortlist server over HTTP, from a web page or from whatever else has `fetch`.
 *
 *     const client = new ShortlistClient("https://recommend.example");
 *     const answer = await client.recommend({ query: forUser("42"), limit: 10 });
 */
export class ShortlistClient extends Client {
  /**
   * Begins a client of the server at an address: `https://recommend.example`, or of a page the path of its own host, as `/`.
   *
   * @throws InvalidRequest where an option cannot be, or would send an API key in plain text to another machine.
   */
  constructor(baseUrl: string, options: WebClientOptions = {}) {
    const url = urlOf(baseUrl);
    const isPlain = url.protocol === "http:" && !isThisMachine(url.hostname.replace(/^\[|\]$/g, ""));
    const settings = settingsOf(options, isPlain ? url.host : undefined);
    const create = options.protocol === "grpc-web" ? createGrpcWebTransport : createConnectTransport;
    const transport = create({
      baseUrl: url.href,
      useBinaryFormat: true,
      ...(options.fetch && { fetch: options.fetch }),
    });
    const target = url.href.replace(/\/$/, "");
    // Whether there is a connection, fetch does not say.
    super({ transport, target, retriesUnavailable: false, isConnected: () => true, close: () => {} }, settings);
  }
}

function urlOf(baseUrl: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(baseUrl, globalThis.location?.href);
  } catch {
    // Neither an address nor, on a page, a path.
  }
  if (url?.protocol !== "http:" && url?.protocol !== "https:") {
    throw refused("baseUrl", "an address as https://host, or a path of the page's own", JSON.stringify(baseUrl));
  }
  return url;
}
