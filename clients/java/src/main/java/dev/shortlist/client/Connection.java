package dev.shortlist.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import java.net.InetAddress;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executor;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** How a client reaches a server. */
final class Connection {
  /** What the server accepts. Refusing more here saves sending it. */
  static final int SEND_BYTES_MAX = 4 << 20;

  /** Four times gRPC's default: Retrieve of 4,096 items with all their attributes can exceed 4 MiB. */
  static final int RECEIVE_BYTES_MAX = 16 << 20;

  /**
   * Calls go in turn to all addresses, and those that nobody answered are made again after about 30, 90 and 270 ms, within
   * the deadline. RollBackBundle stands alone: a second one would roll back the first. What the server is too busy for
   * is made again by the client itself, see {@link Calls}.
   */
  static final Map<String, Object> SERVICE_CONFIG =
      Map.of(
          "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
          "methodConfig",
              List.of(
                  Map.of(
                      "name",
                      List.of(Map.of()),
                      "retryPolicy",
                      Map.of(
                          "maxAttempts", 4.0,
                          "initialBackoff", "0.03s",
                          "maxBackoff", "0.3s",
                          "backoffMultiplier", 3.0,
                          "retryableStatusCodes", List.of("UNAVAILABLE"))),
                  Map.of(
                      "name",
                      List.of(
                          Map.of(
                              "service", "shortlist.v1.BundleService",
                              "method", "RollBackBundle")))));

  private static final Pattern SENDABLE = Pattern.compile("[!-~]+");
  private static final Pattern HOST =
      Pattern.compile("(?:dns:///|dns:)?(?:\\[(?<v6>[^\\]]*)\\]|(?<host>[^:]*))(?::\\d+)?");
  private static final Pattern LITERAL = Pattern.compile("127(\\.\\d{1,3}){3}|[0-9a-fA-F:]*::?1");

  private Connection() {}

  /**
   * Checks that a key can be sent, and may be: not in plain text to another machine. No message shows it.
   *
   * @throws ShortlistException.InvalidRequest it cannot, or must not be
   */
  static void checkKey(String key, String target, boolean encrypted, boolean allowed) {
    if (!SENDABLE.matcher(key).matches()) {
      throw Failure.refused(
              "apiKey", "printable ASCII without spaces, as sl_... is", "something else")
          .exception();
    }
    if (!encrypted && !allowed && !isLocal(target)) {
      String expected =
          "TLS to " + target + ", which is no address of this machine, or allowPlaintextKey";
      throw Failure.refused("apiKey", expected, "plain text").exception();
    }
  }

  /** Returns whether a target is this machine by its name alone: nothing is looked up. */
  static boolean isLocal(String target) {
    if (target.startsWith("unix:")) {
      return true;
    }
    Matcher parts = HOST.matcher(target);
    if (!parts.matches()) {
      return false;
    }
    String host = parts.group("v6") != null ? parts.group("v6") : parts.group("host");
    if (host.equals("localhost")) {
      return true;
    }
    try {
      // A literal address is not looked up.
      return LITERAL.matcher(host).matches() && InetAddress.getByName(host).isLoopbackAddress();
    } catch (java.net.UnknownHostException none) {
      return false;
    }
  }

  /** An API key as gRPC's credentials. */
  static final class Bearer extends CallCredentials {
    private static final Metadata.Key<String> HEADER =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    private final Metadata headers = new Metadata();

    Bearer(String key) {
      headers.put(HEADER, "Bearer " + key);
    }

    @Override
    public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
      applier.apply(headers);
    }
  }
}
