package shortlist_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	shortlist "github.com/shortlist-dev/shortlist/clients/go"
	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
)

// kindByReason is the error table, as a caller of the package has it.
var kindByReason = map[string]error{
	"FIELD_REQUIRED":            shortlist.ErrFieldRequired,
	"OUT_OF_RANGE":              shortlist.ErrOutOfRange,
	"INVALID_VALUE":             shortlist.ErrInvalidValue,
	"DIMENSION_MISMATCH":        shortlist.ErrDimensionMismatch,
	"FEATURE_TYPE_MISMATCH":     shortlist.ErrFeatureTypeMismatch,
	"UNKNOWN_FEATURE":           shortlist.ErrUnknownFeature,
	"UNKNOWN_ATTRIBUTE":         shortlist.ErrUnknownAttribute,
	"UNKNOWN_ITEM":              shortlist.ErrUnknownItem,
	"UNKNOWN_OUTPUT":            shortlist.ErrUnknownOutput,
	"EXCLUDED_ITEM_REQUESTED":   shortlist.ErrExcludedItemRequested,
	"ATTRIBUTE_TYPE_MISMATCH":   shortlist.ErrAttributeTypeMismatch,
	"UNKNOWN_SOURCE":            shortlist.ErrUnknownSource,
	"IDEMPOTENCY_KEY_REUSED":    shortlist.ErrIdempotencyKeyReused,
	"DEADLINE_EXCEEDED":         shortlist.ErrDeadlineExceeded,
	"OVERLOADED":                shortlist.ErrOverloaded,
	"RATE_LIMITED":              shortlist.ErrRateLimited,
	"SHUTTING_DOWN":             shortlist.ErrShuttingDown,
	"CATALOG_UNAVAILABLE":       shortlist.ErrCatalogUnavailable,
	"TEXT_EMBEDDER_UNAVAILABLE": shortlist.ErrTextEmbedderUnavailable,
	"REVISION_NOT_REACHED":      shortlist.ErrRevisionNotReached,
	"INTERNAL":                  shortlist.ErrInternal,
	"API_KEY_MISSING":           shortlist.ErrAPIKeyMissing,
	"API_KEY_INVALID":           shortlist.ErrAPIKeyInvalid,
	"SCOPE_MISSING":             shortlist.ErrScopeMissing,
	"CATALOG_READ_ONLY":         shortlist.ErrCatalogReadOnly,
	"LABEL_NOT_LOADED":          shortlist.ErrLabelNotLoaded,
	"BUNDLE_MISSING":            shortlist.ErrBundleMissing,
	"BUNDLE_CORRUPT":            shortlist.ErrBundleCorrupt,
	"BUNDLE_UNSUPPORTED":        shortlist.ErrBundleUnsupported,
	"PARITY":                    shortlist.ErrParity,
	"MODEL_SIGNATURE_MISMATCH":  shortlist.ErrModelSignatureMismatch,
	"NOT_CONFIGURED":            shortlist.ErrNotConfigured,
	"SWITCH_UNDER_WAY":          shortlist.ErrSwitchUnderWay,
	"CONVERSATION_NOT_FOUND":    shortlist.ErrConversationNotFound,
}

// familyOf is what a caller may catch in place of the kind.
var familyOf = map[error][]error{
	shortlist.ErrFieldRequired:           {shortlist.ErrInvalidRequest},
	shortlist.ErrOutOfRange:              {shortlist.ErrInvalidRequest},
	shortlist.ErrInvalidValue:            {shortlist.ErrInvalidRequest},
	shortlist.ErrDimensionMismatch:       {shortlist.ErrInvalidRequest},
	shortlist.ErrFeatureTypeMismatch:     {shortlist.ErrInvalidRequest},
	shortlist.ErrUnknownFeature:          {shortlist.ErrInvalidRequest},
	shortlist.ErrUnknownAttribute:        {shortlist.ErrInvalidRequest},
	shortlist.ErrUnknownItem:             {shortlist.ErrInvalidRequest},
	shortlist.ErrUnknownOutput:           {shortlist.ErrInvalidRequest},
	shortlist.ErrExcludedItemRequested:   {shortlist.ErrInvalidRequest},
	shortlist.ErrAttributeTypeMismatch:   {shortlist.ErrInvalidRequest},
	shortlist.ErrUnknownSource:           {shortlist.ErrInvalidRequest},
	shortlist.ErrIdempotencyKeyReused:    {shortlist.ErrInvalidRequest},
	shortlist.ErrDeadlineExceeded:        {context.DeadlineExceeded},
	shortlist.ErrRateLimited:             {shortlist.ErrOverloaded},
	shortlist.ErrShuttingDown:            {shortlist.ErrUnavailable},
	shortlist.ErrCatalogUnavailable:      {shortlist.ErrUnavailable},
	shortlist.ErrTextEmbedderUnavailable: {shortlist.ErrUnavailable},
	shortlist.ErrRevisionNotReached:      {shortlist.ErrUnavailable},
	shortlist.ErrAPIKeyMissing:           {shortlist.ErrUnauthenticated},
	shortlist.ErrAPIKeyInvalid:           {shortlist.ErrUnauthenticated},
	shortlist.ErrScopeMissing:            {shortlist.ErrPermissionDenied},
	shortlist.ErrConversationNotFound:    {shortlist.ErrNotFound},
	shortlist.ErrBundleMissing:           {shortlist.ErrBundleRefused},
	shortlist.ErrBundleCorrupt:           {shortlist.ErrBundleRefused},
	shortlist.ErrBundleUnsupported:       {shortlist.ErrBundleRefused},
	shortlist.ErrParity:                  {shortlist.ErrBundleRefused},
	shortlist.ErrModelSignatureMismatch:  {shortlist.ErrBundleRefused},
}

func TestEveryReasonHasAKindOfItsOwn(t *testing.T) {
	kinds := map[error]string{}
	for number, name := range pb.ErrorReason_name {
		reason := strings.TrimPrefix(name, "ERROR_REASON_")
		if number == 0 {
			continue
		}
		// A status that says nothing, so that only the reason tells.
		row := &pb.RowError{Code: int32(codes.Aborted), Reason: pb.ErrorReason(number)}
		kind := kindByReason[reason]
		if kind == nil || !errors.Is(shortlist.RowErr(row), kind) {
			t.Errorf("%s: expected %v", reason, kind)
		}
		if other, taken := kinds[kind]; taken {
			t.Errorf("%s and %s are one kind", reason, other)
		}
		kinds[kind] = reason
	}
}

func TestErrorSaysWhatTheServerSays(t *testing.T) {
	server := serve(t, &fake{recommend: func(ctx context.Context, _ int) (*pb.RecommendResponse, error) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-request-id", "the server's"))
		return nil, failure(codes.InvalidArgument, "OUT_OF_RANGE", 0)
	}})
	_, err := dial(t, server.target).Recommend(t.Context(), someone)
	var failed *shortlist.Error
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if failed.Code != codes.InvalidArgument || failed.Reason != pb.ErrorReason_ERROR_REASON_OUT_OF_RANGE ||
		failed.Message != "what is wrong" || failed.Got() != "9" || failed.RequestID != "the server's" {
		t.Errorf("got %+v", failed)
	}
	if status.Code(err) != codes.InvalidArgument || err.Error() != "what is wrong" {
		t.Errorf("expected gRPC's own functions to read it, got %v", status.Code(err))
	}
}

func TestErrorsThatNoServerOfOursWroteAreOfTheFamilyOfTheirCode(t *testing.T) {
	for code, kind := range map[codes.Code]error{
		codes.InvalidArgument:   shortlist.ErrInvalidRequest,
		codes.Unauthenticated:   shortlist.ErrUnauthenticated,
		codes.PermissionDenied:  shortlist.ErrPermissionDenied,
		codes.NotFound:          shortlist.ErrNotFound,
		codes.DeadlineExceeded:  shortlist.ErrDeadlineExceeded,
		codes.ResourceExhausted: shortlist.ErrOverloaded,
		codes.Unavailable:       shortlist.ErrUnavailable,
		codes.Internal:          shortlist.ErrInternal,
		codes.DataLoss:          shortlist.ErrInternal,
		codes.Unknown:           shortlist.ErrInternal,
	} {
		server := serve(t, &fake{recommend: func(context.Context, int) (*pb.RecommendResponse, error) {
			return nil, status.Error(code, "from a proxy")
		}})
		_, err := dial(t, server.target).Recommend(t.Context(), someone)
		if !errors.Is(err, kind) {
			t.Errorf("%v: expected %v, got %v", code, kind, err)
		}
	}
	// A reason of another domain, or one that this version does not know, is none.
	row := &pb.RowError{Code: int32(codes.NotFound), Reason: 9_999}
	if !errors.Is(shortlist.RowErr(row), shortlist.ErrNotFound) {
		t.Error("expected an unknown reason to be of the family of its code")
	}
}

func TestRowErr(t *testing.T) {
	if err := shortlist.RowErr(nil); err != nil {
		t.Errorf("expected nil, got %v", err)
	}
	row := &pb.RowError{
		Code:     int32(codes.InvalidArgument),
		Message:  "limit: expected 1..500, got 501",
		Reason:   pb.ErrorReason_ERROR_REASON_OUT_OF_RANGE,
		Metadata: map[string]string{"field": "limit", "expected": "1..500", "got": "501", "request_id": "a/1"},
	}
	var failed *shortlist.Error
	if !errors.As(shortlist.RowErr(row), &failed) || failed.Field() != "limit" || failed.Expected() != "1..500" ||
		failed.Got() != "501" || failed.RequestID != "a/1" {
		t.Errorf("got %+v", failed)
	}
}

func TestMessagesThatAreTooLargeAreNoOverload(t *testing.T) {
	server := serve(t, &fake{recommend: func(context.Context, int) (*pb.RecommendResponse, error) {
		return &pb.RecommendResponse{Items: []*pb.ScoredItem{{Id: strings.Repeat("i", 17<<20)}}}, nil
	}})
	client := dial(t, server.target)
	_, err := client.Recommend(t.Context(), someone)
	if !errors.Is(err, shortlist.ErrMessageTooLarge) || errors.Is(err, shortlist.ErrOverloaded) {
		t.Errorf("an answer of 17 MiB: got %v", err)
	}
	_, err = client.Recommend(t.Context(), &pb.RecommendRequest{Query: shortlist.ForUser(strings.Repeat("u", 5<<20))})
	if !errors.Is(err, shortlist.ErrMessageTooLarge) {
		t.Errorf("a request of 5 MiB: got %v", err)
	}
	if calls := server.callCount(); calls != 1 {
		t.Errorf("expected the request not to be sent, got %d calls", calls)
	}
}

func TestCallerWhoGivesUpIsToldSo(t *testing.T) {
	begun := make(chan struct{}, 1)
	server := serve(t, &fake{recommend: func(ctx context.Context, _ int) (*pb.RecommendResponse, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	client := dial(t, server.target)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := client.Recommend(ctx, someone); !errors.Is(err, context.Canceled) || errors.Is(err, shortlist.ErrClosed) {
		t.Errorf("cancelled: got %v", err)
	}

	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.Recommend(ctx, someone)
	if !errors.Is(err, shortlist.ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("out of time: got %v", err)
	}
	if !strings.HasPrefix(err.Error(), server.target+" gave no answer within ") {
		t.Errorf("expected the target, got %v", err)
	}
	<-ctx.Done()
	if _, err = client.Recommend(ctx, someone); !errors.Is(err, shortlist.ErrDeadlineExceeded) {
		t.Errorf("out of time before: got %v", err)
	}
}
