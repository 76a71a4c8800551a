package shortlist

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
)

// Recommend returns the few items that suit a query best: retrieval, ranking and selection.
func (c *Client) Recommend(
	ctx context.Context, request *pb.RecommendRequest, options ...grpc.CallOption,
) (*pb.RecommendResponse, error) {
	return unary(ctx, c, c.recommendation.Recommend, request, options)
}

// StreamRecommend yields a list as soon as it is ranked, and better ones as they are ready, each in place of the one
// before; the last one is marked so. See the notes on streams at Converse.
func (c *Client) StreamRecommend(
	ctx context.Context, request *pb.StreamRecommendRequest, options ...grpc.CallOption,
) iter.Seq2[*pb.StreamRecommendResponse, error] {
	return stream(ctx, c, c.timeout, c.recommendation.StreamRecommend, request, options)
}

// BatchRecommend yields the answers to up to 1,024 requests, as they are ready; each says by its index which row it
// answers. RowErr returns the error of a row that has none. See the notes on streams at Converse.
func (c *Client) BatchRecommend(
	ctx context.Context, request *pb.BatchRecommendRequest, options ...grpc.CallOption,
) iter.Seq2[*pb.BatchRecommendResponse, error] {
	return stream(ctx, c, c.timeout, c.recommendation.BatchRecommend, request, options)
}

// Retrieve returns candidates only, best retrieval score first: no ranking.
func (c *Client) Retrieve(
	ctx context.Context, request *pb.RetrieveRequest, options ...grpc.CallOption,
) (*pb.RetrieveResponse, error) {
	return unary(ctx, c, c.recommendation.Retrieve, request, options)
}

// Rank returns scores of the items that the caller names, best first.
func (c *Client) Rank(
	ctx context.Context, request *pb.RankRequest, options ...grpc.CallOption,
) (*pb.RankResponse, error) {
	return unary(ctx, c, c.recommendation.Rank, request, options)
}

// FindSimilarItems returns the items nearest to one item.
func (c *Client) FindSimilarItems(
	ctx context.Context, request *pb.FindSimilarItemsRequest, options ...grpc.CallOption,
) (*pb.FindSimilarItemsResponse, error) {
	return unary(ctx, c, c.recommendation.FindSimilarItems, request, options)
}

// Converse yields the answer to one turn of a conversation: what was understood, the items, the reply piece by piece, and
// the end with what the next turn must send.
//
// The call of a stream begins with the loop over it. An error is its last pair, with a nil message. Leaving the loop ends
// the call, on the server too. Each loop over the same stream makes a call of its own.
func (c *Client) Converse(
	ctx context.Context, request *pb.ConverseRequest, options ...grpc.CallOption,
) iter.Seq2[*pb.ConverseResponse, error] {
	return stream(ctx, c, c.turn, c.conversation.Converse, request, options)
}

// ListBundles returns the bundles that can be switched to, and those that serve. Ones that the server has not seen are
// verified first: give it time.
func (c *Client) ListBundles(
	ctx context.Context, request *pb.ListBundlesRequest, options ...grpc.CallOption,
) (*pb.ListBundlesResponse, error) {
	return unary(ctx, c, c.bundle.ListBundles, request, options)
}

// GetActiveBundle returns what is being served: its identity, size, features and attributes.
func (c *Client) GetActiveBundle(
	ctx context.Context, request *pb.GetActiveBundleRequest, options ...grpc.CallOption,
) (*pb.GetActiveBundleResponse, error) {
	return unary(ctx, c, c.bundle.GetActiveBundle, request, options)
}

// ActivateBundle gives a label to a bundle, which then serves. That takes seconds to minutes: give it time.
func (c *Client) ActivateBundle(
	ctx context.Context, request *pb.ActivateBundleRequest, options ...grpc.CallOption,
) (*pb.ActivateBundleResponse, error) {
	return unary(ctx, c, c.bundle.ActivateBundle, request, options)
}

// RollBackBundle switches back to the bundle that had a label before. It is never made twice: where nobody answers, look
// at what serves. Give it time.
func (c *Client) RollBackBundle(
	ctx context.Context, request *pb.RollBackBundleRequest, options ...grpc.CallOption,
) (*pb.RollBackBundleResponse, error) {
	return unary(ctx, c, c.bundle.RollBackBundle, request, options)
}

// DeactivateBundle takes a label away from the bundle that has it. Give it time.
func (c *Client) DeactivateBundle(
	ctx context.Context, request *pb.DeactivateBundleRequest, options ...grpc.CallOption,
) (*pb.DeactivateBundleResponse, error) {
	return unary(ctx, c, c.bundle.DeactivateBundle, request, options)
}

// UpsertItems writes items. RowErr returns why one of them was refused. With an idempotency key it is applied once, however
// often it is sent.
func (c *Client) UpsertItems(
	ctx context.Context, request *pb.UpsertItemsRequest, options ...grpc.CallOption,
) (*pb.UpsertItemsResponse, error) {
	return unary(ctx, c, c.catalog.UpsertItems, request, options)
}

// DeleteItems takes items away.
func (c *Client) DeleteItems(
	ctx context.Context, request *pb.DeleteItemsRequest, options ...grpc.CallOption,
) (*pb.DeleteItemsResponse, error) {
	return unary(ctx, c, c.catalog.DeleteItems, request, options)
}

// GetItem returns an item as it is served now.
func (c *Client) GetItem(
	ctx context.Context, request *pb.GetItemRequest, options ...grpc.CallOption,
) (*pb.GetItemResponse, error) {
	return unary(ctx, c, c.catalog.GetItem, request, options)
}

// GetCatalogStats returns how large the catalogue is, and how well it is searched.
func (c *Client) GetCatalogStats(
	ctx context.Context, request *pb.GetCatalogStatsRequest, options ...grpc.CallOption,
) (*pb.GetCatalogStatsResponse, error) {
	return unary(ctx, c, c.catalog.GetCatalogStats, request, options)
}

// Check returns whether the server, or one of its services, takes calls now.
func (c *Client) Check(
	ctx context.Context, request *grpc_health_v1.HealthCheckRequest, options ...grpc.CallOption,
) (*grpc_health_v1.HealthCheckResponse, error) {
	return unary(ctx, c, c.health.Check, request, options)
}
