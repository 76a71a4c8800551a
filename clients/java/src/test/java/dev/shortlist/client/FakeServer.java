package dev.shortlist.client;

import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.shortlist.v1.AnswerInfo;
import dev.shortlist.v1.RecommendResponse;
import dev.shortlist.v1.StreamRecommendResponse;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCalls;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.function.BiConsumer;

/** A server of which a test says what it does. It counts calls, and keeps what came with them. */
final class FakeServer implements AutoCloseable {
  final List<Metadata> received = new CopyOnWriteArrayList<>();
  final List<Long> timesNs = new CopyOnWriteArrayList<>();
  volatile long secondsLeft;
  volatile BiConsumer<Integer, StreamObserver<RecommendResponse>> recommend =
      (call, answers) -> {
        answers.onNext(answer(call));
        answers.onCompleted();
      };
  volatile BiConsumer<Integer, StreamObserver<StreamRecommendResponse>> stream;
  private final Server server;

  FakeServer() throws IOException {
    this(InsecureServerCredentials.create());
  }

  FakeServer(ServerCredentials credentials) throws IOException {
    ServerServiceDefinition recommendation =
        ServerServiceDefinition.builder("shortlist.v1.RecommendationService")
            .addMethod(
                Methods.RECOMMEND,
                ServerCalls.asyncUnaryCall(
                    (request, answers) -> recommend.accept(received.size(), answers)))
            .addMethod(
                Methods.STREAM_RECOMMEND,
                ServerCalls.asyncServerStreamingCall(
                    (request, answers) -> stream.accept(received.size(), answers)))
            .build();
    ServerServiceDefinition bundle =
        ServerServiceDefinition.builder("shortlist.v1.BundleService")
            .addMethod(
                Methods.ROLL_BACK_BUNDLE,
                ServerCalls.asyncUnaryCall(
                    (request, answers) ->
                        answers.onError(
                            failure(Status.Code.UNAVAILABLE, "SHUTTING_DOWN", null))))
            .build();
    server =
        Grpc.newServerBuilderForPort(0, credentials)
            .addService(recommendation)
            .addService(bundle)
            .intercept(new Recorder())
            .build()
            .start();
  }

  String target() {
    return "127.0.0.1:" + server.getPort();
  }

  int callCount() {
    return received.size();
  }

  String sent(String name) {
    return received
        .get(received.size() - 1)
        .get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
  }

  /** Fails so often, and then answers. */
  FakeServer failFirst(int times, StatusRuntimeException error) {
    recommend =
        (call, answers) -> {
          if (call <= times) {
            answers.onError(error);
          } else {
            answers.onNext(answer(call));
            answers.onCompleted();
          }
        };
    stream =
        (call, answers) -> {
          if (call <= times) {
            answers.onError(error);
          } else {
            answers.onNext(
                StreamRecommendResponse.newBuilder().setResponse(answer(call)).setLast(true).build());
            answers.onCompleted();
          }
        };
    return this;
  }

  /** An answer that says which call it is of. */
  static RecommendResponse answer(int call) {
    return RecommendResponse.newBuilder()
        .setInfo(AnswerInfo.newBuilder().setCatalogRevision(call))
        .build();
  }

  /** An error as a server sends it; without a delay where that is null. */
  static StatusRuntimeException failure(Status.Code code, String reason, Duration delay) {
    com.google.rpc.Status.Builder status =
        com.google.rpc.Status.newBuilder()
            .setCode(code.value())
            .setMessage("what is wrong")
            .addDetails(
                Any.pack(
                    ErrorInfo.newBuilder()
                        .setDomain("shortlist")
                        .setReason(reason)
                        .putMetadata("got", "9")
                        .build()));
    if (delay != null) {
      com.google.protobuf.Duration told =
          com.google.protobuf.Duration.newBuilder()
              .setSeconds(delay.getSeconds())
              .setNanos(delay.getNano())
              .build();
      status.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(told).build()));
    }
    return StatusProto.toStatusRuntimeException(status.build());
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  private final class Recorder implements ServerInterceptor {
    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
      received.add(headers);
      timesNs.add(System.nanoTime());
      if (Context.current().getDeadline() != null) {
        secondsLeft =
            Context.current().getDeadline().timeRemaining(java.util.concurrent.TimeUnit.SECONDS);
      }
      return Contexts.interceptCall(Context.current(), call, headers, next);
    }
  }
}
