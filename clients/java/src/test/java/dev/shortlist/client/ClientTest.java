package dev.shortlist.client;

import static dev.shortlist.client.FakeServer.answer;
import static dev.shortlist.client.FakeServer.failure;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.shortlist.v1.ErrorReason;
import dev.shortlist.v1.Query;
import dev.shortlist.v1.RecommendRequest;
import dev.shortlist.v1.RecommendResponse;
import dev.shortlist.v1.RollBackBundleRequest;
import dev.shortlist.v1.RowError;
import dev.shortlist.v1.ScoredItem;
import dev.shortlist.v1.StreamRecommendRequest;
import dev.shortlist.v1.StreamRecommendResponse;
import dev.shortlist.v1.UserQuery;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.TlsServerCredentials;
import io.grpc.stub.ServerCallStreamObserver;
import java.net.ServerSocket;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.ToLongFunction;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class ClientTest {
  private static final RecommendRequest SOMEONE =
      RecommendRequest.newBuilder()
          .setQuery(Query.newBuilder().setUser(UserQuery.newBuilder().setId("u1")))
          .build();
  private static final StreamRecommendRequest STREAMED =
      StreamRecommendRequest.newBuilder().setRequest(SOMEONE).build();
  private static final Status.Code BUSY = Status.Code.RESOURCE_EXHAUSTED;

  private FakeServer server;
  private ShortlistClient client;

  @BeforeEach
  void start() throws Exception {
    server = new FakeServer();
    client = dial(server.target()).build();
  }

  @AfterEach
  void stop() {
    client.close();
    server.close();
  }

  /** Machines of CI are slow: no test waits for the default to be over. */
  private static ShortlistClient.Builder dial(String target) {
    return ShortlistClient.builder(target).timeout(Duration.ofSeconds(30));
  }

  private static long revision(RecommendResponse answer) {
    return answer.getInfo().getCatalogRevision();
  }

  private static long ask(ShortlistClient client) {
    return revision(client.recommend(SOMEONE));
  }

  private static long askStream(ShortlistClient client) {
    try (Answers<StreamRecommendResponse> lists = client.streamRecommend(STREAMED)) {
      return lists.stream().mapToLong(list -> revision(list.getResponse())).max().orElse(0);
    }
  }

  @Test
  void callsHaveTheDeadlineOfTheirClient() {
    client.withTimeout(Duration.ofHours(1)).recommend(SOMEONE);
    assertTrue(server.secondsLeft > 3_000 && server.secondsLeft <= 3_600, "" + server.secondsLeft);
    client.recommend(SOMEONE);
    assertTrue(server.secondsLeft <= 30, "" + server.secondsLeft);
    assertThrows(
        ShortlistException.InvalidRequest.class, () -> client.withTimeout(Duration.ZERO));
    assertThrows(
        ShortlistException.InvalidRequest.class, () -> dial("a").turnTimeout(Duration.ofMillis(-1)));
  }

  @Test
  void requestIdsAreMadeForEachCallOrTheCallers() {
    client.recommend(SOMEONE);
    String first = server.sent("x-request-id");
    client.recommend(SOMEONE);
    assertEquals(32, first.length());
    assertNotEquals(first, server.sent("x-request-id"));
    client.withRequestId("mine").recommend(SOMEONE);
    assertEquals("mine", server.sent("x-request-id"));
    server.failFirst(99, failure(Status.Code.INTERNAL, "INTERNAL", null));
    ShortlistException failed =
        assertThrows(
            ShortlistException.class, () -> client.withRequestId("mine").recommend(SOMEONE));
    assertEquals("mine", failed.requestId());
  }

  @Test
  void keyIsSentWithEveryCall() {
    try (ShortlistClient known = dial(server.target()).apiKey("sl_secret").build()) {
      known.recommend(SOMEONE);
    }
    assertEquals("Bearer sl_secret", server.sent("authorization"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "shop.example:8500", "dns:///10.0.0.1:8500", "[2001:db8::1]:8500", "localhost.example:1",
        "127.0.0.1.example:1"
      })
  void keyIsNotSentInPlainTextToOtherMachines(String target) {
    ShortlistClient.Builder builder = dial(target).apiKey("sl_secret");
    var refused = assertThrows(ShortlistException.InvalidRequest.class, builder::build);
    assertEquals("apiKey", refused.field());
    assertFalse(refused.getMessage().contains("sl_secret"));
    builder.allowPlaintextKey().build().close();
    dial(target).apiKey("sl_secret").tls(TlsChannelCredentials.create()).build().close();
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"127.0.0.1:8500", "dns:///localhost:8500", "localhost", "[::1]:8500", "127.9.9.9"})
  void keyIsSentInPlainTextToThisMachine(String target) {
    dial(target).apiKey("sl_secret").build().close();
  }

  @ParameterizedTest
  @ValueSource(strings = {"two words", "line\nbreak", "uml\u00e4ut"})
  void keyThatCannotBeSentIsRefusedAndNotShown(String key) {
    ShortlistClient.Builder builder = dial("127.0.0.1:1").apiKey(key);
    var refused = assertThrows(ShortlistException.InvalidRequest.class, builder::build);
    assertFalse(refused.getMessage().contains(key));
  }

  @Test
  void callsThatNobodyAnsweredAreMadeAgain() throws Exception {
    server.failFirst(3, failure(Status.Code.UNAVAILABLE, "SHUTTING_DOWN", null));
    assertEquals(4, ask(client));
    try (FakeServer other = new FakeServer();
        ShortlistClient its = dial(other.target()).build()) {
      other.failFirst(99, failure(Status.Code.UNAVAILABLE, "SHUTTING_DOWN", null));
      var failed = assertThrows(ShortlistException.Unavailable.class, () -> ask(its));
      assertEquals(ErrorReason.ERROR_REASON_SHUTTING_DOWN, failed.reason());
      assertEquals(4, other.callCount());
    }
  }

  @Test
  void rollBackIsNeverMadeAgain() {
    RollBackBundleRequest request = RollBackBundleRequest.getDefaultInstance();
    assertThrows(ShortlistException.Unavailable.class, () -> client.rollBackBundle(request));
    assertEquals(1, server.callCount());
  }

  enum How {
    UNARY(ClientTest::ask),
    STREAM(ClientTest::askStream);

    final ToLongFunction<ShortlistClient> ask;

    How(ToLongFunction<ShortlistClient> ask) {
      this.ask = ask;
    }
  }

  @ParameterizedTest
  @EnumSource
  void busyServerIsAskedAgainWhenItSays(How how) {
    Duration delay = Duration.ofMillis(60);
    server.failFirst(2, failure(BUSY, "OVERLOADED", delay));
    assertEquals(3, how.ask.applyAsLong(client));
    for (int call = 1; call < 3; call++) {
      long waited = server.timesNs.get(call) - server.timesNs.get(call - 1);
      assertTrue(waited >= delay.toNanos(), call + " after " + waited);
    }
    server.failFirst(99, failure(BUSY, "OVERLOADED", Duration.ofMillis(1)));
    var failed =
        assertThrows(ShortlistException.Overloaded.class, () -> how.ask.applyAsLong(client));
    assertEquals(Duration.ofMillis(1), failed.retryDelay().orElseThrow());
    assertEquals(3 + 4, server.callCount());
  }

  @Test
  void busyServerIsNotAskedAgainWhereItsDelayIsUnknownOrTooLong() {
    server.failFirst(99, failure(BUSY, "OVERLOADED", null));
    assertThrows(ShortlistException.Overloaded.class, () -> ask(client));
    server.failFirst(99, failure(BUSY, "RATE_LIMITED", Duration.ofHours(1)));
    assertThrows(ShortlistException.RateLimited.class, () -> ask(client));
    server.failFirst(99, failure(Status.Code.INTERNAL, "INTERNAL", Duration.ofMillis(1)));
    assertThrows(ShortlistException.Internal.class, () -> ask(client));
    assertEquals(3, server.callCount());
  }

  @Test
  void streamThatHasBegunIsNotMadeAgain() {
    server.stream =
        (call, answers) -> {
          answers.onNext(StreamRecommendResponse.newBuilder().setResponse(answer(call)).build());
          answers.onError(failure(BUSY, "OVERLOADED", Duration.ofMillis(1)));
        };
    Iterator<StreamRecommendResponse> lists = client.streamRecommend(STREAMED).iterator();
    assertEquals(1, revision(lists.next().getResponse()));
    assertThrows(ShortlistException.Overloaded.class, lists::hasNext);
    assertEquals(1, server.callCount());
  }

  @Test
  void closedAnswersEndTheCallOnTheServer() throws Exception {
    CountDownLatch ended = new CountDownLatch(1);
    server.stream =
        (call, answers) -> {
          ((ServerCallStreamObserver<?>) answers).setOnCancelHandler(ended::countDown);
          answers.onNext(StreamRecommendResponse.newBuilder().setResponse(answer(call)).build());
        };
    try (Answers<StreamRecommendResponse> lists = client.streamRecommend(STREAMED)) {
      assertEquals(1, revision(lists.iterator().next().getResponse()));
      assertThrows(IllegalStateException.class, lists::iterator);
    }
    assertTrue(ended.await(20, TimeUnit.SECONDS));
  }

  @Test
  void errorSaysWhatTheServerSays() {
    server.failFirst(99, failure(Status.Code.INVALID_ARGUMENT, "OUT_OF_RANGE", null));
    var failed = assertThrows(ShortlistException.InvalidRequest.class, () -> ask(client));
    assertEquals(Status.Code.INVALID_ARGUMENT, failed.code());
    assertEquals(ErrorReason.ERROR_REASON_OUT_OF_RANGE, failed.reason());
    assertEquals("what is wrong", failed.getMessage());
    assertEquals("9", failed.got());
    assertEquals(StatusRuntimeException.class, failed.getCause().getClass());
  }

  @Test
  void errorsThatNoServerOfOursWroteAreOfTheClassOfTheirCode() {
    server.failFirst(99, Status.UNKNOWN.withDescription("from a proxy").asRuntimeException());
    var failed = assertThrows(ShortlistException.Internal.class, () -> ask(client));
    assertEquals("from a proxy", failed.getMessage());
    server.failFirst(99, failure(Status.Code.NOT_FOUND, "OF_A_LATER_VERSION", null));
    var later = assertThrows(ShortlistException.NotFound.class, () -> ask(client));
    assertEquals(ErrorReason.ERROR_REASON_UNSPECIFIED, later.reason());
  }

  @Test
  void rowsHaveTheErrorsOfCalls() {
    RowError row =
        RowError.newBuilder()
            .setCode(3)
            .setMessage("limit: expected 1..500, got 501")
            .setReason(ErrorReason.ERROR_REASON_OUT_OF_RANGE)
            .putMetadata("field", "limit")
            .putMetadata("request_id", "a/1")
            .build();
    var failed = (ShortlistException.InvalidRequest) ShortlistException.ofRow(row);
    assertEquals("limit", failed.field());
    assertEquals("a/1", failed.requestId());
    RowError later = RowError.newBuilder().setCode(5).setReasonValue(9_999).build();
    assertEquals(ShortlistException.NotFound.class, ShortlistException.ofRow(later).getClass());
  }

  @Test
  void messagesThatAreTooLargeAreNoOverload() {
    AtomicInteger answered = new AtomicInteger();
    server.recommend =
        (call, answers) -> {
          answered.incrementAndGet();
          ScoredItem item = ScoredItem.newBuilder().setId("i".repeat(17 << 20)).build();
          answers.onNext(RecommendResponse.newBuilder().addItems(item).build());
          answers.onCompleted();
        };
    assertThrows(ShortlistException.MessageTooLarge.class, () -> ask(client));
    UserQuery user = UserQuery.newBuilder().setId("u".repeat(5 << 20)).build();
    RecommendRequest large =
        RecommendRequest.newBuilder().setQuery(Query.newBuilder().setUser(user)).build();
    assertThrows(ShortlistException.MessageTooLarge.class, () -> client.recommend(large));
    assertEquals(1, answered.get());
  }

  @Test
  void callsGoToAllAddressesInTurn() throws Exception {
    try (FakeServer one = new FakeServer();
        FakeServer other = new FakeServer()) {
      NameResolverProvider shops = new ShopsResolver(List.of(one.target(), other.target()));
      NameResolverRegistry.getDefaultRegistry().register(shops);
      try (ShortlistClient both = dial("shops:///all").build()) {
        // Until both connections are there, calls go to the one that is.
        for (int call = 0; one.callCount() == 0 || other.callCount() == 0; call++) {
          assertTrue(call < 1_000, "one server is never asked");
          both.recommend(SOMEONE);
        }
        int before = one.callCount();
        int otherBefore = other.callCount();
        for (int call = 0; call < 20; call++) {
          both.recommend(SOMEONE);
        }
        assertEquals(10, one.callCount() - before);
        assertEquals(10, other.callCount() - otherBefore);
      } finally {
        NameResolverRegistry.getDefaultRegistry().deregister(shops);
      }
    }
  }

  @Test
  void slowServerIsNoServerThatIsNotThere() throws Exception {
    client.recommend(SOMEONE);
    server.recommend = (call, answers) -> {};
    var slow =
        assertThrows(
            ShortlistException.DeadlineExceeded.class,
            () -> client.withTimeout(Duration.ofMillis(50)).recommend(SOMEONE));
    assertTrue(slow.getMessage().startsWith(server.target() + " gave no answer within "));

    // It takes connections, and never says a word.
    try (ServerSocket silent = new ServerSocket(0);
        ShortlistClient nobody =
            dial("127.0.0.1:" + silent.getLocalPort()).timeout(Duration.ofMillis(100)).build()) {
      var absent = assertThrows(ShortlistException.Unavailable.class, () -> ask(nobody));
      assertTrue(absent.getMessage().contains("no connection to it within"), absent.getMessage());
    }
  }

  @Test
  void tlsAndClientCertificates(@TempDir Path folder) throws Exception {
    Path key = folder.resolve("key.pem");
    Path certificate = folder.resolve("certificate.pem");
    Process made =
        new ProcessBuilder(
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=IP:127.0.0.1", "-keyout", key.toString(), "-out",
                certificate.toString())
            .redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.DISCARD)
            .start();
    assertEquals(0, made.waitFor());
    var asks =
        TlsServerCredentials.newBuilder()
            .keyManager(certificate.toFile(), key.toFile())
            .trustManager(certificate.toFile())
            .clientAuth(TlsServerCredentials.ClientAuth.REQUIRE)
            .build();
    var shows =
        TlsChannelCredentials.newBuilder()
            .trustManager(certificate.toFile())
            .keyManager(certificate.toFile(), key.toFile())
            .build();
    var trusts = TlsChannelCredentials.newBuilder().trustManager(certificate.toFile()).build();
    try (FakeServer encrypted = new FakeServer(asks);
        ShortlistClient known = dial(encrypted.target()).tls(shows).apiKey("sl_secret").build();
        ShortlistClient unknown = dial(encrypted.target()).tls(trusts).build();
        ShortlistClient mistrusting =
            dial(encrypted.target()).tls(TlsChannelCredentials.create()).build()) {
      known.recommend(SOMEONE);
      assertEquals("Bearer sl_secret", encrypted.sent("authorization"));
      assertThrows(ShortlistException.Unavailable.class, () -> ask(unknown));
      assertThrows(ShortlistException.Unavailable.class, () -> ask(mistrusting));
    }
  }
}
