// The messages of the protos, with their schemas: what `create` of @bufbuild/protobuf and `toJson` take.
export * from "./gen/grpc/health/v1/health_pb.js";
export * from "./gen/shortlist/v1/bundle_pb.js";
export * from "./gen/shortlist/v1/catalog_pb.js";
export * from "./gen/shortlist/v1/conversation_pb.js";
export * from "./gen/shortlist/v1/errors_pb.js";
export * from "./gen/shortlist/v1/recommendation_pb.js";
export * from "./gen/shortlist/v1/types_pb.js";
