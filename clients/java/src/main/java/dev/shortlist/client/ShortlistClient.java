package dev.shortlist.client;

import dev.shortlist.v1.*;
import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthGrpc;
import java.time.Duration;
import java.util.UUID;

/**
 * Calls a Shortlist server and waits for its answers.
 *
 * <p>Safe to share between threads, and one per process is enough: calls go in turn to all addresses that the target resolves
 * to, and it reconnects by itself. Every method throws {@link ShortlistException}; answers of many come as {@link Answers}.
 *
 * <pre>{@code
 * try (ShortlistClient client = ShortlistClient.builder("127.0.0.1:8500").build()) {
 *   RecommendResponse answer = client.recommend(request);
 * }
 * }</pre>
 */
public final class ShortlistClient implements AutoCloseable {
  /** Deadline of a call unless the client has another. */
  public static final Duration DEFAULT_TIMEOUT = Duration.ofSeconds(1);

  /** Deadline of a turn of a conversation: a language model takes seconds. */
  public static final Duration DEFAULT_TURN_TIMEOUT = Duration.ofSeconds(30);

  private final ManagedChannel channel;
  private final CallOptions options;
  private final String target;
  private final Duration timeout;
  private final Duration turnTimeout;
  private final String requestId;

  private ShortlistClient(
      ManagedChannel channel,
      CallOptions options,
      String target,
      Duration timeout,
      Duration turnTimeout,
      String requestId) {
    this.channel = channel;
    this.options = options;
    this.target = target;
    this.timeout = timeout;
    this.turnTimeout = turnTimeout;
    this.requestId = requestId;
  }

  /**
   * Begins a client of the server at a target: {@code host:port}, or any name that gRPC resolves, as {@code
   * dns:///shortlist.default.svc:8500}.
   */
  public static Builder builder(String target) {
    return new Builder(target);
  }

  /**
   * Returns this client with another deadline of its calls, turns of conversations among them; both share their connections.
   * A deadline of gRPC's current context that comes sooner holds in any case. The server takes it as the time budget of the
   * whole funnel.
   */
  public ShortlistClient withTimeout(Duration other) {
    return new ShortlistClient(
        channel, options, target, checked("timeout", other), other, requestId);
  }

  /**
   * Returns this client with an id for its calls, of at most 128 printable ASCII characters, in place of one that is made for
   * each; both share their connections.
   */
  public ShortlistClient withRequestId(String id) {
    return new ShortlistClient(channel, options, target, timeout, turnTimeout, id);
  }

  /** Returns the few items that suit a query best: retrieval, ranking and selection. */
  public RecommendResponse recommend(RecommendRequest request) {
    return unary(Methods.RECOMMEND, request);
  }

  /**
   * Returns a list as soon as it is ranked, and better ones as they are ready, each in place of the one before; the last one
   * is marked so.
   */
  public Answers<StreamRecommendResponse> streamRecommend(StreamRecommendRequest request) {
    return call(timeout).streaming(Methods.STREAM_RECOMMEND, request);
  }

  /**
   * Returns the answers to up to 1,024 requests as they are ready; each says by its index which row it answers. {@link
   * ShortlistException#ofRow} makes an exception of the error of a row.
   */
  public Answers<BatchRecommendResponse> batchRecommend(BatchRecommendRequest request) {
    return call(timeout).streaming(Methods.BATCH_RECOMMEND, request);
  }

  /** Returns candidates only, best retrieval score first: no ranking. */
  public RetrieveResponse retrieve(RetrieveRequest request) {
    return unary(Methods.RETRIEVE, request);
  }

  /** Returns scores of the items that the caller names, best first. */
  public RankResponse rank(RankRequest request) {
    return unary(Methods.RANK, request);
  }

  /** Returns the items nearest to one item. */
  public FindSimilarItemsResponse findSimilarItems(FindSimilarItemsRequest request) {
    return unary(Methods.FIND_SIMILAR_ITEMS, request);
  }

  /**
   * Returns the answer to one turn of a conversation: what was understood, the items, the reply piece by piece, and the end
   * with what the next turn must send.
   */
  public Answers<ConverseResponse> converse(ConverseRequest request) {
    return call(turnTimeout).streaming(Methods.CONVERSE, request);
  }

  /** Returns the bundles that can be switched to, and those that serve. */
  public ListBundlesResponse listBundles(ListBundlesRequest request) {
    return unary(Methods.LIST_BUNDLES, request);
  }

  /** Returns what is being served: its identity, size, features and attributes. */
  public GetActiveBundleResponse getActiveBundle(GetActiveBundleRequest request) {
    return unary(Methods.GET_ACTIVE_BUNDLE, request);
  }

  /** Gives a label to a bundle, which then serves. That takes seconds to minutes: give it time. */
  public ActivateBundleResponse activateBundle(ActivateBundleRequest request) {
    return unary(Methods.ACTIVATE_BUNDLE, request);
  }

  /**
   * Switches back to the bundle that had a label before. It is never made twice: where nobody answers, look at what serves.
   * Give it time.
   */
  public RollBackBundleResponse rollBackBundle(RollBackBundleRequest request) {
    return unary(Methods.ROLL_BACK_BUNDLE, request);
  }

  /** Takes a label away from the bundle that has it. Give it time. */
  public DeactivateBundleResponse deactivateBundle(DeactivateBundleRequest request) {
    return unary(Methods.DEACTIVATE_BUNDLE, request);
  }

  /**
   * Writes items. {@link ShortlistException#ofRow} makes an exception of why one of them was refused. With an idempotency key
   * it is applied once, however often it is sent.
   */
  public UpsertItemsResponse upsertItems(UpsertItemsRequest request) {
    return unary(Methods.UPSERT_ITEMS, request);
  }

  /** Takes items away. */
  public DeleteItemsResponse deleteItems(DeleteItemsRequest request) {
    return unary(Methods.DELETE_ITEMS, request);
  }

  /** Returns an item as it is served now. */
  public GetItemResponse getItem(GetItemRequest request) {
    return unary(Methods.GET_ITEM, request);
  }

  /** Returns how large the catalogue is, and how well it is searched. */
  public GetCatalogStatsResponse getCatalogStats(GetCatalogStatsRequest request) {
    return unary(Methods.GET_CATALOG_STATS, request);
  }

  /** Returns whether the server, or one of its services, takes calls now. */
  public HealthCheckResponse check(HealthCheckRequest request) {
    return unary(HealthGrpc.getCheckMethod(), request);
  }

  /** Closes the connections, of the clients that share them too. Calls that wait fail. Again is harmless. */
  @Override
  public void close() {
    channel.shutdownNow();
  }

  private <Q, A> A unary(MethodDescriptor<Q, A> method, Q request) {
    return call(timeout).unary(method, request);
  }

  private Calls call(Duration within) {
    // Made here, not by the server, so that an error which never reached it has an id to look for as well.
    String id = requestId == null ? UUID.randomUUID().toString().replace("-", "") : requestId;
    return new Calls(channel, options, target, within, id);
  }

  private static Duration checked(String field, Duration timeout) {
    if (timeout.isZero() || timeout.isNegative()) {
      throw Failure.refused(field, "more than 0", timeout.toString()).exception();
    }
    return timeout;
  }

  /** What a client is made of. */
  public static final class Builder {
    private final String target;
    private Duration timeout = DEFAULT_TIMEOUT;
    private Duration turnTimeout = DEFAULT_TURN_TIMEOUT;
    private ChannelCredentials credentials = InsecureChannelCredentials.create();
    private boolean encrypted;
    private String apiKey;
    private boolean plaintextKey;

    private Builder(String target) {
      this.target = target;
    }

    /** Sets the deadline of calls, retries included; turns of conversations have their own. 1 s unless set. */
    public Builder timeout(Duration timeout) {
      this.timeout = checked("timeout", timeout);
      return this;
    }

    /** Sets the deadline of turns of conversations. 30 s unless set. */
    public Builder turnTimeout(Duration timeout) {
      turnTimeout = checked("turnTimeout", timeout);
      return this;
    }

    /**
     * Encrypts: {@code TlsChannelCredentials.create()} trusts the public authorities, {@code
     * TlsChannelCredentials.newBuilder()} takes your own, and a certificate that shows who calls. Plain text unless set.
     */
    public Builder tls(ChannelCredentials credentials) {
      this.credentials = credentials;
      encrypted = true;
      return this;
    }

    /** Sends a key, {@code sl_...}, with every call: in plain text only to this machine. */
    public Builder apiKey(String key) {
      apiKey = key;
      return this;
    }

    /** Has the API key sent in plain text to other machines, too: where something else encrypts. */
    public Builder allowPlaintextKey() {
      plaintextKey = true;
      return this;
    }

    /**
     * Returns the client, which connects at the first call.
     *
     * @throws ShortlistException.InvalidRequest an option cannot be, or would send the API key in plain text to another
     *     machine
     */
    public ShortlistClient build() {
      CallOptions options =
          CallOptions.DEFAULT
              .withMaxOutboundMessageSize(Connection.SEND_BYTES_MAX)
              .withMaxInboundMessageSize(Connection.RECEIVE_BYTES_MAX);
      if (apiKey != null) {
        Connection.checkKey(apiKey, target, encrypted, plaintextKey);
        options = options.withCallCredentials(new Connection.Bearer(apiKey));
      }
      ManagedChannel channel =
          Grpc.newChannelBuilder(target, credentials)
              .defaultServiceConfig(Connection.SERVICE_CONFIG)
              .enableRetry()
              .userAgent("shortlist-java/0.1.0")
              .build();
      return new ShortlistClient(channel, options, target, timeout, turnTimeout, null);
    }
  }
}
