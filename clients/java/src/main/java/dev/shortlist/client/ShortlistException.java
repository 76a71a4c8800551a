package dev.shortlist.client;

import dev.shortlist.v1.ErrorReason;
import dev.shortlist.v1.RowError;
import io.grpc.Status;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/**
 * How a call failed. Its subclasses are what callers tell apart, {@link #reason} says it exactly:
 *
 * <pre>{@code
 * ShortlistException
 *   InvalidRequest     the request cannot be answered because of what it says: field, expected, got
 *     MessageTooLarge  the request, or its answer, is larger than a message may be
 *   Unauthenticated    the API key is missing or not the server's
 *   PermissionDenied   the API key does not open the call
 *   NotFound           no item, or conversation, of that id is known
 *   DeadlineExceeded   the time was gone before the answer came
 *   Overloaded         too busy: come back after retryDelay
 *     RateLimited      this API key is used more often than it may be
 *   Unavailable        nobody answers, after the client's own retries
 *   BundleRefused      a bundle cannot be switched to
 *   Internal           a fault of the server; requestId leads to its log
 * }</pre>
 *
 * A reason or a status that this version does not know becomes the nearest class, at worst this one.
 */
public class ShortlistException extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final Status.Code code;
  private final ErrorReason reason;
  private final String requestId;
  private final transient Map<String, String> metadata;
  private final Duration retryDelay;

  ShortlistException(Failure failure) {
    super(failure.message(), failure.cause());
    code = failure.code();
    reason = failure.reason();
    requestId = failure.requestId();
    metadata = failure.metadata();
    retryDelay = failure.retryDelay();
  }

  /** Returns the gRPC status code. */
  public Status.Code code() {
    return code;
  }

  /**
   * Returns what the server says is wrong. Unspecified where it does not: then gRPC made the error, or something
   * between client and server; or where this version does not know it.
   */
  public ErrorReason reason() {
    return reason;
  }

  /** Returns the id of the call, as the server logs it. */
  public String requestId() {
    return requestId;
  }

  /** Returns what the server says of the reason: field, expected, got, stage, scope, ... */
  public Map<String, String> metadata() {
    return metadata == null ? Map.of() : metadata;
  }

  /** Returns the time after which the server asks to be called again; empty where it does not say. */
  public Optional<Duration> retryDelay() {
    return Optional.ofNullable(retryDelay);
  }

  /**
   * Returns the error of one row of a batch, or of one item that was not written: what the row alone would have ended
   * with.
   */
  public static ShortlistException ofRow(RowError row) {
    return Failure.ofRow(row).exception();
  }

  /** The request cannot be answered because of what it says; a retry gives the same error. */
  public static class InvalidRequest extends ShortlistException {
    private static final long serialVersionUID = 1;

    InvalidRequest(Failure failure) {
      super(failure);
    }

    /** Returns the path of the field: {@code query.user.features["age"]}. Empty where unknown, as the next two. */
    public String field() {
      return metadata().getOrDefault("field", "");
    }

    /** Returns what the field takes. */
    public String expected() {
      return metadata().getOrDefault("expected", "");
    }

    /** Returns what the field holds. */
    public String got() {
      return metadata().getOrDefault("got", "");
    }
  }

  /** The request, or its answer, is larger than a message may be. It has no reason. */
  public static final class MessageTooLarge extends InvalidRequest {
    private static final long serialVersionUID = 1;

    MessageTooLarge(Failure failure) {
      super(failure);
    }
  }

  /** The server does not know who calls; a retry gives the same error. */
  public static final class Unauthenticated extends ShortlistException {
    private static final long serialVersionUID = 1;

    Unauthenticated(Failure failure) {
      super(failure);
    }
  }

  /** The caller may not make this call; a retry gives the same error. */
  public static final class PermissionDenied extends ShortlistException {
    private static final long serialVersionUID = 1;

    PermissionDenied(Failure failure) {
      super(failure);
    }

    /** Returns the scope that the API key lacks; several, of which one is enough, are joined by " or ". */
    public String scope() {
      return metadata().getOrDefault("scope", "");
    }
  }

  /** What a query needs is not known to the server. */
  public static final class NotFound extends ShortlistException {
    private static final long serialVersionUID = 1;

    NotFound(Failure failure) {
      super(failure);
    }
  }

  /** The time was gone before the answer came. */
  public static final class DeadlineExceeded extends ShortlistException {
    private static final long serialVersionUID = 1;

    DeadlineExceeded(Failure failure) {
      super(failure);
    }

    /** Returns the name of the stage that had no time left; empty where the server did not say. */
    public String stage() {
      return metadata().getOrDefault("stage", "");
    }
  }

  /** The server is too busy, after the client's own retries. Come back after {@link #retryDelay}. */
  public static class Overloaded extends ShortlistException {
    private static final long serialVersionUID = 1;

    Overloaded(Failure failure) {
      super(failure);
    }
  }

  /** This API key is used more often than it may be. */
  public static final class RateLimited extends Overloaded {
    private static final long serialVersionUID = 1;

    RateLimited(Failure failure) {
      super(failure);
    }
  }

  /** Nobody answers at the target, after the client's own retries. */
  public static final class Unavailable extends ShortlistException {
    private static final long serialVersionUID = 1;

    Unavailable(Failure failure) {
      super(failure);
    }
  }

  /** A bundle cannot be switched to; what serves is as it was. */
  public static final class BundleRefused extends ShortlistException {
    private static final long serialVersionUID = 1;

    BundleRefused(Failure failure) {
      super(failure);
    }
  }

  /** A fault of the server. Its log has the cause under {@link #requestId}. */
  public static final class Internal extends ShortlistException {
    private static final long serialVersionUID = 1;

    Internal(Failure failure) {
      super(failure);
    }
  }
}
