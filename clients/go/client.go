// Package shortlist calls a Shortlist server, which answers which few items of a catalogue suit somebody now.
//
//	client, err := shortlist.New("127.0.0.1:8500")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	answer, err := client.Recommend(ctx, &pb.RecommendRequest{Query: shortlist.ForUser("42"), Limit: 10})
//
// Requests and answers are the messages of package shortlistv1 (here pb), whose comments say what each field takes. Every
// error of a call is an [*Error], to be told apart by [errors.Is] and the Err... values of this package.
package shortlist

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	pb "github.com/shortlist-dev/shortlist/clients/go/shortlist/v1"
)

const (
	// DefaultTimeout is the deadline of a call whose context has none.
	DefaultTimeout = time.Second
	// DefaultTurnTimeout is that of a turn of a conversation: a language model takes seconds.
	DefaultTurnTimeout = 30 * time.Second

	requestIDKey = "x-request-id"
)

// Client calls a server. It is safe for concurrent use, and one per process is enough: it spreads calls over all addresses
// that its target resolves to, and reconnects by itself.
type Client struct {
	conn    *grpc.ClientConn
	timeout time.Duration
	turn    time.Duration
	target  string
	closed  atomic.Bool

	recommendation pb.RecommendationServiceClient
	conversation   pb.ConversationServiceClient
	bundle         pb.BundleServiceClient
	catalog        pb.CatalogServiceClient
	health         grpc_health_v1.HealthClient
}

// New returns a client of the server at a target: host:port, or any name that gRPC resolves, as
// dns:///shortlist.default.svc:8500. It connects at the first call.
//
// The error is ErrInvalidRequest where an option cannot be, or would send an API key in plain text to another machine.
func New(target string, options ...Option) (*Client, error) {
	chosen := settings{timeout: DefaultTimeout, turnTimeout: DefaultTurnTimeout}
	for _, option := range options {
		option(&chosen)
	}
	dialOptions, err := chosen.dialOptions(target)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(target, dialOptions...)
	if err != nil {
		return nil, refused("target", "what gRPC resolves: host:port, dns:///host:port", fmt.Sprintf("%q: %v", target, err))
	}
	return &Client{
		conn:           conn,
		timeout:        chosen.timeout,
		turn:           chosen.turnTimeout,
		target:         target,
		recommendation: pb.NewRecommendationServiceClient(conn),
		conversation:   pb.NewConversationServiceClient(conn),
		bundle:         pb.NewBundleServiceClient(conn),
		catalog:        pb.NewCatalogServiceClient(conn),
		health:         grpc_health_v1.NewHealthClient(conn),
	}, nil
}

// Close closes the connections. Calls that wait fail with ErrClosed, and so does every later one.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	return c.conn.Close()
}

// call is one call: its context, with a deadline and a request id, and what an error of it tells.
type call struct {
	client    *Client
	timeout   time.Duration
	requestID string
}

// begin returns the context that a call is made with. The deadline of the caller's context holds, else timeout.
func (c *Client) begin(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc, *call) {
	cancel := context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	} else {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	id := ""
	if sent, ok := metadata.FromOutgoingContext(ctx); ok && len(sent.Get(requestIDKey)) > 0 {
		id = sent.Get(requestIDKey)[0]
	} else {
		// Made here, not by the server, so that an error which never reached it has an id to look for as well.
		id = newRequestID()
		ctx = metadata.AppendToOutgoingContext(ctx, requestIDKey, id)
	}
	return ctx, cancel, &call{client: c, timeout: timeout, requestID: id}
}

func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// WithRequestID returns a context whose calls carry this id, of at most 128 printable ASCII characters: the server logs it,
// and returns it in AnswerInfo.request_id and in errors. Calls without one are given one.
func WithRequestID(ctx context.Context, id string) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	sent = sent.Copy()
	if sent == nil {
		sent = metadata.MD{}
	}
	sent.Set(requestIDKey, id)
	return metadata.NewOutgoingContext(ctx, sent)
}
