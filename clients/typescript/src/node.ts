import { Client as Channel, type ClientOptions as ChannelOptions, connectivityState, credentials } from "@grpc/grpc-js";
import { Client } from "./client.js";
import { refused } from "./errors.js";
import { GrpcTransport } from "./grpc.js";
import { type ClientOptions, isThisMachine, settingsOf } from "./settings.js";

export * from "./index.js";

/** What the server accepts. Refusing more here saves sending it. */
const SEND_BYTES_MAX = 4 * 2 ** 20;
/** Four times gRPC's default: Retrieve of 4,096 items with all their attributes can exceed 4 MiB. */
const RECEIVE_BYTES_MAX = 16 * 2 ** 20;

/**
 * Has calls go in turn to all addresses, and those that nobody answered made again after about 30, 90 and 270 ms, within the
 * deadline. RollBackBundle stands alone: a second one would roll back the first. What the server is too busy for is made
 * again by the client itself, see calls.ts.
 */
const SERVICE_CONFIG = {
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{}],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.03s",
        maxBackoff: "0.3s",
        backoffMultiplier: 3,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
    { name: [{ service: "shortlist.v1.BundleService", method: "RollBackBundle" }] },
  ],
};

/** Certificates and keys, as PEM. */
export interface TlsOptions {
  /** Authorities to trust in place of the public ones. */
  ca?: string | Uint8Array;
  /** Shows the server who calls, with the key. */
  cert?: string | Uint8Array;
  key?: string | Uint8Array;
}

/** What a client over gRPC can be told. */
export interface GrpcClientOptions extends ClientOptions {
  /** Encrypts; `{}` trusts the public authorities. Plain text unless set. */
  tls?: TlsOptions;
  /** Options of gRPC, which win over the client's own: interceptors, keepalive, limits. */
  channelOptions?: ChannelOptions;
}

/**
 * Calls a Shortlist server over gRPC. One per process is enough: calls go in turn to all addresses that its target resolves
 * to, and it reconnects by itself.
 *
 *     const client = new ShortlistClient("127.0.0.1:8500");
 *     const answer = await client.recommend({ query: forUser("42"), limit: 10 });
 */
export class ShortlistClient extends Client {
  /**
   * Begins a client of the server at a target: `host:port`, or any name that gRPC resolves, as
   * `dns:///shortlist.default.svc:8500`. It connects at the first call.
   *
   * @throws InvalidRequest where an option cannot be, or would send an API key in plain text to another machine.
   */
  constructor(target: string, options: GrpcClientOptions = {}) {
    const remote = options.tls || isLocal(target) ? undefined : target;
    const settings = settingsOf(options, remote);
    const channel = channelOf(target, options);
    const connection = {
      transport: new GrpcTransport(channel),
      target,
      retriesUnavailable: true,
      isConnected: () => channel.getChannel().getConnectivityState(false) === connectivityState.READY,
      close: () => channel.close(),
    };
    super(connection, settings);
  }
}

function channelOf(target: string, options: GrpcClientOptions): Channel {
  const security = options.tls ? tlsOf(options.tls) : credentials.createInsecure();
  try {
    return new Channel(target, security, {
      "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
      // Nobody but this client says how it retries.
      "grpc.service_config_disable_resolution": 1,
      "grpc.max_send_message_length": SEND_BYTES_MAX,
      "grpc.max_receive_message_length": RECEIVE_BYTES_MAX,
      // gRPC's defaults, 1 s rising to 120 s, keep calls failing for up to two minutes after a server is back.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 5_000,
      "grpc.primary_user_agent": "shortlist-typescript/0.1.0",
      ...options.channelOptions,
    });
  } catch (error) {
    throw refused("target", "what gRPC resolves: host:port, dns:///host:port", `${JSON.stringify(target)}: ${error}`);
  }
}

function tlsOf({ ca, cert, key }: TlsOptions) {
  if ((cert === undefined) !== (key === undefined)) {
    throw refused("tls", "cert and key together", cert === undefined ? "key alone" : "cert alone");
  }
  try {
    return credentials.createSsl(bytes(ca), bytes(key), bytes(cert));
  } catch (error) {
    throw refused("tls", "certificates and keys as PEM", String(error));
  }
}

function bytes(pem: string | Uint8Array | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem as string);
}

/** Returns whether a target is this machine by its name alone. */
function isLocal(target: string): boolean {
  if (/^unix(-abstract)?:/.test(target)) {
    return true;
  }
  // `ipv4:` and `ipv6:` take several.
  const addresses = target.replace(/^(dns|ipv4|ipv6|passthrough):(\/\/\/)?/, "").split(",");
  return addresses.every((address) => {
    const host = /^\[([^\]]*)\]|^([^:]*)(?::[^:]*)?$/.exec(address);
    return isThisMachine(host?.[1] ?? host?.[2] ?? address);
  });
}
