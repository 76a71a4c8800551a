package dev.shortlist.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ConnectivityState;
import io.grpc.Context;
import io.grpc.Context.CancellableContext;
import io.grpc.Deadline;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.time.Duration;
import java.util.Iterator;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * One call: its deadline, its id, and its repetition where the server is too busy.
 *
 * <p>A service config could not repeat it: it reads the server's delay from a header and not from RetryInfo, and sleeps
 * through a deadline that comes before, which then is all that the caller is told.
 */
final class Calls {
  /** How often a call is made that the server is too busy for. */
  private static final int ATTEMPTS_MAX = 4;

  private final ManagedChannel channel;
  private final CallOptions options;
  private final String target;
  private final Duration timeout;
  private final String requestId;

  Calls(
      ManagedChannel channel,
      CallOptions options,
      String target,
      Duration timeout,
      String requestId) {
    this.channel = channel;
    this.target = target;
    this.timeout = timeout;
    this.requestId = requestId;
    Deadline deadline = Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS);
    Deadline outer = Context.current().getDeadline();
    this.options = options.withDeadline(outer == null ? deadline : deadline.minimum(outer));
  }

  /** Makes a call of one answer. */
  <Q, A> A unary(MethodDescriptor<Q, A> method, Q request) {
    for (int attempt = 1; ; attempt++) {
      try {
        return ClientCalls.blockingUnaryCall(sending(), method, options, request);
      } catch (StatusRuntimeException error) {
        Failure failure = explain(error);
        if (!waitAfter(failure, attempt)) {
          throw failure.exception();
        }
      }
    }
  }

  /** Begins a call of many answers. */
  <Q, A> Answers<A> streaming(MethodDescriptor<Q, A> method, Q request) {
    Repeated<Q, A> answers = new Repeated<>(method, request);
    return new Answers<>(answers, answers::end);
  }

  private Channel sending() {
    Metadata headers = new Metadata();
    headers.put(Failure.REQUEST_ID, requestId);
    return ClientInterceptors.intercept(
        channel, MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** The answers of a call that is made again as long as none has come. */
  private final class Repeated<Q, A> implements Iterator<A> {
    private final MethodDescriptor<Q, A> method;
    private final Q request;
    private CancellableContext context;
    private Iterator<A> answers;
    private int attempt;
    private boolean begun;

    Repeated(MethodDescriptor<Q, A> method, Q request) {
      this.method = method;
      this.request = request;
      begin();
    }

    private void begin() {
      attempt++;
      context = Context.current().withCancellation();
      Context before = context.attach();
      try {
        answers = ClientCalls.blockingServerStreamingCall(sending(), method, options, request);
      } finally {
        context.detach(before);
      }
    }

    @Override
    public boolean hasNext() {
      while (true) {
        try {
          boolean more = answers.hasNext();
          begun |= more;
          if (!more) {
            end();
          }
          return more;
        } catch (StatusRuntimeException error) {
          end();
          Failure failure = explain(error);
          // What has come cannot be taken back.
          if (begun || !waitAfter(failure, attempt)) {
            throw failure.exception();
          }
          begin();
        }
      }
    }

    @Override
    public A next() {
      return answers.next();
    }

    void end() {
      context.cancel(null);
    }
  }

  /**
   * Waits as long as a server asks that is too busy, and up to a quarter longer, so that not all come back at once. Returns
   * false, at once, where the call is not to be made again: it failed otherwise, or its time would be over.
   */
  private boolean waitAfter(Failure failure, int attempt) {
    if (failure.code() != Status.Code.RESOURCE_EXHAUSTED
        || failure.retryDelay() == null
        || attempt >= ATTEMPTS_MAX) {
      return false;
    }
    long delay = failure.retryDelay().toNanos();
    delay += ThreadLocalRandom.current().nextLong(delay / 4 + 1);
    if (options.getDeadline().timeRemaining(TimeUnit.NANOSECONDS) <= delay) {
      return false;
    }
    try {
      TimeUnit.NANOSECONDS.sleep(delay);
      return true;
    } catch (InterruptedException stopped) {
      Thread.currentThread().interrupt();
      return false;
    }
  }

  /** Returns what an error says; one that no server of ours wrote gets the target, which gRPC's lacks. */
  private Failure explain(StatusRuntimeException error) {
    Failure failure = Failure.of(error, requestId);
    if (failure.hasReason()) {
      return failure;
    }
    if (failure.code() == Status.Code.DEADLINE_EXCEEDED) {
      if (channel.getState(false) == ConnectivityState.READY) {
        return failure.told(failure.code(), target + " gave no answer within " + timeout);
      }
      // What a caller does about a server that is not there is not what he does about a slow one.
      return failure.told(
          Status.Code.UNAVAILABLE,
          target + " is not available: no connection to it within " + timeout);
    }
    if (failure.code() == Status.Code.UNAVAILABLE) {
      return failure.told(
          failure.code(), target + " is not available: " + failure.message());
    }
    return failure;
  }
}
