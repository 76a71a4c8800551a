package dev.shortlist.client;

import com.google.protobuf.Message;
import dev.shortlist.v1.*;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.protobuf.ProtoUtils;

/** The methods of the protos, as gRPC knows them. A test compares them with the protos. */
final class Methods {
  static final MethodDescriptor<RecommendRequest, RecommendResponse> RECOMMEND =
      unary(
          "RecommendationService/Recommend",
          RecommendRequest.getDefaultInstance(),
          RecommendResponse.getDefaultInstance());
  static final MethodDescriptor<StreamRecommendRequest, StreamRecommendResponse> STREAM_RECOMMEND =
      streaming(
          "RecommendationService/StreamRecommend",
          StreamRecommendRequest.getDefaultInstance(),
          StreamRecommendResponse.getDefaultInstance());
  static final MethodDescriptor<BatchRecommendRequest, BatchRecommendResponse> BATCH_RECOMMEND =
      streaming(
          "RecommendationService/BatchRecommend",
          BatchRecommendRequest.getDefaultInstance(),
          BatchRecommendResponse.getDefaultInstance());
  static final MethodDescriptor<RetrieveRequest, RetrieveResponse> RETRIEVE =
      unary(
          "RecommendationService/Retrieve",
          RetrieveRequest.getDefaultInstance(),
          RetrieveResponse.getDefaultInstance());
  static final MethodDescriptor<RankRequest, RankResponse> RANK =
      unary(
          "RecommendationService/Rank",
          RankRequest.getDefaultInstance(),
          RankResponse.getDefaultInstance());
  static final MethodDescriptor<FindSimilarItemsRequest, FindSimilarItemsResponse>
      FIND_SIMILAR_ITEMS =
          unary(
              "RecommendationService/FindSimilarItems",
              FindSimilarItemsRequest.getDefaultInstance(),
              FindSimilarItemsResponse.getDefaultInstance());

  static final MethodDescriptor<ConverseRequest, ConverseResponse> CONVERSE =
      streaming(
          "ConversationService/Converse",
          ConverseRequest.getDefaultInstance(),
          ConverseResponse.getDefaultInstance());

  static final MethodDescriptor<ListBundlesRequest, ListBundlesResponse> LIST_BUNDLES =
      unary(
          "BundleService/ListBundles",
          ListBundlesRequest.getDefaultInstance(),
          ListBundlesResponse.getDefaultInstance());
  static final MethodDescriptor<GetActiveBundleRequest, GetActiveBundleResponse> GET_ACTIVE_BUNDLE =
      unary(
          "BundleService/GetActiveBundle",
          GetActiveBundleRequest.getDefaultInstance(),
          GetActiveBundleResponse.getDefaultInstance());
  static final MethodDescriptor<ActivateBundleRequest, ActivateBundleResponse> ACTIVATE_BUNDLE =
      unary(
          "BundleService/ActivateBundle",
          ActivateBundleRequest.getDefaultInstance(),
          ActivateBundleResponse.getDefaultInstance());
  static final MethodDescriptor<RollBackBundleRequest, RollBackBundleResponse> ROLL_BACK_BUNDLE =
      unary(
          "BundleService/RollBackBundle",
          RollBackBundleRequest.getDefaultInstance(),
          RollBackBundleResponse.getDefaultInstance());
  static final MethodDescriptor<DeactivateBundleRequest, DeactivateBundleResponse>
      DEACTIVATE_BUNDLE =
          unary(
              "BundleService/DeactivateBundle",
              DeactivateBundleRequest.getDefaultInstance(),
              DeactivateBundleResponse.getDefaultInstance());

  static final MethodDescriptor<UpsertItemsRequest, UpsertItemsResponse> UPSERT_ITEMS =
      unary(
          "CatalogService/UpsertItems",
          UpsertItemsRequest.getDefaultInstance(),
          UpsertItemsResponse.getDefaultInstance());
  static final MethodDescriptor<DeleteItemsRequest, DeleteItemsResponse> DELETE_ITEMS =
      unary(
          "CatalogService/DeleteItems",
          DeleteItemsRequest.getDefaultInstance(),
          DeleteItemsResponse.getDefaultInstance());
  static final MethodDescriptor<GetItemRequest, GetItemResponse> GET_ITEM =
      unary(
          "CatalogService/GetItem",
          GetItemRequest.getDefaultInstance(),
          GetItemResponse.getDefaultInstance());
  static final MethodDescriptor<GetCatalogStatsRequest, GetCatalogStatsResponse> GET_CATALOG_STATS =
      unary(
          "CatalogService/GetCatalogStats",
          GetCatalogStatsRequest.getDefaultInstance(),
          GetCatalogStatsResponse.getDefaultInstance());

  private Methods() {}

  private static <Q extends Message, A extends Message> MethodDescriptor<Q, A> unary(
      String name, Q request, A answer) {
    return method(MethodType.UNARY, name, request, answer);
  }

  private static <Q extends Message, A extends Message> MethodDescriptor<Q, A> streaming(
      String name, Q request, A answer) {
    return method(MethodType.SERVER_STREAMING, name, request, answer);
  }

  private static <Q extends Message, A extends Message> MethodDescriptor<Q, A> method(
      MethodType type, String name, Q request, A answer) {
    return MethodDescriptor.<Q, A>newBuilder()
        .setType(type)
        .setFullMethodName("shortlist.v1." + name)
        .setRequestMarshaller(ProtoUtils.marshaller(request))
        .setResponseMarshaller(ProtoUtils.marshaller(answer))
        .build();
  }
}
