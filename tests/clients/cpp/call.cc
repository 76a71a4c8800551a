// Calls a server by the generated stubs: prints the ids of two items, then the status of a request that is refused.
// Usage: call TARGET
#include <chrono>
#include <iostream>

#include <grpcpp/grpcpp.h>

#include "shortlist/v1/recommendation.grpc.pb.h"

using shortlist::v1::RecommendRequest;
using shortlist::v1::RecommendResponse;
using shortlist::v1::RecommendationService;

grpc::Status recommend(RecommendationService::Stub& stub, int limit, RecommendResponse* answer) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  RecommendRequest request;
  request.mutable_query()->mutable_user()->set_id("u1");
  request.set_limit(limit);
  return stub.Recommend(&context, request, answer);
}

int main(int, char** arguments) {
  auto channel = grpc::CreateChannel(arguments[1], grpc::InsecureChannelCredentials());
  auto stub = RecommendationService::NewStub(channel);
  RecommendResponse answer;
  grpc::Status status = recommend(*stub, 2, &answer);
  if (!status.ok()) {
    std::cerr << status.error_message() << std::endl;
    return 1;
  }
  for (const auto& item : answer.items()) {
    std::cout << item.id() << std::endl;
  }
  status = recommend(*stub, 501, &answer);
  std::cout << status.error_code() << " " << status.error_message() << std::endl;
}
