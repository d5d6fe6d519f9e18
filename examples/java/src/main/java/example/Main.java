package example;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import kinrec.v1.Recommender.EncodeSequenceRequest;
import kinrec.v1.Recommender.EncodeSequenceResponse;
import kinrec.v1.Recommender.Event;
import kinrec.v1.Recommender.GetModelRequest;
import kinrec.v1.Recommender.RecommendRequest;
import kinrec.v1.Recommender.RecommendResponse;
import kinrec.v1.RecommenderServiceGrpc;
import kinrec.v1.RecommenderServiceGrpc.RecommenderServiceBlockingStub;

/** Asks a recommender about somebody who just does something. */
public final class Main {
  // All calls only read, so one that no server answered may go to the next. Before several replicas with
  // one name, "dns:///recommender:50051", healthCheckConfig beside these and the library grpc-services
  // keep calls from those that drain.
  private static final Map<String, ?> SERVICE_CONFIG =
      Map.of(
          "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
          "methodConfig",
              List.of(
                  Map.of(
                      "name", List.of(Map.of("service", RecommenderServiceGrpc.SERVICE_NAME)),
                      "retryPolicy",
                          Map.of(
                              "maxAttempts", 5.0,
                              "initialBackoff", "0.05s",
                              "maxBackoff", "0.5s",
                              "backoffMultiplier", 2.0,
                              "retryableStatusCodes", List.of("UNAVAILABLE", "CANCELLED")))));

  private final RecommenderServiceBlockingStub stub;

  private Main(ManagedChannel channel) {
    stub = RecommenderServiceGrpc.newBlockingStub(channel);
  }

  /** Asks the server at {@code HOST:PORT}. */
  public static void main(String[] arguments) throws InterruptedException {
    String target = arguments.length > 0 ? arguments[0] : "localhost:50051";
    ManagedChannel channel =
        Grpc.newChannelBuilder(target, InsecureChannelCredentials.create())
            .defaultServiceConfig(SERVICE_CONFIG)
            .enableRetry()
            .maxInboundMessageSize(128 << 20)
            .build();
    try {
      new Main(channel).ask();
    } finally {
      channel.shutdown().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void ask() {
    var model = recommender().getModel(GetModelRequest.getDefaultInstance());
    System.out.printf("model %s %s%n", model.getName(), model.getVersion());

    // The state says where the person stands. Keep its bytes as they are, and send only what is new.
    ByteString before = encode(ByteString.EMPTY, "i7", "i9").getState();
    var after = encode(before, "i11");
    var whole = encode(ByteString.EMPTY, "i7", "i9", "i11");
    System.out.printf(
        "one event and the state give what all events give: %s%n",
        after.getVectorList().equals(whole.getVectorList()));

    var answer =
        recommender()
            .recommend(
                RecommendRequest.newBuilder().setState(after.getState()).setLimit(3).build());
    for (var item : answer.getRecommendationsList()) {
      System.out.printf(
          Locale.ROOT, "%s %.4f %s%n", item.getItemId(), item.getScore(), item.getTitle());
    }

    var refused = ByteString.copyFromUtf8("not a state");
    System.out.println(recommend(refused, views("i7", "i9", "i11")).getBasis());
    sayWhyNot(RecommendRequest.newBuilder().setUserId("nobody").build());
    sayWhyNot(RecommendRequest.newBuilder().setUserId("u1").setLimit(-1).build());
  }

  /** The stub, with 2 seconds for a call. */
  private RecommenderServiceBlockingStub recommender() {
    return stub.withDeadlineAfter(2, TimeUnit.SECONDS);
  }

  private EncodeSequenceResponse encode(ByteString state, String... itemIds) {
    return recommender()
        .encodeSequence(
            EncodeSequenceRequest.newBuilder()
                .setState(state)
                .addAllEvents(views(itemIds))
                .build());
  }

  /** Recommends by a state, and by the history if it is refused, as after a change of the key. */
  private RecommendResponse recommend(ByteString state, List<Event> history) {
    try {
      return recommender().recommend(RecommendRequest.newBuilder().setState(state).build());
    } catch (StatusRuntimeException error) {
      if (!reason(error).startsWith("STATE_")) {
        throw error;
      }
      System.out.println(explain(error));
      return recommender()
          .recommend(RecommendRequest.newBuilder().addAllEvents(history).build());
    }
  }

  private void sayWhyNot(RecommendRequest request) {
    try {
      recommender().recommend(request);
    } catch (StatusRuntimeException error) {
      System.out.println(explain(error));
    }
  }

  private static List<Event> views(String... itemIds) {
    return Stream.of(itemIds)
        .map(itemId -> Event.newBuilder().setItemId(itemId).setEventType("view").build())
        .toList();
  }

  /** Why the service refused a call, as a name of ErrorReason; empty if it does not say. */
  private static String reason(StatusRuntimeException error) {
    for (Any detail : details(error)) {
      if (detail.is(ErrorInfo.class)) {
        ErrorInfo info = unpack(detail, ErrorInfo.class);
        if (info.getDomain().equals("kinrec")) {
          return info.getReason();
        }
      }
    }
    return "";
  }

  /** The status, the reason and the fields at fault. */
  private static String explain(StatusRuntimeException error) {
    var text = new StringBuilder(error.getStatus().getCode() + " " + reason(error));
    for (Any detail : details(error)) {
      if (detail.is(BadRequest.class)) {
        for (var violation : unpack(detail, BadRequest.class).getFieldViolationsList()) {
          text.append("; " + violation.getField() + ": " + violation.getDescription());
        }
      }
    }
    return text.toString();
  }

  private static List<Any> details(StatusRuntimeException error) {
    var status = StatusProto.fromThrowable(error);
    return status == null ? List.of() : status.getDetailsList();
  }

  private static <T extends Message> T unpack(Any detail, Class<T> kind) {
    try {
      return detail.unpack(kind);
    } catch (InvalidProtocolBufferException error) {
      throw new IllegalStateException("the server sent details that cannot be read", error);
    }
  }
}
