package dev.shortlist.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.shortlist.v1.ErrorReason;
import dev.shortlist.v1.RowError;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.Map;

/** What is known of a call that failed, and which exception it becomes. */
record Failure(
    Status.Code code,
    ErrorReason reason,
    String message,
    String requestId,
    Map<String, String> metadata,
    Duration retryDelay,
    Throwable cause) {

  static final Metadata.Key<String> REQUEST_ID =
      Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER);
  private static final String DOMAIN = "shortlist";
  private static final String PREFIX = "ERROR_REASON_";

  /**
   * Reads what a call ended with.
   *
   * @param requestId the id that was sent; the server's word wins.
   */
  static Failure of(StatusRuntimeException error, String requestId) {
    ErrorInfo info = ErrorInfo.getDefaultInstance();
    Duration delay = null;
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    for (Any detail : status.getDetailsList()) {
      try {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo found = detail.unpack(ErrorInfo.class);
          info = found.getDomain().equals(DOMAIN) ? found : info;
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration told = detail.unpack(RetryInfo.class).getRetryDelay();
          delay = Duration.ofSeconds(told.getSeconds(), told.getNanos());
        }
      } catch (InvalidProtocolBufferException unreadable) {
        // Details that cannot be read must not hide the error itself.
        continue;
      }
    }
    Metadata trailers = error.getTrailers();
    String told = trailers == null ? null : trailers.get(REQUEST_ID);
    Status ended = error.getStatus();
    // A request that gRPC refuses to send is CANCELLED, for the reason that is its cause.
    if (ended.getCause() instanceof StatusRuntimeException why) {
      ended = why.getStatus();
    }
    return new Failure(
        ended.getCode(),
        reasonOf(info.getReason()),
        ended.getDescription() == null ? ended.getCode().name() : ended.getDescription(),
        told == null ? requestId : told,
        Map.copyOf(info.getMetadataMap()),
        delay,
        error);
  }

  static Failure ofRow(RowError row) {
    return new Failure(
        Status.fromCodeValue(row.getCode()).getCode(),
        row.getReason() == ErrorReason.UNRECOGNIZED
            ? ErrorReason.ERROR_REASON_UNSPECIFIED
            : row.getReason(),
        row.getMessage(),
        row.getMetadataOrDefault("request_id", ""),
        Map.copyOf(row.getMetadataMap()),
        null,
        null);
  }

  /** Returns how the client refuses a field, just as the server would. */
  static Failure refused(String field, String expected, String got) {
    return new Failure(
        Status.Code.INVALID_ARGUMENT,
        ErrorReason.ERROR_REASON_INVALID_VALUE,
        field + ": expected " + expected + ", got " + got,
        "",
        Map.of("field", field, "expected", expected, "got", got),
        null,
        null);
  }

  /** Returns the same failure with another code and message. */
  Failure told(Status.Code other, String text) {
    return new Failure(other, reason, text, requestId, metadata, retryDelay, cause);
  }

  /** Returns whether a server of ours said what is wrong. */
  boolean hasReason() {
    return reason != ErrorReason.ERROR_REASON_UNSPECIFIED;
  }

  ShortlistException exception() {
    // gRPC has one code for "too busy" and "too large", and only its words tell them apart. It matters: the one is worth
    // a retry, the other never is.
    if (code == Status.Code.RESOURCE_EXHAUSTED && !hasReason() && isTooLarge(message)) {
      return new ShortlistException.MessageTooLarge(this);
    }
    return switch (reason) {
      case ERROR_REASON_RATE_LIMITED -> new ShortlistException.RateLimited(this);
      case ERROR_REASON_BUNDLE_MISSING,
          ERROR_REASON_BUNDLE_CORRUPT,
          ERROR_REASON_BUNDLE_UNSUPPORTED,
          ERROR_REASON_PARITY,
          ERROR_REASON_MODEL_SIGNATURE_MISMATCH ->
          new ShortlistException.BundleRefused(this);
      default -> byCode();
    };
  }

  private ShortlistException byCode() {
    return switch (code) {
      case INVALID_ARGUMENT -> new ShortlistException.InvalidRequest(this);
      case UNAUTHENTICATED -> new ShortlistException.Unauthenticated(this);
      case PERMISSION_DENIED -> new ShortlistException.PermissionDenied(this);
      case NOT_FOUND -> new ShortlistException.NotFound(this);
      case DEADLINE_EXCEEDED -> new ShortlistException.DeadlineExceeded(this);
      case RESOURCE_EXHAUSTED -> new ShortlistException.Overloaded(this);
      case UNAVAILABLE -> new ShortlistException.Unavailable(this);
      // UNKNOWN is what a Python server answers when a handler raises something that nobody caught.
      case INTERNAL, DATA_LOSS, UNKNOWN -> new ShortlistException.Internal(this);
      default -> new ShortlistException(this);
    };
  }

  private static boolean isTooLarge(String text) {
    return text.contains("exceeds maximum size")
        || text.contains("message too large")
        || text.contains("message larger than max");
  }

  private static ErrorReason reasonOf(String name) {
    try {
      return name.isEmpty()
          ? ErrorReason.ERROR_REASON_UNSPECIFIED
          : ErrorReason.valueOf(PREFIX + name);
    } catch (IllegalArgumentException unknown) {
      return ErrorReason.ERROR_REASON_UNSPECIFIED;
    }
  }
}
