package dev.shortlist.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.Descriptors.MethodDescriptor;
import com.google.protobuf.Descriptors.ServiceDescriptor;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import dev.shortlist.v1.BundleProto;
import dev.shortlist.v1.CatalogProto;
import dev.shortlist.v1.ConversationProto;
import dev.shortlist.v1.ErrorReason;
import dev.shortlist.v1.RecommendationProto;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Status;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The request vectors that all clients send; see tests/data/requests/README.md. */
class VectorsTest {
  private static final Path FOLDER = RealServers.ROOT.resolve("tests/data/requests");
  private static final List<FileDescriptor> PROTOS =
      List.of(
          RecommendationProto.getDescriptor(),
          ConversationProto.getDescriptor(),
          BundleProto.getDescriptor(),
          CatalogProto.getDescriptor());

  @Test
  void everyVectorIsAnsweredAsExpected() throws Exception {
    Comparison comparison = Comparison.shared();
    List<String> wrong = new ArrayList<>();
    Map<String, Integer> answered = new TreeMap<>();
    // In one test: they are sent in their order.
    for (Path file : files()) {
      JsonObject vector = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
      String method = vector.get("method").getAsString();
      List<String> found =
          comparison.differences(method, vector.getAsJsonObject("expected"), send(vector));
      found.forEach(difference -> wrong.add(file.getFileName() + ": " + difference));
      if (found.isEmpty()) {
        answered.merge(method, 1, Integer::sum);
      }
    }
    // Tells `make test-clients` how many vectors of each method were answered as expected.
    String report = System.getenv("SHORTLIST_VECTORS_REPORT");
    if (report != null) {
      Files.writeString(Path.of(report), new Gson().toJson(answered));
    }
    assertTrue(wrong.isEmpty(), String.join("\n", wrong));
  }

  private static List<Path> files() throws IOException {
    try (Stream<Path> listed = Files.list(FOLDER)) {
      List<Path> found =
          listed.filter(file -> file.getFileName().toString().matches("\\d+-.*\\.json")).sorted().toList();
      assertFalse(found.isEmpty());
      return found;
    }
  }

  /** Makes the call by the client's method of the same name, on a connection of its own. */
  private static JsonObject send(JsonObject vector) throws Exception {
    String server = vector.has("server") ? vector.get("server").getAsString() : "main";
    String key = vector.has("key") ? vector.get("key").getAsString() : "all";
    ShortlistClient.Builder builder =
        ShortlistClient.builder(RealServers.target(server))
            .timeout(Duration.ofMinutes(1))
            .turnTimeout(Duration.ofMinutes(1));
    if (!key.equals("none")) {
      builder.apiKey(RealServers.key(key));
    }
    String name = vector.get("method").getAsString().replaceFirst(".*/", "");
    Method method = methodOf(name.substring(0, 1).toLowerCase() + name.substring(1));
    Message.Builder request =
        (Message.Builder) method.getParameterTypes()[0].getMethod("newBuilder").invoke(null);
    JsonFormat.parser().merge(vector.get("request").toString(), request);
    JsonObject got = new JsonObject();
    try (ShortlistClient client = builder.build()) {
      JsonArray responses = new JsonArray();
      Object answer = method.invoke(client, request.build());
      if (answer instanceof Answers<?> answers) {
        for (Object one : answers) {
          responses.add(json(one));
        }
      } else {
        responses.add(json(answer));
      }
      got.add("responses", responses);
    } catch (InvocationTargetException failed) {
      got.add("error", errorOf(assertInstanceOf(ShortlistException.class, failed.getCause())));
    } catch (ShortlistException failed) {
      got.add("error", errorOf(failed));
    }
    return got;
  }

  private static Method methodOf(String name) {
    return Arrays.stream(ShortlistClient.class.getMethods())
        .filter(method -> method.getName().equals(name) && method.getParameterCount() == 1)
        .findFirst()
        .orElseThrow(() -> new AssertionError("the client has no method " + name));
  }

  private static JsonElement json(Object message) throws IOException {
    return JsonParser.parseString(JsonFormat.printer().print((MessageOrBuilder) message));
  }

  private static JsonObject errorOf(ShortlistException failed) {
    assertEquals(classOf(failed.reason(), failed.code()), failed.getClass(), failed.toString());
    assertFalse(failed.getMessage().isEmpty());
    assertFalse(failed.requestId().isEmpty());
    JsonObject error = new JsonObject();
    error.addProperty("code", failed.code().name());
    error.addProperty("reason", failed.reason().name().replace("ERROR_REASON_", ""));
    error.add("metadata", new Gson().toJsonTree(failed.metadata()));
    error.addProperty("has_retry_delay", failed.retryDelay().isPresent());
    return error;
  }

  /** The error table, as a caller of the client has it. */
  private static Class<?> classOf(ErrorReason reason, Status.Code code) {
    return switch (reason) {
      case ERROR_REASON_FIELD_REQUIRED,
          ERROR_REASON_OUT_OF_RANGE,
          ERROR_REASON_INVALID_VALUE,
          ERROR_REASON_DIMENSION_MISMATCH,
          ERROR_REASON_FEATURE_TYPE_MISMATCH,
          ERROR_REASON_UNKNOWN_FEATURE,
          ERROR_REASON_UNKNOWN_ATTRIBUTE,
          ERROR_REASON_UNKNOWN_OUTPUT,
          ERROR_REASON_EXCLUDED_ITEM_REQUESTED,
          ERROR_REASON_ATTRIBUTE_TYPE_MISMATCH,
          ERROR_REASON_UNKNOWN_SOURCE,
          ERROR_REASON_IDEMPOTENCY_KEY_REUSED ->
          ShortlistException.InvalidRequest.class;
      case ERROR_REASON_UNKNOWN_ITEM ->
          code == Status.Code.NOT_FOUND
              ? ShortlistException.NotFound.class
              : ShortlistException.InvalidRequest.class;
      case ERROR_REASON_CONVERSATION_NOT_FOUND -> ShortlistException.NotFound.class;
      case ERROR_REASON_DEADLINE_EXCEEDED -> ShortlistException.DeadlineExceeded.class;
      case ERROR_REASON_OVERLOADED -> ShortlistException.Overloaded.class;
      case ERROR_REASON_RATE_LIMITED -> ShortlistException.RateLimited.class;
      case ERROR_REASON_SHUTTING_DOWN,
          ERROR_REASON_CATALOG_UNAVAILABLE,
          ERROR_REASON_TEXT_EMBEDDER_UNAVAILABLE,
          ERROR_REASON_REVISION_NOT_REACHED ->
          ShortlistException.Unavailable.class;
      case ERROR_REASON_API_KEY_MISSING, ERROR_REASON_API_KEY_INVALID ->
          ShortlistException.Unauthenticated.class;
      case ERROR_REASON_SCOPE_MISSING -> ShortlistException.PermissionDenied.class;
      case ERROR_REASON_BUNDLE_MISSING,
          ERROR_REASON_BUNDLE_CORRUPT,
          ERROR_REASON_BUNDLE_UNSUPPORTED,
          ERROR_REASON_PARITY,
          ERROR_REASON_MODEL_SIGNATURE_MISMATCH ->
          ShortlistException.BundleRefused.class;
      case ERROR_REASON_INTERNAL -> ShortlistException.Internal.class;
      case ERROR_REASON_CATALOG_READ_ONLY,
          ERROR_REASON_LABEL_NOT_LOADED,
          ERROR_REASON_NOT_CONFIGURED,
          ERROR_REASON_SWITCH_UNDER_WAY ->
          ShortlistException.class;
      default -> throw new AssertionError("no class for " + reason);
    };
  }

  @Test
  void methodsAreThoseOfTheProtos() throws Exception {
    Map<String, String> declared = new TreeMap<>();
    for (FileDescriptor proto : PROTOS) {
      for (ServiceDescriptor service : proto.getServices()) {
        for (MethodDescriptor method : service.getMethods()) {
          declared.put(
              service.getFullName() + "/" + method.getName(),
              method.isServerStreaming()
                  + method.getInputType().getName()
                  + method.getOutputType().getName());
        }
      }
    }
    Map<String, String> ours = new TreeMap<>();
    for (var field : Methods.class.getDeclaredFields()) {
      var method = (io.grpc.MethodDescriptor<?, ?>) field.get(null);
      ours.put(
          method.getFullMethodName(),
          (method.getType() == MethodType.SERVER_STREAMING)
              + nameOf(method.getRequestMarshaller())
              + nameOf(method.getResponseMarshaller()));
    }
    assertEquals(declared, ours);
  }

  private static String nameOf(io.grpc.MethodDescriptor.Marshaller<?> marshaller) {
    var reflectable = (io.grpc.MethodDescriptor.ReflectableMarshaller<?>) marshaller;
    return reflectable.getMessageClass().getSimpleName();
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      nullValues = "none",
      value = {
        "{'a': 1.0}|{'a': 1.000001}|none",
        "{'a': 1.0}|{'a': 1.001}|a",
        "{'a': 1000}|{'a': 1000.001}|none",
        "{'a': '1'}|{'a': 1}|a",
        "{'a': true}|{'a': false}|a",
        "{'a': [1]}|{'a': [1, 2]}|a",
        "{'a': {'b': 1}}|{'a': {}}|a.b",
        "{}|{'b': ''}|b",
        "{'id': '1'}|{'id': '2'}|none",
        "{'responses': [{'x': 'a'}, {'index': 1}]}|{'responses': [{'index': 1}, {'x': 'a'}]}|none",
      },
      quoteCharacter = '"')
  void answersAreComparedByTheRules(String expected, String got, String where) {
    Comparison comparison =
        new Comparison(
            "{'volatile': ['id'], 'tolerance': 1e-5, 'unordered': {'Batch': 'index'}}");
    List<String> found =
        comparison.differences(
            "Batch",
            JsonParser.parseString(expected).getAsJsonObject(),
            JsonParser.parseString(got).getAsJsonObject());
    assertEquals(where, found.isEmpty() ? null : found.get(0).replaceFirst(":.*", ""));
  }
}
